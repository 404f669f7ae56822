"""What turns alone take: cores that only let their clocks advance, so all that is left is who runs next, and how far.

workstation seconds  <-- for one second of the emulated machine's time -->  2, 8, 64 busy cores
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from emulator.events import PS_PER_SECOND
from emulator.interleave import Interleaver
from emulator.ledger import Category
from emulator.machine import Machine
from emulator.pcpu import PCpu
from emulator.profiles.profile import DEFAULT_PROFILE, load_profile
from emulator.world import World

BUSY_CORES = (2, 8, 64)
TURNS = 200_000  # measured; the second has 6 to 200 million
REPEAT = 3
TICK_PS = PS_PER_SECOND // 1000
LATENCY_PS = 1_000_000  # of the wire: a microsecond
PAIRS = {"an idle pair of hosts": (False, False), "a busy and an idle host": (True, False), "a busy pair": (True, True)}


@dataclass(frozen=True)
class TurnCost:
    """Turns of machines of one kind."""

    machines: str
    seconds: float  # of the workstation, for one of the emulated machines'


class Busy:
    """Runs to each deadline at once."""

    def __init__(self, pcpu: PCpu) -> None:
        self.pcpu = pcpu

    def run(self, deadline_cycles: int) -> None:
        """A turn in which nothing but time passes."""
        clock = self.pcpu.clock
        clock.commit(deadline_cycles - clock.cycles)


class Idle:
    """Waits for the next tick."""

    def __init__(self, pcpu: PCpu) -> None:
        self.pcpu = pcpu

    def run(self, deadline_cycles: int) -> None:
        """A turn that ends at once."""
        self.pcpu.waiting.wait(Category.IDLE)


class TickingHost:
    """A core, and a timer."""

    def __init__(self, *, is_busy: bool) -> None:
        self.machine = _machine(1)
        pcpu = self.machine.pcpus[0]
        self.interleaver: Interleaver[Busy | Idle] = Interleaver(self.machine, [Busy(pcpu) if is_busy else Idle(pcpu)])
        self.tick()

    def is_over(self) -> bool:
        """It goes on for ever."""
        return False

    def tick(self) -> None:
        """A tick of the timer."""
        self.machine.pcpus[0].waiting.wake_up()
        self.machine.events.schedule(self.machine.events.now_ps + TICK_PS, self.tick)


def measure_turns(repeat: int = REPEAT, turns: int = TURNS) -> list[TurnCost]:
    """Time every kind of machine `repeat` times: what counts is the fastest."""
    costs = []
    for count in BUSY_CORES:
        seconds = min(_busy_seconds(count, turns) for _ in range(repeat))
        costs.append(TurnCost(f"{count} busy cores", seconds))
    for name, (one, other) in PAIRS.items():
        seconds = min(_pair_seconds(one, other, turns) for _ in range(repeat))
        costs.append(TurnCost(name, seconds))
    return costs


def _machine(pcpu_count: int) -> Machine:
    return Machine(load_profile(DEFAULT_PROFILE), memory_bytes=4096, pcpu_count=pcpu_count, timing="flat")


def _busy_seconds(count: int, turns: int) -> float:
    machine = _machine(count)
    interleaver = Interleaver(machine, [Busy(pcpu) for pcpu in machine.pcpus])
    limit_cycles = turns * machine.profile.events.ipi_receive_cycles // count
    seconds = _timed(lambda: interleaver.advance(limit_cycles, lambda: False))
    return seconds * machine.profile.frequency_hz / limit_cycles


def _pair_seconds(is_one_busy: bool, is_other_busy: bool, turns: int) -> float:
    one, other = TickingHost(is_busy=is_one_busy), TickingHost(is_busy=is_other_busy)
    world = World([one, other])
    world.connect(one, other, latency_ps=LATENCY_PS)
    limit_ps = turns * LATENCY_PS
    return _timed(lambda: world.advance(limit_ps)) * PS_PER_SECOND / limit_ps


def _timed(run: Callable[[], None]) -> float:
    began = time.process_time()
    run()
    return time.process_time() - began
