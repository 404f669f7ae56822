"""The tables of `sidecore bench fig1`: the bars, break-evens, sidecalls under load."""

from collections.abc import Sequence
from statistics import mean
from typing import TYPE_CHECKING

from benchmarks.fig1.break_even import BreakEven
from benchmarks.fig1.load import CALLS, PERCENTS, SERVICE_PARTS, LoadResults
from benchmarks.fig1.measure import FIGURE, PAPER_PTE_IMPROVEMENT
from benchmarks.fig1.queueing import percentile, service_cycles
from benchmarks.harness.pair_tables import latency_table, parts_table
from benchmarks.harness.pairs import Comparison
from benchmarks.harness.text import cycles_text
from vmm.cli.output import list_table

if TYPE_CHECKING:
    from rich.table import Table


def bars_tables(compared: Sequence[Comparison]) -> list[tuple[str, "Table"]]:
    """(title, table) of where the cycles went on each machine, then of latencies."""
    title, table = latency_table("Figure 1", compared, "g")
    title = f"{title}\n(the paper: a new entry takes {PAPER_PTE_IMPROVEMENT:.0%} less)"
    return [*(parts_table("Bar", comparison) for comparison in compared), (title, table)]


def break_even_table(compared: Sequence[Comparison], found: Sequence[dict[str, BreakEven]]) -> tuple[str, "Table"]:
    """A row for each machine."""
    numbers = ("a line takes", *(text for _, _, text in FIGURE))
    table = list_table("Profile", *numbers, right=numbers)
    for comparison, by_pair in zip(compared, found, strict=True):
        evens = list(by_pair.values())
        table.add_row(
            comparison.results.run.profile, f"{evens[0].transfer_cycles:,}", *(cycles_text(e.cycles) for e in evens)
        )
    title = "Break-even: what a line from another core may take (cycles) before a sidecall takes as long as the VM exit"
    how = "what it takes now + cycles saved / transfers that a sidecall waits for; less than now: the exit is faster"
    return f"{title}\n({how})", table


def load_table(all_results: Sequence[LoadResults]) -> tuple[str, "Table"]:
    """For each load and sidecall: latency of the guest that is served best to worst, waits, fairness."""
    numbers = ("latency", "waits: half", "95%", "longest", "served", "passed over", "sidecore busy")
    table = list_table("Guests", "Sidecores", "Sidecall", *numbers, right=numbers)
    for results in all_results:
        load = results.load
        for name, text in CALLS:
            waits, queues = results.waits(name), results.queues(name)
            cycles = [wait.cycles for wait in waits]
            cells = [
                _range_text([median[name] for median in results.medians]),
                *(f"{percentile(cycles, percent):,}" for percent in PERCENTS),
                f"{max(cycles):,}",
                _range_text([served for queue in queues for served in queue.progress()]),
                str(max(wait.passed_over for wait in waits)),
                _percents_text([queue.utilisation for queue in queues]),
            ]
            counts = (str(load.guests), str(load.sidecores)) if name == CALLS[0][0] else ("", "")
            table.add_row(*counts, text, *cells)
    load = all_results[0].load
    title = f"Sidecalls under load on {load.profile}, {load.paging}: cycles, of the guests served best .. worst"
    return (
        f"{title}\n(waits: until a request that can be seen is; served: requests of each guest when the first is done;"
        "\npassed over: the most requests of others that were begun while one waited)",
        table,
    )


def waiting_table(all_results: Sequence[LoadResults]) -> tuple[str, "Table"]:
    """For each load and sidecall: what an average wait consisted of, and what a request takes the sidecore."""
    numbers = ("wait", "behind others", "polls", "a request takes", *SERVICE_PARTS)
    table = list_table("Guests", "Sidecores", "Sidecall", *numbers, right=numbers)
    for results in all_results:
        for name, text in CALLS:
            waits = results.waits(name)
            wait, behind = mean(each.cycles for each in waits), mean(each.behind_cycles for each in waits)
            figures = (wait, behind, wait - behind, service_cycles(waits), *results.parts[name].values())
            load = results.load
            counts = (str(load.guests), str(load.sidecores)) if name == CALLS[0][0] else ("", "")
            table.add_row(*counts, text, *map(cycles_text, figures))
    return "What they waited for: an average wait, and what the sidecore's ledger has of a request (cycles)", table


def _range_text(values: Sequence[float]) -> str:
    best, worst = cycles_text(min(values)), cycles_text(max(values))
    return best if best == worst else f"{best} .. {worst}"


def _percents_text(parts: Sequence[float]) -> str:
    return ", ".join(dict.fromkeys(f"{part:.0%}" for part in parts))
