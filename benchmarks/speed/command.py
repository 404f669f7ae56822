"""`sidecore bench speed`: measures, prints the tables, writes the file."""

import json
from pathlib import Path

import click

from benchmarks.speed.measure import figures, measure
from benchmarks.speed.tables import boot_rows, exit_rows, table_text, turn_rows
from vmm.session.output_file import check_writable, write_file


def measure_and_report(repeat: int, json_path: Path | None) -> None:
    """Measure everything, print the tables, write the figures. Raises ConfigError."""
    if json_path is not None:
        check_writable(json_path)
    contenders, costs, turns = measure(repeat)
    click.echo(table_text(boot_rows(contenders)))
    click.echo("\n" + table_text(exit_rows(costs)))
    click.echo("\n" + table_text(turn_rows(turns)))
    if json_path is not None:
        write_file(json_path, json.dumps(figures(contenders, costs, turns), indent=2, sort_keys=True) + "\n")
