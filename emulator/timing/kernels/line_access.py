"""Loads, stores and fetches of one line, from the L1 caches on.

A MODIFIED line in L1D is one the core may write and that its own L1I does not have: stores to it need nothing else.
So a fetch of such a line makes it EXCLUSIVE there, and the next store throws it out of L1I again.
"""

from emulator.timing.kernels.coherence import ABSENT, drop, set_state, state_of, write_back
from emulator.timing.kernels.compiled import kernel
from emulator.timing.kernels.layout import (
    EMPTY,
    EXCLUSIVE,
    IS_L2_PRIVATE,
    L1D,
    L1I,
    L2,
    MODIFIED,
    SHARED,
    STATE_BITS,
    STATE_MASK,
    WAYS,
    Pcpu,
    State,
)
from emulator.timing.kernels.outer_caches import obtain
from emulator.timing.kernels.sets import find_in_set, insert, promote, set_start


@kernel
def access_line(state: State, words: int, array: int, line: int, is_write: int) -> tuple[int, int]:
    """Load, store or fetch through `array`, L1D or L1I.

    Returns the cycles beyond an L1 hit, and whether they are spent waiting for another core. Stores do not wait: see
    `store_buffer`.
    """
    core = state[words + Pcpu.CORE]
    start = set_start(state, array, core, line)
    position = find_in_set(state, start, state[array + WAYS], line, STATE_BITS)
    held = ABSENT
    if position >= 0:
        state[words + (Pcpu.L1D_HIT if array == L1D else Pcpu.L1I_HIT)] += 1
        promote(state, start, position)
        held = state[start] & STATE_MASK
        if not is_write or held == MODIFIED:
            return 0, 0
    else:
        state[words + (Pcpu.L1D_MISS if array == L1D else Pcpu.L1I_MISS)] += 1
    cycles, is_coherent = 0, 0
    if held != EXCLUSIVE:
        cycles, is_coherent, held = obtain(state, words, line, held, is_write)
    victim = _keep(state, start, array, position, line << STATE_BITS | _state_in_l1(array, held, is_write))
    dirty = victim >> STATE_BITS if victim != EMPTY and victim & STATE_MASK == MODIFIED else -1
    if is_write:
        drop(state, L1I, core, line)
        if state[IS_L2_PRIVATE]:
            set_state(state, L2, core, line, MODIFIED)
    elif array == L1I and state_of(state, L1D, core, line) == MODIFIED:
        set_state(state, L1D, core, line, EXCLUSIVE)
        dirty = line
    if dirty >= 0 and not state[IS_L2_PRIVATE]:  # a private L2 knows already
        write_back(state, words, state[words + Pcpu.PACKAGE], dirty, L1D)
    return cycles, is_coherent


@kernel
def _state_in_l1(array: int, held: int, is_write: int) -> int:
    """In which state L1 keeps a line of which the core has `held`."""
    if array == L1I:
        return SHARED
    return MODIFIED if is_write else min(held, EXCLUSIVE)


@kernel
def _keep(state: State, start: int, array: int, position: int, entry: int) -> int:
    """Put `entry` first into its set, where the line is already if `position` says so; the entry pushed out."""
    if position < 0:
        return insert(state, start, state[array + WAYS], entry)
    state[start] = entry
    return EMPTY
