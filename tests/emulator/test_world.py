"""Claims about hosts on one timeline: what a wire does; that neither slices nor the order of hosts change anything."""

from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.interleave import Interleaver
from emulator.ledger import Category
from emulator.machine import Machine
from emulator.pcpu import PCpu
from emulator.profiles.profile import load_profile
from emulator.wire import BACKLOG_MAX_PS, NO_FAULT, Fault, WireEnd
from emulator.world import World

PROFILES = ("netburst-2006", "xeon-2.8-ht-2006", "haswell")  # 3, 2.8 and 3.4 GHz
STEP_CYCLES = 70
US = 10**6  # in picoseconds
END_PS = 12 * US
GIGABIT = 10**9


class Worker:
    """Works in steps until an event is due; where it `pings`, it sends a frame after so many steps, again and again."""

    def __init__(self, host: "FakeHost", pcpu: PCpu, ping_steps: int) -> None:
        self.pcpu = pcpu
        self._host = host
        self._ping_steps = ping_steps  # 0: never
        self._steps = self.turns = 0

    def run(self, deadline_cycles: int) -> None:
        clock = self.pcpu.clock
        self.turns += 1
        if self.pcpu.interrupts.is_asserted:
            self.pcpu.interrupts.set_interrupt(False)
            self._host.log.append((clock.now_ps, f"interrupt at core {self.pcpu.number}"))
        if self._host.is_idle:
            self.pcpu.waiting.wait(Category.IDLE)
            return
        while clock.cycles < deadline_cycles:
            due_cycles = self.pcpu.timeline.next_event_cycles()
            if due_cycles is not None and due_cycles <= clock.cycles:
                return
            clock.charge(Category.GUEST, STEP_CYCLES)
            clock.commit()
            self._steps += 1
            if self._ping_steps and self._steps % self._ping_steps == 0:
                self._host.machine.events.run_until(clock.now_ps)
                self._host.send(b"ping")
                return


class FakeHost:
    """Cores that work, a log of what happens, and a card that answers what it gets some time later."""

    def __init__(self, profile: str, *, cores: int = 1, ping_steps: int = 0, is_idle: bool = False) -> None:
        self.machine = Machine(load_profile(profile), memory_bytes=4096, pcpu_count=cores, timing="flat")
        self.is_idle = is_idle
        self.ends: list[WireEnd] = []
        self.log: list[tuple[int, str]] = []
        self.answer_ps = 0
        self.has_ended = False
        self.workers = [Worker(self, pcpu, ping_steps if pcpu.number == 0 else 0) for pcpu in self.machine.pcpus]
        self.interleaver = Interleaver(self.machine, self.workers)

    def is_over(self) -> bool:
        return self.has_ended

    def plug(self, end: WireEnd) -> None:
        end.on_receive = partial(self.receive, end, len(self.ends))
        self.ends.append(end)

    def send(self, frame: bytes) -> None:
        for end in self.ends:
            end.send(frame, self.machine.events.now_ps)

    def receive(self, end: WireEnd, number: int, frame: bytes) -> None:
        self.log.append((self.machine.events.now_ps, f"{frame.decode()} at end {number}"))
        events = self.machine.events
        if frame == b"ping":
            events.schedule(events.now_ps + self.answer_ps, partial(self.answer, end))
            self.machine.pcpus[-1].interrupts.set_interrupt(True)

    def answer(self, end: WireEnd) -> None:
        self.log.append((self.machine.events.now_ps, "answers"))
        end.send(b"pong", self.machine.events.now_ps)

    def at(self, when_ps: int, frame: bytes) -> None:
        """Send `frame` then, from an event."""
        self.machine.events.schedule(when_ps, partial(self.send, frame))

    @property
    def clocks(self) -> list[int]:
        return [pcpu.clock.cycles for pcpu in self.machine.pcpus]


