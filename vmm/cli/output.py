"""What commands print: lines for people, and lists as tables."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.table import Table

FOLD_MIN_COLUMNS = 120  # a terminal this wide has room for a source folded beside its value
UNLIMITED_COLUMNS = 10_000


def say(line: str) -> None:
    """One line for people."""
    click.echo(f"sidecore: {line}", err=True)


def list_table(*headings: str, right: tuple[str, ...] = ()) -> "Table":
    """A table without lines; on a terminal the last column is folded, the others keep their width."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in headings:
        is_last = heading == headings[-1]
        table.add_column(
            Text(heading), justify="right" if heading in right else "left", no_wrap=not is_last, overflow="fold"
        )
    return table


def show(table: "Table") -> None:
    """Print to stdout: on a wide terminal folded to its width, elsewhere one line for each row, however long."""
    import rich.console

    console = rich.console.Console(markup=False, highlight=False, emoji=False)
    if console.is_terminal and console.width >= FOLD_MIN_COLUMNS:
        console.print(table)
        return
    console = rich.console.Console(
        force_terminal=False, width=UNLIMITED_COLUMNS, markup=False, highlight=False, emoji=False
    )
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        click.echo(line.rstrip())
