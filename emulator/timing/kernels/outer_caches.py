"""What is behind the L1 caches: private or shared L2, L3 shared by a package, memory.

Inclusive: a line in L1 is in L2 and L3, where there are such; what L2 or L3 push out, the caches above them lose too.
# MODEL: every machine is inclusive. That is true of L3 from Nehalem to Haswell; other levels and later ones are not.
# MODEL: lines another package only reads come from memory; lines another core has unmodified, from the shared level.
# MODEL: write-backs take no time: buffers hide them.
"""

from emulator.timing.kernels.coherence import (
    ABSENT,
    OTHER_PACKAGE,
    READER,
    WRITER,
    drop,
    drop_private,
    set_state,
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
    L1D,
    L1I,
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
def obtain(state: State, words: int, line: int, is_write: bool) -> tuple[int, int, int]:
    """Bring `line` next to the L1 caches of the pCPU, which do not have it, with the right to read or write it.

    Returns the cycles beyond an L1 hit, whether they are spent waiting for another core, and the core's state of it.
    """
    core = state[words + Pcpu.CORE]
    if not state[IS_L2_PRIVATE]:
        return _obtain_from_outside(state, words, line, is_write)
    if not _use(state, L2, core, line):
        state[words + Pcpu.L2_MISS] += 1
        cycles, is_coherent, held = _obtain_from_outside(state, words, line, is_write)
        _insert_l2(state, words, core, line << STATE_BITS | held)
        return cycles, is_coherent, held
    state[words + Pcpu.L2_HIT] += 1
    held = state[set_start(state, L2, core, line)] & STATE_MASK
    cycles, is_coherent = state[L2_CYCLES], 0
    if is_write:
        if held == SHARED:
            cycles, is_coherent = max(cycles, upgrade(state, words, line)), 1
        held = MODIFIED
        set_state(state, L2, core, line, MODIFIED)
    return cycles, is_coherent, held


@kernel
def upgrade(state: State, words: int, line: int) -> int:
    """The core has `line` to read and may write from now on; cycles until all others have given it up."""
    state[words + Pcpu.UPGRADE] += 1
    found = snoop(state, words, line, True)
    return state[REMOTE_DIRTY_CYCLES] if found >> OTHER_PACKAGE else state[UPGRADE_CYCLES]


@kernel
def _obtain_from_outside(state: State, words: int, line: int, is_write: bool) -> tuple[int, int, int]:
    """As `obtain`, when the core's private caches do not have the line."""
    found = snoop(state, words, line, is_write)
    held = EXCLUSIVE if found == 0 else SHARED
    if is_write:
        held = MODIFIED
    cycles = _reach_shared_caches(state, words, line)
    is_coherent = 1
    if found & WRITER:
        state[words + Pcpu.DIRTY_TRANSFER] += 1
        cycles = state[DIRTY_CYCLES]
    elif found & WRITER << OTHER_PACKAGE:
        state[words + Pcpu.REMOTE_DIRTY_TRANSFER] += 1
        cycles = state[REMOTE_DIRTY_CYCLES]
    elif is_write and found & READER << OTHER_PACKAGE:
        cycles = max(cycles, state[REMOTE_DIRTY_CYCLES])  # even if our L3 has it: the other package must give it up
    else:
        is_coherent = 0
        if cycles < 0:
            state[words + Pcpu.DRAM_ACCESS] += 1
            cycles = state[DRAM_CYCLES]
    return cycles, is_coherent, held


@kernel
def _reach_shared_caches(state: State, words: int, line: int) -> int:
    """Use the package's shared L2 and L3, which have `line` afterwards; cycles of the first that had it, or -1."""
    package = state[words + Pcpu.PACKAGE]
    cycles = -1
    has_l2 = state[L2 + WAYS] > 0 and not state[IS_L2_PRIVATE]
    if has_l2:
        if _use(state, L2, package, line):
            state[words + Pcpu.L2_HIT] += 1
            return state[L2_CYCLES]
        state[words + Pcpu.L2_MISS] += 1
    if state[L3 + WAYS] > 0:
        if _use(state, L3, package, line):
            state[words + Pcpu.L3_HIT] += 1
            cycles = state[L3_CYCLES]
        else:
            state[words + Pcpu.L3_MISS] += 1
            _insert_l3(state, words, package, line << STATE_BITS | SHARED)
    if has_l2:
        _insert_l2(state, words, package, line << STATE_BITS | SHARED)
    return cycles


@kernel
def _use(state: State, array: int, instance: int, line: int) -> bool:
    """Whether a cache has `line`, which is now the most recently used of its set."""
    start = set_start(state, array, instance, line)
    position = find_in_set(state, start, state[array + WAYS], line, STATE_BITS)
    if position >= 0:
        promote(state, start, position)
    return position >= 0


@kernel
def _insert_l2(state: State, words: int, instance: int, entry: int) -> None:
    """Put a line into an L2; the one pushed out leaves the L1 caches above too."""
    start = set_start(state, L2, instance, entry >> STATE_BITS)
    victim = insert(state, start, state[L2 + WAYS], entry)
    if victim == EMPTY:
        return
    line, held = victim >> STATE_BITS, victim & STATE_MASK
    package = state[words + Pcpu.PACKAGE]
    if state[IS_L2_PRIVATE]:
        drop(state, L1D, instance, line)
        drop(state, L1I, instance, line)
    else:
        held = max(held, _drop_in_package(state, package, line))
    if held == MODIFIED:
        write_back(state, words, package, line, L2)


@kernel
def _insert_l3(state: State, words: int, package: int, entry: int) -> None:
    """Put a line into an L3; the one pushed out leaves all caches of the package."""
    victim = insert(state, set_start(state, L3, package, entry >> STATE_BITS), state[L3 + WAYS], entry)
    if victim == EMPTY:
        return
    line = victim >> STATE_BITS
    held = max(victim & STATE_MASK, _drop_in_package(state, package, line))
    if not state[IS_L2_PRIVATE]:
        held = max(held, drop(state, L2, package, line))
    if held == MODIFIED:
        write_back(state, words, package, line, L3)


@kernel
def _drop_in_package(state: State, package: int, line: int) -> int:
    """Take `line` out of the private caches of a package's cores; the strongest state one had, or ABSENT."""
    first = package * state[CORES_OF_PACKAGE]
    held = ABSENT
    for core in range(first, min(first + state[CORES_OF_PACKAGE], state[CORE_COUNT])):
        held = max(held, drop_private(state, core, line))
    return held
