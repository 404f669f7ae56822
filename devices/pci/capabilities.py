"""The capability list of a PCI function (PCI Local Bus Specification 3.0, 6.7): what it has beyond a header.

    0x34 --> | next | number | +0      status bit 4 says that there is a list
             | the capability's registers |
    next --> | 0    | number | ...

A capability is data, as a header is: rows of registers, from its own first byte on. The function lays them one behind
the other, each at a multiple of four.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Row = tuple[int, int, int, int]  # offset, size in bytes, value after reset, bits that can be written

CAPABILITIES_POINTER, FIRST_CAPABILITY = 0x34, 0x40
HAS_CAPABILITIES = 1 << 4  # of the status register
HEADER_BYTES = 2


@dataclass(frozen=True)
class Capability:
    """Capability `number` (the specification's appendix H) with its rows; those of number and next are not in them."""

    number: int
    rows: tuple[Row, ...]

    @property
    def length_bytes(self) -> int:
        """From the first byte to behind the last register."""
        return max([HEADER_BYTES, *(offset + size_bytes for offset, size_bytes, _, _ in self.rows)])


def lay_out(capabilities: Sequence[Capability]) -> Iterator[tuple[int, int, Capability]]:
    """(where it is, where the next one is or 0, capability), in order."""
    at = FIRST_CAPABILITY
    for number, capability in enumerate(capabilities, 1):
        end = -(-(at + capability.length_bytes) // 4) * 4
        yield at, end if number < len(capabilities) else 0, capability
        at = end


class Registers:
    """The registers of a capability at `at` in the `configuration` bytes of its function."""

    def __init__(self, configuration: bytearray, at: int) -> None:
        self._bytes = configuration
        self._at = at

    def read(self, offset: int, size_bytes: int) -> int:
        """A register."""
        return int.from_bytes(self._bytes[self._at + offset : self._at + offset + size_bytes], "little")

    def set(self, offset: int, size_bytes: int, value: int) -> None:
        """Change a register, whatever of it software may write."""
        self._bytes[self._at + offset : self._at + offset + size_bytes] = value.to_bytes(size_bytes, "little")
