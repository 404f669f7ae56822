"""ACPI fixed hardware: PM1 event and control registers, and the power-management timer (ACPI specification 6.4, 4.8).

    0x0  PM1 status    w1c    15 WAK | 10 RTC | 8 power button | 5 global | 4 bus master | 0 timer
    0x2  PM1 enable           10 RTC | 8 power button | 5 global | 0 timer
    0x4  PM1 control          13 SLP_EN | 12..10 SLP_TYP | 2 GBL_RLS | 1 BM_RLD | 0 SCI_EN
    0x8  PM timer             32 bits at 3.579545 MHz

The hardware is always in ACPI mode (SCI_EN reads 1). SLP_EN with the type of S5 turns the power off; there is no other
sleep state. The SCI is asserted while an enabled status bit is set; only the timer sets one, when its top bit changes.
"""

from collections.abc import Callable

from emulator.bus import InterruptLine
from emulator.events import PS_PER_SECOND, Event, EventQueue

PM_TIMER_HZ = 3_579_545
STATUS, ENABLE, CONTROL, TIMER = 0x0, 0x2, 0x4, 0x8
LENGTH = 0xC
TIMER_EVENT = 1 << 0
ENABLE_BITS = 1 << 10 | 1 << 8 | 1 << 5 | TIMER_EVENT
SCI_ENABLED, SLEEP_ENABLE = 1 << 0, 1 << 13
CONTROL_BITS = 7 << 10 | 1 << 1  # what is stored: SLP_TYP, BM_RLD
S5_TYPE = 5  # the DSDT's \\_S5 says so
HALF_TIMER = 1 << 31  # ticks between changes of the highest bit


class AcpiPm:
    """The block of 12 ports. `on_power_off` is called when software enters S5."""

    WIRED = ("_on_power_off",)

    widths_bytes: tuple[int, ...] = (1, 2, 4)

    def __init__(self, events: EventQueue, sci: InterruptLine, on_power_off: Callable[[], None]) -> None:
        self._events = events
        self._sci = sci
        self._on_power_off = on_power_off
        self._sci_level = False
        self._event: Event | None = None
        self._seen_halves = 0  # changes of the timer's highest bit that TIMER_EVENT has been cleared for
        self.enable = 0
        self.control = 0

    @property
    def timer(self) -> int:
        """The count: it never stops, and wraps."""
        return self._ticks() & 0xFFFF_FFFF

    def _ticks(self) -> int:
        return self._events.now_ps * PM_TIMER_HZ // PS_PER_SECOND

    @property
    def status(self) -> int:
        """PM1 status."""
        return TIMER_EVENT if self._ticks() // HALF_TIMER > self._seen_halves else 0

    def read(self, offset: int, size_bytes: int) -> int:
        """Part of the block; what is not a register reads 0."""
        block = self.status | self.enable << 16 | (self.control | SCI_ENABLED) << 32 | self.timer << 8 * TIMER
        return block >> 8 * offset & (1 << 8 * size_bytes) - 1

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Bytes of the registers; the timer cannot be written."""
        for i in range(size_bytes):
            self._write_byte(offset + i, value >> 8 * i & 0xFF)
        self._follow()

    def _write_byte(self, offset: int, byte: int) -> None:
        shift = 8 * (offset & 1)
        match offset & ~1:
            case 0x0 if byte << shift & TIMER_EVENT:
                self._seen_halves = self._ticks() // HALF_TIMER
            case 0x2:
                self.enable = (self.enable & ~(0xFF << shift) | byte << shift) & ENABLE_BITS
            case 0x4:
                value = self.control & ~(0xFF << shift) | byte << shift
                self.control = value & CONTROL_BITS
                if value & SLEEP_ENABLE and value >> 10 & 7 == S5_TYPE:
                    self._on_power_off()

    def _follow(self) -> None:
        """Drive the SCI, and come back at the next change of the timer's highest bit if that would raise it."""
        level = bool(self.status & self.enable)
        if level != self._sci_level:
            self._sci_level = level
            self._sci(level)
        self._events.cancel(self._event)
        self._event = None
        if self.enable & TIMER_EVENT and not level:
            ticks = (self._seen_halves + 1) * HALF_TIMER
            self._event = self._events.schedule(-(-ticks * PS_PER_SECOND // PM_TIMER_HZ), self._follow)
