"""A core that waits: time in which it executes nothing is not run through but jumped over.

    wait (halted, or polling) --------- nothing is executed --------> end_wait, at the earliest of what `wake` was told
    spin (a guest's own loop) -- rounds are skipped, not executed --> the same

Until somebody has said when, the core is not ready, and takes no part in turns (interleave.py).
"""

from collections.abc import Callable

from emulator.clock import Clock
from emulator.ledger import HOST, IDLING, Category
from emulator.timeline import Timeline


class Waiting:
    """Whether the core of `clock` waits, as what, and until when; `wake_latency_ps` is how long an interrupt takes."""

    def __init__(self, clock: Clock, timeline: Timeline, *, wake_latency_ps: int) -> None:
        self.changed: list[
            int
        ] = []  # gets the core's number when `ready_cycles` changes: who gives turns wants to know
        self._clock = clock
        self._timeline = timeline
        self._wake_latency_ps = wake_latency_ps
        self._waits_as: int | None = None  # what its time is booked as; None: the core runs
        self.began_cycles = 0  # when it began to wait last
        self.is_by_mwait = False  # and how it sleeps
        self._wake_cycles: int | None = None
        self._is_interrupted = False  # the level of the INTR pin
        self._ends_by_interrupt = False
        self._skip: Callable[[int], None] | None = None  # jumps over a guest's spinning up to a clock

    def wait(self, category: int, *, is_deaf: bool = False, is_by_mwait: bool = False) -> None:
        """Execute nothing from now on until `wake`: halted (IDLE), or polling what another core will write (SPIN).

        An interrupt ends IDLE unless the core `is_deaf`; one that is pending already ends it at once.
        """
        if self._waits_as != category:
            self.began_cycles = self._clock.cycles
        self._waits_as, self._wake_cycles, self.is_by_mwait = category, None, is_by_mwait
        self.tell()
        self._ends_by_interrupt = category == Category.IDLE and not is_deaf
        if self._ends_by_interrupt and self._is_interrupted:
            self.wake(self._clock.cycles)

    def spin(self, skip: Callable[[int], None]) -> None:
        """The loaded guest does nothing but spin from now on, until `end_spin` or an interrupt.

        `skip(clock)` jumps over the rounds that end before the clock; the guest executes the last ones.
        """
        self.began_cycles = self._clock.cycles
        self._waits_as, self._wake_cycles, self._skip = Category.SPIN, None, skip
        self.tell()

    @property
    def category(self) -> int | None:
        """What its time is booked as while it waits."""
        return self._waits_as

    @property
    def is_waiting(self) -> bool:
        """Whether nothing is executed."""
        return self._waits_as is not None

    @property
    def is_deaf(self) -> bool:
        """Whether the core waits, and no interrupt ends it."""
        return self._waits_as is not None and not self._ends_by_interrupt

    @property
    def is_spinning(self) -> bool:
        """Whether a guest's spinning is jumped over now."""
        return self._skip is not None

    @property
    def ready_cycles(self) -> int | None:
        """When the core can go on: now, or when it wakes; None: nobody has said when."""
        return self._clock.cycles if self._waits_as is None else self._wake_cycles

    def tell(self) -> None:
        """`ready_cycles` is another, or will be: the clock is to be charged although it is not the core's turn."""
        self.changed.append(self._clock.number)

    # --- what ends it ------------------------------------------------------------------------------------------------

    def wake(self, when_cycles: int) -> None:
        """End the wait, if there is one, when the clock shows `when_cycles`; of several times the earliest counts."""
        if self._waits_as is not None:
            when_cycles = max(when_cycles, self._clock.cycles)
            if self._wake_cycles is None or when_cycles < self._wake_cycles:
                self._wake_cycles = when_cycles
                self.tell()

    def wake_up(self) -> None:
        """End the wait because of what happens now."""
        self.wake(self._timeline.ps_to_cycles(self._timeline.events.now_ps + self._wake_latency_ps))

    def set_interrupt(self, is_pending: bool) -> None:
        """The level of the INTR pin has been driven."""
        self._is_interrupted = is_pending
        if is_pending and self._ends_by_interrupt:
            self.wake_up()

    def end_spin(self, when_cycles: int) -> None:
        """Let a guest that spins go on when the clock shows `when_cycles`."""
        if self._skip is not None:
            self.wake(when_cycles)

    # --- the time it takes -------------------------------------------------------------------------------------------

    def pass_time(self, until_cycles: int) -> None:
        """Let a core that waits do so until its clock shows `until_cycles`, or until it wakes."""
        if self._waits_as is not None:
            end = until_cycles if self._wake_cycles is None else min(until_cycles, self._wake_cycles)
            if self._skip is not None:
                self._skip(end)
                return
            cycles = max(0, end - self._clock.cycles)
            self._clock.ledger.account(HOST, IDLING)[self._waits_as] += cycles
            self._clock.pass_time(cycles)

    def end_wait(self) -> None:
        """The core goes on: it has waited until its wake time."""
        if self._waits_as is not None:
            assert self._wake_cycles is not None
            self.pass_time(self._wake_cycles)
            self._waits_as = self._wake_cycles = self._skip = None
