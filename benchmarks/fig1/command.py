"""`sidecore bench fig1`: measures, prints the tables, writes the files."""

from collections.abc import Sequence

from benchmarks.fig1.break_even import break_even_rows, measure_break_evens
from benchmarks.fig1.load import loads_of, run_load
from benchmarks.fig1.measure import IMAGE, measure
from benchmarks.fig1.plot import draw
from benchmarks.fig1.tables import bars_tables, break_even_table, load_table, waiting_table
from benchmarks.harness.outputs import Outputs
from benchmarks.harness.results import Run
from benchmarks.harness.text import show_titled


def measure_and_report(runs: Sequence[Run], outputs: Outputs, *, guests: int | None, sidecores: int) -> None:
    """Run them, print the tables, write the files; with `guests`, so many at once, too. Raises ConfigError."""
    outputs.check()
    compared = measure(runs)
    for title, table in bars_tables(compared):
        show_titled(title, table)
    evens = measure_break_evens(compared) if len(compared) > 1 else []
    if evens:
        show_titled(*break_even_table(compared, evens))
    loaded = [run_load(load) for load in loads_of(runs[0], guests, sidecores)] if guests is not None else []
    if loaded:
        show_titled(*load_table(loaded))
        show_titled(*waiting_table(loaded))
    rows = [row for comparison in compared for row in comparison.rows()]
    rows += break_even_rows(compared, evens)
    rows += [row for results in loaded for row in results.rows()]
    outputs.write(IMAGE, rows, lambda figure: draw(figure, compared))
