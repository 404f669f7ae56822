"""`sidecore bench mem`: measures, prints the tables, writes the files."""

from collections.abc import Sequence

from benchmarks.harness.outputs import Outputs
from benchmarks.harness.results import Run
from benchmarks.harness.text import show_titled
from benchmarks.mem.measure import IMAGE, measure, rows_of
from benchmarks.mem.plot import draw
from benchmarks.mem.tables import tables


def measure_and_report(runs: Sequence[Run], outputs: Outputs) -> None:
    """Run them, print the tables, write the files. Raises ConfigError."""
    outputs.check()
    all_results = measure(runs)
    for title, table in tables(all_results):
        show_titled(title, table)
    rows = [row for results in all_results for row in rows_of(results)]
    outputs.write(IMAGE, rows, lambda figure: draw(figure, all_results))
