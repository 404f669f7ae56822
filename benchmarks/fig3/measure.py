"""What `sidecore bench pagefault`, `ctx` and `fig3` measure, the paper's Figure 3: page faults and context switches.

    guest kernel `fig3` --lines--> Results of each profile --> Comparison by VM exit and by sidecall

The guest measures each twice: with the sidecalls switched off, so that new page-table entries are set by stores that
exit, and switched on. What it measures, and what that takes over from LMbench, is said in the guest's main.c. Both
hold things that no sidecall helps with: clearing entries, loading CR3, the fault itself.
"""

from collections.abc import Sequence

from benchmarks.harness.guest_runs import run_all
from benchmarks.harness.measurements import Measurement
from benchmarks.harness.pairs import EXIT_SUFFIX, Comparison, ComparisonFigures, Pair, PairFigures
from benchmarks.harness.results import BenchmarkFigures, Results, Run

IMAGE = "fig3"
# What each command shows, by the guest's names.
COMMANDS = {"pagefault": ("pagefault",), "ctx": ("ctx",), "fig3": ("pagefault", "ctx")}


def measure(runs: Sequence[Run], command: str) -> list[Comparison]:
    """Run the guest on every machine; what `command` shows of it. Raises ConfigError."""
    return [comparison_of(results, COMMANDS[command]) for results in run_all(runs)]


def comparison_of(results: Results, names: Sequence[str]) -> Comparison:
    """What was measured both ways of `names`, in the guest's order."""
    rows = {(row.measurement.name, row.measurement.parameters): row for row in results.measured}
    pairs = [
        Pair(key_of(row.measurement), text_of(row.measurement), rows[name + EXIT_SUFFIX, parameters], row)
        for (name, parameters), row in rows.items()
        if name in names
    ]
    return Comparison(results, tuple(pairs))


def key_of(measurement: Measurement) -> str:
    """The guest's name with its parameters, as in `ctx/4`."""
    return "/".join((measurement.name, *map(str, measurement.parameters)))


def text_of(measurement: Measurement) -> str:
    """What people call it."""
    if measurement.name == "pagefault":
        return "page fault"
    (laps,) = measurement.parameters
    lap_text = f"{laps} lap" + "s" * (laps > 1)
    return f"context switch, life of {lap_text}" if laps else "context switch, resident"


class Figure3Figures(ComparisonFigures):
    """A run in a file."""

    operations: dict[str, PairFigures]


def figures(compared: Sequence[Comparison], command: str) -> BenchmarkFigures:
    """Everything, for a file."""
    runs: list[Figure3Figures] = [
        {**comparison.figures(), "operations": comparison.pair_figures()} for comparison in compared
    ]
    return {"benchmark": command, "runs": runs}
