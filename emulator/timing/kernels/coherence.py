"""MESI between the private caches of the cores, and between packages.

A core's own state of a line is that of its outermost private cache: L2, or L1D where the L2 is shared. Shared caches
include what is above them; there MODIFIED only says that memory is older. A cache keeps data exactly as long as the
tables say: dirty data leaves to the next level, at last to memory (`WRITE_BACK`), or goes to the core that asked.

    request   other cores' copies          other packages' shared caches
    read      MODIFIED, EXCLUSIVE -> SHARED   clean
    write     dropped                         dropped
"""

from emulator.timing.kernels.compiled import kernel
from emulator.timing.kernels.layout import (
    CORE_COUNT,
    CORES_OF_PACKAGE,
    IS_L2_PRIVATE,
    L1D,
    L1I,
    L2,
    L3,
    MODIFIED,
    PACKAGE_COUNT,
    SHARED,
    STATE_BITS,
    STATE_MASK,
    WAYS,
    Pcpu,
    State,
)
from emulator.timing.kernels.sets import find_in_set, remove, set_start

# What a snoop found, bits: readers, and one that had modified the line; shifted by OTHER_PACKAGE for other packages.
READER = 1
WRITER = 2
OTHER_PACKAGE = 2
ABSENT = -1


@kernel
def state_of(state: State, array: int, instance: int, line: int) -> int:
    """The state of `line` in a cache, or ABSENT. Not a use of the line."""
    position = find_in_set(state, set_start(state, array, instance, line), state[array + WAYS], line, STATE_BITS)
    return state[position] & STATE_MASK if position >= 0 else ABSENT


@kernel
def set_state(state: State, array: int, instance: int, line: int, new_state: int) -> bool:
    """Give `line` another state where a cache has it; whether it has."""
    position = find_in_set(state, set_start(state, array, instance, line), state[array + WAYS], line, STATE_BITS)
    if position >= 0:
        state[position] = line << STATE_BITS | new_state
    return position >= 0


@kernel
def drop(state: State, array: int, instance: int, line: int) -> int:
    """Take `line` out of a cache; the state it had there, or ABSENT."""
    start = set_start(state, array, instance, line)
    position = find_in_set(state, start, state[array + WAYS], line, STATE_BITS)
    if position < 0:
        return ABSENT
    old_state = state[position] & STATE_MASK
    remove(state, start, state[array + WAYS], position)
    return old_state


@kernel
def drop_l1(state: State, core: int, line: int) -> int:
    """Take `line` out of both L1 caches of `core`; the stronger state it had there, or ABSENT."""
    return max(drop(state, L1D, core, line), drop(state, L1I, core, line))  # ABSENT < SHARED < ... < MODIFIED


@kernel
def drop_private(state: State, core: int, line: int) -> int:
    """Take `line` out of all private caches of `core`; the core's state of it, or ABSENT."""
    held = ABSENT
    if state[IS_L2_PRIVATE]:
        held = drop(state, L2, core, line)
        if held == ABSENT:  # the L1 caches are included
            return ABSENT
    return max(held, drop_l1(state, core, line))


@kernel
def share_private(state: State, core: int, line: int) -> int:
    """`core` may only read `line` from now on; the core's state of it before, or ABSENT."""
    held = state_of(state, L2 if state[IS_L2_PRIVATE] else L1D, core, line)
    if held > SHARED:
        set_state(state, L1D, core, line, SHARED)
        if state[IS_L2_PRIVATE]:
            set_state(state, L2, core, line, SHARED)
    elif held == ABSENT and not state[IS_L2_PRIVATE]:
        held = state_of(state, L1I, core, line)
    return held


@kernel
def write_back(state: State, words: int, package: int, line: int, from_array: int) -> None:
    """Dirty data leaves `from_array` of `package` for the next level that is shared, at last for memory."""
    if from_array == L1D and not state[IS_L2_PRIVATE] and set_state(state, L2, package, line, MODIFIED):
        return
    if from_array != L3 and set_state(state, L3, package, line, MODIFIED):
        return
    state[words + Pcpu.WRITE_BACK] += 1


@kernel
def snoop(state: State, words: int, line: int, is_write: int) -> int:
    """Ask every other core and package for `line` and take their rights away; what was found, as bits."""
    core, package = state[words + Pcpu.CORE], state[words + Pcpu.PACKAGE]
    found = 0
    for other in range(state[CORE_COUNT]):
        if other == core:
            continue
        held = drop_private(state, other, line) if is_write else share_private(state, other, line)
        if held == ABSENT:
            continue
        others_package = other // state[CORES_OF_PACKAGE]
        bits = READER | WRITER if held == MODIFIED else READER
        found |= bits if others_package == package else bits << OTHER_PACKAGE
        if held == MODIFIED and not is_write:
            write_back(state, words, others_package, line, L2 if state[IS_L2_PRIVATE] else L1D)
    for other in range(state[PACKAGE_COUNT]):
        if other != package:
            found |= _snoop_package(state, words, other, line, is_write) << OTHER_PACKAGE
    return found


@kernel
def _snoop_package(state: State, words: int, package: int, line: int, is_write: int) -> int:
    """The part of a snoop that asks the shared caches of another package."""
    held = ABSENT
    for array in (L2, L3):
        if array == L2 and state[IS_L2_PRIVATE]:
            continue
        if is_write:
            held = max(held, drop(state, array, package, line))
        else:
            held = max(held, state_of(state, array, package, line))
            set_state(state, array, package, line, SHARED)
    if held == ABSENT:
        return 0
    if held == MODIFIED and not is_write:
        state[words + Pcpu.WRITE_BACK] += 1
    return READER | WRITER if held == MODIFIED else READER
