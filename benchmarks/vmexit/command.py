"""`sidecore bench vmexit`: measures, prints the tables, writes the files."""

from collections.abc import Sequence

import click

from benchmarks.harness.outputs import Outputs
from benchmarks.harness.results import Run
from benchmarks.harness.text import show_titled
from benchmarks.vmexit.measure import IMAGE, measure
from benchmarks.vmexit.plot import draw
from benchmarks.vmexit.tables import reasons, tables


def measure_and_report(runs: Sequence[Run], outputs: Outputs) -> None:
    """Run them, print the tables, write the files. Raises ConfigError."""
    outputs.check()
    all_results = measure(runs)
    for title, table in tables(all_results):
        show_titled(title, table)
    for line in reasons(all_results):
        click.echo(line)
    rows = [row for results in all_results for row in results.rows]
    outputs.write(IMAGE, rows, lambda figure: draw(figure, all_results))
