"""The pages of a domain's shadow tables in the VMM's memory, and who pays for what is done there.

Every entry read or written is charged at its address, and so is the hash table that finds shadows by guest page.
"""

from dataclasses import dataclass

from emulator.memory import HostMemory
from emulator.x86 import PAGE_BYTES
from vmm.cost import paths
from vmm.cost.meter import Meter
from vmm.paging.host_pages import HostPages

ENTRIES, ENTRY_BYTES = 512, 8
HASH_BUCKETS = 512  # of the table that finds shadows by guest page, one page in the VMM's memory


@dataclass(slots=True)
class Holder:
    """Who holds a domain's shadow lock: `meter` pays for what the tables need.

    An entry with any of `reserved_bits` is malformed for the vCPU that holds it.
    """

    meter: Meter
    reserved_bits: int


class ShadowTable:
    """One shadow page: `base` is its first word in host memory; `parents` are the words that point to it.

    A PAE page-directory-pointer table has level PDPT, and its entries have no rights. `part` is None for a guest table
    of 8-byte entries.
    """

    __slots__ = ("base", "gfn", "hpa", "is_split", "level", "parents", "part")

    def __init__(self, hpa: int, gfn: int, level: int, part: int | None = None, *, is_split: bool = False) -> None:
        self.hpa = hpa
        self.base = hpa >> 3
        self.gfn = gfn
        self.level = level
        self.part = part
        self.is_split = is_split
        self.parents: set[int] = set()


class ShadowPages:
    """Shadow pages of one domain, out of its `pages`."""

    WIRED = ("words",)

    def __init__(self, memory: HostMemory, pages: HostPages) -> None:
        self.words = memory.words
        self.host_pages = pages
        self._hash_hpa = pages.allocate()

    def get(self, holder: Holder, word: int) -> int:
        """Read a shadow entry."""
        holder.meter.touch(word << 3, ENTRY_BYTES, False)
        return self.words[word]

    def put(self, holder: Holder, word: int, entry: int) -> None:
        """Write a shadow entry."""
        meter = holder.meter
        meter.follow(paths.SET_ENTRY)
        meter.touch(word << 3, ENTRY_BYTES, True)
        self.words[word] = entry

    def look_up(self, holder: Holder, gfn: int) -> None:
        """Find what is known of a guest page: one bucket of the hash table."""
        holder.meter.follow(paths.LOOK_UP)
        holder.meter.touch(self._hash_hpa + gfn % HASH_BUCKETS * ENTRY_BYTES, ENTRY_BYTES, False)

    def allocate(self, holder: Holder, gfn: int) -> int:
        """A zeroed page for a shadow of `gfn`. Raises OutOfHostMemory."""
        hpa = self.host_pages.allocate()
        holder.meter.follow(paths.NEW_SHADOW)
        holder.meter.touch(hpa, PAGE_BYTES, True)
        holder.meter.touch(self._hash_hpa + gfn % HASH_BUCKETS * ENTRY_BYTES, ENTRY_BYTES, True)
        return hpa

    def free(self, holder: Holder, table: ShadowTable) -> None:
        """Give the page of a table back."""
        holder.meter.follow(paths.FREE_SHADOW)
        self.host_pages.free(table.hpa)
