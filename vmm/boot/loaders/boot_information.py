"""Builds the structures of Multiboot and PVH, which point to each other, into one region of low memory."""

from emulator.errors import ConfigError
from vmm.boot.loaders import low_memory

ALIGNMENT_BYTES = 8


class BootInformation:
    """Pieces one behind the other, the first at `BOOT_INFORMATION`. Raises ConfigError when it is full."""

    def __init__(self, first_bytes: int) -> None:
        self._data = bytearray(first_bytes)
        self.gpa = low_memory.BOOT_INFORMATION.gpa

    def add(self, piece: bytes) -> int:
        """Put `piece` behind the others; returns its address."""
        self._data += bytes(-len(self._data) % ALIGNMENT_BYTES)
        gpa = self.gpa + len(self._data)
        self._data += piece
        if len(self._data) > low_memory.BOOT_INFORMATION.size_bytes:
            raise ConfigError("the arguments of the modules are too long together; shorten them")
        return gpa

    def finish(self, first: bytes) -> tuple[int, bytes]:
        """Fill in the first piece, now that all addresses are known; the region as (gpa, data)."""
        self._data[: len(first)] = first
        return self.gpa, bytes(self._data)
