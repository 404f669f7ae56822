"""`sidecore bench pagefault`, `ctx` and `fig3`: measures, prints the tables, writes the files."""

from collections.abc import Sequence

from benchmarks.fig3.measure import measure
from benchmarks.fig3.plot import draw
from benchmarks.fig3.tables import tables
from benchmarks.harness.outputs import Outputs
from benchmarks.harness.results import Run
from benchmarks.harness.text import show_titled


def measure_and_report(runs: Sequence[Run], outputs: Outputs, command: str) -> None:
    """Run them, print the tables, write the files. Raises ConfigError."""
    outputs.check()
    compared = measure(runs, command)
    for title, table in tables(compared):
        show_titled(title, table)
    rows = [row for comparison in compared for row in comparison.rows()]
    outputs.write(command, rows, lambda figure: draw(figure, compared))
