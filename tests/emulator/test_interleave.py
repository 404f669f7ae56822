"""Claims about the turns of cores: who is behind goes first, nobody goes too far, slices change nothing."""

from collections.abc import Callable
from functools import partial

import pytest

from emulator.interleave import Interleaver
from emulator.ledger import Category
from emulator.machine import Machine
from emulator.pcpu import PCpu
from emulator.profiles.profile import load_profile
from tests.emulator.pcpu_rig import send_interrupt

PROFILE = load_profile("netburst-2006")
LOOKAHEAD = PROFILE.events.ipi_receive_cycles
WAKE_CYCLES = PROFILE.events.mwait_wake_ns * PROFILE.frequency_hz // 10**9
STEP = 70


class Worker:
    """Works in steps of `STEP` cycles; at some clocks it does something else first."""

    def __init__(self, pcpu: PCpu, log: list[tuple[int, int, int]]) -> None:
        self.pcpu = pcpu
        self.at: dict[int, Callable[[], None]] = {}  # clock -> what to do there, once
        self._log = log

    def run(self, deadline_cycles: int) -> None:
        began = self.pcpu.clock.cycles
        while self.pcpu.clock.cycles < deadline_cycles:
            due = self.pcpu.timeline.events.next_ps()
            if due is not None and self.pcpu.timeline.ps_to_cycles(due) <= self.pcpu.clock.cycles:
                break
            action = self.at.pop(self.pcpu.clock.cycles, None)
            if action is not None:
                action()
            if self.pcpu.waiting.ready_cycles != self.pcpu.clock.cycles:
                return
            self.pcpu.clock.charge(Category.GUEST, STEP)
            self.pcpu.clock.commit()
        self._log.append((self.pcpu.number, began, self.pcpu.clock.cycles))


class Bench:
    """Some cores with a worker each."""

    def __init__(self, count: int) -> None:
        self.machine = Machine(PROFILE, memory_bytes=4096, pcpu_count=count)
        self.log: list[tuple[int, int, int]] = []  # turns: core, clock before, clock after
        self.workers = [Worker(pcpu, self.log) for pcpu in self.machine.pcpus]
        self.interleaver = Interleaver(self.machine, self.workers)

    def advance(self, limit_cycles: int) -> None:
        self.interleaver.advance(limit_cycles, lambda: False)

    @property
    def clocks(self) -> list[int]:
        return [pcpu.clock.cycles for pcpu in self.machine.pcpus]


def test_who_is_furthest_behind_runs_and_of_equals_the_lower_number() -> None:
    bench = Bench(3)
    bench.advance(10 * LOOKAHEAD)
    assert [core for core, _, _ in bench.log[:4]] == [0, 1, 2, 0]
    clocks = [0, 0, 0]
    for core, before, after in bench.log:
        assert before == min(clocks)
        assert after < min(clocks[:core] + clocks[core + 1 :]) + LOOKAHEAD + STEP
        clocks[core] = after


def test_one_core_alone_is_not_bounded() -> None:
    bench = Bench(2)
    bench.machine.pcpus[1].waiting.wait(Category.IDLE)
    bench.advance(50 * LOOKAHEAD)
    assert len(bench.log) == 1
    assert bench.clocks[1] == 50 * LOOKAHEAD
    assert bench.machine.pcpus[1].clock.ledger.cycles[Category.IDLE] == 50 * LOOKAHEAD


@pytest.mark.parametrize("slice_cycles", [1, 333, LOOKAHEAD, 4567])
def test_slices_change_nothing(slice_cycles: int) -> None:
    whole, sliced = Bench(3), Bench(3)
    for bench in (whole, sliced):
        machine = bench.machine
        machine.pcpus[2].waiting.wait(Category.IDLE)
        sender, receiver = machine.pcpus[0], machine.pcpus[2]
        bench.workers[0].at[7 * STEP] = partial(send_interrupt, sender, receiver)
        bench.workers[1].at[9 * STEP] = partial(machine.pcpus[1].waiting.wait, Category.SPIN)
        machine.events.schedule(machine.timeline.cycles_to_ps(4000), partial(machine.pcpus[1].waiting.wake, 4321))
    end = 9000
    whole.advance(end)
    for limit in range(slice_cycles, end, slice_cycles):
        sliced.advance(limit)
    sliced.advance(end)
    assert sliced.clocks == whole.clocks
    assert [p.clock.ledger.cycles for p in sliced.machine.pcpus] == [p.clock.ledger.cycles for p in whole.machine.pcpus]
    assert [core for core, *_ in _merged(sliced.log)] == [core for core, *_ in _merged(whole.log)]


