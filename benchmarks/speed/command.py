"""`sidecore bench speed`: measures, prints the tables, writes the file."""

import click

from benchmarks.harness.outputs import Outputs
from benchmarks.speed.measure import measure, rows_of
from benchmarks.speed.tables import boot_rows, exit_rows, table_text, turn_rows


def measure_and_report(repeat: int, outputs: Outputs) -> None:
    """Measure everything, print the tables, write the figures. Raises ConfigError."""
    outputs.check()
    contenders, costs, turns = measure(repeat)
    click.echo(table_text(boot_rows(contenders)))
    click.echo("\n" + table_text(exit_rows(costs)))
    click.echo("\n" + table_text(turn_rows(turns)))
    outputs.write("speed", rows_of(contenders, costs, turns))
