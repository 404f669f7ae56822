"""Loads, stores and fetches of one line, from the L1 caches on.

A MODIFIED line in L1D is one the core may write and that its own L1I does not have: stores to it need nothing else.
So a fetch of such a line makes it EXCLUSIVE there, and the next store throws it out of L1I again.
All return the stall beyond an L1 hit, and whether it is spent waiting for another core.
"""

from emulator.timing.kernels.coherence import drop, set_state, state_of, write_back
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
from emulator.timing.kernels.outer_caches import obtain, upgrade
from emulator.timing.kernels.sets import find_in_set, insert, promote, set_start
from emulator.timing.kernels.store_buffer import push_store


@kernel
def load_line(state: State, words: int, line: int) -> tuple[int, int]:
    """A load from `line`."""
    core = state[words + Pcpu.CORE]
    start = set_start(state, L1D, core, line)
    position = find_in_set(state, start, state[L1D + WAYS], line, STATE_BITS)
    if position >= 0:
        state[words + Pcpu.L1D_HIT] += 1
        promote(state, start, position)
        return 0, 0
    state[words + Pcpu.L1D_MISS] += 1
    cycles, is_coherent, held = obtain(state, words, line, False)
    _insert_l1d(state, words, line << STATE_BITS | min(held, EXCLUSIVE))
    return cycles, is_coherent


@kernel
def store_line(state: State, words: int, line: int, now_cycles: int) -> tuple[int, int]:
    """A store to `line`, through the store buffer."""
    cycles, is_coherent = _own_line(state, words, line)
    return push_store(state, words, now_cycles, cycles, is_coherent)


@kernel
def _own_line(state: State, words: int, line: int) -> tuple[int, int]:
    """Make `line` MODIFIED in L1D; what that takes."""
    core = state[words + Pcpu.CORE]
    start = set_start(state, L1D, core, line)
    position = find_in_set(state, start, state[L1D + WAYS], line, STATE_BITS)
    cycles, is_coherent = 0, 0
    if position >= 0:
        state[words + Pcpu.L1D_HIT] += 1
        promote(state, start, position)
        held = state[start] & STATE_MASK
        if held == MODIFIED:
            return 0, 0
        if held == SHARED:
            cycles, is_coherent = upgrade(state, words, line), 1
        state[start] = line << STATE_BITS | MODIFIED
        if state[IS_L2_PRIVATE]:
            set_state(state, L2, core, line, MODIFIED)
    else:
        state[words + Pcpu.L1D_MISS] += 1
        cycles, is_coherent, held = obtain(state, words, line, True)
        _insert_l1d(state, words, line << STATE_BITS | MODIFIED)
    drop(state, L1I, core, line)
    return cycles, is_coherent


@kernel
def fetch_line(state: State, words: int, line: int) -> tuple[int, int]:
    """A fetch of instruction bytes from `line`."""
    core = state[words + Pcpu.CORE]
    start = set_start(state, L1I, core, line)
    position = find_in_set(state, start, state[L1I + WAYS], line, STATE_BITS)
    if position >= 0:
        state[words + Pcpu.L1I_HIT] += 1
        promote(state, start, position)
        return 0, 0
    state[words + Pcpu.L1I_MISS] += 1
    cycles, is_coherent, _ = obtain(state, words, line, False)
    insert(state, set_start(state, L1I, core, line), state[L1I + WAYS], line << STATE_BITS | SHARED)
    if state_of(state, L1D, core, line) == MODIFIED:
        set_state(state, L1D, core, line, EXCLUSIVE)
        if not state[IS_L2_PRIVATE]:
            write_back(state, words, state[words + Pcpu.PACKAGE], line, L1D)
    return cycles, is_coherent


@kernel
def _insert_l1d(state: State, words: int, entry: int) -> None:
    """Put a line into L1D; a private L2 knows already whether the one pushed out is dirty."""
    core = state[words + Pcpu.CORE]
    victim = insert(state, set_start(state, L1D, core, entry >> STATE_BITS), state[L1D + WAYS], entry)
    if victim != EMPTY and victim & STATE_MASK == MODIFIED and not state[IS_L2_PRIVATE]:
        write_back(state, words, state[words + Pcpu.PACKAGE], victim >> STATE_BITS, L1D)
