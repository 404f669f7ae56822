"""The chip's own events. Most of them nobody outside can notice at once, so several happen together, late:

    inner events    i   i i    i  S       S: seen outside: reads or writes a guest's memory, rings the doorbell
    the machine's        e        e       e: one event of the machine, in which all up to then happen, in order

Of each inner event is known how long what it sets off stays unseen, at least. So nothing is noticed as long as an event
of the machine comes before that is over. Whoever comes from outside in between calls `catch_up` first. All times are
the same as with an event of the machine for each.
"""

from collections.abc import Callable
from heapq import heappop, heappush

from emulator.events import Event, EventQueue


class ChipEvents:
    """Callbacks in order of time, then of scheduling; `now_ps` is the time of the one that runs."""

    def __init__(self, machine: EventQueue, *, batches: bool) -> None:
        """Without `batches` each is an event of the machine."""
        self.now_ps = machine.now_ps
        self._machine = machine
        self._batches = batches
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._ends_ps: list[tuple[int, int]] = []  # a heap: when an event has to have happened; its own time
        self._sequence = 0
        self._is_running = False
        self._event: Event | None = None  # of the machine

    def schedule(self, when_ps: int, callback: Callable[[], None], *, unseen_ps: int = 0) -> None:
        """Run `callback` at `when_ps`, which is not past; nobody outside can notice until `unseen_ps` later."""
        self._sequence += 1
        heappush(self._heap, (when_ps, self._sequence, callback))
        heappush(self._ends_ps, (when_ps + unseen_ps if self._batches else when_ps, when_ps))
        if not self._is_running:
            self._follow()

    def first_ps(self) -> int | None:
        """When the next of them happens."""
        return self._heap[0][0] if self._heap else None

    def catch_up(self) -> None:
        """Somebody outside is about to do something at the machine's time."""
        if self._is_running:
            return
        end_ps = self._machine.now_ps + 1
        if self._event is not None and self._event.when_ps < end_ps:  # a core is ahead of what is due
            with self._machine.at(self._event.when_ps - 1):
                self._run_before(self._event.when_ps)
        else:
            self._run_before(end_ps)
        self.now_ps = self._machine.now_ps
        self._follow()

    def _run(self) -> None:
        self._event = None
        self._run_before(self._machine.now_ps + 1)
        self._follow()

    def _run_before(self, end_ps: int) -> None:
        heap = self._heap
        self._is_running = True
        while heap and heap[0][0] < end_ps:
            self.now_ps, _, callback = heappop(heap)
            callback()
        self._is_running = False
        while self._ends_ps and self._ends_ps[0][1] < end_ps:
            heappop(self._ends_ps)

    def _follow(self) -> None:
        """Have an event of the machine at the right time."""
        if not self._ends_ps:
            return
        when_ps = self._ends_ps[0][0]
        if self._event is None or when_ps < self._event.when_ps:
            self._machine.cancel(self._event)
            self._event = self._machine.schedule(when_ps, self._run)
