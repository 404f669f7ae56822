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
run, their turns are the same in slices of any length. A turn that has to end at the bound of a world (world.py) goes on
before any other, so it is the same, too.

Cores wait in a heap of keys: when each is ready, and its number. One that becomes ready at another time gets another
key; the old one stays in the heap, and is dropped when it comes to the top.
"""

import heapq
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from emulator.clock import NO_HORIZON, Clock
from emulator.machine import Machine
from emulator.pcpu import PCpu
from emulator.waiting import Waiting

NO_KEY = NO_CORE = -1
KEYS_PER_CORE = 4  # kept in the heap, old ones too, before it is swept


class Runnable(Protocol):
    """What runs on a core: a VMM's own loop, or a native processor."""

    pcpu: PCpu

    def run(self, deadline_cycles: int) -> None:
        """Go on until the core's clock reaches `deadline_cycles` or the next event, or something else ends the turn.

        Called when the core is awake and no other core is behind it. Only here does its clock move, or while it waits.
        """
        ...


R = TypeVar("R", bound=Runnable)


class Interleaver(Generic[R]):
    """Runs `runnables`, one for each core that takes part."""

    def __init__(self, machine: Machine, runnables: Sequence[R]) -> None:
        self.running: R | None = None  # whose turn it is; None: devices', or the outside's
        self._machine = machine
        self._seats = {r.pcpu.number: (r, r.pcpu.clock, r.pcpu.waiting) for r in runnables}
        self.is_paused = False  # until `begin`
        self._lookahead_cycles = machine.profile.events.ipi_receive_cycles
        self._number_bits = machine.pcpu_count.bit_length()
        self._keys = [NO_KEY] * machine.pcpu_count  # by core: ready_cycles << number_bits | number
        self._heap: list[int] = []
        self._kept_max = KEYS_PER_CORE * machine.pcpu_count
        self._changed: list[int] = []  # cores that have begun to wait, or are woken at another time, since last noted
        self._cut = NO_CORE  # whose turn was ended by the bound: it goes on before others
        self._limit_cycles = self._events_end_ps = self._bound_cycles = 0  # see _take_turns
        for runnable in runnables:
            runnable.pcpu.waiting.changed = self._changed

    def advance(self, limit_cycles: int, is_over: Callable[[], bool]) -> None:
        """Run until every clock is at `limit_cycles` or beyond, `is_over()`, or only the outside could wake a core."""
        self.begin()
        self._limit_cycles, self._bound_cycles = limit_cycles, NO_HORIZON
        self._events_end_ps = self._machine.timeline.cycles_to_ps(limit_cycles) + 1
        while not self._take_turns(is_over):
            if self.is_paused:
                return
            if not self.end_spins(limit_cycles):
                if self._heap or self._machine.events.next_ps() is not None:
                    self.pass_time(limit_cycles)
                return

    def pause(self) -> None:
        """Return from `advance` soon, with nothing half done; another `advance` goes on."""
        self.is_paused = True
        if self.running is not None and self.running.pcpu.clock.engine is not None:
            self.running.pcpu.clock.engine.stop()

    # --- in parts: a world has several hosts (world.py) --------------------------------------------------------------

    def begin(self) -> None:
        """Go on after a pause, and look at all cores: the outside may have done something to them."""
        self.is_paused = False
        self._changed[:] = self._seats
        self._keys[:] = [NO_KEY] * len(self._keys)
        self._heap.clear()

    def run_before(self, end_ps: int, bound_ps: int, is_over: Callable[[], bool]) -> bool:
        """Run all that begins before `end_ps`, but not beyond `bound_ps`, which is not earlier.

        Returns whether it is over. A core that is alone ends its turn at `end_ps`.
        """
        to_cycles = self._machine.timeline.ps_to_cycles
        self._limit_cycles, self._bound_cycles, self._events_end_ps = to_cycles(end_ps), to_cycles(bound_ps), end_ps
        return self._take_turns(is_over)

    def lower(self, bound_ps: int) -> None:
        """From within `run_before`: not beyond `bound_ps`."""
        bound_cycles = self._machine.timeline.ps_to_cycles(bound_ps)
        self._bound_cycles = min(self._bound_cycles, bound_cycles)
        self._limit_cycles = min(self._limit_cycles, bound_cycles)
        self._events_end_ps = min(self._events_end_ps, bound_ps)
        if self.running is not None:
            self.running.pcpu.clock.bound(deadline_cycles=bound_cycles, horizon_cycles=NO_HORIZON)

    def end_cut_turn(self) -> None:
        """Let others go on first: the bound of a turn that it has cut cannot rise before they do."""
        self._cut = NO_CORE

    def next_ps(self) -> int | None:
        """When something happens next: an event, or a core goes on; None: only the outside could do something."""
        ready_cycles = [w.ready_cycles for _, _, w in self._seats.values()]
        times_ps = [self._machine.timeline.cycles_to_ps(cycles) for cycles in ready_cycles if cycles is not None]
        event_ps = self._machine.events.next_ps()
        if event_ps is not None:
            times_ps.append(event_ps)
        return min(times_ps, default=None)

    @property
    def kept_count(self) -> int:
        """Keys kept, old ones too."""
        return len(self._heap)

    def _drop_old_keys(self) -> None:
        """Keep only the cores' own keys: a guest can put off a far wake time for ever."""
        self._heap[:] = [key for key in self._keys if key != NO_KEY]
        heapq.heapify(self._heap)

    def _take_turns(self, is_over: Callable[[], bool]) -> bool:
        """Events before `_events_end_ps` and turns that begin before `_limit_cycles`; none gets beyond `_bound_cycles`.

        Returns whether it is over. What is done for each turn is done in place: with many cores there are millions.
        """
        heap, keys, changed, seats = self._heap, self._keys, self._changed, self._seats
        events, next_event_cycles = self._machine.events, self._machine.timeline.next_event_cycles
        heappush, heappop, lookahead_cycles = heapq.heappush, heapq.heappop, self._lookahead_cycles
        number_bits = self._number_bits
        number_mask = (1 << number_bits) - 1
        while not is_over():
            if self.is_paused:
                return False
            while changed:
                number = changed.pop()
                ready_cycles = seats[number][2].ready_cycles
                key = NO_KEY if ready_cycles is None else ready_cycles << number_bits | number
                if key != keys[number]:
                    keys[number] = key
                    if key != NO_KEY:
                        heappush(heap, key)
            if len(heap) > self._kept_max:
                self._drop_old_keys()
            while heap and keys[heap[0] & number_mask] != heap[0]:
                heappop(heap)
            due_cycles, number = next_event_cycles(), self._cut
            if number != NO_CORE:
                self._cut = NO_CORE
                cut_cycles = seats[number][1].cycles
                if due_cycles is not None and due_cycles <= cut_cycles:
                    number = NO_CORE  # an event would have ended the turn
                elif cut_cycles >= self._bound_cycles:
                    self._cut = number
                    return False
            if number == NO_CORE:
                first_cycles = heap[0] >> number_bits if heap else NO_HORIZON
                if due_cycles is not None and due_cycles <= first_cycles:
                    next_ps = events.next_ps()
                    assert next_ps is not None
                    if next_ps >= self._events_end_ps:
                        return False
                    events.run_until(next_ps)
                    continue
                if first_cycles >= self._limit_cycles:
                    return False
                number = heappop(heap) & number_mask
            keys[number] = NO_KEY
            runnable, clock, waiting = seats[number]
            while heap and keys[heap[0] & number_mask] != heap[0]:
                heappop(heap)
            if heap:
                second = heap[0]
                deadline_cycles = second >> number_bits
                clock.set_horizon(deadline_cycles - (second & number_mask < number))  # a tie: the lower number
                deadline_cycles += lookahead_cycles
            else:
                clock.set_horizon(NO_HORIZON)
                deadline_cycles = self._limit_cycles
            waiting.end_wait()
            self.running = runnable
            try:
                runnable.run(deadline_cycles if deadline_cycles <= self._bound_cycles else self._bound_cycles)
            finally:
                self.running = None
            changed.append(number)
            if deadline_cycles > self._bound_cycles and self._was_cut(clock, waiting, deadline_cycles):
                self._cut = number
        self.pass_time(max(clock.cycles for _, clock, _ in self._seats.values()))
        return True

    def _was_cut(self, clock: Clock, waiting: Waiting, deadline_cycles: int) -> bool:
        """Whether a turn that could have lasted to the deadline has ended at the bound, and not by itself."""
        if waiting.is_waiting or not self._bound_cycles <= clock.cycles < deadline_cycles:
            return False
        return clock.engine is not None and not clock.engine.shared.stop_request

    def end_spins(self, limit_cycles: int) -> bool:
        """Let guests whose spinning is jumped over execute the last rounds before the limit; whether there are any."""
        behind = [
            waiting for _, clock, waiting in self._seats.values() if waiting.is_spinning and clock.cycles < limit_cycles
        ]
        for waiting in behind:
            waiting.end_spin(limit_cycles - 1)
        return bool(behind)

    def pass_time(self, until_cycles: int) -> None:
        """Bring the clocks of the cores that wait to the end of the slice."""
        for _, _, waiting in self._seats.values():
            waiting.pass_time(until_cycles)
