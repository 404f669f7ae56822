"""The educational PCI device: QEMU's `edu`, for people who write their first driver. Not a real chip.

    0x00  identification   RO  0x010000ed
    0x04  liveness         RW  reads the complement of what was written
    0x08  factorial        RW  write n, wait, read n! modulo 2**32
    0x20  status           RW  bit 0 (RO): computing; bit 7: interrupt when a factorial is done
    0x24  interrupts       RO  bits that asked for an interrupt
    0x60  raise            WO  sets bits of `interrupts`
    0x64  acknowledge      WO  clears bits of `interrupts`

One region of 1 MiB in memory, registers of 32 bits; pin INTA# is asserted while `interrupts` is not 0.
Source: QEMU docs/specs/edu.rst.

MODEL: no DMA engine: its registers from 0x80 on and its buffer read all ones. A factorial takes one microsecond.
"""

from math import factorial

from devices.pci.function import DECODES_MEMORY, IS_MASTER, NO_INTERRUPTS, PciFunction, Region
from emulator.events import Event, EventQueue

REGION_BYTES = 1 << 20
IDENTIFICATION, LIVENESS, FACTORIAL, STATUS, INTERRUPTS, RAISE, ACKNOWLEDGE = 0x00, 0x04, 0x08, 0x20, 0x24, 0x60, 0x64
IDENTIFICATION_VALUE = 0x0100_00ED
IS_COMPUTING, INTERRUPT_WHEN_DONE = 1 << 0, 1 << 7
FACTORIAL_DONE = 1  # of `interrupts`
FACTORIAL_PS = 1_000_000
ALL_ONES = 0xFFFF_FFFF
ZERO_FROM = 34  # n! has 32 factors of two and more from here on

# fmt: off
CONFIGURATION = (
    (0x00, 2, 0x1234, 0),      # vendor
    (0x02, 2, 0x11E8, 0),      # device
    (0x04, 2, 0, DECODES_MEMORY | IS_MASTER | NO_INTERRUPTS),
    (0x08, 1, 0x10, 0),        # revision
    (0x09, 3, 0x00_FF_00, 0),  # class: not one of the others
)
# fmt: on


class Edu:
    """The registers; `function` is what to put on a PCI bus."""

    widths_bytes: tuple[int, ...] = (4,)

    def __init__(self, events: EventQueue) -> None:
        self.function = PciFunction(CONFIGURATION, regions=[Region(self, REGION_BYTES)], pin=1)
        self._events = events
        self._done: Event | None = None  # of the factorial that is being computed
        self._liveness = self._number = self._status = self._interrupts = 0

    def read(self, offset: int, size_bytes: int) -> int:
        """A register; what cannot be read is all ones."""
        readable = {
            IDENTIFICATION: IDENTIFICATION_VALUE,
            LIVENESS: ~self._liveness & ALL_ONES,
            FACTORIAL: self._number,
            STATUS: self._status | IS_COMPUTING * (self._done is not None),
            INTERRUPTS: self._interrupts,
        }
        return readable.get(offset, ALL_ONES)

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Store in a register; a number that comes while another is worked on is dropped."""
        if offset == LIVENESS:
            self._liveness = value
        elif offset == FACTORIAL and self._done is None:
            self._number = value
            self._done = self._events.schedule(self._events.now_ps + FACTORIAL_PS, self._finish)
        elif offset == STATUS:
            self._status = value & INTERRUPT_WHEN_DONE
        elif offset == RAISE:
            self._set_interrupts(self._interrupts | value)
        elif offset == ACKNOWLEDGE:
            self._set_interrupts(self._interrupts & ~value)

    def _finish(self) -> None:
        self._done = None
        self._number = factorial(self._number) & ALL_ONES if self._number < ZERO_FROM else 0
        if self._status & INTERRUPT_WHEN_DONE:
            self._set_interrupts(self._interrupts | FACTORIAL_DONE)

    def _set_interrupts(self, interrupts: int) -> None:
        self._interrupts = interrupts
        self.function.set_interrupt(interrupts != 0)
