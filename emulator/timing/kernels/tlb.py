"""TLBs of two levels and the paging-structure cache.

    first level (ITLB or DTLB, 4 KiB and 2 MiB pages) -> second level -> paging-structure cache -> walk

The hierarchy sees only host-physical addresses, so a translation's tag is the page's frame:
# MODEL: two linear pages of one frame share an entry, and a hit does not show that the translation is still the same.
Entries belong to a hyperthread; siblings share the arrays. Flushes and INVLPG act on the own thread's entries.
"""

from emulator.timing.kernels.compiled import inlined, kernel
from emulator.timing.kernels.layout import (
    ARRAY_WORDS,
    DTLB_4K,
    EMPTY,
    FRAME_SHIFT,
    INSTANCE_WORDS,
    IS_STLB_FOR_2M,
    IS_STLB_FOR_CODE,
    ITLB_4K,
    LARGE,
    LINEAR_BITS,
    LINEAR_MASK,
    LINEAR_PAGE_MASK,
    OFFSET,
    PAGING_STRUCTURES,
    STLB,
    STLB_HIT_CYCLES,
    THREAD_MASK,
    THREAD_SHIFT,
    WAYS,
    Pcpu,
    State,
)
from emulator.timing.kernels.sets import find_in_set, first_entry, insert, promote, set_start


@inlined
def look_up(state: State, words: int, first_level: int, hpa: int) -> int:
    """Stall cycles to translate: 0, or what a second-level hit takes; -1: a walk is needed, and nothing has changed.

    `words` is the pCPU's block, `first_level` ITLB_4K or DTLB_4K.
    """
    core = state[words + Pcpu.CORE]
    thread = state[words + Pcpu.THREAD]
    frame = hpa >> 12
    if first_entry(state, first_level, core, frame) >> LINEAR_BITS == frame << FRAME_SHIFT | thread:
        return 0
    large_frame = hpa >> 21
    if (
        first_entry(state, first_level + LARGE, core, large_frame) >> LINEAR_BITS
        == large_frame << FRAME_SHIFT | thread | 1
    ):
        return 0
    return _search(state, words, first_level, hpa)


@kernel
def _search(state: State, words: int, first_level: int, hpa: int) -> int:
    """As `look_up`, when no most recently used entry fits."""
    core = state[words + Pcpu.CORE]
    small_frame, large_frame = hpa >> 12, hpa >> 21
    small_tag = small_frame << FRAME_SHIFT | state[words + Pcpu.THREAD]
    large_tag = large_frame << FRAME_SHIFT | state[words + Pcpu.THREAD] | 1
    if _use(state, first_level, core, small_frame, small_tag) != EMPTY:
        return 0
    if _use(state, first_level + LARGE, core, large_frame, large_tag) != EMPTY:
        return 0
    if first_level == ITLB_4K and not state[IS_STLB_FOR_CODE]:
        return -1
    entry = _use(state, STLB, core, small_frame, small_tag)
    is_large = 0
    if entry == EMPTY and state[IS_STLB_FOR_2M]:
        entry = _use(state, STLB, core, large_frame, large_tag)
        is_large = 1
    if entry == EMPTY:
        return -1
    _insert(state, first_level + is_large * LARGE, core, large_frame if is_large else small_frame, entry)
    _count_miss(state, words, first_level)
    state[words + Pcpu.STLB_HIT] += 1
    return state[STLB_HIT_CYCLES]


@kernel
def _use(state: State, array: int, core: int, frame: int, tag: int) -> int:
    """The entry of `tag`, now the most recently used of its set; EMPTY if there is none."""
    start = set_start(state, array, core, frame)
    position = find_in_set(state, start, state[array + WAYS], tag, LINEAR_BITS)
    if position < 0:
        return EMPTY
    promote(state, start, position)
    return state[start]


@kernel
def _insert(state: State, array: int, core: int, frame: int, entry: int) -> None:
    insert(state, set_start(state, array, core, frame), state[array + WAYS], entry)


@kernel
def _count_miss(state: State, words: int, first_level: int) -> None:
    if first_level == ITLB_4K:
        state[words + Pcpu.ITLB_MISS] += 1
    else:
        state[words + Pcpu.DTLB_MISS] += 1


