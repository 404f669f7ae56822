"""A world: hosts, and wires between them, on one timeline in picoseconds. Exact, whatever the slicing.

    host 0  |====== cores in turns, events ======>|            each host has its own events and its own interleaver
                  \\ send                          ^ bound: nothing of the others can arrive before
    wire           `---- latency ----.
                                      v receive: an event of the next round
    host 1  |=================>|
                               ^ bound

Hosts that wires join go on in rounds. When a round begins, what is on the wires becomes events of its receivers, and
each host gets a bound: the least, over all others, of when that one does something next and how long the way from there
is. Then each runs to its bound. What is sent meanwhile arrives after the receiver's bound, so in a round no host has
anything to do with another, and who runs first makes no difference. The answer to what a host sends itself could come
before its bound, which is lowered then.

A network card may know that it sends nothing for some time after whatever happens (wire.py: Departures); then the
others get so much farther.

Rounds are the same in slices of any length: one that has begun may get as far beyond a slice's limit as a way is long.
A host without wires has no bound. Hosts may have different frequencies.
MODEL: where a wire is shorter than what an IPI takes, a bound may end a core's turn for good; then cores of the host
see each other's stores to plain memory otherwise than they would without the wire.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from emulator.interleave import Interleaver
from emulator.machine import Machine
from emulator.station import Station
from emulator.wire import NO_FAULT, Departures, Fault, WireEnd

NEVER_PS = 1 << 60  # 13 days: beyond what is ever reached


class Host(Protocol):
    """A machine and what runs on it: a hypervisor with its guests, or a guest that has the machine to itself."""

    machine: Machine
    interleaver: Interleaver[Any]

    def is_over(self) -> bool:
        """Whether nothing is left that could run, not even by an interrupt."""
        ...


class World:
    """Runs `hosts` together; stations, which are devices on the timeline by themselves, count as hosts here."""

    def __init__(self, hosts: Sequence[Host | Station]) -> None:
        self.hosts: tuple[Host | Station, ...] = ()
        self.now_ps = 0  # all hosts have got here
        self._wires: list[tuple[WireEnd, WireEnd, int]] = []  # each direction: from, to, and the host there
        self._ways_ps: list[list[int]] = []  # from, to
        self._groups: list[list[int]] = []  # hosts that wires join
        self._departures: list[list[Departures | None]] = []  # of each host's ends
        self._nexts_ps: list[int] = []  # when each host does something next
        self._arrivals_ps: list[int] = []  # the first of what was sent in the round
        self._bounds_ps: list[int] = []  # of the round
        self._is_paused = False
        for host in hosts:
            self.add(host)

    def add(self, station: Host | Station) -> None:
        """One more, before it is connected."""
        number = len(self.hosts)
        self.hosts += (station,)
        for ways in self._ways_ps:
            ways.append(NEVER_PS)
        self._ways_ps.append([NEVER_PS] * number + [0])
        self._groups.append([number])
        self._departures.append([])
        self._nexts_ps.append(0)
        self._arrivals_ps.append(NEVER_PS)
        self._bounds_ps.append(0)

    def connect(
        self,
        one: Host | Station,
        other: Host | Station,
        *,
        latency_ps: int,
        bits_per_second: int | None = None,
        lead_ps: int = 0,
        departures: tuple[Departures | None, Departures | None] = (None, None),
        fault: Fault = NO_FAULT,
    ) -> tuple[WireEnd, WireEnd]:
        """A wire between two hosts of this world; its ends at the one and at the other.

        `departures` of the cards at the ends; None: a frame may be sent whenever something happens there.
        """
        if latency_ps < 1 or (bits_per_second is not None and bits_per_second < 1):
            raise ValueError("a wire takes at least a picosecond, and carries at least a bit in a second")
        here, there = self.hosts.index(one), self.hosts.index(other)
        ends = [
            WireEnd(
                self.hosts[sender].machine.events,
                latency_ps=latency_ps,
                bits_per_second=bits_per_second,
                on_sent=partial(self._expect, sender, receiver),
                fault=replace(fault, seed=2 * fault.seed + direction),
            )
            for direction, (sender, receiver) in enumerate(((here, there), (there, here)))
        ]
        self._wires += [(ends[0], ends[1], there), (ends[1], ends[0], here)]
        self._note_ways(here, there, latency_ps + lead_ps)
        for number, of_end in zip((here, there), departures, strict=True):
            self._departures[number].append(of_end)
        return ends[0], ends[1]

    @property
    def ends(self) -> list[WireEnd]:
        """The ends of all wires, two by two, as they were connected."""
        return [sender for sender, _, _ in self._wires]

    def _note_ways(self, one: int, other: int, way_ps: int) -> None:
        """The shortest ways between all hosts, with a new wire, and who is in a group with whom."""
        ways, numbers = self._ways_ps, range(len(self.hosts))
        self._ways_ps = [
            [
                min(
                    ways[here][there],
                    ways[here][one] + way_ps + ways[other][there],
                    ways[here][other] + way_ps + ways[one][there],
                )
                for there in numbers
            ]
            for here in numbers
        ]
        joined = {tuple(there for there in numbers if ways[there] < NEVER_PS) for ways in self._ways_ps}
        self._groups = [list(group) for group in sorted(joined)]

    # --- running -----------------------------------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Whether all hosts are."""
        return all(host.is_over() for host in self.hosts)

    def advance(self, limit_ps: int) -> None:
        """Run until all hosts are at `limit_ps` or beyond, all are over, or only the outside could do something."""
        self._is_paused = False
        for number, host in enumerate(self.hosts):
            host.interleaver.begin()
            self._note_next(number)
        for group in self._groups:  # what the outside has done to one may reach another
            for number, bound_ps in self._bounds_of(group):
                self._bounds_ps[number] = min(self._bounds_ps[number], bound_ps)
        while all(self._run_group(group, limit_ps) for group in self._groups):
            ended = [self._end_spins(host, limit_ps) for host in self.hosts]
            if not any(ended):
                if min(self._nexts_ps) < NEVER_PS:
                    self._pass_time(limit_ps)
                return
            for number in range(len(self.hosts)):
                self._note_next(number)

    def pause(self) -> None:
        """Return from `advance` soon, with nothing half done; another goes on."""
        self._is_paused = True
        for host in self.hosts:
            host.interleaver.pause()

    def _run_group(self, group: Sequence[int], limit_ps: int) -> bool:
        """Round after round, until nothing is left to do before the limit. Returns False when paused."""
        stand: list[tuple[int, int]] = []
        while self._run_to_bounds(group, limit_ps):
            if min(self._nexts_ps[number] for number in group) >= limit_ps:
                return True
            if not self._run_to_bounds(group, NEVER_PS):  # whoever is behind waits for what is beyond the limit
                return False
            self._carry(group)
            for number, bound_ps in self._bounds_of(group):
                self._bounds_ps[number] = bound_ps
            before, stand = stand, [(self._nexts_ps[number], self._bounds_ps[number]) for number in group]
            if stand == before:
                for number in group:
                    self.hosts[number].interleaver.end_cut_turn()
        return False

    def _run_to_bounds(self, group: Sequence[int], limit_ps: int) -> bool:
        """Run each host to its bound, or to the limit. Returns False when paused."""
        nexts, bounds = self._nexts_ps, self._bounds_ps
        for number in group:
            end_ps = min(bounds[number], limit_ps)
            if nexts[number] < end_ps:
                host = self.hosts[number]
                host.interleaver.run_before(end_ps, bounds[number], host.is_over)
                self._note_next(number)
                if host.interleaver.is_paused:
                    return False
            if self._is_paused:
                return False
        return True

    def _note_next(self, number: int) -> None:
        host = self.hosts[number]
        next_ps = None if host.is_over() else host.interleaver.next_ps()
        self._nexts_ps[number] = min(NEVER_PS if next_ps is None else next_ps, self._arrivals_ps[number])

    def _bounds_of(self, group: Sequence[int]) -> list[tuple[int, int]]:
        """Where each host of the group has to wait for the others."""
        firsts_ps = [(sender, self._first_departure(sender)) for sender in group]
        return [
            (
                number,
                min([first + self._ways_ps[s][number] for s, first in firsts_ps if s != number], default=NEVER_PS),
            )
            for number in group
        ]

    def _first_departure(self, number: int) -> int:
        """When a host may send something, at the earliest."""
        first_ps, next_ps = NEVER_PS, self._nexts_ps[number]
        if next_ps >= NEVER_PS:
            return NEVER_PS
        for departures in self._departures[number]:
            first_ps = min(first_ps, next_ps if departures is None else departures.first_ps(next_ps))
        return first_ps

    def _expect(self, sender: int, receiver: int, arrival_ps: int) -> None:
        """A frame was sent. An answer to it may be back when the way is gone twice."""
        self._arrivals_ps[receiver] = min(self._arrivals_ps[receiver], arrival_ps)
        self._nexts_ps[receiver] = min(self._nexts_ps[receiver], arrival_ps)
        if sender != receiver:
            assert arrival_ps >= self._bounds_ps[receiver], "a frame arrives where its receiver may have got beyond"
        answer_ps = min([0 if card is None else card.answer_ps for card in self._departures[receiver]])
        bound_ps = arrival_ps + answer_ps + self._ways_ps[receiver][sender]
        if bound_ps < self._bounds_ps[sender]:
            self._bounds_ps[sender] = bound_ps
            self.hosts[sender].interleaver.lower(bound_ps)

    def _carry(self, group: Sequence[int]) -> None:
        """What was sent in the round becomes events of the receivers, in the order of wires."""
        for sender, receiver, number in self._wires:
            if number in group:
                sender.carry_to(receiver)
        for number in group:
            self._arrivals_ps[number] = NEVER_PS
            self._note_next(number)

    def _end_spins(self, host: Host | Station, limit_ps: int) -> bool:
        return not host.is_over() and host.interleaver.end_spins(host.machine.timeline.ps_to_cycles(limit_ps))

    def _pass_time(self, limit_ps: int) -> None:
        """Bring the clocks of cores that wait to the end of the slice."""
        self.now_ps = limit_ps
        for host in self.hosts:
            if not host.is_over():
                host.interleaver.pass_time(host.machine.timeline.ps_to_cycles(limit_ps))
