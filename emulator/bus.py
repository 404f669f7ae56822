"""The I/O port bus: finds the device at a port. A device knows offsets, never its address.

Devices that hang on it are `PortDevice`s; interrupt wires are plain callables (`InterruptLine`).
A port that nobody claims reads as all ones, and writes to it are dropped, as on an ISA bus.
"""

from collections.abc import Callable
from typing import Protocol

InterruptLine = Callable[[bool], None]  # line(True) asserts the wire, line(False) releases it

PORT_COUNT = 0x10000


class PortDevice(Protocol):
    """A device's registers: offsets are relative to where it was attached."""

    widths_bytes: tuple[int, ...]  # access sizes it decodes; others are split into bytes by the bus

    def read(self, offset: int, size_bytes: int) -> int:
        """Value of the register at `offset`; `size_bytes` is one of `widths_bytes`."""
        ...

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Store `value`, already cut to `size_bytes`, in the register at `offset`."""
        ...


class PortBus:
    """Maps port numbers to (device, offset)."""

    def __init__(self) -> None:
        self._ports: dict[int, tuple[PortDevice, int]] = {}

    def attach(self, base: int, length: int, device: PortDevice) -> None:
        """Let `device` answer at ports [base, base + length). Raises ValueError if one is taken."""
        for port in range(base, base + length):
            if not 0 <= port < PORT_COUNT or port in self._ports:
                raise ValueError(f"port {port:#x} cannot be claimed")
        self._ports |= {base + offset: (device, offset) for offset in range(length)}

    def read(self, port: int, size_bytes: int) -> int:
        """What IN of `size_bytes` (1, 2 or 4) at `port` returns."""
        device, offset = self._ports.get(port, (None, 0))
        if device is not None and size_bytes in device.widths_bytes:
            return device.read(offset, size_bytes) & ((1 << 8 * size_bytes) - 1)
        if size_bytes == 1:
            return 0xFF
        return sum(self.read((port + i) % PORT_COUNT, 1) << 8 * i for i in range(size_bytes))

    def write(self, port: int, size_bytes: int, value: int) -> None:
        """What OUT of `size_bytes` (1, 2 or 4) at `port` does."""
        device, offset = self._ports.get(port, (None, 0))
        if device is not None and size_bytes in device.widths_bytes:
            device.write(offset, size_bytes, value & ((1 << 8 * size_bytes) - 1))
        elif size_bytes > 1:
            for i in range(size_bytes):
                self.write((port + i) % PORT_COUNT, 1, value >> 8 * i & 0xFF)
