"""What `sidecore bench pagefault`, `ctx` and `fig3` measure, the paper's Figure 3: page faults and context switches.

    guest kernel `fig3` --lines--> Results of each profile --> Comparison by VM exit and by sidecall

The guest measures each twice: with the sidecalls switched off, so that new page-table entries are set by stores that
exit, and switched on. What it measures, and what that takes over from LMbench, is said in the guest's main.c. Both
hold things that no sidecall helps with: clearing entries, loading CR3, the fault itself.
"""

from collections.abc import Sequence

from benchmarks.harness.guest_runs import run_all
from benchmarks.harness.pairs import EXIT_SUFFIX, Comparison, Pair
from benchmarks.harness.results import Result, Results, Run

IMAGE = "fig3"
# What each command shows, by the guest's names.
COMMANDS = {"pagefault": ("pagefault",), "ctx": ("ctx",), "fig3": ("pagefault", "ctx")}


def measure(runs: Sequence[Run], command: str) -> list[Comparison]:
    """Run the guest on every machine; what `command` shows of it. Raises ConfigError."""
    return [comparison_of(results, COMMANDS[command]) for results in run_all(runs)]


def comparison_of(results: Results, names: Sequence[str]) -> Comparison:
    """What was measured both ways of `names`, in the guest's order."""
    rows = {(row.metric, row.parameters): row for row in results.measured}
    pairs = [
        Pair(key_of(row), text_of(row), rows[name + EXIT_SUFFIX, parameters], row)
        for (name, parameters), row in rows.items()
        if name in names
    ]
    return Comparison(results, tuple(pairs))


def key_of(row: Result) -> str:
    """The guest's name with its parameters, as in `ctx/4`."""
    return "/".join((row.metric, *map(str, row.parameters)))


def text_of(row: Result) -> str:
    """What people call it."""
    if row.metric == "pagefault":
        return "page fault"
    (laps,) = row.parameters
    lap_text = f"{laps} lap" + "s" * (laps > 1)
    return f"context switch, life of {lap_text}" if laps else "context switch, resident"
