"""Tables of operations by VM exit and by sidecall: how long they take, and what that consists of."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from benchmarks.harness.measurements import nanoseconds
from benchmarks.harness.pairs import Comparison, Pair
from benchmarks.harness.parts import GUEST_PART, PARTS, parts, served_parts
from benchmarks.harness.results import Result
from benchmarks.harness.text import cycles_text
from vmm.cli.output import list_table

if TYPE_CHECKING:
    from rich.table import Table


def latency_table(figure: str, compared: Sequence[Comparison], exits_format: str) -> tuple[str, "Table"]:
    """(title, table): a row for each pair on each profile; `exits_format` is that of VM exits of one operation."""
    numbers = ("VM exit", "IQR", "ns", "sidecall", "IQR ", "ns ", "less", "exits")
    table = list_table("Profile", "Operation", *numbers, right=numbers)
    for comparison in compared:
        profile = comparison.results.run.profile
        for pair in comparison.pairs:
            table.add_row(profile, pair.text, *_latency_cells(pair, comparison.results.frequency_hz, exits_format))
            profile = ""
    run = compared[0].results.run
    return (
        f"{figure}: latency in cycles, median and inter-quartile range; {run.paging} paging, "
        f"the sidecore's poll: {run.poll}"
    ), table


def _latency_cells(pair: Pair, frequency_hz: int, exits_format: str) -> list[str]:
    cells: list[str] = []
    for side in pair.sides:
        low, high = side.spread.quartiles
        ns = nanoseconds(side.value, frequency_hz)
        cells += [cycles_text(side.value), cycles_text(high - low), f"{ns:,.0f}"]
    less = round(pair.improvement, 3) + 0.0  # never -0
    exits = " / ".join(format(sum(side.account.exits.values()), exits_format) for side in pair.sides)
    return [*cells, f"{less:.1%}", exits]


def parts_table(first_heading: str, comparison: Comparison) -> tuple[str, "Table"]:
    """(title, table): where the cycles went; below a sidecall, what the sidecore did while the guest waited.

    A sidecall that several exits are compared with is shown once.
    """
    headings = (*PARTS, GUEST_PART, "sum")
    table = list_table(first_heading, *headings, right=headings)
    shown: list[Result] = []
    for pair in comparison.pairs:
        table.add_row(f"{pair.text}, VM exit", *_part_cells(parts(pair.exit.account)))
        if pair.sidecall not in shown:
            shown.append(pair.sidecall)
            table.add_row(f"{pair.text}, sidecall", *_part_cells(parts(pair.sidecall.account)))
            table.add_row("  the sidecore meanwhile", *_part_cells(served_parts(pair.sidecall.account)))
    return (
        f"Where they went, on {comparison.results.run.profile} (the machine's ledger, cycles of one operation)",
        table,
    )


def _part_cells(split: Mapping[str, float]) -> list[str]:
    """By part, and their sum; the sidecore has no guest's part."""
    cells = [cycles_text(split[part]) if part in split else "" for part in (*PARTS, GUEST_PART)]
    return [*cells, cycles_text(sum(split.values()))]
