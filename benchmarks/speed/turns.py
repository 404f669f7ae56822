"""What turns alone take: cores that only let their clocks advance, so all that is left is who runs next, and how far.

workstation seconds  <-- for one second of the emulated machine's time -->  2, 8, 64 busy cores
"""

import time
from dataclasses import dataclass

from emulator.interleave import Interleaver
from emulator.machine import Machine
from emulator.pcpu import PCpu
from emulator.profiles.profile import DEFAULT_PROFILE, load_profile

BUSY_CORES = (2, 8, 64)
TURNS = 200_000  # measured; the second has 6 to 200 million
REPEAT = 3


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


def measure_turns(repeat: int = REPEAT, turns: int = TURNS) -> list[TurnCost]:
    """Let cores take turns, each number of them `repeat` times: what counts is the fastest."""
    return [
        TurnCost(f"{count} busy cores", min(_busy_seconds(count, turns) for _ in range(repeat))) for count in BUSY_CORES
    ]


def _busy_seconds(count: int, turns: int) -> float:
    profile = load_profile(DEFAULT_PROFILE)
    machine = Machine(profile, memory_bytes=4096, pcpu_count=count, timing="flat")
    interleaver = Interleaver(machine, [Busy(pcpu) for pcpu in machine.pcpus])
    limit_cycles = turns * profile.events.ipi_receive_cycles // count
    began = time.process_time()
    interleaver.advance(limit_cycles, lambda: False)
    return (time.process_time() - began) * profile.frequency_hz / limit_cycles
