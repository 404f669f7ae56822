"""Interrupts on their way: what waits in the guest's controllers and the host's, what is in service, what a vCPU gets.

    devices --> 8259s, I/O APIC --> local APIC: IRR --> ISR --> the vCPU's request --> injected at the next VM entry

Registers are looked at where the chips keep them: no read of a device takes place.
"""

from dataclasses import dataclass

from devices.board import Board
from devices.interrupts import ioapic as io
from devices.interrupts import lapic_registers as r
from devices.interrupts.i8259 import I8259
from devices.interrupts.interrupt_bus import DeliveryMode
from devices.interrupts.lapic import LocalApic
from emulator.vmx import fields as f
from emulator.x86 import RFLAGS_IF
from vmm.session.debugger.views import bits
from vmm.session.debugger.views.exit_words import event_text
from vmm.session.debugger.views.subject import Subject
from vmm.session.debugger.views.values import View, lines_text, wrapped
from vmm.session.virtual_guest import VirtualGuest
from vmm.vcpu import UPCALL

MODES = {mode.value: mode.name.lower() for mode in DeliveryMode}
LVT_NAMES = {
    r.LVT_TIMER: "timer", r.LVT_THERMAL: "thermal", r.LVT_PERFORMANCE: "performance", r.LVT_LINT0: "LINT0",
    r.LVT_LINT1: "LINT1", r.LVT_ERROR: "error",
}  # fmt: skip


@dataclass(frozen=True)
class LocalInterrupts:
    """A local APIC: vectors that are requested (IRR) and in service (ISR); the local interrupts that are not masked."""

    number: int
    is_enabled: bool
    task_priority: int
    processor_priority: int
    requested: tuple[int, ...]
    in_service: tuple[int, ...]
    local: tuple[str, ...]
    timer: str


@dataclass(frozen=True)
class Pin:
    """An input of the I/O APIC that is not masked, or asserted."""

    number: int
    vector: int
    mode: str
    destination: int
    is_level: bool
    is_masked: bool
    is_asserted: bool
    is_in_service: bool  # remote IRR


@dataclass(frozen=True)
class Pic:
    """An 8259: its inputs by number."""

    name: str
    base: int
    requested: tuple[int, ...]
    in_service: tuple[int, ...]
    masked: tuple[int, ...]
    has_output: bool


@dataclass(frozen=True)
class Controllers:
    """The interrupt controllers of a board, with the local APIC of one processor."""

    whose: str
    apic: LocalInterrupts
    pins: tuple[Pin, ...]
    pics: tuple[Pic, ...]


@dataclass(frozen=True)
class Interrupts(View):
    """Everything on the way to one processor."""

    processor: str
    takes_interrupts: bool
    blocking: tuple[str, ...]
    requests: tuple[str, ...]
    injected: str
    interrupted: str
    controllers: tuple[Controllers, ...]

    def text(self) -> str:
        """The processor, then the controllers of the guest, then the host's."""
        state = "IF is 1" if self.takes_interrupts else "IF is 0"
        lines = [", ".join((f"{self.processor}: {state}", *self.blocking))]
        lines += wrapped("  waits:", " | ".join(self.requests or ("nothing",)).split(), indent=4)
        if self.injected:
            lines.append(f"  injected at the next entry: {self.injected}")
        if self.interrupted:
            lines.append(f"  the exit has interrupted the delivery of: {self.interrupted}")
        for controllers in self.controllers:
            lines += _controller_lines(controllers)
        return lines_text(lines)


def _controller_lines(controllers: Controllers) -> list[str]:
    apic = controllers.apic
    priority = f"TPR {apic.task_priority:#x}, PPR {apic.processor_priority:#x}"
    state = priority if apic.is_enabled else "disabled"
    lines = [f"{controllers.whose} local APIC {apic.number}: {state}"]
    lines += wrapped("  requested:", _vectors(apic.requested), indent=4)
    lines += wrapped("  in service:", _vectors(apic.in_service), indent=4)
    lines += wrapped("  local:", " | ".join((*apic.local, apic.timer)).split(), indent=4)
    for pin in controllers.pins:
        marks = [mark for mark, is_set in _marks(pin) if is_set]
        where = f"{pin.mode} to {pin.destination:#x}"
        lines.append(f"  I/O APIC pin {pin.number}: vector {pin.vector:#x}, {where}, {', '.join(marks)}")
    for pic in controllers.pics:
        sets = [("IRR", pic.requested), ("ISR", pic.in_service), ("IMR", pic.masked)]
        words = [f"{name} {','.join(map(str, levels)) or '-'}" for name, levels in sets]
        output = ", INT" if pic.has_output else ""
        lines.append(f"  8259 {pic.name}, vectors from {pic.base:#x}: {', '.join(words)}{output}")
    return lines


def _vectors(vectors: tuple[int, ...]) -> list[str]:
    return [f"{vector:#x}" for vector in vectors] or ["none"]


