"""Pages of host memory for the VMM's own structures: page tables, bitmaps. Guests never see them."""

from emulator.memory import HostMemory
from emulator.x86 import PAGE_BYTES


class OutOfHostMemory(Exception):  # noqa: N818 - a condition the caller handles, not an error of the user's
    """No page is left."""


class HostPages:
    """Allocates pages from [start_hpa, end_hpa) of `memory`."""

    def __init__(self, memory: HostMemory, start_hpa: int, end_hpa: int) -> None:
        self._memory = memory
        pages = range(end_hpa - PAGE_BYTES, start_hpa - 1, -PAGE_BYTES)
        self._free = [hpa for hpa in pages if memory.is_ram(hpa, PAGE_BYTES)]  # not in the hole
        self._zeros = bytes(PAGE_BYTES)

    def allocate(self) -> int:
        """Host-physical address of a zeroed page. Raises OutOfHostMemory."""
        if not self._free:
            raise OutOfHostMemory
        hpa = self._free.pop()
        self._memory.bytes[hpa : hpa + PAGE_BYTES] = self._zeros
        return hpa

    def free(self, hpa: int) -> None:
        """Give a page back."""
        self._free.append(hpa)

    @property
    def free_count(self) -> int:
        """Pages left."""
        return len(self._free)
