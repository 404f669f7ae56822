"""How slow lines between cores may become before a sidecall takes as long as the VM exit it replaces.

sidecall                                /      the guest's latency grows with what a transfer of a line takes:
cycles                    /  slope             measured again with transfers STEP_CYCLES slower
exit   ----------------+------------
                  /    ^ break-even     transfer now + (exit - sidecall) / slope
            now  *
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.fig1.measure import measure, paper_pairs
from benchmarks.harness.pairs import Comparison
from benchmarks.harness.results import CYCLES, Result, Run
from emulator.profiles.profile import load_profile

STEP_CYCLES = 1000  # much more than a round of a spin, by which what a guest sees is late


@dataclass(frozen=True)
class BreakEven:
    """Of one operation on one machine."""

    transfer_cycles: int  # what a transfer of a dirty line takes now
    gain_cycles: float  # by which the sidecall is faster
    slope: float  # transfers that a sidecall waits for

    @property
    def cycles(self) -> float:
        """What a transfer may take before nothing is gained. Less than it takes now: nothing is gained today."""
        return self.transfer_cycles + self.gain_cycles / self.slope


def slower_run(run: Run, more_cycles: int) -> Run:
    """The same run where a line that another core has written takes so much longer."""
    core = load_profile(run.profile, run.overrides).core
    overrides = [f"core.dirty_line_cycles={core.dirty_line_cycles + more_cycles}"]
    if core.remote_dirty_line_cycles:
        overrides.append(f"core.remote_dirty_line_cycles={core.remote_dirty_line_cycles + more_cycles}")
    return replace(run, overrides=(*run.overrides, *overrides))


def transfer_cycles(run: Run) -> int:
    """What a transfer takes on the run's machine, between two cores of a package."""
    return load_profile(run.profile, run.overrides).core.dirty_line_cycles


def break_evens(comparison: Comparison, slower: Comparison) -> dict[str, BreakEven]:
    """By pair, from two runs that differ by STEP_CYCLES in what a transfer takes."""
    now_cycles = transfer_cycles(comparison.results.run)
    found = {}
    for pair, slower_pair in zip(paper_pairs(comparison), paper_pairs(slower), strict=True):
        slope = (slower_pair.sidecall.value - pair.sidecall.value) / STEP_CYCLES
        found[pair.key] = BreakEven(now_cycles, pair.saved_cycles, slope)
    return found


def measure_break_evens(compared: Sequence[Comparison]) -> list[dict[str, BreakEven]]:
    """For each machine, by another run of its guest. Raises ConfigError."""
    slower = measure([slower_run(comparison.results.run, STEP_CYCLES) for comparison in compared])
    return [break_evens(*pair) for pair in zip(compared, slower, strict=True)]


def break_even_rows(compared: Sequence[Comparison], evens: Sequence[Mapping[str, BreakEven]]) -> list[Result]:
    """A row for each bar of each machine in `compared`, if there are `evens` of them."""
    return [
        Result(comparison.pair(key).exit.spec, "break_even_line", CYCLES, even.cycles, about={"sidecall": key})
        for comparison, by_pair in zip(compared, evens, strict=False)
        for key, even in by_pair.items()
    ]
