"""The doorbell of the bridge, as the host sees it: the identifier register, and the interrupt it raises.

    0x00  identifier   64 bits, of which `bits` exist   a bit for the VIFs whose number modulo `bits` it is;
                                                        write 1 to clear
    0x08  mask         64 bits                          write; 1: the bit does not interrupt
    pin INTA# is asserted while a bit is set that is not masked

Source: Intel 21555 Non-Transparent PCI-to-PCI Bridge User Manual, doorbell registers.

MODEL: they have 16 bits there.
"""

from emulator.bus import InterruptLine

IDENTIFIER, MASK, REGION_BYTES = 0x00, 0x08, 4096
IDENTIFIER_BITS_MAX = 64


class Doorbell:
    """`on_interrupt` gets the level when it changes."""

    widths_bytes: tuple[int, ...] = (1, 2, 4, 8)

    def __init__(self, bits: int, on_interrupt: InterruptLine) -> None:
        if not 1 <= bits <= IDENTIFIER_BITS_MAX:
            raise ValueError(f"an identifier register of {bits} bits")
        self.bits = bits
        self._on_interrupt = on_interrupt
        self.identifier = self.mask = 0
        self._level = False
        self._all = (1 << bits) - 1

    def ring(self, bit: int) -> None:
        """The device sets a bit."""
        self.identifier |= 1 << bit
        self._follow()

    def read(self, offset: int, size_bytes: int) -> int:
        """Bytes of the registers; what is none reads 0."""
        registers = self.identifier | self.mask << 64
        return registers >> 8 * offset & (1 << 8 * size_bytes) - 1 if offset < 16 else 0

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Clear identifier bits, or store in the mask."""
        if offset < MASK:
            self.identifier &= ~(value << 8 * offset)
        elif offset < MASK + 8:
            shift = 8 * (offset - MASK)
            changed = (1 << 8 * size_bytes) - 1 << shift
            self.mask = (self.mask & ~changed | value << shift) & self._all
        self._follow()

    def _follow(self) -> None:
        level = bool(self.identifier & ~self.mask)
        if level != self._level:
            self._level = level
            self._on_interrupt(level)
