"""PCI configuration mechanism #1 in front of a bus with nothing on it.

    CONFIG_ADDRESS, 0xcf8:  31     | 30-24 | 23-16 | 15-11  | 10-8     | 7-2      | 1 0
                            enable | 0     | bus   | device | function | register | 0

CONFIG_ADDRESS decodes 32-bit accesses at 0xcf8 alone; narrower ones, and those that start at 0xcf9-0xcfb, go to
whatever else is at those ports. So it claims the single port 0xcf8 with width 4, and the reset control register has
0xcf9 to itself. Source: PCI Local Bus Specification 2.2, section 3.2.2.3.2.
"""

ADDRESS_BITS = 0x80FF_FFFC  # the bits CONFIG_ADDRESS stores; the others read 0

# MODEL: no PCI function exists, not even a host bridge: every configuration read ends in a master abort, all ones.


class PciConfigAddress:
    """CONFIG_ADDRESS: the latch at 0xcf8, one port, 32-bit accesses."""

    widths_bytes: tuple[int, ...] = (4,)

    def __init__(self) -> None:
        self.address = 0

    def read(self, offset: int, size_bytes: int) -> int:
        """The latched address."""
        return self.address

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Latch `value` without its reserved bits."""
        self.address = value & ADDRESS_BITS


class PciConfigData:
    """CONFIG_DATA: 0xcfc-0xcff."""

    widths_bytes: tuple[int, ...] = (1, 2, 4)

    def read(self, offset: int, size_bytes: int) -> int:
        """All ones: no function answers."""
        return (1 << 8 * size_bytes) - 1

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Dropped: no function takes it."""
