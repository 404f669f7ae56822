"""Where everything lies in the one array of int64 words that is the memory hierarchy's state.

    word 0        one descriptor per array (`ARRAY_WORDS` words each): where it lies and its shape
    CORE_COUNT..  what holds for the whole machine: sizes, latencies
    PCPUS         one block of `PCPU_WORDS` per pCPU: where it is, its store buffer, its counters (`Pcpu`); and one
                  more, of all devices, which are NOWHERE and only have counters
    ...           the store buffers, then the arrays' entries

An array is one instance per core (L1, TLBs, private L2) or per package (shared L2, L3); an instance is sets, a set is
`ways` words, most recently used first, then EMPTY ones. An entry is one word:

    caches   | line (hpa / line_bytes) ................... | state: 2 bits |
    TLBs     | tag: frame 40 | thread 3 | is_large 1 | linear: 16 | global: 1 |

Kernels take these names as compile-time constants.
"""

from collections.abc import MutableSequence
from enum import IntEnum
from typing import TypeAlias

State: TypeAlias = MutableSequence[int]  # what a kernel sees: a pointer when compiled, cffi's pointer in plain Python

EMPTY = -1
NOWHERE = -1  # core and package of devices
HPA_MASK = (1 << 52) - 1  # physical addresses have at most 52 bits

# State of a line in a cache. Private caches: MESI (invalid: no entry). Shared ones: MODIFIED is newer than memory.
STATE_BITS = 2
SHARED, EXCLUSIVE, MODIFIED = range(3)
STATE_MASK = (1 << STATE_BITS) - 1

# A TLB entry, from the right.
LINEAR_BITS = 17  # global flag and 16 bits of the linear page
LINEAR_MASK = (1 << 16) - 1
THREAD_SHIFT = 1  # within the tag, as the next one
THREAD_MASK = 7
FRAME_SHIFT = 4
LINEAR_PAGE_MASK = (1 << 45) - 1  # 57-bit linear addresses

# A descriptor.
OFFSET, SETS, SET_MASK, WAYS, INSTANCE_WORDS, INSTANCE_COUNT = range(6)  # SET_MASK: -1 if SETS is no power of 2
ARRAY_WORDS = 6
ARRAY_NAMES = ("l1i", "l1d", "l2", "l3", "itlb_4k", "itlb_2m", "dtlb_4k", "dtlb_2m", "stlb", "paging_structures")
(L1I, L1D, L2, L3, ITLB_4K, ITLB_2M, DTLB_4K, DTLB_2M, STLB, PAGING_STRUCTURES) = range(
    0, 10 * ARRAY_WORDS, ARRAY_WORDS
)
LARGE = ITLB_2M - ITLB_4K  # from a TLB of 4 KiB pages to that of 2 MiB pages

# What a walk was for, and of what kind the page is, as the engine tells.
CODE_WALK, DATA_WALK = range(2)
PAGE_IS_LARGE, PAGE_IS_GLOBAL = 1 << 0, 1 << 1

# The whole machine. `_CYCLES` are what a load takes beyond an L1 hit.
(
    CORE_COUNT,  # cores and packages in use
    PACKAGE_COUNT,
    CORES_OF_PACKAGE,
    IS_L2_PRIVATE,
    LINE_SHIFT,
    L1D_LATENCY,
    L2_CYCLES,
    L3_CYCLES,
    DRAM_CYCLES,
    DIRTY_CYCLES,
    REMOTE_DIRTY_CYCLES,
    UPGRADE_CYCLES,
    STLB_HIT_CYCLES,
    IS_STLB_FOR_CODE,
    IS_STLB_FOR_2M,
    STORE_BUFFER_ENTRIES,
) = range(10 * ARRAY_WORDS, 10 * ARRAY_WORDS + 16)
PCPUS = 80


class Pcpu(IntEnum):
    """Words of a pCPU's block. From L1I_HIT on they are counters: `MemoryHierarchy.counter` takes their names."""

    CORE = 0
    PACKAGE = 1
    THREAD = 2  # already at THREAD_SHIFT
    STORE_RING = 3  # index of the store buffer's first word
    STORE_HEAD = 4  # the entry that the next store takes
    STORE_DONE = 5  # when the youngest store is done, in cycles, << 1 | whether it waits for another core
    L1I_HIT = 6
    L1I_MISS = 7
    L1D_HIT = 8
    L1D_MISS = 9
    L2_HIT = 10
    L2_MISS = 11
    L3_HIT = 12
    L3_MISS = 13
    DRAM_ACCESS = 14
    WRITE_BACK = 15  # dirty lines this pCPU's accesses pushed out to memory
    DIRTY_TRANSFER = 16  # lines it got from another core that had modified them: same package,
    REMOTE_DIRTY_TRANSFER = 17  # other package
    UPGRADE = 18  # stores to lines it held only as a reader
    ITLB_MISS = 19  # first-level misses
    DTLB_MISS = 20
    STLB_HIT = 21
    WALK = 22
    WALK_REFERENCE = 23  # paging-structure entries read
    WALK_CYCLES = 24
    STALL_CYCLES = 25  # all stalls of loads, stores and fetches; walks are not in it
    COHERENCE_CYCLES = 26  # the part of STALL_CYCLES that waited for another core


PCPU_WORDS = 32
FIRST_COUNTER = Pcpu.L1I_HIT
