"""The event queue: everything that happens later, in picoseconds, ties broken by order of scheduling.

    now_ps --+--------------+---------------+---------> time
             |  timer A     |  byte on line |
             +- callbacks run in (when_ps, sequence) order, each seeing now_ps == its own when_ps

One queue drives the hardware of a machine; a VMM keeps another for the virtual devices of a domain.
Time is an integer number of picoseconds since power-on; no workstation clock takes part.
"""

import heapq
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

PS_PER_SECOND = 10**12
PS_PER_NS = 1000
CANCELLED_MAX = 64  # kept in the heap before it is swept: a guest can put off a far alarm for ever


@dataclass(slots=True)
class Event:
    """A callback due at `when_ps`; compare by time, then by order of scheduling."""

    when_ps: int
    sequence: int
    callback: Callable[[], None] | None = field(compare=False)

    def __lt__(self, other: "Event") -> bool:
        if self.when_ps != other.when_ps:
            return self.when_ps < other.when_ps
        return self.sequence < other.sequence


class EventQueue:
    """Callbacks ordered by (time, sequence number). `on_event` hears of each, with its time, before it runs."""

    WIRED = ("on_event",)

    def __init__(self) -> None:
        self.on_event: Callable[[Callable[[], None], int], None] | None = None
        self.now_ps = 0  # set by the owner before a device is accessed, and by run_until
        self._sequence = 0
        self._heap: list[Event] = []
        self._cancelled = 0  # events in the heap that will not happen

    @property
    def kept_count(self) -> int:
        """Events kept, cancelled ones too."""
        return len(self._heap)

    def schedule(self, when_ps: int, callback: Callable[[], None]) -> Event:
        """Run `callback` when time reaches `when_ps`; a time that is past means as soon as possible."""
        event = Event(max(when_ps, self.now_ps), self._sequence, callback)
        self._sequence += 1
        heapq.heappush(self._heap, event)
        return event

    def cancel(self, event: Event | None) -> None:
        """Make `event` not happen; an event that is None, past or cancelled already is left alone."""
        if event is None or event.callback is None:
            return
        event.callback = None
        self._cancelled += 1
        if self._cancelled > CANCELLED_MAX and 2 * self._cancelled > len(self._heap):
            self._heap = [kept for kept in self._heap if kept.callback is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def next_ps(self) -> int | None:
        """When the earliest event is due, or None when nothing is scheduled."""
        while self._heap and self._heap[0].callback is None:
            heapq.heappop(self._heap)
            self._cancelled -= 1
        return self._heap[0].when_ps if self._heap else None

    @contextmanager
    def at(self, now_ps: int) -> Iterator[None]:
        """It is `now_ps` for an access that gets ahead of the queue; what is due before happens later all the same."""
        before_ps, self.now_ps = self.now_ps, now_ps
        try:
            yield
        finally:
            self.now_ps = before_ps

    def run_until(self, limit_ps: int) -> None:
        """Run every event due at or before `limit_ps`, in order, then set the time to `limit_ps`."""
        if not self._heap or self._heap[0].when_ps > limit_ps:  # nothing is due, as mostly before a device is accessed
            if limit_ps > self.now_ps:
                self.now_ps = limit_ps
            return
        while (when_ps := self.next_ps()) is not None and when_ps <= limit_ps:
            event = heapq.heappop(self._heap)
            self.now_ps = max(self.now_ps, when_ps)
            callback, event.callback = event.callback, None
            assert callback is not None
            if self.on_event is not None:
                self.on_event(callback, when_ps)
            callback()
        self.now_ps = max(self.now_ps, limit_ps)