def pair(
    *, latency_ps: int = US, bits_per_second: int | None = None, lead_ps: int = 0, fault: Fault = NO_FAULT
) -> tuple[World, FakeHost, FakeHost]:
    """Two idle hosts with a wire."""
    here, there = FakeHost(PROFILES[0], is_idle=True), FakeHost(PROFILES[1], is_idle=True)
    world = World([here, there])
    ends = world.connect(
        here, there, latency_ps=latency_ps, bits_per_second=bits_per_second, lead_ps=lead_ps, fault=fault
    )
    here.plug(ends[0])
    there.plug(ends[1])
    return world, here, there


# --- wires -----------------------------------------------------------------------------------------------------------


def test_a_frame_arrives_after_the_latency_and_not_a_picosecond_earlier() -> None:
    world, here, there = pair(latency_ps=7_000)
    here.at(100, b"hello")
    world.advance(7_100)
    assert there.log == []
    world.advance(7_101)
    assert there.log == [(7_100, "hello at end 0")]


def test_frames_leave_one_behind_the_other_and_each_takes_its_bits() -> None:
    world, here, there = pair(latency_ps=7_000, bits_per_second=GIGABIT)
    for frame in (b"a", b"bb", b"c"):
        here.at(0, frame)
    world.advance(END_PS)
    assert there.log == [(15_000, "a at end 0"), (31_000, "bb at end 0"), (39_000, "c at end 0")]
    assert here.ends[0].free_ps == 32_000


def test_both_directions_are_used_at_once() -> None:
    world, here, there = pair(latency_ps=7_000, bits_per_second=GIGABIT)
    here.at(0, b"to")
    there.at(0, b"fro")
    world.advance(END_PS)
    assert there.log == [(23_000, "to at end 0")]
    assert here.log == [(31_000, "fro at end 0")]


