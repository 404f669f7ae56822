"""Figures as text: tables with a title, numbers for people."""

from typing import TYPE_CHECKING

import click

from vmm.cli.output import show

if TYPE_CHECKING:
    from rich.table import Table


def show_titled(title: str, table: "Table") -> None:
    """Print `title`, `table` and an empty line to stdout."""
    click.echo(title)
    show(table)
    click.echo()


def cycles_text(cycles: float) -> str:
    """Cycles for people: to a tenth where that is a thousandth or more."""
    shown = round(cycles, 1 if abs(cycles) < 100 else 0) + 0.0  # never -0
    return f"{shown:,.0f}" if shown == round(shown) else f"{shown:,.1f}"


def tenths_text(cycles: float) -> str:
    """Cycles of a load: tenths always, so that a column lines up."""
    return f"{round(cycles, 1) + 0.0:,.1f}"  # never -0.0