def _marks(pin: Pin) -> tuple[tuple[str, bool], ...]:
    return (
        ("level" if pin.is_level else "edge", True),
        ("masked", pin.is_masked),
        ("asserted", pin.is_asserted),
        ("in service", pin.is_in_service),
    )


def irq(subject: Subject) -> Interrupts:
    """What is on the way to a processor."""
    boards = [_controllers("guest", subject.guest.board, subject.number)]
    if isinstance(subject.guest, VirtualGuest):
        boards.append(_controllers("host", subject.guest.hypervisor.pc.board, subject.pcpu.number))
    blocking = bits.known_names(bits.INTERRUPTIBILITY, subject.read(f.GUEST_INTERRUPTIBILITY_STATE))
    entering = subject.read(f.VM_ENTRY_INTERRUPTION_INFORMATION), subject.read(f.VM_ENTRY_EXCEPTION_ERROR_CODE)
    vectoring = subject.read(f.IDT_VECTORING_INFORMATION), subject.read(f.IDT_VECTORING_ERROR_CODE)
    is_virtual = subject.vcpu is not None
    return Interrupts(
        processor=subject.name,
        takes_interrupts=bool(subject.read(f.GUEST_RFLAGS) & RFLAGS_IF),
        blocking=tuple(blocking),
        requests=tuple(_requests(subject)),
        injected=event_text(*entering) if is_virtual else "",
        interrupted=event_text(*vectoring) if subject.exit is not None else "",
        controllers=tuple(boards),
    )


def _requests(subject: Subject) -> list[str]:
    """What the processor, or its vCPU, has been asked to take."""
    shared, vcpu = subject.engine.shared, subject.vcpu
    if vcpu is None:
        pins = (("INTR", shared.interrupt_pending), ("NMI", shared.nmi_pending))
        return [name for name, is_pending in pins if is_pending]
    rows = (
        ("an interrupt of the virtual local APIC", vcpu.interrupt_request & 1),
        (f"an upcall, vector {0 if vcpu.upcall is None else vcpu.upcall.vector:#x}", vcpu.interrupt_request & UPCALL),
        ("an NMI", vcpu.nmi_request),
        ("INIT", vcpu.init_request),
        ("it has asked for a window exit", vcpu.windows),
        ("it waits for a SIPI", vcpu.waits_for_start_up),
        ("it is halted", vcpu.is_blocked and not vcpu.waits_for_start_up),
        ("its core has INTR pending", shared.interrupt_pending),
        ("its core has an NMI pending", shared.nmi_pending),
    )
    return [name for name, is_so in rows if is_so]


def _controllers(whose: str, board: Board, number: int) -> Controllers:
    pins = [_pin(pin, entry, board.ioapic.lines >> pin & 1) for pin, entry in enumerate(board.ioapic.entries)]
    pics = (_pic("master", board.pic.master), _pic("slave", board.pic.slave))
    return Controllers(
        whose,
        _local(board.apics[number]),
        tuple(pin for pin in pins if not pin.is_masked or pin.is_asserted),
        tuple(pic for pic in pics if pic.base and (len(pic.masked) < 8 or pic.requested or pic.in_service)),
    )


def _local(apic: LocalApic) -> LocalInterrupts:
    local = []
    for offset, name in LVT_NAMES.items():
        lvt = apic.registers[offset]
        if not lvt & r.LVT_MASKED:
            mode = MODES.get(lvt >> r.LVT_MODE_SHIFT & 7, "reserved")
            local.append(f"{name} {mode}" + (f" {lvt & r.LVT_VECTOR:#x}" if mode == "fixed" else ""))
    timer = apic.timer
    setting = f"deadline {timer.deadline:,}" if timer.deadline else f"initial count {timer.initial_count:,}"
    return LocalInterrupts(
        number=apic.number,
        is_enabled=apic.is_enabled,
        task_priority=apic.vectors.tpr,
        processor_priority=apic.vectors.ppr,
        requested=_numbers(apic.vectors.irr),
        in_service=_numbers(apic.vectors.isr),
        local=tuple(local),
        timer=f"{timer.mode.name.lower().replace('_', '-')}, {setting}",
    )


def _pin(number: int, entry: int, is_asserted: int) -> Pin:
    return Pin(
        number=number,
        vector=entry & 0xFF,
        mode=MODES.get(entry >> 8 & 7, "reserved"),
        destination=entry >> 56,
        is_level=bool(entry & io.LEVEL),
        is_masked=bool(entry & io.MASKED),
        is_asserted=bool(is_asserted),
        is_in_service=bool(entry & io.REMOTE_IRR),
    )


def _pic(name: str, chip: I8259) -> Pic:
    return Pic(name, chip.icw2, _numbers(chip.irr), _numbers(chip.isr), _numbers(chip.imr), chip.output)


def _numbers(bitmap: int) -> tuple[int, ...]:
    """Numbers of the bits that are set."""
    return tuple(number for number in range(bitmap.bit_length()) if bitmap >> number & 1)
