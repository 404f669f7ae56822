"""How slow lines between cores may become before a sidecall takes as long as the VM exit it replaces.

sidecall                                /      the guest's latency grows with what a transfer of a line takes:
cycles                    /  slope             measured again with transfers STEP_CYCLES slower
exit   ----------------+------------
                  /    ^ break-even     transfer now + (exit - sidecall) / slope
            now  *
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from benchmarks.fig1.measure import FIGURE, measurement
from benchmarks.harness.guest_runs import run_all
from benchmarks.harness.results import Results, Run
from benchmarks.harness.text import cycles_text
from emulator.profiles.profile import load_profile
from vmm.cli.profiles import make_table

if TYPE_CHECKING:
    from rich.table import Table

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


def break_evens(results: Results, slower: Results) -> dict[str, BreakEven]:
    """By sidecall, from two runs that differ by STEP_CYCLES in what a transfer takes."""
    now_cycles = transfer_cycles(results.run)
    found = {}
    for exit_name, call_name, _ in FIGURE:
        call_cycles = measurement(results, call_name).median
        slope = (measurement(slower, call_name).median - call_cycles) / STEP_CYCLES
        found[call_name] = BreakEven(now_cycles, measurement(results, exit_name).median - call_cycles, slope)
    return found


def measure_break_evens(all_results: Sequence[Results]) -> list[dict[str, BreakEven]]:
    """For each of the results, by another run of its guest."""
    runs = [slower_run(results.run, STEP_CYCLES) for results in all_results]
    return [break_evens(*pair) for pair in zip(all_results, run_all(runs), strict=True)]


def break_even_table(all_results: Sequence[Results], found: Sequence[dict[str, BreakEven]]) -> tuple[str, "Table"]:
    """A row for each machine."""
    numbers = ("a line takes", *(text for _, _, text in FIGURE))
    table = make_table("Profile", *numbers, right=numbers)
    for results, by_call in zip(all_results, found, strict=True):
        evens = list(by_call.values())
        table.add_row(results.run.profile, f"{evens[0].transfer_cycles:,}", *(cycles_text(e.cycles) for e in evens))
    title = "Break-even: what a line from another core may take (cycles) before a sidecall takes as long as the VM exit"
    how = "what it takes now + cycles saved / transfers that a sidecall waits for; less than now: the exit is faster"
    return f"{title}\n({how})", table
