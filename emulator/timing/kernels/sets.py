"""One set of a cache or TLB: a list of entries, most recently used first, EMPTY ones last; true LRU.

An entry is `tag << shift | payload`; the layout is in `layout`. Positions are indices into the state.
"""

from emulator.timing.kernels.compiled import inlined, kernel
from emulator.timing.kernels.layout import EMPTY, INSTANCE_WORDS, OFFSET, SET_MASK, SETS, WAYS, State


@kernel
def set_start(state: State, array: int, instance: int, number: int) -> int:
    """Where the set of line or frame `number` starts."""
    mask = state[array + SET_MASK]
    set_number = number & mask if mask >= 0 else number % state[array + SETS]
    return state[array + OFFSET] + instance * state[array + INSTANCE_WORDS] + set_number * state[array + WAYS]


@inlined
def first_entry(state: State, array: int, instance: int, number: int) -> int:
    """The most recently used entry of the set of line or frame `number`: a short way for the usual case."""
    mask = state[array + SET_MASK]
    if mask < 0:
        return state[set_start(state, array, instance, number)]
    start = state[array + OFFSET] + instance * state[array + INSTANCE_WORDS]
    return state[start + (number & mask) * state[array + WAYS]]


@kernel
def find_in_set(state: State, start: int, ways: int, tag: int, shift: int) -> int:
    """Where `tag` is in the set at `start`; -1: nowhere."""
    for position in range(start, start + ways):
        entry = state[position]
        if entry >> shift == tag:
            return position
        if entry == EMPTY:
            break
    return -1


@kernel
def promote(state: State, start: int, position: int) -> None:
    """The entry at `position` is now the most recently used of its set."""
    entry = state[position]
    while position > start:
        state[position] = state[position - 1]
        position -= 1
    state[start] = entry


@kernel
def insert(state: State, start: int, ways: int, entry: int) -> int:
    """Put `entry` first; the entry that had to leave, or EMPTY. A set of no ways keeps nothing."""
    for position in range(start, start + ways):
        pushed = state[position]
        state[position] = entry
        entry = pushed
        if entry == EMPTY:
            break
    return entry if ways > 0 else EMPTY


@kernel
def remove(state: State, start: int, ways: int, position: int) -> None:
    """Take the entry at `position` out; those behind it move up."""
    last = start + ways - 1
    while position < last and state[position] != EMPTY:
        state[position] = state[position + 1]
        position += 1
    state[last] = EMPTY
