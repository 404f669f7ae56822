"""A core's own local APIC, as the VMM on that core uses it.

    arm(when_ps) --> initial count --> TIMER, at `when_ps` or soon after, never before
    send(vector, core) --> ICR ------> the vector, at another core, after its way
    acknowledge() <------------------- what waits, in root operation; at a VM exit the processor does it
    end() --> EOI

A store or load takes `events.apic_access_cycles`, both halves of a command to others together `events.ipi_send_cycles`.
An access is in the core's time. Other cores may be behind then, so it does not run what the machine has to do before.

MODEL: the VMM has set up the APICs before the machine's time begins.
"""

from typing import Protocol

from devices.interrupts.interrupt_bus import InterruptMessage
from devices.interrupts.lapic_registers import (
    EOI,
    ICR_HIGH,
    ICR_LOW,
    LVT_LINT0,
    LVT_MASKED,
    LVT_TIMER,
    SVR,
    SVR_ENABLED,
    TIMER_DIVIDE,
    TIMER_INITIAL,
)
from devices.interrupts.lapic_timer import COUNT_MASK, DIVIDE_BY_1
from emulator.events import PS_PER_SECOND
from emulator.ledger import Category
from vmm.cost.meter import Meter

# The VMM's vectors on the host, as Xen of September 2006 has them (asm-x86/mach-default/irq_vectors.h). Those of
# devices lie between FIRST_DEVICE and TIMER.
FIRST_DEVICE, TIMER, EVENT_CHECK, FLUSH, SPURIOUS = 0x20, 0xEF, 0xFC, 0xFD, 0xFF

SET_UP = (
    (SVR, SVR_ENABLED | SPURIOUS),
    (LVT_LINT0, LVT_MASKED),  # no 8259s: devices come through the I/O APIC
    (LVT_TIMER, TIMER),  # one-shot: processors of 2006 had no deadline mode
    (TIMER_DIVIDE, DIVIDE_BY_1),
)


class LocalApic(Protocol):
    """The chip: `devices.interrupts.lapic.LocalApic`."""

    def accept(self, message: InterruptMessage) -> None:
        """Take an interrupt from the bus."""
        ...

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Store to a register."""
        ...

    def acknowledge(self) -> int:
        """The vector that waits, which is in service from now on."""
        ...


class HostApic:
    """The local APIC `chip` of the core that `meter` is of."""

    def __init__(self, chip: LocalApic, meter: Meter) -> None:
        self._chip = chip
        self._meter = meter
        self._timeline = meter.pcpu.timeline
        self._timer_hz = meter.pcpu.profile.core.apic_timer_hz
        self._access_cycles = meter.pcpu.profile.events.apic_access_cycles
        self._send_cycles = meter.pcpu.profile.events.ipi_send_cycles
        self._armed_ps: int | None = None  # what the timer was set to interrupt for, and has not
        for offset, value in SET_UP:
            chip.write(offset, 4, value)

    # --- interrupts --------------------------------------------------------------------------------------------------

    def acknowledge(self) -> int:
        """Take the interrupt that waits into service; its vector."""
        with self._timeline.events.at(self._now_ps()):
            return self._chip.acknowledge()

    def end(self) -> None:
        """The interrupt in service is over."""
        self._pay_access("end of interrupt")
        self._write(EOI, 0)

    def send(self, vector: int, core: int) -> None:
        """Interrupt another core. MODEL: `ipi_receive_cycles` has the receiver's entry to its handler in it, too."""
        self._meter.pay(Category.EVENTS, self._send_cycles, f"interrupt to core {core}", "events.ipi_send_cycles")
        self._write(ICR_HIGH, core << 24)
        self._write(ICR_LOW, vector)

    def receive(self, vector: int) -> None:
        """MODEL: the outside, or an observer of the machine, has something for this core; at once, and for nothing."""
        self._chip.accept(InterruptMessage(vector))

    # --- the timer ---------------------------------------------------------------------------------------------------

    def arm(self, when_ps: int | None) -> None:
        """Interrupt at `when_ps`, or never; the earlier setting is forgotten. What is too far off for the count comes
        early: whoever is interrupted looks at the time, and arms the timer again.

        MODEL: an expiry that an exit's handler has overtaken, and whose interrupt nobody has seen, is forgotten too.
        """
        if when_ps == self._armed_ps:
            return
        self._armed_ps = when_ps
        left_ps = 0 if when_ps is None else max(1, when_ps - self._now_ps())
        self._pay_access("set the local timer")
        self._write(TIMER_INITIAL, min(COUNT_MASK, -(-left_ps * self._timer_hz // PS_PER_SECOND)))

    def disarm_expired(self) -> None:
        """The timer has interrupted, and stands still."""
        self._armed_ps = None

    # --- accesses ----------------------------------------------------------------------------------------------------

    def _now_ps(self) -> int:
        self._meter.commit()
        return self._meter.clock.now_ps

    def _pay_access(self, what: str) -> None:
        self._meter.pay(Category.EVENTS, self._access_cycles, what, "events.apic_access_cycles")

    def _write(self, offset: int, value: int) -> None:
        """A store that has been paid. What it schedules bounds how far the core runs."""
        with self._timeline.events.at(self._now_ps()):
            self._chip.write(offset, 4, value)
        self._meter.clock.bound_by_events()
