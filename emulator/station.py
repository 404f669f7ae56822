"""A device that stands on a world's timeline by itself: it has events and no core, and wires lead to it (world.py)."""

from collections.abc import Callable

from emulator.events import PS_PER_SECOND, EventQueue
from emulator.timeline import Timeline


class StationTime:
    """What a machine is of a host: events, and a clock that counts picoseconds."""

    def __init__(self) -> None:
        self.events = EventQueue()
        self.timeline = Timeline(self.events, PS_PER_SECOND)


class EventRunner:
    """Goes on from event to event, as `Interleaver` does with cores between them."""

    def __init__(self, events: EventQueue) -> None:
        self.is_paused = False
        self._events = events
        self._end_ps = 0

    def begin(self) -> None:
        """Go on after a pause."""
        self.is_paused = False

    def run_before(self, end_ps: int, bound_ps: int, is_over: Callable[[], bool]) -> bool:
        """Run all events before `end_ps`. Returns whether it is over."""
        self._end_ps = end_ps
        while not self.is_paused and (next_ps := self._events.next_ps()) is not None and next_ps < self._end_ps:
            self._events.run_until(next_ps)
        return is_over()

    def lower(self, bound_ps: int) -> None:
        """From within `run_before`: not beyond `bound_ps`."""
        self._end_ps = min(self._end_ps, bound_ps)

    def next_ps(self) -> int | None:
        """When something happens next."""
        return self._events.next_ps()

    def pause(self) -> None:
        """Return soon, with nothing half done."""
        self.is_paused = True

    def end_cut_turn(self) -> None:
        """There are no turns."""

    def end_spins(self, limit_cycles: int) -> bool:
        """Nobody spins."""
        return False

    def pass_time(self, until_cycles: int) -> None:
        """No clock has to follow."""


class Station:
    """What a device on the timeline is made of: `machine` and `interleaver` as a host has them."""

    def __init__(self) -> None:
        self.machine = StationTime()
        self.interleaver = EventRunner(self.machine.events)

    def is_over(self) -> bool:
        """Whether nothing happens any more until a frame comes."""
        return self.machine.events.next_ps() is None