@kernel
def fill(state: State, words: int, first_level: int, hpa: int, linear_page: int, is_large: int, is_global: int) -> None:
    """A walk has found the translation: put it into both levels. `linear_page` counts 4 KiB pages."""
    _count_miss(state, words, first_level)
    core = state[words + Pcpu.CORE]
    frame = hpa >> 21 if is_large else hpa >> 12
    page = linear_page >> 9 if is_large else linear_page
    tag = frame << FRAME_SHIFT | state[words + Pcpu.THREAD] | is_large
    entry = tag << LINEAR_BITS | (page & LINEAR_MASK) << 1 | is_global
    array = first_level + is_large * LARGE
    if _use(state, array, core, frame, tag) == EMPTY:
        _insert(state, array, core, frame, entry)
    is_for_code = first_level == DTLB_4K or state[IS_STLB_FOR_CODE] != 0
    if is_for_code and (not is_large or state[IS_STLB_FOR_2M]) and _use(state, STLB, core, frame, tag) == EMPTY:
        _insert(state, STLB, core, frame, entry)


@kernel
def missed_second_level(state: State, first_level: int) -> int:
    """Cycles until a walk can begin: the second level, if it serves this one, has to be found without an entry."""
    if state[STLB + WAYS] == 0 or (first_level == ITLB_4K and not state[IS_STLB_FOR_CODE]):
        return 0
    return state[STLB_HIT_CYCLES]


@kernel
def use_paging_structures(state: State, words: int, linear_page: int, is_large: int) -> bool:
    """Whether the walk may start at its last paging structure; the next walk nearby may."""
    if state[PAGING_STRUCTURES + WAYS] == 0:
        return False
    core = state[words + Pcpu.CORE]
    region = (linear_page & LINEAR_PAGE_MASK) >> (18 if is_large else 9)
    tag = region << FRAME_SHIFT | state[words + Pcpu.THREAD] | is_large
    if _use(state, PAGING_STRUCTURES, core, region, tag) != EMPTY:
        return True
    _insert(state, PAGING_STRUCTURES, core, region, tag << LINEAR_BITS)
    return False


@kernel
def flush(state: State, words: int, keep_global: int) -> None:
    """MOV to CR3 (`keep_global`), or any flush of all the thread's translations."""
    for array in range(ITLB_4K, PAGING_STRUCTURES, ARRAY_WORDS):
        _filter(state, words, array, -1, keep_global)
    _filter(state, words, PAGING_STRUCTURES, -1, 0)


@kernel
def invalidate(state: State, words: int, linear_page: int) -> None:
    """INVLPG: the page's translations, global ones too, and all paging structures (SDM 3A 4.10.4.1).

    # MODEL: an entry remembers 16 bits of its page, so pages a multiple of 256 MiB away (128 GiB if large) go too.
    """
    for array in range(ITLB_4K, PAGING_STRUCTURES, ARRAY_WORDS):
        _filter(state, words, array, linear_page, 0)
    _filter(state, words, PAGING_STRUCTURES, -1, 0)


@kernel
def _filter(state: State, words: int, array: int, linear_page: int, keep_global: int) -> None:
    """Drop the thread's entries: of `linear_page`, or all if that is negative, but global ones with `keep_global`."""
    ways = state[array + WAYS]
    first = state[array + OFFSET] + state[words + Pcpu.CORE] * state[array + INSTANCE_WORDS]
    for start in range(first, first + state[array + INSTANCE_WORDS], max(ways, 1)):
        kept = start
        for position in range(start, start + ways):
            entry = state[position]
            if entry == EMPTY:
                break
            state[position] = EMPTY
            is_own = entry >> LINEAR_BITS & THREAD_MASK << THREAD_SHIFT == state[words + Pcpu.THREAD]
            if linear_page >= 0:
                page = linear_page >> 9 if entry >> LINEAR_BITS & 1 else linear_page
                is_dropped = is_own and (entry >> 1 & LINEAR_MASK) == (page & LINEAR_MASK)
            else:
                is_dropped = is_own and not (keep_global and entry & 1)
            if not is_dropped:
                state[kept] = entry
                kept += 1
