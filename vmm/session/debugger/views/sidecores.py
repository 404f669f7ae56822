"""Sidecores: what each core does, the slots of the pages it serves, and who waits for an answer: `sidecore`."""

from dataclasses import dataclass

from emulator.errors import ConfigError
from vmm.session.debugger.views.subject import Subject
from vmm.session.debugger.views.values import Hex, View, lines_text
from vmm.session.virtual_guest import VirtualGuest
from vmm.sidecore import abi
from vmm.sidecore.operations import OPERATIONS
from vmm.sidecore.service import Sidecore
from vmm.sidecore.slots import Slot, SlotPage

STATES = {abi.FREE: "free", abi.POSTED: "posted", abi.DONE: "done"}


@dataclass(frozen=True)
class SlotRow:
    """One slot as it is in memory, and as the sidecore knows it."""

    index: int
    gpa: Hex
    state: str
    is_closed: bool
    operation: str
    arguments: tuple[Hex, ...]
    sequence: int
    visible_cycles: int | None
    is_in_service: bool


@dataclass(frozen=True)
class PageRow:
    """A page that a domain shares."""

    domain: int
    gpa: Hex
    is_open: bool
    request_count: int
    error_count: int
    waiting_cycles: int
    service_cycles: int
    slots: tuple[SlotRow, ...]
    waiting: tuple[str, ...]  # vCPUs that spin for an answer


@dataclass(frozen=True)
class CoreRow:
    """A core that serves, or may."""

    pcpu: int
    cycles: int
    is_on_duty: bool
    is_asleep: bool
    finds_at_cycles: int | None
    pages: tuple[PageRow, ...]


@dataclass(frozen=True)
class SidecoreView(View):
    """All sidecores of the host."""

    cores: tuple[CoreRow, ...]

    def text(self) -> str:
        """A line for each core, page, and slot that is not free."""
        lines = []
        for core in self.cores:
            state = "serves nobody now" if not core.is_on_duty else "sleeps by MWAIT" if core.is_asleep else "polls"
            finds = "" if core.finds_at_cycles is None else f", finds a request at cycle {core.finds_at_cycles:,}"
            lines.append(f"pcpu{core.pcpu} {state}, at cycle {core.cycles:,}{finds}")
            for page in core.pages:
                switch = "open" if page.is_open else "closed"
                counts = f"{page.request_count:,} requests, {page.error_count:,} errors"
                lines.append(f"  domain {page.domain}, gpa {page.gpa:x}, {switch}: {len(page.slots)} slots, {counts}")
                lines += [line for slot in page.slots if (line := _slot_line(slot))]
                if page.waiting:
                    lines.append(f"    {', '.join(page.waiting)} spin for an answer")
            if not core.pages:
                lines.append("  no domain shares a page with it")
        return lines_text(lines)


def _slot_line(slot: SlotRow) -> str:
    if slot.state == "free" and not slot.is_in_service:
        return ""
    arguments = " ".join(f"{argument:x}" for argument in slot.arguments)
    state = "in service" if slot.is_in_service else slot.state
    seen = "" if slot.visible_cycles is None else f", can be seen from cycle {slot.visible_cycles:,}"
    closed = ", closed" if slot.is_closed else ""
    return f"    slot {slot.index}: {state}{closed}, {slot.operation} {arguments}, number {slot.sequence}{seen}"


def sidecores(subject: Subject) -> SidecoreView:
    """The sidecores of its host. Raises ConfigError when there are none."""
    guest = subject.guest
    known = guest.hypervisor.sidecores if isinstance(guest, VirtualGuest) else None
    if known is None:
        raise ConfigError("the host has no sidecore; give it one by --sidecore")
    return SidecoreView(tuple(_core(core) for core in known.cores))


def _core(core: Sidecore) -> CoreRow:
    return CoreRow(
        pcpu=core.pcpu.number,
        cycles=core.pcpu.clock.cycles,
        is_on_duty=core.is_on_duty,
        is_asleep=core.pcpu.waiting.is_by_mwait and core.pcpu.waiting.is_waiting,
        finds_at_cycles=None if core.finds is None else core.finds[0],
        pages=tuple(_page(page) for page in core.pages if isinstance(page, SlotPage) and page.is_alive),
    )


def _page(page: SlotPage) -> PageRow:
    counts = page.counts
    return PageRow(
        domain=page.domain.number,
        gpa=Hex(page.gpa),
        is_open=page.is_open,
        request_count=counts.requests,
        error_count=counts.errors,
        waiting_cycles=counts.waiting_cycles,
        service_cycles=counts.service_cycles,
        slots=tuple(map(_slot, page.slots)),
        waiting=tuple(vcpu.engine.owner for vcpu in page.vcpus if vcpu.pcpu.waiting.is_spinning),
    )


def _slot(slot: Slot) -> SlotRow:
    data = slot.read()
    request, state = abi.unpack(data), abi.state_of(data)
    operation = OPERATIONS.get(request.operation)
    return SlotRow(
        index=slot.index,
        gpa=Hex(slot.gpa),
        state=STATES.get(state & abi.STATE, f"state {state & abi.STATE}"),
        is_closed=bool(state & abi.CLOSED),
        operation=f"operation {request.operation}" if operation is None else operation.name,
        arguments=tuple(map(Hex, request.arguments)),
        sequence=request.sequence,
        visible_cycles=slot.visible_cycles,
        is_in_service=slot.is_in_service,
    )
