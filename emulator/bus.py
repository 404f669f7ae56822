"""The buses: they find the device at a port or at a physical address. A device knows offsets, never its address.

    IN, OUT       -> PortBus  port    -> (device, offset)      per port: 65536 of them
    load, store   -> MmioBus  address -> (device, offset)      per range; what only one core sees lies in front
      to no RAM

Devices that hang on them are `BusDevice`s; interrupt wires are plain callables (`InterruptLine`).
What nobody claims reads as all ones, and writes to it are dropped, as on an ISA bus.
"""

from bisect import bisect_right
from collections.abc import Callable
from functools import partial
from typing import Protocol

InterruptLine = Callable[[bool], None]  # line(True) asserts the wire, line(False) releases it

PORT_COUNT = 0x10000


class BusDevice(Protocol):
    """A device's registers: offsets are relative to where it was attached."""

    widths_bytes: tuple[int, ...]  # access sizes it decodes; others are split into bytes by the bus

    def read(self, offset: int, size_bytes: int) -> int:
        """Value of the register at `offset`; `size_bytes` is one of `widths_bytes`."""
        ...

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Store `value`, already cut to `size_bytes`, in the register at `offset`."""
        ...


class SharedLine:
    """A wire that several outputs drive: asserted while any of them asserts it."""

    def __init__(self, line: InterruptLine) -> None:
        self._line = line
        self._input_count = 0
        self._asserted = 0  # a bit for each input

    def input(self) -> InterruptLine:
        """The wire for one more output."""
        bit = 1 << self._input_count
        self._input_count += 1
        return partial(self._drive, bit)

    def _drive(self, bit: int, level: bool) -> None:
        before = self._asserted
        self._asserted = before | bit if level else before & ~bit
        if bool(before) != bool(self._asserted):
            self._line(level)


class PortFinder(Protocol):
    """Devices whose ports can change."""

    def find_port(self, port: int, size_bytes: int) -> tuple[BusDevice, int] | None:
        """The device that decodes an access at `port` whole, and the offset."""
        ...


class PortBus:
    """Maps port numbers to (device, offset). `behind` is asked for a port that no device here claims."""

    def __init__(self) -> None:
        self._ports: dict[int, tuple[BusDevice, int]] = {}
        self.behind: PortFinder | None = None

    def attach(self, base: int, length: int, device: BusDevice) -> None:
        """Let `device` answer at ports [base, base + length). Raises ValueError if one is taken."""
        for port in range(base, base + length):
            if not 0 <= port < PORT_COUNT or port in self._ports:
                raise ValueError(f"port {port:#x} cannot be claimed")
        self._ports |= {base + offset: (device, offset) for offset in range(length)}

    def read(self, port: int, size_bytes: int) -> int:
        """What IN of `size_bytes` (1, 2 or 4) at `port` returns."""
        device, offset = self._ports.get(port) or self._elsewhere(port, size_bytes)
        if device is not None and size_bytes in device.widths_bytes:
            return device.read(offset, size_bytes) & ((1 << 8 * size_bytes) - 1)
        if size_bytes == 1:
            return 0xFF
        return sum(self.read((port + i) % PORT_COUNT, 1) << 8 * i for i in range(size_bytes))

    def write(self, port: int, size_bytes: int, value: int) -> None:
        """What OUT of `size_bytes` (1, 2 or 4) at `port` does."""
        device, offset = self._ports.get(port) or self._elsewhere(port, size_bytes)
        if device is not None and size_bytes in device.widths_bytes:
            device.write(offset, size_bytes, value & ((1 << 8 * size_bytes) - 1))
        elif size_bytes > 1:
            for i in range(size_bytes):
                self.write((port + i) % PORT_COUNT, 1, value >> 8 * i & 0xFF)

    def _elsewhere(self, port: int, size_bytes: int) -> tuple[BusDevice | None, int]:
        return (self.behind.find_port(port, size_bytes) if self.behind is not None else None) or (None, 0)


class MmioBus:
    """Maps physical addresses to (device, offset). `behind` is asked for what no device here claims.

    An access that no device decodes whole (of another width, not aligned to its size, across the edge of a device) is
    split in two, lower half first, down to bytes.
    """

    def __init__(self, behind: "MmioBus | None" = None) -> None:
        self._behind = behind
        self._starts: list[int] = []  # ascending; the same places in `_ranges`
        self._ranges: list[tuple[int, int, BusDevice]] = []  # start, end, device

    def attach(self, base: int, length_bytes: int, device: BusDevice) -> None:
        """Let `device` answer at [base, base + length_bytes). Raises ValueError if a part is taken."""
        end = base + length_bytes
        if base < 0 or length_bytes < 1 or any(base < taken and start < end for start, taken, _ in self._ranges):
            raise ValueError(f"addresses from {base:#x} to {end:#x} cannot be claimed")
        place = bisect_right(self._starts, base)
        self._starts.insert(place, base)
        self._ranges.insert(place, (base, end, device))

    def covers(self, address: int, length_bytes: int) -> bool:
        """Whether a device answers anywhere in [address, address + length_bytes)."""
        here = any(start < address + length_bytes and address < end for start, end, _ in self._ranges)
        return here or (self._behind is not None and self._behind.covers(address, length_bytes))

    def is_filled(self, address: int, length_bytes: int) -> bool:
        """Whether one device has all of [address, address + length_bytes)."""
        here = any(start <= address and address + length_bytes <= end for start, end, _ in self._ranges)
        return here or (self._behind is not None and self._behind.is_filled(address, length_bytes))

    def is_own(self, address: int) -> bool:
        """Whether a device of this bus answers at `address`, and not one behind it."""
        place = bisect_right(self._starts, address) - 1
        return place >= 0 and address < self._ranges[place][1]

    def read(self, address: int, size_bytes: int) -> int:
        """What a load of `size_bytes` at `address` returns."""
        found = self._find(address, size_bytes)
        if found is not None:
            device, offset = found
            return device.read(offset, size_bytes) & ((1 << 8 * size_bytes) - 1)
        if size_bytes == 1:
            return 0xFF
        half = size_bytes // 2
        low = self.read(address, half)
        return low | self.read(address + half, size_bytes - half) << 8 * half

    def write(self, address: int, size_bytes: int, value: int) -> None:
        """What a store of `size_bytes` at `address` does."""
        found = self._find(address, size_bytes)
        if found is not None:
            device, offset = found
            device.write(offset, size_bytes, value & ((1 << 8 * size_bytes) - 1))
        elif size_bytes > 1:
            half = size_bytes // 2
            self.write(address, half, value & ((1 << 8 * half) - 1))
            self.write(address + half, size_bytes - half, value >> 8 * half)

    def _find(self, address: int, size_bytes: int) -> tuple[BusDevice, int] | None:
        """The device that decodes the access whole, and the offset."""
        place = bisect_right(self._starts, address) - 1
        if place >= 0 and not address % size_bytes:
            start, end, device = self._ranges[place]
            if address + size_bytes <= end and size_bytes in device.widths_bytes:
                return device, address - start
        return None if self._behind is None else self._behind._find(address, size_bytes)
