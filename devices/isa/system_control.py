"""System control ports A (0x92) and B (0x61): the PC's odd bits, gathered.

Source: IBM PS/2 Hardware Interface Technical Reference, "System Control Port A" and "B".
"""

from collections.abc import Callable

from devices.isa.i8254 import Counter
from devices.isa.i8254_modes import ticks_in
from emulator.events import EventQueue

FAST_RESET, A20_GATE = 0x01, 0x02
REFRESH_TICKS = 18  # counter 1 of the 8254 requests a DRAM refresh every 15 us; bit 4 of port B toggles with each

# MODEL: the A20 gate reads back but masks nothing: address line 20 is always on.


class SystemControlPortA:
    """Port 0x92: A20 gate and fast reset."""

    WIRED = ("on_reset",)

    widths_bytes: tuple[int, ...] = (1,)

    def __init__(self, on_reset: Callable[[], None]) -> None:
        self.on_reset = on_reset
        self.control = A20_GATE

    def read(self, offset: int, size_bytes: int) -> int:
        """The two bits as written."""
        return self.control

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Store the bits; bit 0 going from 0 to 1 resets."""
        rises = value & ~self.control & FAST_RESET
        self.control = value & (FAST_RESET | A20_GATE)
        if rises:
            self.on_reset()


class SystemControlPortB:
    """Port 0x61: gate of counter 2, speaker, and read-only bits.

    7 6 | 5    | 4       | 3          | 2             | 1       | 0
    0 0 | OUT2 | refresh | I/O check# | parity check# | speaker | gate 2
    """

    widths_bytes: tuple[int, ...] = (1,)
    WRITABLE = 0x0F

    def __init__(self, events: EventQueue, counter: Counter) -> None:
        self._events = events
        self._counter = counter
        self.control = 0

    def read(self, offset: int, size_bytes: int) -> int:
        """The written bits, OUT2 in bit 5 and the refresh toggle in bit 4."""
        refresh = ticks_in(self._events.now_ps) // REFRESH_TICKS & 1
        return self.control | refresh << 4 | self._counter.out << 5

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Set the gate of counter 2 and remember bits 3-0."""
        self.control = value & self.WRITABLE
        self._counter.set_gate(bool(value & 1))
