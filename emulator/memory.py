"""Host-physical memory: one flat array of bytes, and the only ways to touch it.

    hpa 0 .......... size_bytes .......... 4 GiB
    |  RAM           |  nobody answers: reads are all ones, writes are dropped

Every access is checked against the size; there is no unchecked path. `words` gives page-table code 64-bit words at
`hpa >> 3`; Python's memoryview checks its index too.
"""

import mmap

from emulator.x86 import PAGE_BYTES


class HostMemory:
    """RAM of the host, zeroed, at host-physical addresses [0, size_bytes)."""

    def __init__(self, size_bytes: int, *, file: int | None = None) -> None:
        """`size_bytes`: a multiple of the page size, below 4 GiB. `file`: a descriptor of the contents to begin with.

        The file is not written to: pages are copied when they are changed, and shared until then.
        """
        if size_bytes % PAGE_BYTES or not 0 < size_bytes < 1 << 32:
            raise ValueError(f"{size_bytes} bytes of memory are not possible")
        self.size_bytes = size_bytes
        if file is None:
            self.map = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        else:
            self.map = mmap.mmap(file, size_bytes, flags=mmap.MAP_PRIVATE)
        self.bytes = memoryview(self.map)
        self.words = self.bytes.cast("Q")

    def forget_changes(self) -> None:
        """Be again what the file has."""
        self.map.madvise(mmap.MADV_DONTNEED)

    def is_ram(self, hpa: int, length_bytes: int) -> bool:
        """Whether [hpa, hpa + length_bytes) is RAM."""
        return hpa >= 0 and length_bytes >= 0 and hpa + length_bytes <= self.size_bytes

    def read(self, hpa: int, length_bytes: int) -> bytes:
        """The bytes at `hpa`; all ones where there is no RAM."""
        if self.is_ram(hpa, length_bytes):
            return bytes(self.bytes[hpa : hpa + length_bytes])
        return bytes(self.bytes[hpa + i] if self.is_ram(hpa + i, 1) else 0xFF for i in range(length_bytes))

    def write(self, hpa: int, data: bytes) -> None:
        """Store `data` at `hpa`; what does not fall on RAM is dropped."""
        if self.is_ram(hpa, len(data)):
            self.bytes[hpa : hpa + len(data)] = data
            return
        for i, byte in enumerate(data):
            if self.is_ram(hpa + i, 1):
                self.bytes[hpa + i] = byte
