"""The other threads of a physical core: how much longer work takes while they use what the core has but once.

    this thread  |== work ==|==== the same work =====|== work ==|
    sibling      |  halted  |        works           |  PAUSEs  |        core.sibling_*_cycles_per_100
                            ^ where this one's clock is the same

A sibling works unless it waits (waiting.py): then it is halted, in MWAIT, or polls with PAUSE. What it will do is known
up to its next turn, so work that gets beyond a change is split there, and an engine stops there. Polling and sleeping
take no longer whatever the siblings do.

MODEL: a change that a sibling's turn brings is seen up to `events.ipi_receive_cycles` late, for the core may be so far
ahead of it; a guest's own loop that spins counts as work; of several siblings the one that disturbs most counts.
"""

from collections.abc import Sequence

from emulator.clock import NO_HORIZON
from emulator.ledger import Category
from emulator.profiles.sections import Core
from emulator.waiting import Waiting

UNDISTURBED = 100  # cycles for 100 cycles of work


class Siblings:
    """The threads beside one, which are `waiting` or not, on a core as the profile's `core` says."""

    def __init__(self, core: Core, waiting: Sequence[Waiting]) -> None:
        self._waiting = waiting
        self._works = core.sibling_works_cycles_per_100
        self._pauses = core.sibling_pauses_cycles_per_100
        self._mwaits = core.sibling_mwaits_cycles_per_100
        self._halted = core.sibling_halted_cycles_per_100

    def slow_down(self, now_cycles: int, work_cycles: int) -> tuple[int, int, int]:
        """How much longer than itself work takes that begins at `now_cycles`; less than a cycle is dropped.

        Then, for what comes after it: cycles that 100 of work take, and the clock at which that changes.
        """
        extra_cycles, left_cycles = 0, work_cycles
        while True:
            rate, until_cycles = self._rate_at(now_cycles)
            needed_cycles = left_cycles * rate // UNDISTURBED
            if now_cycles + needed_cycles < until_cycles:
                return extra_cycles + needed_cycles - left_cycles, rate, until_cycles
            done_cycles = left_cycles
            if now_cycles + needed_cycles > until_cycles:
                done_cycles = (until_cycles - now_cycles) * UNDISTURBED // rate
            extra_cycles += until_cycles - now_cycles - done_cycles
            left_cycles -= done_cycles
            now_cycles = until_cycles

    def _rate_at(self, now_cycles: int) -> tuple[int, int]:
        """Cycles that 100 of work take at `now_cycles`, and the clock at which that changes."""
        rate, until_cycles = UNDISTURBED, NO_HORIZON
        for waiting in self._waiting:
            its_rate, its_until_cycles = self._rate_beside(waiting, now_cycles)
            if its_rate > rate:
                rate = its_rate
            if its_until_cycles < until_cycles:
                until_cycles = its_until_cycles
        return rate, until_cycles

    def _rate_beside(self, waiting: Waiting, now_cycles: int) -> tuple[int, int]:
        category = waiting.category
        if category is None:
            return self._works, NO_HORIZON
        if now_cycles < waiting.began_cycles:
            return self._works, waiting.began_cycles
        ready_cycles = waiting.ready_cycles
        if ready_cycles is not None and ready_cycles <= now_cycles:
            return self._works, NO_HORIZON
        if category == Category.SPIN:
            rate = self._pauses
        else:
            rate = self._mwaits if waiting.is_by_mwait else self._halted
        return rate, NO_HORIZON if ready_cycles is None else ready_cycles


def disturbs(core: Core) -> bool:
    """Whether threads of such a core slow each other down."""
    rates = (
        core.sibling_works_cycles_per_100,
        core.sibling_pauses_cycles_per_100,
        core.sibling_mwaits_cycles_per_100,
        core.sibling_halted_cycles_per_100,
    )
    return core.thread_count > 1 and set(rates) != {UNDISTURBED}


def siblings_of(core: Core, threads: Sequence[tuple[int, Waiting]], number: int) -> Siblings | None:
    """Those of pCPU `number` among (physical core, waiting) of all pCPUs; None: it has none."""
    place = threads[number][0]
    others = [waiting for other, (where, waiting) in enumerate(threads) if where == place and other != number]
    return Siblings(core, others) if others else None
