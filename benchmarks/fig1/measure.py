"""`sidecore bench fig1`, the paper's Figure 1: null call, CPUID and a new page-table entry, by VM exit and by sidecall.

    guest kernel `fig1` --lines--> Results of each profile --> table, accounts, figures for a file, fig1_plot

Both ways are measured in the same run of the same guest. What a new entry takes is what demand paging takes: the fault,
the guest's handler, the entry, the access. Paper: Kumar, Raj, Schwan, Ganev, "Re-architecting VMMs for Multicore
Systems: The Sidecore Approach", WIOSCA 2007, section IV: 41 % less for a new entry.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.harness.accounts import Account
from benchmarks.harness.guest_runs import run_all
from benchmarks.harness.measurements import Measurement, nanoseconds
from benchmarks.harness.outputs import Outputs
from benchmarks.harness.parts import GUEST_PART, PARTS, parts, served_parts
from benchmarks.harness.results import Results, Run
from benchmarks.harness.text import cycles_text, show_titled
from vmm.cli.profiles import make_table

if TYPE_CHECKING:
    from rich.table import Table

    from benchmarks.fig1.load import Load

IMAGE = "fig1"
PAPER_PTE_IMPROVEMENT = 0.41
# The bars: by VM exit, by sidecall, and what people call it.
FIGURE = (
    ("null_exit", "null", "null call"),
    ("cpuid_exit", "cpuid", "CPUID"),
    ("pte_exit", "pte", "new page-table entry"),
)
# Not in the paper's figure, but in its text: an entry that TLBs may have. One sidecall, beside what guests do without.
BARS = (
    *FIGURE,
    ("pte_change_exit", "pte_change", "changed entry: the store"),
    ("pte_flush_exit", "pte_change", "changed entry, INVLPG"),
    ("pte_clear_exit", "pte_change", "cleared entries, one flush"),
)


def measure_and_report(runs: Sequence[Run], outputs: Outputs, loads: "Sequence[Load]" = ()) -> None:
    """Run them, print the tables, write the files; with `loads`, so many guests at once, too. Raises ConfigError."""
    outputs.check()
    all_results = run_all(runs)
    for results in all_results:
        show_titled(*parts_table(results))
    show_titled(*bars_table(all_results))
    found = figures(all_results)
    if len(all_results) > 1:
        from benchmarks.fig1.break_even import break_even_table, measure_break_evens

        evens = measure_break_evens(all_results)
        show_titled(*break_even_table(all_results, evens))
        for run, by_call in zip(found["runs"], evens, strict=True):
            run["break_even_line_cycles"] = {name: even.cycles for name, even in by_call.items()}
    if loads:
        from benchmarks.fig1.load import load_table, run_load, waiting_table

        loaded = [run_load(load) for load in loads]
        show_titled(*load_table(loaded))
        show_titled(*waiting_table(loaded))
        found["loads"] = [each.figures() for each in loaded]
    from benchmarks.fig1.plot import draw

    outputs.write(found, lambda figure: draw(figure, all_results))


def measurement(results: Results, name: str) -> Measurement:
    """The one called `name`, which the guest always has under a VMM."""
    return results.by_name()[name].measurement


def improvement(results: Results, exit_name: str, call_name: str) -> float:
    """By which part of an exit's latency a sidecall is faster; below 0: it is slower."""
    exit_cycles = measurement(results, exit_name).median
    return 1 - measurement(results, call_name).median / exit_cycles


def account_of(results: Results, name: str) -> Account:
    """The account of one operation."""
    return results.by_name()[name].account


def bars_table(all_results: Sequence[Results]) -> tuple[str, "Table"]:
    """Latency of every bar on every profile."""
    numbers = ("VM exit", "IQR", "ns", "sidecall", "IQR ", "ns ", "less", "exits")
    table = make_table("Profile", "Operation", *numbers, right=numbers)
    for results in all_results:
        for exit_name, call_name, text in BARS:
            cells: list[str] = []
            for name in (exit_name, call_name):
                row = measurement(results, name)
                low, high = row.quartiles
                ns = nanoseconds(row.median, results.frequency_hz)
                cells += [cycles_text(row.median), cycles_text(high - low), f"{ns:,.0f}"]
            exits = [sum(account_of(results, name).exits.values()) for name in (exit_name, call_name)]
            less = improvement(results, exit_name, call_name)
            profile = results.run.profile if exit_name == BARS[0][0] else ""
            table.add_row(profile, text, *cells, f"{less:.1%}", f"{exits[0]:g} / {exits[1]:g}")
    paging, poll = all_results[0].run.paging, all_results[0].run.poll
    title = (
        f"Figure 1: latency in cycles, median and inter-quartile range; {paging} paging, the sidecore's poll: {poll}"
    )
    return f"{title}\n(the paper: a new entry takes {PAPER_PTE_IMPROVEMENT:.0%} less)", table


def parts_table(results: Results) -> tuple[str, "Table"]:
    """Where the cycles of each bar went; below a sidecall, what the sidecore did while the guest waited."""
    headings = (*PARTS, GUEST_PART, "sum")
    table = make_table("Bar", *headings, right=headings)
    shown: set[str] = set()
    for exit_name, call_name, text in BARS:
        sides = [(exit_name, "VM exit"), (call_name, "sidecall")]
        is_shown = call_name in shown
        for name, way in sides[: 1 if is_shown else 2]:
            split = parts(account_of(results, name))
            table.add_row(f"{text}, {way}", *(cycles_text(split[part]) for part in headings[:-1]), _sum(split))
        if is_shown:
            continue
        shown.add(call_name)
        served = served_parts(account_of(results, call_name))
        cells = (cycles_text(served[part]) if part in served else "" for part in headings[:-1])
        table.add_row("  the sidecore meanwhile", *cells, _sum(served))
    return f"Where they went, on {results.run.profile} (the machine's ledger, cycles of one operation)", table


def _sum(split: Mapping[str, float]) -> str:
    return cycles_text(sum(split.values()))


def figures(all_results: Sequence[Results]) -> dict[str, Any]:
    """Everything, for a file."""
    return {"benchmark": "fig1", "runs": [_run_figures(results) for results in all_results]}


def _run_figures(results: Results) -> dict[str, Any]:
    bars = {}
    for exit_name, call_name, _ in BARS:
        sides = {}
        for side, name in (("exit", exit_name), ("sidecall", call_name)):
            account = account_of(results, name)
            statistics = measurement(results, name).statistics(results.frequency_hz)
            more = {
                "parts_cycles": parts(account),
                "sidecore_cycles": served_parts(account),
                "exits": dict(account.exits),
            }
            sides[side] = statistics | more
        bars[exit_name.removesuffix("_exit")] = {**sides, "improvement": improvement(results, exit_name, call_name)}
    return results.run.facts() | {"frequency_hz": results.frequency_hz, "poll": results.run.poll, "bars": bars}
