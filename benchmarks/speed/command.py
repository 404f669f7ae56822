"""`sidecore bench speed`: measures, prints the tables, writes the file."""

import click

from benchmarks.harness.outputs import Outputs
from benchmarks.speed.measure import measure, rows_of
from benchmarks.speed.tables import boot_rows, exit_rows, loop_rows, table_text, turn_rows


def measure_and_report(repeat: int, outputs: Outputs) -> None:
    """Measure everything, print the tables, write the figures. Raises ConfigError."""
    outputs.check()
    speeds = measure(repeat)
    tables = [boot_rows(speeds.boots), loop_rows(speeds.loops), exit_rows(speeds.exits), turn_rows(speeds.turns)]
    click.echo("\n\n".join(table_text(rows) for rows in tables if len(rows) > 1))
    outputs.write("speed", rows_of(speeds))
