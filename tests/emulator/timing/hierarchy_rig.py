"""Tiny memory hierarchies with latencies that no sum mixes up, and ways to look inside."""

from collections.abc import Mapping

from emulator.profiles.profile import Profile, load_profile
from emulator.timing.hierarchy import MemoryHierarchy
from emulator.timing.kernels.layout import LINEAR_BITS, STATE_BITS, STATE_MASK

LINE = 64
L1, L2, L3, DRAM, DIRTY, REMOTE = 3, 10, 43, 211, 91, 307  # load-to-use cycles
BEYOND_L1 = {"l2": L2 - L1, "l3": L3 - L1, "dram": DRAM - L1, "dirty": DIRTY - L1, "remote": REMOTE - L1}
STLB_HIT = 5

# Per core: L1 caches of 2 sets x 2 ways, L2 of 4 x 2; per package: L3 of 8 x 3 (lines).
_CACHES = {
    "l1i_size_bytes": 4 * LINE, "l1i_ways": 2, "l1d_size_bytes": 4 * LINE, "l1d_ways": 2, "l1d_latency_cycles": L1,
    "l2_size_bytes": 8 * LINE, "l2_ways": 2, "l2_latency_cycles": L2, "is_l2_shared": "false",
    "l3_size_bytes": 24 * LINE, "l3_ways": 3, "l3_latency_cycles": L3,
}  # fmt: skip
# ITLB and DTLB of 4 x 4 KiB pages (2 ways) and 2 x 2 MiB; the second level of 8 (4 ways) has all of them.
_TLB = {
    "itlb_4k_entries": 4, "itlb_4k_ways": 2, "itlb_2m_entries": 2, "itlb_2m_ways": 2, "dtlb_4k_entries": 4,
    "dtlb_4k_ways": 2, "dtlb_2m_entries": 2, "dtlb_2m_ways": 2, "stlb_entries": 8, "stlb_ways": 4,
    "stlb_hit_cycles": STLB_HIT, "is_stlb_for_code": "true", "is_stlb_for_2m": "true", "paging_structure_entries": 0,
}  # fmt: skip
_REST: dict[str, dict[str, int]] = {
    "memory": {"dram_latency_cycles": DRAM},
    "core": {
        "package_count": 2,
        "core_count": 2,
        "thread_count": 2,
        "store_buffer_entries": 3,
        "dirty_line_cycles": DIRTY,
        "remote_dirty_line_cycles": REMOTE,
    },
}
NO_STLB = ("tlb.stlb_entries=0", "tlb.stlb_ways=0")
SHARED_L2 = ("caches.is_l2_shared=true", "caches.l3_size_bytes=0", "caches.l3_ways=0")  # as Core 2
SHARED_L2_AND_L3 = ("caches.is_l2_shared=true",)
PRIVATE_L2_ONLY = ("caches.l3_size_bytes=0", "caches.l3_ways=0")  # as NetBurst
NO_L2 = ("caches.l2_size_bytes=0", "caches.l2_ways=0")


def tiny_profile(*overrides: str) -> Profile:
    sections: dict[str, Mapping[str, object]] = {"caches": _CACHES, "tlb": _TLB, **_REST}
    rows = [f"{section}.{key}={value}" for section, keys in sections.items() for key, value in keys.items()]
    return load_profile("haswell", [*rows, *overrides])


def tiny_hierarchy(*overrides: str, pcpu_count: int = 1) -> MemoryHierarchy:
    return MemoryHierarchy(tiny_profile(*overrides), pcpu_count)


def load(hierarchy: MemoryHierarchy, hpa: int, pcpu: int = 0) -> int:
    return hierarchy.access(pcpu, hpa, 8, False, 0)


def store(hierarchy: MemoryHierarchy, hpa: int, pcpu: int = 0) -> int:
    """Make the line the core's own; how long that takes, which the pCPU does not wait for."""
    now_cycles = hierarchy.drain(pcpu, 0)  # all older stores are done
    hierarchy.access(pcpu, hpa, 8, True, now_cycles)
    return hierarchy.drain(pcpu, now_cycles)


def lines(hierarchy: MemoryHierarchy, array: str, instance: int = 0) -> dict[int, int]:
    """State by line of all a cache has."""
    return {
        entry >> STATE_BITS: entry & STATE_MASK for entries in hierarchy.entries(array, instance) for entry in entries
    }


def frames(hierarchy: MemoryHierarchy, array: str, core: int = 0) -> set[int]:
    """The frames a TLB has, of all threads."""
    return {entry >> LINEAR_BITS + 4 for entries in hierarchy.entries(array, core) for entry in entries}


def touch_page(hierarchy: MemoryHierarchy, page: int, *, pcpu: int = 0, linear: int | None = None) -> str:
    """Load from the `page`-th page: "hit", "stlb" or "walk" (done without references)."""
    hpa = page << 12
    load(hierarchy, hpa, pcpu)
    stall = hierarchy.data(pcpu, hpa, 8, False, 0)
    if stall >= 0:
        return "stlb" if stall == STLB_HIT else "hit"
    hierarchy.walk(pcpu, hpa, hpa if linear is None else linear, [], 0)
    return "walk"
