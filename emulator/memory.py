"""Host-physical memory: one flat array of bytes, and the only ways to touch it.

    hpa 0 .......... size_bytes .......... 4 GiB
    |  RAM           |  nobody answers: reads are all ones, writes are dropped

Every access is checked against the size; there is no unchecked path. `words` gives page-table code 64-bit words at
`hpa >> 3`; Python's memoryview checks its index too.
"""

import ctypes
import mmap

from emulator.x86 import PAGE_BYTES

MAP_FIXED = 0x10  # of mmap(2): in place of what is there; Python's has no name for it
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]


class HostMemory:
    """RAM of the host, zeroed, at host-physical addresses [0, size_bytes)."""

    def __init__(self, size_bytes: int) -> None:
        """`size_bytes`: a multiple of the page size, below 4 GiB."""
        if size_bytes % PAGE_BYTES or not 0 < size_bytes < 1 << 32:
            raise ValueError(f"{size_bytes} bytes of memory are not possible")
        self.size_bytes = size_bytes
        self.map = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.bytes = memoryview(self.map)
        self.words = self.bytes.cast("Q")

    def begin_with(self, file: int) -> None:
        """Become what is in the file with this descriptor. Raises OSError.

        The file is not written to: pages are copied when they are changed, and shared until then. Addresses stay.
        """
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        protection, flags = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | MAP_FIXED
        if _LIBC.mmap(address, self.size_bytes, protection, flags, file, 0) != address:
            raise OSError(ctypes.get_errno(), "cannot map the file of a snapshot")

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
