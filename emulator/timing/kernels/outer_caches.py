"""What is behind the L1 caches: private or shared L2, L3 shared by a package, memory.

Inclusive: a line in L1 is in L2 and L3, where there are such; what L2 or L3 push out, the caches above them lose too.
# MODEL: every machine is inclusive. That is true of L3 from Nehalem to Haswell; other levels and later ones are not.
# MODEL: lines another package only reads come from memory; lines another core has unmodified, from the shared level.
# MODEL: write-backs take no time: buffers hide them.
"""

from emulator.timing.kernels.coherence import (
    ABSENT,
    OTHER_PACKAGE,
    WRITER,
    drop,
    drop_l1,
    snoop,
    write_back,
)
from emulator.timing.kernels.compiled import kernel
from emulator.timing.kernels.layout import (
    CORE_COUNT,
    CORES_OF_PACKAGE,
    DIRTY_CYCLES,
    DRAM_CYCLES,
    EMPTY,
    EXCLUSIVE,
    IS_L2_PRIVATE,
    L2,
    L2_CYCLES,
    L3,
    L3_CYCLES,
    MODIFIED,
    REMOTE_DIRTY_CYCLES,
    SHARED,
    STATE_BITS,
    STATE_MASK,
    UPGRADE_CYCLES,
    WAYS,
    Pcpu,
    State,
)
from emulator.timing.kernels.sets import find_in_set, insert, promote, set_start


@kernel
def obtain(state: State, words: int, line: int, held: int, is_write: int) -> tuple[int, int, int]:
    """Get the right to read or write `line`, of which the pCPU's L1 has only `held` (ABSENT or SHARED), and its data.

    Returns the cycles beyond an L1 hit, whether they are spent waiting for another core, and the core's state of it.
    The caller makes it MODIFIED in L1 and in a private L2.
    """
    if held == ABSENT and state[IS_L2_PRIVATE]:
        start = _use(state, L2, state[words + Pcpu.CORE], line)
        if start >= 0:
            state[words + Pcpu.L2_HIT] += 1
            held = state[start] & STATE_MASK
            if held != SHARED or not is_write:
                return state[L2_CYCLES], 0, held
        else:
            state[words + Pcpu.L2_MISS] += 1
    found = snoop(state, words, line, is_write)
    if held == ABSENT:
        held = EXCLUSIVE if found == 0 else SHARED
        cycles = _reach_shared_caches(state, words, line, held)
        cycles, is_coherent = _time_of_transfer(state, words, found, is_write, cycles)
        return cycles, is_coherent, held
    state[words + Pcpu.UPGRADE] += 1
    return state[REMOTE_DIRTY_CYCLES if found >> OTHER_PACKAGE else UPGRADE_CYCLES], 1, MODIFIED


@kernel
def _time_of_transfer(state: State, words: int, found: int, is_write: int, cycles: int) -> tuple[int, int]:
    """What a line takes by what a snoop `found`; `cycles` if a shared cache of the package has it, else negative."""
    if found & WRITER:
        state[words + Pcpu.DIRTY_TRANSFER] += 1
        return state[DIRTY_CYCLES], 1
    if found & WRITER << OTHER_PACKAGE:
        state[words + Pcpu.REMOTE_DIRTY_TRANSFER] += 1
        return state[REMOTE_DIRTY_CYCLES], 1
    if cycles < 0:
        state[words + Pcpu.DRAM_ACCESS] += 1
        cycles = state[DRAM_CYCLES]
    if is_write and found >> OTHER_PACKAGE:  # even if it is here already: the other package must give it up
        return max(cycles, state[REMOTE_DIRTY_CYCLES]), 1
    return cycles, 0


@kernel
def _reach_shared_caches(state: State, words: int, line: int, held: int) -> int:
    """Use the package's shared caches; all outer caches have `line` afterwards, a private L2 as `held`.

    Returns the cycles of the first shared cache that had it, or -1.
    """
    package = state[words + Pcpu.PACKAGE]
    cycles = -1
    if state[L2 + WAYS] > 0 and not state[IS_L2_PRIVATE]:
        if _use(state, L2, package, line) >= 0:
            state[words + Pcpu.L2_HIT] += 1
            return state[L2_CYCLES]
        state[words + Pcpu.L2_MISS] += 1
    if state[L3 + WAYS] > 0:
        if _use(state, L3, package, line) >= 0:
            state[words + Pcpu.L3_HIT] += 1
            cycles = state[L3_CYCLES]
        else:
            state[words + Pcpu.L3_MISS] += 1
            _insert(state, words, L3, line << STATE_BITS | SHARED)
    _insert(state, words, L2, line << STATE_BITS | (held if state[IS_L2_PRIVATE] else SHARED))
    return cycles


@kernel
def place(state: State, words: int, line: int) -> None:
    """What a device has written goes to the last cache before memory on the pCPU's way: no cache has it now."""
    last = L3 if state[L3 + WAYS] > 0 else L2
    if state[last + WAYS] > 0:
        _insert(state, words, last, line << STATE_BITS | MODIFIED)


@kernel
def _use(state: State, array: int, instance: int, line: int) -> int:
    """Where a cache has `line`, which is now the most recently used of its set; -1: it has not."""
    start = set_start(state, array, instance, line)
    position = find_in_set(state, start, state[array + WAYS], line, STATE_BITS)
    if position < 0:
        return -1
    promote(state, start, position)
    return start


@kernel
def _insert(state: State, words: int, array: int, entry: int) -> None:
    """Put a line into the pCPU's L2 or L3, if there is one; the line pushed out leaves the caches above too."""
    package = state[words + Pcpu.PACKAGE]
    instance = first = package
    count = state[CORES_OF_PACKAGE]
    if array == L2 and state[IS_L2_PRIVATE]:
        instance = first = state[words + Pcpu.CORE]
        count = 1
    else:
        first = package * count
    victim = insert(state, set_start(state, array, instance, entry >> STATE_BITS), state[array + WAYS], entry)
    if victim == EMPTY:
        return
    line, held = victim >> STATE_BITS, victim & STATE_MASK
    for core in range(first, min(first + count, state[CORE_COUNT])):
        if array == L3:
            held = max(held, drop(state, L2, core if state[IS_L2_PRIVATE] else package, line))
        held = max(held, drop_l1(state, core, line))
    if held == MODIFIED:
        write_back(state, words, package, line, array)
