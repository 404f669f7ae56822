"""CPUs that are only pins, with local APICs on one interrupt bus: for tests from a driver's point of view."""

from collections.abc import Callable

from devices.cpu_pins import CpuPins
from devices.interrupts import lapic_registers as r
from devices.interrupts.interrupt_bus import InterruptBus
from devices.interrupts.lapic import LocalApic
from emulator.events import PS_PER_SECOND, EventQueue

TIMER_HZ = 100_000_000
TICK_PS = PS_PER_SECOND // TIMER_HZ
TSC_PS = 500  # one count of the time-stamp counter
SPURIOUS_8259 = 0x27
ENABLE = r.SVR_ENABLED | 0xFF


class Cpu:
    """Notes what its local APIC drives."""

    def __init__(self, number: int, bus: InterruptBus, events: EventQueue) -> None:
        self.intr = False
        self.signals: list[tuple[str, int]] = []
        pins = CpuPins(
            on_intr=self._set_intr,
            tsc_to_ps=lambda tsc: tsc * TSC_PS,
            on_nmi=lambda: self.signals.append(("nmi", 0)),
            on_init=lambda: self.signals.append(("init", 0)),
            on_start_up=lambda vector: self.signals.append(("sipi", vector)),
        )
        self.pic_vectors: list[int] = []
        self.apic = LocalApic(
            number, bus, events, pins=pins, timer_hz=TIMER_HZ, acknowledge_8259=self._acknowledge_8259
        )

    def _set_intr(self, level: bool) -> None:
        assert level != self.intr, "INTR is called only when its level changes"
        self.intr = level

    def _acknowledge_8259(self) -> int:
        return self.pic_vectors.pop(0) if self.pic_vectors else SPURIOUS_8259

    def read(self, offset: int) -> int:
        return self.apic.read(offset, 4)

    def write(self, offset: int, value: int) -> None:
        self.apic.write(offset, 4, value)

    def take(self) -> int:
        """The CPU acknowledges an interrupt."""
        assert self.intr
        return self.apic.acknowledge()

    def serve(self) -> int:
        """Acknowledge and end one interrupt."""
        vector = self.take()
        self.write(r.EOI, 0)
        return vector

    def send(self, command: int, destination: int = 0) -> None:
        self.write(r.ICR_HIGH, destination << 24)
        self.write(r.ICR_LOW, command)


class ApicRig:
    """`count` CPUs whose APICs software has enabled, at time 0."""

    def __init__(self, count: int = 1) -> None:
        self.events = EventQueue()
        self.bus = InterruptBus()
        self.cpus = [Cpu(number, self.bus, self.events) for number in range(count)]
        for cpu in self.cpus:
            cpu.write(r.SVR, ENABLE)

    def ticks(self, count: int, fraction: Callable[[int], int] = lambda ps: ps) -> None:
        """Let `count` ticks of the timers' input clock pass."""
        self.events.run_until(self.events.now_ps + fraction(count * TICK_PS))
