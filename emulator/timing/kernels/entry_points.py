"""What the CPU engine and Python call; the C types are in `ENTRY_POINTS`. `state` is the array of `layout`.

    data        a load or store of the guest: DTLB, then caches      -1: walk first; nothing has changed
    fetch       instruction bytes: ITLB, then caches                 -1: walk first; nothing has changed
    walk        a page walk: its references through the data caches, then the translation into the TLB
    physical    a load or store by host-physical address alone
    device      a load or store by a device, which has no cache
    drain       what LOCK, MFENCE, CPUID ... wait for: until all stores are done
    flush       all translations of the pCPU go, global ones stay if asked for
    invalidate  INVLPG

All return cycles. The first ways tried are the most recently used ones: nearly every access ends there. An access must
not cross a page: the next linear page is somewhere else, and only the caller knows where.
"""

from emulator.timing.kernels.coherence import OTHER_PACKAGE, WRITER, snoop
from emulator.timing.kernels.compiled import inlined, kernel
from emulator.timing.kernels.layout import (
    CODE_WALK,
    DTLB_4K,
    HPA_MASK,
    ITLB_4K,
    L1D,
    L1D_LATENCY,
    L1I,
    LINE_SHIFT,
    MODIFIED,
    PAGE_IS_GLOBAL,
    PAGE_IS_LARGE,
    PCPU_WORDS,
    PCPUS,
    STATE_BITS,
    Pcpu,
    State,
)
from emulator.timing.kernels.line_access import access_line
from emulator.timing.kernels.outer_caches import place
from emulator.timing.kernels.sets import first_entry
from emulator.timing.kernels.store_buffer import push_store
from emulator.timing.kernels.tlb import fill, flush, invalidate, look_up, missed_second_level, use_paging_structures

SIZE_MAX_BYTES = 4096
ONE_DIMENSION_MAX = 5  # more references than a walk of 5 levels has: the walk is two-dimensional


def data(state: State, pcpu: int, hpa: int, size_write: int, now_cycles: int) -> int:
    """Stall of a guest's load or store; `size_write` is size_bytes << 1 | is_write."""
    words = PCPUS + pcpu * PCPU_WORDS
    hpa &= HPA_MASK
    stall = look_up(state, words, DTLB_4K, hpa)
    if stall < 0:
        return -1
    state[words + Pcpu.STALL_CYCLES] += stall
    return stall + _access(state, words, hpa, size_write, now_cycles + stall)


def physical(state: State, pcpu: int, hpa: int, size_write: int, now_cycles: int) -> int:
    """Stall of a load or store that needs no translation."""
    return _access(state, PCPUS + pcpu * PCPU_WORDS, hpa & HPA_MASK, size_write, now_cycles)


@inlined
def _access(state: State, words: int, hpa: int, size_write: int, now_cycles: int) -> int:
    line = hpa >> state[LINE_SHIFT]
    if hpa + (size_write >> 1) - 1 >> state[LINE_SHIFT] == line:
        entry = first_entry(state, L1D, state[words + Pcpu.CORE], line)
        if size_write & 1:
            is_hit = entry == line << STATE_BITS | MODIFIED and state[words + Pcpu.STORE_DONE] >> 1 <= now_cycles
        else:
            is_hit = entry >> STATE_BITS == line
        if is_hit:
            state[words + Pcpu.L1D_HIT] += 1
            return 0
    return _access_lines(state, words, hpa, size_write, now_cycles)


@kernel
def _access_lines(state: State, words: int, hpa: int, size_write: int, now_cycles: int) -> int:
    """As `_access`, in general: one access for every line touched."""
    is_write = size_write & 1
    size_bytes = min(max(size_write >> 1, 1), SIZE_MAX_BYTES)
    total = 0
    for line in range(hpa >> state[LINE_SHIFT], (hpa + size_bytes - 1 >> state[LINE_SHIFT]) + 1):
        stall, is_coherent = access_line(state, words, L1D, line, is_write)
        if is_write:
            stall, is_coherent = push_store(state, words, now_cycles + total, stall, is_coherent)
        total += _book(state, words, stall, is_coherent)
    return total


@kernel
def _book(state: State, words: int, stall: int, is_coherent: int) -> int:
    state[words + Pcpu.STALL_CYCLES] += stall
    if is_coherent:
        state[words + Pcpu.COHERENCE_CYCLES] += stall
    return stall


