"""fw_cfg: how QEMU tells firmware, and test kernels, about the machine. Not a real chip.

Source: QEMU docs/specs/fw_cfg.rst. Numbers are little-endian, those of the file directory big-endian.

    0x510  selector   16 bits, write: which item, and start at its first byte
    0x511  data        8 bits, read: the next byte of the item; zeros behind its end and in an item that is not there

    directory    count, 4 bytes | per file: size, 4 | key, 2 | 0, 2 | name, 56 bytes, zero-terminated

MODEL: no DMA interface and no writable items. Of the legacy items there are those that tell the size of the machine; a
kernel is loaded without a BIOS, so there is nothing of -kernel and -initrd here.
"""

import struct
from collections.abc import Mapping

SIGNATURE, ID, RAM_SIZE, CPU_COUNT, CPU_COUNT_MAX = 0x00, 0x01, 0x03, 0x05, 0x0F
FILE_DIRECTORY, FIRST_FILE = 0x19, 0x20
HAS_TRADITIONAL_INTERFACE = 1  # bit 1 of the ID would be DMA
FILE_NAME_BYTES = 56
SELECTOR, DATA = 0, 1  # offsets


def firmware_items(*, memory_bytes: int, cpu_count: int, files: Mapping[str, bytes] | None = None) -> dict[int, bytes]:
    """Key -> contents of every item; `files` get keys in the order of their names."""
    items = {
        SIGNATURE: b"QEMU",
        ID: struct.pack("<I", HAS_TRADITIONAL_INTERFACE),
        RAM_SIZE: struct.pack("<Q", memory_bytes),
        CPU_COUNT: struct.pack("<H", cpu_count),
        CPU_COUNT_MAX: struct.pack("<H", cpu_count),
    }
    directory = b""
    for key, (name, data) in enumerate(sorted((files or {}).items()), FIRST_FILE):
        items[key] = data
        directory += struct.pack(f">IHH{FILE_NAME_BYTES}s", len(data), key, 0, name.encode())
    items[FILE_DIRECTORY] = struct.pack(">I", len(files or {})) + directory
    return items


class FirmwareConfiguration:
    """The selector and data ports over a table of items."""

    widths_bytes: tuple[int, ...] = (1, 2)

    def __init__(self, items: Mapping[int, bytes]) -> None:
        self._items = dict(items)
        self._selected = b""
        self._position = 0

    def read(self, offset: int, size_bytes: int) -> int:
        """The next byte of the item at the data port; the selector port floats."""
        if offset != DATA or size_bytes != 1:
            return (1 << 8 * size_bytes) - 1
        position, self._position = self._position, min(self._position + 1, len(self._selected))
        return self._selected[position] if position < len(self._selected) else 0

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Select an item by 16 bits at the selector port; all else is dropped."""
        if offset == SELECTOR and size_bytes == 2:
            self._selected = self._items.get(value, b"")
            self._position = 0
