"""What there is: guests with their processors, cores with who is on them, devices with where they answer."""

from collections.abc import Sequence
from dataclasses import dataclass

from emulator.ledger import LABELS
from emulator.machine import Machine
from emulator.vmx import fields as f
from emulator.x86 import PAGE_BYTES
from vmm.hypervisor import Hypervisor
from vmm.session.debugger.views.registers import ACTIVITIES
from vmm.session.debugger.views.subject import Subject
from vmm.session.debugger.views.values import Hex, View, lines_text
from vmm.session.guest import Guest
from vmm.session.native import NativeProcessor
from vmm.session.virtual_guest import VirtualGuest
from vmm.vcpu import VCpu


@dataclass(frozen=True)
class ProcessorRow:
    """A processor of a guest, and where it is."""

    name: str
    core: int
    rip: Hex
    symbol: str
    cpl: int
    state: str


@dataclass(frozen=True)
class GuestRow:
    """A guest."""

    number: int
    paging: str
    memory_bytes: int
    end: str
    processors: tuple[ProcessorRow, ...]


@dataclass(frozen=True)
class GuestsView(View):
    """All guests that were given."""

    guests: tuple[GuestRow, ...]

    def text(self) -> str:
        """A line for each guest and processor."""
        lines = []
        for guest in self.guests:
            end = f", ended: {guest.end}" if guest.end else ""
            lines.append(f"guest {guest.number}: {guest.paging}, {guest.memory_bytes >> 20} MiB{end}")
            for cpu in guest.processors:
                symbol = f" <{cpu.symbol}>" if cpu.symbol else ""
                lines.append(f"  {cpu.name} {cpu.state} on pcpu{cpu.core}, CPL {cpu.cpl}, RIP {cpu.rip:x}{symbol}")
        return lines_text(lines)


@dataclass(frozen=True)
class CoreRow:
    """A core of the machine; `ready_cycles` is when it goes on, None when nobody has said."""

    number: int
    cycles: int
    instructions: int
    does: str
    ready_cycles: int | None


@dataclass(frozen=True)
class CoresView(View):
    """All cores of the machine."""

    cores: tuple[CoreRow, ...]

    def text(self) -> str:
        """A line for each."""
        lines = []
        for core in self.cores:
            until = (
                "" if core.ready_cycles is None or core.ready_cycles <= core.cycles else f" until {core.ready_cycles:,}"
            )
            counts = f"cycle {core.cycles:,}, {core.instructions:,} instructions"
            lines.append(f"pcpu{core.number} {core.does}{until}, {counts}")
        return lines_text(lines)


@dataclass(frozen=True)
class DeviceRow:
    """A device and where it answers: ports, or guest-physical addresses; [start, end)."""

    name: str
    space: str
    start: Hex
    end: Hex


@dataclass(frozen=True)
class DevicesView(View):
    """The devices that a guest sees."""

    devices: tuple[DeviceRow, ...]

    def text(self) -> str:
        """A line for each place."""
        return lines_text(f"{row.space:<6} {row.start:x}-{row.end - 1:x} {row.name}" for row in self.devices)


def guests(subjects: Sequence[Sequence[Subject]]) -> GuestsView:
    """Guests, each as the subjects of its processors."""
    rows = []
    for number, processors in enumerate(subjects):
        end = processors[0].guest.end
        cpus = tuple(map(_processor, processors))
        size = memory_bytes_of(processors[0].guest)
        rows.append(GuestRow(number, processors[0].paging, size, "" if end is None else str(end), cpus))
    return GuestsView(tuple(rows))


def memory_bytes_of(guest: Guest) -> int:
    """RAM of a guest."""
    return guest.domain.memory_bytes if isinstance(guest, VirtualGuest) else guest.machine.memory.size_bytes


def _processor(subject: Subject) -> ProcessorRow:
    rip = subject.linear_rip
    symbol = subject.symbols.name_of(rip)
    return ProcessorRow(subject.name, subject.pcpu.number, Hex(subject.rip), symbol, subject.cpl, state_of(subject))


def state_of(subject: Subject) -> str:
    """What a processor does."""
    processor, vcpu = subject.guest.processors[subject.number], subject.vcpu
    if isinstance(processor, VCpu | NativeProcessor) and processor.waits_for_start_up:
        return "waits for SIPI"
    if vcpu is None:
        return ACTIVITIES.get(subject.read(f.GUEST_ACTIVITY_STATE), "runs")
    if vcpu.is_blocked:
        return "halted with interrupts off" if vcpu.is_parked else "halted"
    if vcpu.exit is not None:
        return "is in a VM exit"
    return "runs" if vcpu.pcpu.clock.engine is vcpu.engine else "waits for a core"


def cores(subject: Subject) -> CoresView:
    """The cores of its machine."""
    guest = subject.guest
    hypervisor = guest.hypervisor if isinstance(guest, VirtualGuest) else None
    return CoresView(tuple(_cores(guest.machine, hypervisor)))


def _cores(machine: Machine, hypervisor: Hypervisor | None) -> list[CoreRow]:
    rows = []
    for pcpu in machine.pcpus:
        clock, waiting = pcpu.clock, pcpu.waiting
        current = None
        if hypervisor is not None and pcpu.number < len(hypervisor.cores):
            current = hypervisor.cores[pcpu.number].current
        if waiting.is_waiting:
            assert waiting.category is not None
            what = "skips a guest's spinning" if waiting.is_spinning else f"waits ({LABELS[waiting.category]})"
        elif isinstance(current, VCpu):
            what = (
                f"handles an exit of {current.engine.owner}"
                if current.exit is not None
                else f"runs {current.engine.owner}"
            )
        elif hypervisor is None:
            what = "runs"
        else:
            what = "is in the VMM"
        rows.append(CoreRow(pcpu.number, clock.cycles, clock.instructions, what, waiting.ready_cycles))
    return rows


def devices(subject: Subject) -> DevicesView:
    """The devices that its guest sees, by address; of local APICs the processor's own."""
    board = subject.guest.board
    apic = board.apics[subject.number]
    own = [_device(apic, "memory", apic.base & ~(PAGE_BYTES - 1), PAGE_BYTES)] if apic.is_enabled else []
    rows = [_device(device, "port", base, length) for base, length, device in board.port_map]
    rows += own + [_device(device, "memory", base, length) for base, length, device in board.mmio_map]
    for slot, function in board.pci.functions.items():
        for region in function.placed:
            space = "port" if region.is_ports else "memory"
            row = _device(region.device, space, region.start, region.end - region.start)
            rows.append(DeviceRow(f"PCI slot {slot}: {row.name}", space, row.start, row.end))
    return DevicesView(tuple(sorted(rows, key=lambda row: (row.space, row.start))))


def _device(device: object, space: str, start: int, length: int) -> DeviceRow:
    return DeviceRow(type(device).__name__, space, Hex(start), Hex(start + length))
