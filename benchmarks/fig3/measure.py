"""`sidecore bench pagefault`, `ctx` and `fig3`, the paper's Figure 3: page faults and context switches of processes.

    guest kernel `fig3` --lines--> Results of each profile --> table, accounts, figures for a file, fig3_plot

The guest measures each twice: with the sidecalls switched off, so that new page-table entries are set by stores that
exit, and switched on. What it measures, and what that takes over from LMbench, is said in the guest's main.c. Both
hold things that no sidecall helps with: clearing entries, loading CR3, the fault itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.harness.guest_runs import run_all
from benchmarks.harness.measurements import nanoseconds
from benchmarks.harness.outputs import Outputs
from benchmarks.harness.parts import GUEST_PART, PARTS, parts, served_parts
from benchmarks.harness.results import Measured, Results, Run
from benchmarks.harness.text import cycles_text, show_titled
from vmm.cli.profiles import make_table

if TYPE_CHECKING:
    from rich.table import Table

IMAGE = "fig3"
EXIT_SUFFIX = "_exit"  # of the name of what was measured with the sidecalls off
# What each command shows, by the guest's names.
COMMANDS = {"pagefault": ("pagefault",), "ctx": ("ctx",), "fig3": ("pagefault", "ctx")}


@dataclass(frozen=True)
class Pair:
    """The same operation by VM exit and by sidecall."""

    exit: Measured
    sidecall: Measured

    @property
    def key(self) -> str:
        """The guest's name with its parameters, as in `ctx/4`."""
        row = self.sidecall.measurement
        return "/".join((row.name, *map(str, row.parameters)))

    @property
    def text(self) -> str:
        """What people call it."""
        row = self.sidecall.measurement
        if row.name == "pagefault":
            return "page fault"
        (laps,) = row.parameters
        lap_text = f"{laps} lap" + "s" * (laps > 1)
        return f"context switch, life of {lap_text}" if laps else "context switch, resident"

    @property
    def improvement(self) -> float:
        """By which part the sidecall is faster; below 0: it is slower."""
        return 1 - self.sidecall.measurement.median / self.exit.measurement.median


def measure_and_report(runs: Sequence[Run], outputs: Outputs, command: str) -> None:
    """Run them, print the tables, write the files. Raises ConfigError."""
    outputs.check()
    all_results = run_all(runs)
    names = COMMANDS[command]
    show_titled(*latency_table(all_results, names))
    for results in all_results:
        show_titled(*parts_table(results, names))
    from benchmarks.fig3.plot import draw

    outputs.write(figures(all_results, command), lambda figure: draw(figure, all_results, names))


def pairs(results: Results, names: Sequence[str]) -> Iterator[Pair]:
    """What was measured both ways, in the guest's order."""
    rows = {(row.measurement.name, row.measurement.parameters): row for row in results.measured}
    for (name, parameters), row in rows.items():
        if name in names:
            yield Pair(rows[name + EXIT_SUFFIX, parameters], row)


def latency_table(all_results: Sequence[Results], names: Sequence[str]) -> tuple[str, "Table"]:
    """Latency of every operation on every profile."""
    numbers = ("VM exit", "IQR", "ns", "sidecall", "IQR ", "ns ", "less", "exits")
    table = make_table("Profile", "Operation", *numbers, right=numbers)
    for results in all_results:
        profile = results.run.profile
        for pair in pairs(results, names):
            cells: list[str] = []
            for side in (pair.exit, pair.sidecall):
                low, high = side.measurement.quartiles
                ns = nanoseconds(side.measurement.median, results.frequency_hz)
                cells += [cycles_text(side.measurement.median), cycles_text(high - low), f"{ns:,.0f}"]
            exits = " / ".join(f"{sum(side.account.exits.values()):.2f}" for side in (pair.exit, pair.sidecall))
            table.add_row(profile, pair.text, *cells, f"{round(pair.improvement, 3) + 0.0:.1%}", exits)
            profile = ""
    run = all_results[0].run
    return (
        f"Figure 3: latency in cycles, median and inter-quartile range; {run.paging} paging, "
        f"the sidecore's poll: {run.poll}"
    ), table


def parts_table(results: Results, names: Sequence[str]) -> tuple[str, "Table"]:
    """Where the cycles of each operation went; below a sidecall, what the sidecore did meanwhile."""
    headings = (*PARTS, GUEST_PART, "sum")
    table = make_table("Operation", *headings, right=headings)
    for pair in pairs(results, names):
        for way, split in (
            (f"{pair.text}, VM exit", parts(pair.exit.account)),
            (f"{pair.text}, sidecall", parts(pair.sidecall.account)),
            ("  the sidecore meanwhile", served_parts(pair.sidecall.account)),
        ):
            cells = (cycles_text(split[part]) if part in split else "" for part in headings[:-1])
            table.add_row(way, *cells, cycles_text(sum(split.values())))
    return f"Where they went, on {results.run.profile} (the machine's ledger, cycles of one operation)", table


def figures(all_results: Sequence[Results], command: str) -> dict[str, Any]:
    """Everything, for a file."""
    return {"benchmark": command, "runs": [_run_figures(results, COMMANDS[command]) for results in all_results]}


def _run_figures(results: Results, names: Sequence[str]) -> dict[str, Any]:
    operations = {}
    for pair in pairs(results, names):
        sides = {
            label: side.measurement.statistics(results.frequency_hz)
            | {
                "parts_cycles": parts(side.account),
                "sidecore_cycles": served_parts(side.account),
                "exits": dict(side.account.exits),
            }
            for label, side in (("exit", pair.exit), ("sidecall", pair.sidecall))
        }
        operations[pair.key] = {**sides, "improvement": pair.improvement}
    return results.run.facts() | {
        "frequency_hz": results.frequency_hz,
        "poll": results.run.poll,
        "operations": operations,
    }
