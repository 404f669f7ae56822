"""The timer of a local APIC (SDM 3A 10.5.4): one-shot, periodic, and TSC-deadline. It is never stepped.

    epoch_ps   tick 1    tick 2                              tick k = epoch_ps + ceil(k * divide * 10^12 / frequency_hz)
    |-- count -|- count-1 -|-- ... --| 0: expiry; periodic: `initial_count` again

Only an expiry that can be seen is an event: `is_wanted` says whether one would interrupt (not masked, not requested
already). So a guest that sets a period of one tick does not keep the emulator busy.
"""

from collections.abc import Callable
from enum import IntEnum

from emulator.events import PS_PER_SECOND, Event, EventQueue

COUNT_MASK = 0xFFFF_FFFF
DIVIDE_BY_1 = 0b1011
DIVISORS = {0b0000: 2, 0b0001: 4, 0b0010: 8, 0b0011: 16, 0b1000: 32, 0b1001: 64, 0b1010: 128, DIVIDE_BY_1: 1}


class TimerMode(IntEnum):
    """Bits 18:17 of the LVT's timer register."""

    ONE_SHOT = 0
    PERIODIC = 1
    TSC_DEADLINE = 2
    RESERVED = 3


class LapicTimer:
    """Counts `frequency_hz` divided by its divisor; `on_expiry` is called at an expiry that `is_wanted`."""

    WIRED = ("_tsc_to_ps",)

    def __init__(
        self,
        events: EventQueue,
        *,
        frequency_hz: int,
        tsc_to_ps: Callable[[int], int],
        is_wanted: Callable[[], bool],
        on_expiry: Callable[[], None],
    ) -> None:
        self.events = events
        self._frequency_hz = frequency_hz
        self._tsc_to_ps = tsc_to_ps
        self._is_wanted = is_wanted
        self._on_expiry = on_expiry
        self._event: Event | None = None
        self.reset()

    def reset(self) -> None:
        """Stop, and forget all settings."""
        self.mode = TimerMode.ONE_SHOT
        self.divide = 0  # as written: a key of DIVISORS
        self.initial_count = 0
        self._epoch_ps = 0
        self._epoch_count = 0  # ticks from the epoch to the first expiry; 0: stopped
        self._deadline_tsc = 0
        self._deadline_ps = 0
        self.events.cancel(self._event)
        self._event = None

    # --- registers ---

    def set_mode(self, mode: int) -> None:
        """Changing to or from TSC-deadline mode disarms the timer; another change lets it count on."""
        if (mode == TimerMode.TSC_DEADLINE) != (self.mode == TimerMode.TSC_DEADLINE):
            self.initial_count = self._epoch_count = self._deadline_tsc = 0
        self.mode = TimerMode(mode)
        self.plan()

    def write_divide(self, divide: int) -> None:
        """Count on from the present count at another rate."""
        self._epoch_count = self.current_count
        self._epoch_ps = self.events.now_ps
        self.divide = divide
        self.plan()

    def write_initial_count(self, count: int) -> None:
        """Start anew; 0 stops. Ignored in TSC-deadline mode."""
        if self.mode != TimerMode.TSC_DEADLINE:
            self.initial_count = self._epoch_count = count & COUNT_MASK
            self._epoch_ps = self.events.now_ps
            self.plan()

    @property
    def current_count(self) -> int:
        """What is left of the count now."""
        left = self._epoch_count - self._ticks()
        if left > 0 or not self._epoch_count:
            return max(left, 0)
        return self.initial_count - -left % self.initial_count if self._is_periodic else 0

    @property
    def deadline(self) -> int:
        """IA32_TSC_DEADLINE: 0 once it has passed."""
        return self._deadline_tsc if self.events.now_ps < self._deadline_ps else 0

    @deadline.setter
    def deadline(self, tsc: int) -> None:
        if self.mode != TimerMode.TSC_DEADLINE:
            return
        self._deadline_tsc, self._deadline_ps = tsc, self._tsc_to_ps(tsc)
        if tsc and self._deadline_ps <= self.events.now_ps and self._is_wanted():
            self._on_expiry()
        self.plan()

    # --- events ---

    def plan(self) -> None:
        """Have an event for the next expiry, if it would interrupt."""
        self.events.cancel(self._event)
        when_ps = self._next_expiry_ps() if self._is_wanted() else None
        self._event = None if when_ps is None else self.events.schedule(when_ps, self._expire)

    def _expire(self) -> None:
        self._on_expiry()
        self.plan()

    def _next_expiry_ps(self) -> int | None:
        if self.mode == TimerMode.TSC_DEADLINE:
            return self._deadline_ps if self.deadline else None
        ticks = self._ticks()
        if not self._epoch_count:
            return None
        if ticks < self._epoch_count:
            return self._ps_of_tick(self._epoch_count)
        if not self._is_periodic:
            return None
        periods = (ticks - self._epoch_count) // self.initial_count + 1
        return self._ps_of_tick(self._epoch_count + periods * self.initial_count)

    @property
    def _is_periodic(self) -> bool:
        return self.mode == TimerMode.PERIODIC and self.initial_count > 0

    def _ticks(self) -> int:
        """Whole ticks since the epoch."""
        return (self.events.now_ps - self._epoch_ps) * self._frequency_hz // (PS_PER_SECOND * DIVISORS[self.divide])

    def _ps_of_tick(self, tick: int) -> int:
        return self._epoch_ps - -tick * PS_PER_SECOND * DIVISORS[self.divide] // self._frequency_hz