def _merged(log: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Turns of the same core one after the other as one, empty ones dropped."""
    turns: list[tuple[int, int, int]] = []
    for core, before, after in log:
        if turns and turns[-1][0] == core and turns[-1][2] == before:
            turns[-1] = (core, turns[-1][1], after)
        elif after > before:
            turns.append((core, before, after))
    return turns


def test_an_ipi_wakes_an_idle_core_after_its_way_and_the_wake_latency() -> None:
    bench = Bench(2)
    sender, receiver = bench.machine.pcpus
    receiver.waiting.wait(Category.IDLE)
    bench.workers[0].at[7 * STEP] = partial(send_interrupt, sender, receiver)
    bench.advance(20_000)
    arrival = 7 * STEP + PROFILE.events.ipi_send_cycles + LOOKAHEAD
    first_turn = next(before for core, before, _ in bench.log if core == 1)
    assert first_turn == arrival + WAKE_CYCLES
    assert receiver.clock.ledger.cycles[Category.IDLE] == first_turn
    assert receiver.interrupts.is_asserted


def test_an_ipi_reaches_a_core_that_runs_before_it_is_beyond_the_arrival() -> None:
    bench = Bench(2)
    sender, receiver = bench.machine.pcpus
    bench.workers[0].at[7 * STEP] = partial(send_interrupt, sender, receiver)
    seen: list[int] = []

    def note(is_asserted: bool) -> None:
        seen.append(receiver.clock.cycles)

    receiver.interrupts.set_interrupt = note  # type: ignore[method-assign]
    bench.advance(20_000)
    arrival = 7 * STEP + PROFILE.events.ipi_send_cycles + LOOKAHEAD
    assert arrival <= seen[0] < arrival + STEP


def test_a_core_that_waits_is_jumped_over_and_its_time_booked_as_what_it_does() -> None:
    bench = Bench(1)
    pcpu = bench.machine.pcpus[0]
    pcpu.waiting.wait(Category.SPIN)
    pcpu.waiting.wake(3000)
    pcpu.waiting.wake(5000)  # the earliest counts
    bench.advance(2000)
    assert bench.clocks == [2000]
    bench.advance(3000 + STEP)
    assert bench.log == [(0, 3000, 3000 + STEP)]
    assert pcpu.clock.ledger.cycles[Category.SPIN] == 3000


def test_a_spinning_core_is_not_woken_by_interrupts() -> None:
    bench = Bench(1)
    pcpu = bench.machine.pcpus[0]
    pcpu.waiting.wait(Category.SPIN)
    pcpu.interrupts.set_interrupt(True)
    assert pcpu.waiting.ready_cycles is None


def test_without_anybody_who_could_wake_a_core_time_stands_still() -> None:
    bench = Bench(2)
    for pcpu in bench.machine.pcpus:
        pcpu.waiting.wait(Category.IDLE)
    bench.advance(1000)
    assert bench.clocks == [0, 0]


def test_the_horizon_is_where_the_next_core_is_and_a_tie_goes_to_the_lower_number() -> None:
    bench = Bench(2)
    horizons: list[tuple[int, int]] = []
    for worker in bench.workers:
        worker.at[0] = partial(_note_horizon, worker.pcpu, horizons)
    bench.advance(1)
    first_turn_end = bench.log[0][2]
    assert horizons == [(0, 0), (1, first_turn_end - 1)]


def _note_horizon(pcpu: PCpu, horizons: list[tuple[int, int]]) -> None:
    horizons.append((pcpu.number, pcpu.clock.horizon_cycles))


def test_a_core_that_was_charged_outside_its_turn_waits_for_those_that_are_behind() -> None:
    bench = Bench(2)
    second = bench.machine.pcpus[1]

    def charge() -> None:
        second.clock.charge(Category.GUEST, 10 * LOOKAHEAD)
        second.clock.commit()
        second.waiting.tell()

    bench.machine.events.schedule(0, charge)
    bench.advance(5 * LOOKAHEAD)
    assert {core for core, *_ in bench.log} == {0}