def test_frames_that_would_wait_too_long_are_dropped_and_counted() -> None:
    world, here, _ = pair(bits_per_second=8 * 10**6)  # a byte in a microsecond
    for _ in range(3):
        here.at(0, bytes(BACKLOG_MAX_PS // US + 1))
    world.advance(END_PS)
    assert here.ends[0].dropped_count == 2


def test_a_frame_nobody_listens_to_is_lost() -> None:
    world, here, there = pair()
    there.ends[0].on_receive = None
    here.at(0, b"x")
    world.advance(END_PS)
    assert there.log == []


def test_a_wire_that_takes_no_time_is_refused() -> None:
    host = FakeHost(PROFILES[0])
    with pytest.raises(ValueError, match="at least a picosecond"):
        World([host]).connect(host, host, latency_ps=0)


def test_a_host_can_have_a_wire_to_itself() -> None:
    host = FakeHost(PROFILES[0])
    world = World([host])
    one, other = world.connect(host, host, latency_ps=1_000)
    other.on_receive = lambda frame: host.log.append((host.machine.events.now_ps, frame.decode()))
    host.ends.append(one)
    host.at(5_000, b"round")
    world.advance(END_PS)
    assert host.log == [(6_000, "round")]


def test_a_sender_with_a_lead_says_beforehand_when_its_frame_has_left() -> None:
    world, here, there = pair(latency_ps=7_000, lead_ps=5_000)
    events = here.machine.events
    events.schedule(1_000, partial(_send_early, here))
    world.advance(END_PS)
    assert there.log == [(13_000, "early at end 0")]


def test_a_lead_lets_hosts_get_as_much_further_apart() -> None:
    bounds = []
    for lead_ps in (0, 5_000):
        world, _, there = pair(latency_ps=7_000, lead_ps=lead_ps)
        seen: list[int] = []
        there.machine.events.schedule(0, partial(_note_bound, world, seen))
        world.advance(END_PS)
        bounds.append(seen[0])
    assert bounds == [7_000, 12_000]


class Card:
    """Says that it sends nothing for so long after whatever happens."""

    def __init__(self, answer_ps: int) -> None:
        self.answer_ps = answer_ps

    def first_ps(self, next_ps: int) -> int:
        return next_ps + self.answer_ps


def test_a_card_that_needs_time_to_send_lets_others_get_as_much_further() -> None:
    here, there = FakeHost(PROFILES[0], is_idle=True), FakeHost(PROFILES[1], is_idle=True)
    world = World([here, there])
    world.connect(here, there, latency_ps=7_000, departures=(Card(30_000), None))
    seen: list[int] = []
    there.machine.events.schedule(0, partial(_note_bound, world, seen))
    world.advance(END_PS)
    assert seen == [37_000]


def test_a_card_that_sends_sooner_than_it_said_is_found_out() -> None:
    here, there = FakeHost(PROFILES[0], is_idle=True), FakeHost(PROFILES[1], is_idle=True)
    world = World([here, there])
    ends = world.connect(here, there, latency_ps=7_000, departures=(Card(30_000), None))
    here.plug(ends[0])
    here.at(1_000, b"sooner")
    with pytest.raises(AssertionError, match="its receiver may have got beyond"):
        world.advance(END_PS)


def _send_early(host: FakeHost) -> None:
    host.ends[0].send(b"early", host.machine.events.now_ps + 5_000)


def _note_bound(world: World, seen: list[int]) -> None:
    seen.append(world._bounds_ps[1])


# --- faults ----------------------------------------------------------------------------------------------------------


def faulty(fault: Fault, *, count: int = 1000, limits_ps: tuple[int, ...] = ()) -> tuple[list[tuple[int, str]], int]:
    """What arrives of `count` frames, one every 10 ns, and how many were lost."""
    world, here, there = pair(fault=fault)
    for number in range(count):
        here.at(10_000 * number, b"%d" % number)
    for limit_ps in (*limits_ps, 10**9):
        world.advance(limit_ps)
    return there.log, here.ends[0].lost_count


def test_a_wire_loses_as_many_frames_as_its_fault_says_and_the_same_ones_in_every_run() -> None:
    log, lost = faulty(Fault(loss_ppm=200_000, seed=7))
    assert 160 <= lost <= 240
    assert len(log) == 1000 - lost
    assert faulty(Fault(loss_ppm=200_000, seed=7), limits_ps=(1_000_001, 2_222_222)) == (log, lost)
    assert faulty(Fault(loss_ppm=200_000, seed=8))[0] != log
    assert faulty(Fault(loss_ppm=10**6)) == ([], 1000)
    assert len(faulty(NO_FAULT)[0]) == 1000


def test_directions_lose_different_frames() -> None:
    world, here, there = pair(fault=Fault(loss_ppm=500_000))
    for number in range(64):
        here.at(10_000 * number, b"%d" % number)
        there.at(10_000 * number, b"%d" % number)
    world.advance(END_PS)
    assert {text for _, text in here.log} != {text for _, text in there.log}


def test_frames_are_late_by_at_most_the_jitter_and_none_overtakes_another() -> None:
    log, _ = faulty(Fault(jitter_ps=50_000))
    assert [int(text.split()[0]) for _, text in log] == list(range(1000))
    late_ps = [when_ps - US - 10_000 * number for number, (when_ps, _) in enumerate(log)]
    assert 0 <= min(late_ps) < 10_000
    assert 40_000 < max(late_ps) <= 50_000


# --- time ------------------------------------------------------------------------------------------------------------


def test_a_slice_brings_every_clock_to_its_end_whatever_its_frequency() -> None:
    hosts = [FakeHost(profile, is_idle=profile == PROFILES[1]) for profile in PROFILES]
    hosts[1].at(2 * END_PS, b"")
    world = World(hosts)
    world.advance(END_PS)
    assert world.now_ps == END_PS
    for host in hosts:
        assert END_PS <= host.machine.pcpus[0].clock.now_ps + 999 < END_PS + 30_000


def test_without_anything_that_could_happen_time_stands_still() -> None:
    world, here, there = pair()
    world.advance(END_PS)
    assert (world.now_ps, here.clocks, there.clocks) == (0, [0], [0])


def test_a_host_that_is_over_keeps_its_clock_and_gets_no_more_frames_while_others_go_on() -> None:
    world, here, there = pair()
    here.at(0, b"x")
    here.at(4 * US, b"y")
    there.machine.events.schedule(2 * US, partial(setattr, there, "has_ended", True))
    world.advance(END_PS)
    assert there.log == [(US, "x at end 0")]
    assert there.clocks == [0]
    assert not world.is_over
    here.has_ended = True
    assert world.is_over


def test_a_paused_world_goes_on_where_it_was() -> None:
    logs = []
    for pauses in (False, True):
        world, here, there = pair()
        for number in range(4):
            here.at(number * US, b"ping")
        if pauses:
            there.machine.events.schedule(2 * US + 500, world.pause)
        world.advance(END_PS)
        if pauses:
            assert world.now_ps == 0
            world.advance(END_PS)
        logs.append((here.log, there.log))
    assert logs[0] == logs[1]


def test_a_busy_host_is_not_interrupted_for_idle_ones() -> None:
    here, there = FakeHost(PROFILES[0]), FakeHost(PROFILES[1], is_idle=True)
    world = World([here, there])
    world.connect(here, there, latency_ps=1)
    world.advance(1000)
    before = here.workers[0].turns
    world.advance(END_PS)
    assert here.workers[0].turns == before + 1


# --- nothing depends on slices, or on who is first -------------------------------------------------------------------

Results = list[tuple[list[int], list[tuple[int, str]], list[int]]]


def play(
    cores: tuple[int, ...],
    pings: tuple[int, ...],
    latencies_ps: tuple[int, ...],
    limits_ps: list[int],
    *,
    is_reversed: bool,
) -> Results:
    """Three hosts in a triangle of wires; what became of each."""
    hosts = [
        FakeHost(profile, cores=count, ping_steps=steps, is_idle=not steps)
        for profile, count, steps in zip(PROFILES, cores, pings, strict=True)
    ]
    world = World(hosts[::-1] if is_reversed else hosts)
    for number, latency_ps in enumerate(latencies_ps):
        one, other = hosts[number], hosts[(number + 1) % 3]
        ends = world.connect(one, other, latency_ps=latency_ps, bits_per_second=GIGABIT if number == 0 else None)
        one.plug(ends[0])
        other.plug(ends[1])
        one.answer_ps = 3 * latency_ps
    for host in hosts:
        host.machine.events.schedule(2 * END_PS, host.log.clear)
    for limit_ps in limits_ps:
        world.advance(limit_ps)
    ledgers = [[pcpu.clock.ledger.total_cycles for pcpu in host.machine.pcpus] for host in hosts]
    return [(host.clocks, host.log, ledger) for host, ledger in zip(hosts, ledgers, strict=True)]


@settings(max_examples=40, deadline=None)
@given(
    cores=st.tuples(*[st.integers(1, 3)] * 3),
    pings=st.tuples(*[st.sampled_from([0, 30, 47, 200])] * 3),
    latencies_ps=st.lists(st.integers(1, 3 * US).map(lambda ps: ps if ps > US else 10_000 + ps), max_size=3).map(tuple),
    limits_ps=st.lists(st.integers(0, END_PS), max_size=12).map(sorted),
)
def test_any_slices_and_any_order_of_hosts_end_alike(
    cores: tuple[int, ...], pings: tuple[int, ...], latencies_ps: tuple[int, ...], limits_ps: list[int]
) -> None:
    whole = play(cores, pings, latencies_ps, [END_PS], is_reversed=False)
    for _, log, _ in whole:
        assert all(earlier[0] <= later[0] for earlier, later in pairwise([e for e in log if "core" not in e[1]]))
    assert play(cores, pings, latencies_ps, [*limits_ps, END_PS], is_reversed=False) == whole
    assert play(cores, pings, latencies_ps, [*limits_ps, END_PS], is_reversed=True) == whole


def test_the_shortest_wire_there_is_changes_nothing_of_this() -> None:
    runs = [
        play((2, 1, 2), (30, 47, 200), (1, 1, 1), limits_ps, is_reversed=is_reversed)
        for limits_ps, is_reversed in (([US], False), ([*range(0, US, 77_777), US], False), ([300_001, US], True))
    ]
    assert runs[0] == runs[1] == runs[2]