def fetch(state: State, pcpu: int, hpa: int, size_bytes: int, now_cycles: int) -> int:
    """Stall of a fetch of instruction bytes."""
    words = PCPUS + pcpu * PCPU_WORDS
    hpa &= HPA_MASK
    total = look_up(state, words, ITLB_4K, hpa)
    if total < 0:
        return -1
    state[words + Pcpu.STALL_CYCLES] += total
    core = state[words + Pcpu.CORE]
    size_bytes = min(max(size_bytes, 1), SIZE_MAX_BYTES)
    for line in range(hpa >> state[LINE_SHIFT], (hpa + size_bytes - 1 >> state[LINE_SHIFT]) + 1):
        if first_entry(state, L1I, core, line) >> STATE_BITS == line:
            state[words + Pcpu.L1I_HIT] += 1
        else:
            stall, is_coherent = access_line(state, words, L1I, line, 0)
            total += _book(state, words, stall, is_coherent)
    return total


def walk(
    state: State,
    pcpu: int,
    kind: int,
    hpa: int,
    linear_page: int,
    page_kind: int,
    references: State,
    reference_count: int,
    now_cycles: int,
) -> int:
    """Cycles of a page walk: the second level has not got it, then references that depend on each other.

    The translation is in the TLB afterwards.

    kind: CODE_WALK or DATA_WALK. page_kind: PAGE_IS_LARGE (2 MiB) | PAGE_IS_GLOBAL. references: the hpa of each entry
    read, in order. A hit in the paging-structure cache leaves the last one; of a two-dimensional walk the last guest
    entry and the four of its nested walk.
    # MODEL: accessed and dirty bits are set without a store.
    """
    words = PCPUS + pcpu * PCPU_WORDS
    hpa &= HPA_MASK
    is_large = 1 if page_kind & PAGE_IS_LARGE else 0
    is_global = 1 if page_kind & PAGE_IS_GLOBAL else 0
    first_level = ITLB_4K if kind == CODE_WALK else DTLB_4K
    first = 0
    if use_paging_structures(state, words, linear_page, is_large):
        first = max(reference_count - (1 if reference_count <= ONE_DIMENSION_MAX else ONE_DIMENSION_MAX), 0)
    cycles = missed_second_level(state, first_level)
    for number in range(first, reference_count):
        line = (references[number] & HPA_MASK) >> state[LINE_SHIFT]
        stall, _ = access_line(state, words, L1D, line, 0)
        cycles += state[L1D_LATENCY] + stall
    fill(state, words, first_level, hpa, linear_page, is_large, is_global)
    state[words + Pcpu.WALK] += 1
    state[words + Pcpu.WALK_REFERENCE] += max(reference_count - first, 0)
    state[words + Pcpu.WALK_CYCLES] += cycles
    return cycles


def drain(state: State, pcpu: int, now_cycles: int) -> int:
    """Stall until every store of the pCPU is done."""
    words = PCPUS + pcpu * PCPU_WORDS
    youngest = state[words + Pcpu.STORE_DONE]
    return _book(state, words, max((youngest >> 1) - now_cycles, 0), youngest & 1)


def flush_translations(state: State, pcpu: int, keep_global: int) -> int:
    """Drop the pCPU's translations; with `keep_global` all but global ones."""
    flush(state, PCPUS + pcpu * PCPU_WORDS, keep_global)
    return 0


def invalidate_page(state: State, pcpu: int, linear_page: int) -> int:
    """Drop the pCPU's translations of one page; `linear_page` counts 4 KiB pages."""
    invalidate(state, PCPUS + pcpu * PCPU_WORDS, linear_page)
    return 0


def device(state: State, block: int, taker: int, hpa: int, size_write: int) -> int:
    """A device reads or writes memory itself: cores keep what it reads as shared, and lose what it writes.

    Dirty data goes to memory first. `block` is the devices' own, behind those of the pCPUs. With direct cache access
    the last-level cache of pCPU `taker` gets what is written; -1: no cache does.
    """
    words = PCPUS + block * PCPU_WORDS
    hpa &= HPA_MASK
    size_bytes = min(max(size_write >> 1, 1), SIZE_MAX_BYTES)
    for line in range(hpa >> state[LINE_SHIFT], (hpa + size_bytes - 1 >> state[LINE_SHIFT]) + 1):
        found = snoop(state, words, line, size_write & 1)
        if size_write & 1 and found & WRITER << OTHER_PACKAGE:
            state[words + Pcpu.WRITE_BACK] += 1
        if size_write & 1 and taker >= 0:
            place(state, PCPUS + taker * PCPU_WORDS, line)
    return 0


_ACCESS = "int64_t *, int64_t, int64_t, int64_t, int64_t"

ENTRY_POINTS = {
    "data": (data, _ACCESS),
    "fetch": (fetch, _ACCESS),
    "walk": (walk, "int64_t *, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t *, int64_t, int64_t"),
    "physical": (physical, _ACCESS),
    "device": (device, _ACCESS),
    "drain": (drain, "int64_t *, int64_t, int64_t"),
    "flush": (flush_translations, "int64_t *, int64_t, int64_t"),
    "invalidate": (invalidate_page, "int64_t *, int64_t, int64_t"),
}
