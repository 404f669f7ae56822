"""A stop as values: what `--json` gives for a command that goes on, back, or asks where it stands."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from emulator.ledger import LABELS
from emulator.vmx import exit_reasons
from emulator.vmx import fields as f
from vmm.cost.meter import Charge
from vmm.session.debugger.debugger import Debugger
from vmm.session.debugger.happening import NOBODY, Happening, Kind
from vmm.session.debugger.stop_text import stop_text
from vmm.session.debugger.views.disassembly import instruction_at_rip
from vmm.session.debugger.views.exit_screen import ExitScreen, exit_screen
from vmm.session.debugger.views.exit_words import event_text
from vmm.session.debugger.views.values import Hex, View


@dataclass(frozen=True)
class BreakHit:
    """A break that was hit here, and how often by now."""

    number: int
    command: str
    hits: int


@dataclass(frozen=True)
class Paid:
    """A charge to the VMM."""

    category: str
    what: str
    cycles: int
    parameter: str


@dataclass(frozen=True)
class LineRow:
    """A line of the VMM's Python, and what the line before was charged."""

    file: str
    number: int
    function: str
    text: str
    charges: tuple[Paid, ...]


@dataclass(frozen=True)
class AccessRow:
    """Of memory that is watched. `instruction`: the address of who did it, or of the last one before."""

    hpa: Hex
    size_bytes: int
    by: str
    instruction: Hex
    is_load: bool
    is_store: bool
    old: Hex
    new: Hex


@dataclass(frozen=True)
class StopView(View):
    """Where it stands: behind `exits` VM exits, at `cycles` of the core's clock. What does not apply is None or ""."""

    kind: str
    cycles: int
    exits: int
    processor: str | None  # None: at rest, nobody runs
    rip: Hex
    symbol: str
    cpl: int
    instruction: str
    why: str  # when no break and no step is the reason
    breaks: tuple[BreakHit, ...]
    reason: str  # of the exit that is handled
    exit: ExitScreen | None
    exit_cycles: int | None  # what the exit has taken, at its VM entry
    injects: str
    what: str  # a device does; a sidecall's operation; why a VM entry failed
    charge: Paid | None
    line: LineRow | None
    access: AccessRow | None
    charged_cycles: int | None  # so far, by the exit that is handled
    screen: str = field(default="", compare=False)

    def text(self) -> str:
        """At most eight lines, and the breaks."""
        return self.screen

    def json(self) -> dict[str, Any]:
        """All but the lines."""
        return {name: value for name, value in super().json().items() if name != "screen"}


def stop_view(debugger: Debugger) -> StopView:
    """The stop where `debugger` stands."""
    stop, subject = debugger.stop, debugger.subject
    here = stop.happening
    instruction, charges = instruction_at_rip(subject), debugger.charges
    is_entry = here.kind is Kind.ENTRY
    return StopView(
        kind=here.kind.value,
        cycles=here.cycles,
        exits=here.exits,
        processor=None if here.who == NOBODY else subject.name,
        rip=Hex(subject.rip),
        symbol=subject.symbols.name_of(subject.linear_rip),
        cpl=subject.cpl,
        instruction="" if instruction is None else f"{instruction.name} {instruction.operands}".strip(),
        why=stop.why,
        breaks=tuple(BreakHit(one.number, one.words(), one.hits) for one in stop.breaks),
        reason="" if here.exit is None else exit_reasons.name(here.exit.reason),
        exit=_screen(debugger, here) if here.kind is Kind.EXIT else None,
        exit_cycles=here.exit_cycles if is_entry else None,
        injects=_injected(debugger) if is_entry else "",
        what=here.what,
        charge=None if here.charge is None else _paid([here.charge])[0],
        line=_line(here),
        access=_access(here),
        charged_cycles=None if here.exit is None else sum(charge.cycles for charge in charges),
        screen=stop_text(debugger),
    )


def _screen(debugger: Debugger, here: Happening) -> ExitScreen:
    return exit_screen(debugger.subject, number=here.exits, before=debugger.words_before)


def _injected(debugger: Debugger) -> str:
    subject = debugger.subject
    information = subject.read(f.VM_ENTRY_INTERRUPTION_INFORMATION)
    return event_text(information, subject.read(f.VM_ENTRY_EXCEPTION_ERROR_CODE))


def _access(here: Happening) -> AccessRow | None:
    access = here.access
    if access is None:
        return None
    old, new = (Hex(int.from_bytes(data, "little")) for data in (access.old, access.new))
    return AccessRow(
        Hex(access.place.hpa), access.place.size_bytes, access.by.value, Hex(access.linear), access.is_load,
        access.is_store, old, new,
    )  # fmt: skip


def _line(here: Happening) -> LineRow | None:
    line = here.line
    return None if line is None else LineRow(line.file, line.number, line.function, line.text, _paid(line.charges))


def _paid(charges: Sequence[Charge]) -> tuple[Paid, ...]:
    return tuple(Paid(LABELS[one.category], one.what, one.cycles, one.parameter) for one in charges)
