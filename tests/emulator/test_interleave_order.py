"""The heap of the interleaver gives the turns that a scan of all cores would give, whatever cores do to each other."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.clock import NO_HORIZON
from emulator.interleave import Interleaver
from emulator.ledger import Category
from emulator.machine import Machine
from emulator.pcpu import PCpu
from emulator.profiles.profile import load_profile
from tests.emulator.pcpu_rig import send_interrupt

PROFILE = load_profile("netburst-2006")
LOOKAHEAD = PROFILE.events.ipi_receive_cycles
END = 6 * LOOKAHEAD

Turn = tuple[int, int, int, int]  # core, clock, deadline, horizon


@dataclass(frozen=True)
class Step:
    """What a core does in a part of its turn: works, then something."""

    cycles: int
    action: str  # work, idle, poll, ipi, wake, stop
    target: int  # a core
    delay_cycles: int


@dataclass
class Script:
    """A core that takes step after step, over and over."""

    pcpu: PCpu
    pcpus: list[PCpu]
    steps: list[Step]
    log: list[Turn]
    position: int = 0
    woken: list[int] = field(default_factory=list)

    def run(self, deadline_cycles: int) -> None:
        pcpu, clock = self.pcpu, self.pcpu.clock
        self.log.append((pcpu.number, clock.cycles, deadline_cycles, clock.horizon_cycles))
        while clock.cycles < deadline_cycles:
            due = pcpu.timeline.next_event_cycles()
            if due is not None and due <= clock.cycles:
                return
            step = self.steps[self.position % len(self.steps)]
            self.position += 1
            clock.charge(Category.GUEST, step.cycles)
            clock.commit()
            if self.act(step, self.pcpus[step.target % len(self.pcpus)]):
                return

    def act(self, step: Step, target: PCpu) -> bool:
        """Whether the turn ends."""
        waiting, now = self.pcpu.waiting, self.pcpu.clock.cycles
        match step.action:
            case "idle":
                waiting.wait(Category.IDLE)
            case "poll":
                waiting.wait(Category.SPIN)
                waiting.wake(now + step.delay_cycles)
            case "ipi":
                send_interrupt(self.pcpu, target)
                return False
            case "wake":
                self.later(partial(target.waiting.wake, now + LOOKAHEAD + step.delay_cycles))
                return False
            case "stop":
                self.later(partial(stop, target, now + LOOKAHEAD + step.delay_cycles))
                return False
        return step.action != "work"

    def later(self, action: Callable[[], None]) -> None:
        """What reaches another core takes as long as an IPI."""
        timeline = self.pcpu.timeline
        timeline.events.schedule(timeline.cycles_to_ps(self.pcpu.clock.cycles + LOOKAHEAD), action)


def stop(target: PCpu, wake_cycles: int) -> None:
    """Another core makes `target` wait, whatever it does, as INIT does."""
    target.waiting.pass_time(target.timeline.event_cycles)
    target.waiting.wait(Category.IDLE, is_deaf=True)
    target.waiting.wake(wake_cycles)


class Scan:
    """The reference: all cores are looked at before each turn."""

    def __init__(self, machine: Machine, scripts: list[Script]) -> None:
        self.machine = machine
        self.scripts = scripts

    def advance(self, limit_cycles: int, is_over: Callable[[], bool]) -> None:
        events, timeline = self.machine.events, self.machine.timeline
        while not is_over():
            ready = [(s.pcpu.waiting.ready_cycles, s.pcpu.number) for s in self.scripts]
            order = sorted((cycles, number) for cycles, number in ready if cycles is not None)
            first_cycles = order[0][0] if order else limit_cycles
            due = timeline.next_event_cycles()
            if due is not None and due <= min(first_cycles, limit_cycles):
                events.run_until(events.next_ps() or 0)
            elif order and first_cycles < limit_cycles:
                self.take(order, limit_cycles)
            else:
                if order or due is not None:
                    for script in self.scripts:
                        script.pcpu.waiting.pass_time(limit_cycles)
                return

    def take(self, order: list[tuple[int, int]], limit_cycles: int) -> None:
        number, horizon, deadline = order[0][1], NO_HORIZON, limit_cycles
        if len(order) > 1:
            second_cycles, second = order[1]
            horizon, deadline = second_cycles - (second < number), second_cycles + LOOKAHEAD
        pcpu = self.scripts[number].pcpu
        pcpu.clock.set_horizon(horizon)
        pcpu.waiting.end_wait()
        self.scripts[number].run(deadline)


def play(plans: list[list[Step]], limits: list[int], *, by_scan: bool) -> tuple[list[Turn], list[int], list[list[int]]]:
    """The turns, and the clocks and ledgers at the end."""
    machine = Machine(PROFILE, memory_bytes=4096, pcpu_count=len(plans), timing="flat")
    machine.events.schedule(machine.timeline.cycles_to_ps(2 * END), lambda: None)  # or else time may stand still
    log: list[Turn] = []
    scripts = [Script(pcpu, machine.pcpus, steps, log) for pcpu, steps in zip(machine.pcpus, plans, strict=True)]
    turns = Scan(machine, scripts) if by_scan else Interleaver(machine, scripts)
    for limit_cycles in limits:
        turns.advance(limit_cycles, lambda: False)
    clocks = [pcpu.clock.cycles for pcpu in machine.pcpus]
    return log, clocks, [pcpu.clock.ledger.cycles for pcpu in machine.pcpus]


STEPS = st.builds(
    Step,
    cycles=st.integers(40, 2 * LOOKAHEAD),
    action=st.sampled_from(["work", "work", "idle", "poll", "ipi", "wake", "stop"]),
    target=st.integers(0, 7),
    delay_cycles=st.integers(0, 3 * LOOKAHEAD),
)
PLANS = st.lists(st.lists(STEPS, min_size=1, max_size=6), min_size=1, max_size=6)
LIMITS = st.lists(st.integers(1, END - 1), max_size=8).map(lambda limits: [*sorted(limits), END])


@settings(max_examples=60, deadline=None)
@given(PLANS, LIMITS)
def test_turns_horizons_and_ledgers_are_those_of_a_scan(plans: list[list[Step]], limits: list[int]) -> None:
    assert play(plans, limits, by_scan=False) == play(plans, limits, by_scan=True)


@settings(max_examples=60, deadline=None)
@given(PLANS, LIMITS)
def test_slices_of_any_length_end_with_the_same_clocks_and_ledgers(plans: list[list[Step]], limits: list[int]) -> None:
    sliced, whole = play(plans, limits, by_scan=False), play(plans, [END], by_scan=False)
    assert sliced[1:] == whole[1:]


def test_keys_that_are_no_longer_valid_do_not_pile_up() -> None:
    machine = Machine(PROFILE, memory_bytes=4096, pcpu_count=2, timing="flat")
    first, second = machine.pcpus
    far_cycles = 10**12
    steps = [Step(LOOKAHEAD, "stop", 1, far_cycles), Step(LOOKAHEAD, "wake", 1, 7)]
    idle = [Step(LOOKAHEAD, "work", 0, 0)]
    scripts = [Script(first, machine.pcpus, steps, []), Script(second, machine.pcpus, idle, [])]
    interleaver = Interleaver(machine, scripts)
    interleaver.advance(2000 * LOOKAHEAD, lambda: False)
    assert interleaver.kept_count <= 16
