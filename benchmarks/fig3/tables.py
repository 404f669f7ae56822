"""The tables of `sidecore bench pagefault`, `ctx` and `fig3`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.harness.pair_tables import latency_table, parts_table
from benchmarks.harness.pairs import Comparison

if TYPE_CHECKING:
    from rich.table import Table


def tables(compared: Sequence[Comparison]) -> list[tuple[str, "Table"]]:
    """(title, table) of latencies, then of each machine where the cycles went."""
    parts_tables = [parts_table("Operation", comparison) for comparison in compared]
    return [latency_table("Figure 3", compared, ".2f"), *parts_tables]
