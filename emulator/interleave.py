"""Several cores, one after the other on one thread: who runs next, and how far. Exact, whatever the slicing.

The core that is ready first (its clock, or its wake time while it waits) runs next; of two, the lower number. It runs
to the machine's next event, and not further than `lookahead` beyond the next of the others:

    core 0  ------------------|                       ready first: runs next
    core 1  ----------------------|< lookahead >|     core 0 may run up to here
    core 2  --------------------------------|
                                  ^ horizon of core 0

- What reaches another core takes at least `lookahead` (events.ipi_receive_cycles): an interrupt that core 0 sends at
  t arrives at t + lookahead, and no other core is beyond that, since each was stopped there when it ran.
- What changes state shared by cores (a VM exit's handler, a shared page) happens in order of time, and so does reading
  the time-stamp counter: a core that gets there beyond its `horizon_cycles` stops, and does it at its next turn, when
  no other core is behind.
- A guest that spins until another core stores takes no part (`Waiting.spin`): whoever will store ends that beforehand.
- MODEL: plain memory that guests share is not ordered: a store is seen up to `lookahead` and a block early or late.

A slice's limit ends only the turn of a core that is alone, which then goes on as if nothing had been; where several
run, their turns are the same in slices of any length.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from emulator.clock import NO_HORIZON
from emulator.machine import Machine
from emulator.pcpu import PCpu


class Runnable(Protocol):
    """What runs on a core: a VMM's own loop, or a native processor."""

    pcpu: PCpu

    def run(self, deadline_cycles: int) -> None:
        """Go on until the core's clock reaches `deadline_cycles` or the next event, or something else ends the turn.

        Called when the core is awake and no other core is behind it.
        """
        ...


R = TypeVar("R", bound=Runnable)


@dataclass(slots=True)
class _Turn(Generic[R]):
    """`runnable` can go on at `ready_cycles`, and may run to the next event, but not beyond `until_cycles`."""

    runnable: R
    ready_cycles: int
    until_cycles: int | None  # None: the core is alone


class Interleaver(Generic[R]):
    """Runs `runnables`, one for each core that takes part, in order of core number."""

    def __init__(self, machine: Machine, runnables: Sequence[R]) -> None:
        self.running: R | None = None  # whose turn it is; None: devices', or the outside's
        self._machine = machine
        self._runnables = tuple(runnables)
        self._is_paused = False
        self._lookahead_cycles = machine.profile.events.ipi_receive_cycles

    def advance(self, limit_cycles: int, is_over: Callable[[], bool]) -> None:
        """Run until every clock is at `limit_cycles` or beyond, `is_over()`, or only the outside could wake a core."""
        events = self._machine.events
        self._is_paused = False
        while not is_over():
            if self._is_paused:
                return
            turn = self._next_turn()
            due = self._machine.timeline.next_event_cycles()
            first_cycles = limit_cycles if turn is None else turn.ready_cycles
            if due is not None and due <= first_cycles:
                next_ps = events.next_ps()
                assert next_ps is not None
                events.run_until(next_ps)
            elif turn is not None and turn.ready_cycles < limit_cycles:
                self._take(turn, limit_cycles)
            elif not self._end_spins(limit_cycles):
                if turn is not None or due is not None:
                    self._pass_time(limit_cycles)
                return
        self._pass_time(max(runnable.pcpu.clock.cycles for runnable in self._runnables))

    def pause(self) -> None:
        """Return from `advance` when the turn is over, with nothing half done; another `advance` goes on."""
        self._is_paused = True

    def _next_turn(self) -> _Turn[R] | None:
        """Who is ready first, and how far it may run."""
        first: R | None = None
        first_cycles = second_cycles = horizon_cycles = NO_HORIZON
        for runnable in self._runnables:
            ready = runnable.pcpu.waiting.ready_cycles
            if ready is None:
                continue
            if first is None or ready < first_cycles:
                second_cycles = first_cycles
                horizon_cycles = first_cycles - 1  # the tie goes to the lower number
                first, first_cycles = runnable, ready
            elif ready < second_cycles:
                second_cycles = horizon_cycles = ready
        if first is None:
            return None
        is_alone = second_cycles == NO_HORIZON
        first.pcpu.clock.horizon_cycles = NO_HORIZON if is_alone else horizon_cycles
        return _Turn(first, first_cycles, None if is_alone else second_cycles + self._lookahead_cycles)

    def _take(self, turn: _Turn[R], limit_cycles: int) -> None:
        """Let the core run to the end of its turn."""
        turn.runnable.pcpu.waiting.end_wait()
        self.running = turn.runnable
        try:
            turn.runnable.run(limit_cycles if turn.until_cycles is None else turn.until_cycles)
        finally:
            self.running = None

    def _end_spins(self, limit_cycles: int) -> bool:
        """Let guests whose spinning is jumped over execute the last rounds before the limit; whether there are any."""
        behind = [r.pcpu for r in self._runnables if r.pcpu.waiting.is_spinning and r.pcpu.clock.cycles < limit_cycles]
        for pcpu in behind:
            pcpu.waiting.end_spin(limit_cycles - 1)
        return bool(behind)

    def _pass_time(self, until_cycles: int) -> None:
        """Bring the clocks of the cores that wait to the end of the slice."""
        for runnable in self._runnables:
            runnable.pcpu.waiting.pass_time(until_cycles)
