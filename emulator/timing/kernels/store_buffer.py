"""The store buffer: a store that misses is waited for only when no entry of the buffer is free.

A ring of the cycles when the last stores are done, in order, each << 1 | whether it waits for another core. The entry a
store takes is the oldest one; if that is not done yet, the store waits for it. Stores become visible in order, so one
that hits waits in the buffer behind one that misses; the lines of waiting stores are fetched all at once.
# MODEL: a load of a line that a waiting store still fetches finds it at once.
"""

from emulator.timing.kernels.compiled import kernel
from emulator.timing.kernels.layout import STORE_BUFFER_ENTRIES, Pcpu, State


@kernel
def push_store(state: State, words: int, now_cycles: int, cycles: int, is_coherent: int) -> tuple[int, int]:
    """A store that takes `cycles` enters the buffer; for how long it waits to, and whether for another core."""
    youngest = state[words + Pcpu.STORE_DONE]
    if cycles == 0 and youngest >> 1 <= now_cycles:
        return 0, 0
    head = state[words + Pcpu.STORE_HEAD]
    slot = state[words + Pcpu.STORE_RING] + head
    oldest = state[slot]
    stall = max((oldest >> 1) - now_cycles, 0)
    done = max(youngest, now_cycles + stall + cycles << 1 | is_coherent)
    state[slot] = done
    state[words + Pcpu.STORE_DONE] = done
    state[words + Pcpu.STORE_HEAD] = head + 1 if head + 1 < state[STORE_BUFFER_ENTRIES] else 0
    return stall, oldest & 1
