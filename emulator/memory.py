"""Host-physical memory: one flat array of bytes, and the only ways to touch it.

    hpa 0 ......... LOW_END (3 GiB) ......... HIGH_START (4 GiB) ......... end_hpa
    |  RAM          |  the hole: devices    |  the rest of the RAM      |  nobody

Where nobody answers, reads are all ones and writes are dropped. RAM goes on behind the hole as chipsets let it, and a
guest's is laid out likewise. The workstation gives memory when it is touched, and none for the hole.

Every access is checked against the size; there is no unchecked path. `words` gives page-table code 64-bit words at
`hpa >> 3`; Python's memoryview checks its index too. It is for pages that no guest runs: CPUs hear of what `write`
changes, and of nothing else.
"""

import ctypes
import mmap
import os
from collections.abc import Iterator
from typing import Protocol

from emulator.x86 import PAGE_BYTES

LOW_END, HIGH_START = 3 << 30, 4 << 30
END_MAX = 1 << 36
MAP_FIXED, MAP_NORESERVE = 0x10, 0x4000  # of mmap(2): in place of what is there; Python has no names for them
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]


def end_of_ram(start: int, size_bytes: int) -> int:
    """Where `size_bytes` of RAM end that begin at physical address `start`, around the hole."""
    below = max(0, LOW_END - start)
    return start + size_bytes if size_bytes <= below else max(start, HIGH_START) + size_bytes - below


class Code(Protocol):
    """Who has translated code of a memory."""

    def written(self, hpa: int, length_bytes: int) -> None:
        """[hpa, hpa + length_bytes), which is RAM, has changed."""


class HostMemory:
    """`size_bytes` of RAM of the host, zeroed, at host-physical addresses from 0 on."""

    def __init__(self, size_bytes: int) -> None:
        """`size_bytes`: a multiple of the page size; 63 GiB at most."""
        self.end_hpa = end_of_ram(0, size_bytes)
        if size_bytes % PAGE_BYTES or not 0 < self.end_hpa <= END_MAX:
            raise ValueError(f"{size_bytes} bytes of memory are not possible")
        self.size_bytes = size_bytes
        self._low_end = min(size_bytes, LOW_END)
        self.map = mmap.mmap(-1, self.end_hpa, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE)
        self.bytes = memoryview(self.map)
        self.words = self.bytes.cast("Q")
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.map))  # on the workstation
        self.begun_with: list[tuple[int, int]] = []  # (first page, pages) that came from a file
        self.code: Code | None = None  # the first CPU sets it

    def begin_with(self, file: int) -> None:
        """Become what is in the file with this descriptor. Raises OSError.

        The file is not written to: pages are copied when they are changed, and shared until then. Addresses stay.
        """
        protection, flags = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE
        if _LIBC.mmap(self.address, self.end_hpa, protection, flags, file, 0) != self.address:
            raise OSError(ctypes.get_errno(), "cannot map the file of a snapshot")
        self.begun_with = list(_pages_of(file))

    @property
    def bounds(self) -> tuple[int, int, int]:
        """RAM is [0, the first) and [the second, the third)."""
        return self._low_end, HIGH_START, max(self.end_hpa, HIGH_START)

    def is_ram(self, hpa: int, length_bytes: int) -> bool:
        """Whether [hpa, hpa + length_bytes) is RAM."""
        if hpa < 0 or length_bytes < 0:
            return False
        return hpa + length_bytes <= self._low_end or (hpa >= HIGH_START and hpa + length_bytes <= self.end_hpa)

    def read(self, hpa: int, length_bytes: int) -> bytes:
        """The bytes at `hpa`; all ones where there is no RAM."""
        if self.is_ram(hpa, length_bytes):
            return bytes(self.bytes[hpa : hpa + length_bytes])
        return bytes(self.bytes[hpa + i] if self.is_ram(hpa + i, 1) else 0xFF for i in range(length_bytes))

    def write(self, hpa: int, data: bytes) -> None:
        """Store `data` at `hpa`; what does not fall on RAM is dropped."""
        if self.is_ram(hpa, len(data)):
            self.bytes[hpa : hpa + len(data)] = data
            if self.code is not None:
                self.code.written(hpa, len(data))
            return
        for i in range(len(data)):
            if self.is_ram(hpa + i, 1):
                self.write(hpa + i, data[i : i + 1])


def _pages_of(file: int) -> Iterator[tuple[int, int]]:
    """(first page, pages) of a sparse file that are not holes."""
    end = 0
    while True:
        try:
            start = os.lseek(file, end, os.SEEK_DATA)
        except OSError:  # there are no more
            return
        end = os.lseek(file, start, os.SEEK_HOLE)
        yield start // PAGE_BYTES, -(-end // PAGE_BYTES) - start // PAGE_BYTES
