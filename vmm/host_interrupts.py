"""What the VMM does at an interrupt of the host: one table, by vector.

    device --> I/O APIC --.
    another core's ICR ---+--> local APIC --> INTR --> in a guest: VM exit; the vector is in the VMCS
    local timer ----------'                       `--> in root operation: acknowledge ------------+--> handler, EOI

A vector without a handler is counted, ended, and has no other effect.

To handle a device's interrupt: `HostInterrupts.route(pin, vector, handler)`.
"""

from collections.abc import Callable

from devices.interrupts import ioapic as io
from devices.pc import Pc
from emulator.errors import ConfigError
from vmm.core import Core
from vmm.host_apic import EVENT_CHECK, FIRST_DEVICE, FLUSH, TIMER

Handler = Callable[[Core], None]

HOST_INTERRUPTS: dict[int, Handler] = {
    TIMER: Core.run_timers,
    EVENT_CHECK: Core.check_events,
    FLUSH: Core.flush_for_others,
}


class HostInterrupts:
    """The table of the VMM on the first `core_count` cores of `pc`; those behind are sidecores, which only poll."""

    def __init__(self, pc: Pc, core_count: int) -> None:
        self.handlers = dict(HOST_INTERRUPTS)
        self._ioapic = pc.board.ioapic
        self._core_count = core_count

    def handle(self, vector: int, handler: Handler) -> None:
        """Let `handler` have the interrupts with `vector`, at whatever core. Raises ConfigError when it is not free."""
        if not FIRST_DEVICE <= vector < TIMER or vector in self.handlers:
            raise ConfigError(f"vector {vector:#x} is not free: choose one from {FIRST_DEVICE:#x} to {TIMER - 1:#x}")
        self.handlers[vector] = handler

    def forget(self, vector: int) -> None:
        """Nobody has the interrupts with `vector` any more: they are counted and ended."""
        del self.handlers[vector]

    def move(self, pin: int, core: int) -> None:
        """Let another core have the interrupts at a pin that was routed."""
        self._ioapic.write(io.SELECT, 4, io.REDIRECTION + 2 * pin + 1)
        self._ioapic.write(io.WINDOW, 4, core << 24)

    def route(self, pin: int, vector: int, handler: Handler, *, core: int = 0, is_level: bool = True) -> None:
        """Let `handler` have the interrupts at a pin of the host's I/O APIC: at `core`, with `vector`.

        Raises ConfigError when there is no such pin or core, or the vector is not free for a device.
        """
        if not 0 <= pin < io.PIN_COUNT or not 0 <= core < self._core_count:
            raise ConfigError(f"the host has no pin {pin} of an I/O APIC, or the VMM no core {core} for interrupts")
        self.handle(vector, handler)
        entry = core << 56 | (io.LEVEL if is_level else 0) | vector
        for half in (1, 0):  # the lower has the mask
            self._ioapic.write(io.SELECT, 4, io.REDIRECTION + 2 * pin + half)
            self._ioapic.write(io.WINDOW, 4, entry >> 32 * half & 0xFFFF_FFFF)
