"""PCI configuration mechanism #1, and bus 0 with a host bridge on it.

    CONFIG_ADDRESS, 0xcf8:  31     | 30-24 | 23-16 | 15-11  | 10-8     | 7-2      | 1 0
                            enable | 0     | bus   | device | function | register | 0
    CONFIG_DATA, 0xcfc:     the four bytes of that register

CONFIG_ADDRESS decodes 32-bit accesses at 0xcf8 alone; narrower ones, and those that start at 0xcf9-0xcfb, go to
whatever else is at those ports. So it claims the single port 0xcf8 with width 4, and the reset control register has
0xcf9 to itself. Sources: PCI Local Bus Specification 2.2, 3.2.2.3.2 and 6.1; Intel 82441FX data sheet (290549), 3.2.
"""

from typing import Protocol

ADDRESS_BITS = 0x80FF_FFFC  # the bits CONFIG_ADDRESS stores; the others read 0
ENABLE = 1 << 31
CONFIGURATION_BYTES = 256
HOST_BRIDGE_DEVICE = 0

# Configuration header (figure 6-1): offset, size in bytes, value, bits that can be written.
# fmt: off
HOST_BRIDGE = (
    (0x00, 2, 0x8086, 0),       # vendor: Intel
    (0x02, 2, 0x1237, 0),       # device: 82441FX (PMC)
    (0x04, 2, 0x0006, 0x0140),  # command: memory and bus master always on; parity, SERR# enable
    (0x06, 2, 0x0200, 0),       # status: medium DEVSEL# timing
    (0x08, 1, 0x02, 0),         # revision
    (0x09, 3, 0x06_00_00, 0),   # class: host bridge
    (0x0D, 1, 0x00, 0xF8),      # latency timer
    (0x0E, 1, 0x00, 0),         # header type: one function
)
# fmt: on

# MODEL: of the 82441FX only the header exists: DRAM and shadowing registers read 0, the first megabyte is all RAM.
# MODEL: no function has an interrupt pin yet, so nothing routes INTA# to INTD#.


class PciFunction(Protocol):
    """Configuration space of a function; an access lies inside four aligned bytes."""

    def read(self, register: int, size_bytes: int) -> int:
        """Value at `register`, 0 to 255."""
        ...

    def write(self, register: int, size_bytes: int, value: int) -> None:
        """Store at `register`."""
        ...


class ConfigurationSpace:
    """256 bytes from a table like `HOST_BRIDGE`; all else reads 0."""

    def __init__(self, rows: tuple[tuple[int, int, int, int], ...]) -> None:
        self._bytes = bytearray(CONFIGURATION_BYTES)
        self._writable = bytearray(CONFIGURATION_BYTES)
        for offset, size_bytes, value, writable in rows:
            self._bytes[offset : offset + size_bytes] = value.to_bytes(size_bytes, "little")
            self._writable[offset : offset + size_bytes] = writable.to_bytes(size_bytes, "little")

    def read(self, register: int, size_bytes: int) -> int:
        """Bytes as they are."""
        return int.from_bytes(self._bytes[register : register + size_bytes], "little")

    def write(self, register: int, size_bytes: int, value: int) -> None:
        """Change the bits that can be written."""
        for at, byte in enumerate(value.to_bytes(size_bytes, "little"), register):
            self._bytes[at] = self._bytes[at] & ~self._writable[at] | byte & self._writable[at]


class PciBus:
    """Functions by (bus, device, function)."""

    def __init__(self) -> None:
        self._functions: dict[tuple[int, int, int], PciFunction] = {}
        self.attach(HOST_BRIDGE_DEVICE, ConfigurationSpace(HOST_BRIDGE))

    def attach(self, device: int, function: PciFunction) -> None:
        """Put a device of one function on bus 0. Raises ValueError when there is no such place, or it is taken."""
        if not 0 <= device < 32 or (0, device, 0) in self._functions:
            raise ValueError(f"PCI device {device} cannot be claimed")
        self._functions[0, device, 0] = function

    def find(self, address: int) -> PciFunction | None:
        """The function that a CONFIG_ADDRESS names."""
        if not address & ENABLE:
            return None
        return self._functions.get((address >> 16 & 0xFF, address >> 11 & 0x1F, address >> 8 & 7))


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
    """CONFIG_DATA: 0xcfc-0xcff. Where no function is, a read ends in a master abort, all ones."""

    widths_bytes: tuple[int, ...] = (1, 2, 4)

    def __init__(self, bus: PciBus, latch: PciConfigAddress) -> None:
        self._bus = bus
        self._latch = latch

    def read(self, offset: int, size_bytes: int) -> int:
        """The selected register's bytes from `offset` on; what runs beyond the register reads as ones."""
        function = self._bus.find(self._latch.address)
        inside = min(size_bytes, 4 - offset)
        ones = (1 << 8 * size_bytes) - 1
        if function is None:
            return ones
        value = function.read((self._latch.address & 0xFC) + offset, inside)
        return value | ones >> 8 * inside << 8 * inside

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Store in the selected register; what runs beyond it is dropped."""
        function = self._bus.find(self._latch.address)
        inside = min(size_bytes, 4 - offset)
        if function is not None:
            function.write((self._latch.address & 0xFC) + offset, inside, value & (1 << 8 * inside) - 1)
