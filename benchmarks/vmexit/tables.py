"""The tables of `sidecore bench vmexit`: what each operation takes, and where the cycles went."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.harness.results import Missing, Result, Results
from benchmarks.harness.text import cycles_text
from benchmarks.vmexit.measure import OPERATIONS, categories_of
from vmm.cli.output import list_table

if TYPE_CHECKING:
    from rich.table import Table

UNAVAILABLE_CELL = "-"


def tables(all_results: Sequence[Results]) -> list[tuple[str, "Table"]]:
    """(title, table): one profile, all ways of paging and where the cycles went; of many, medians side by side."""
    profiles = list(dict.fromkeys(results.run.profile for results in all_results))
    if len(profiles) == 1:
        return [modes_table(all_results), *(account_table(results) for results in all_results)]
    pagings = list(dict.fromkeys(results.run.paging for results in all_results))
    return [profiles_table([r for r in all_results if r.run.paging == paging]) for paging in pagings]


def modes_table(all_results: Sequence[Results]) -> tuple[str, "Table"]:
    """Median and inter-quartile range of every operation, of one profile."""
    headings = [heading for results in all_results for heading in (results.run.paging, "IQR")]
    table = list_table("Operation", *headings, right=tuple(headings))
    run = all_results[0].run
    title = f"Cycles of one operation on {run.profile}, {run.timing} timing, as the guest measures them: median, IQR"
    for name, text in OPERATIONS.items():
        cells: list[str] = []
        for results in all_results:
            row = results.by_name().get(name)
            cells += [cycles_text(row.value), cycles_text(iqr(row))] if row else [UNAVAILABLE_CELL] * 2
        table.add_row(text, *cells)
    return title, table


def profiles_table(all_results: Sequence[Results]) -> tuple[str, "Table"]:
    """The medians on every profile, of one way of paging."""
    headings = tuple(results.run.profile for results in all_results)
    table = list_table("Operation", *headings, right=headings)
    run = all_results[0].run
    title = f"Cycles of one operation, {run.paging}, {run.timing} timing: medians"
    for name, text in OPERATIONS.items():
        rows = [results.by_name().get(name) for results in all_results]
        table.add_row(text, *(cycles_text(row.value) if row else UNAVAILABLE_CELL for row in rows))
    return title, table


def account_table(results: Results) -> tuple[str, "Table"]:
    """What the ledger booked for one of each operation: a column for each category that has any."""
    rows = results.by_name()
    categories = categories_of(row.account for row in rows.values())
    table = list_table("Operation", *categories, "sum", "VM exits", right=(*categories, "sum"))
    title = f"Where the cycles of the median round went, {results.run.paging}"
    for name, text in OPERATIONS.items():
        if name in rows:
            cycles, exits = rows[name].account.cycles, rows[name].account.exits
            cells = [cycles_text(cycles[category]) if category in cycles else "" for category in categories]
            exits_text = ", ".join(f"{reason} x {count:g}" for reason, count in exits.items())
            table.add_row(text, *cells, cycles_text(sum(cycles.values())), exits_text)
    return title, table


def reasons(all_results: Sequence[Results]) -> list[str]:
    """Why there is no figure where there is none."""
    where: dict[str, dict[str, None]] = {}
    for results in all_results:
        for row in results.rows:
            if isinstance(row, Missing):
                text = f"{UNAVAILABLE_CELL} {OPERATIONS.get(row.metric, row.metric)}: {row.reason}"
                where.setdefault(text, {})[results.run.paging] = None
    return [f"{text} ({', '.join(pagings)})" for text, pagings in where.items()]


def iqr(row: Result) -> float:
    """The inter-quartile range of an operation's samples."""
    low, high = row.spread.quartiles
    return high - low
