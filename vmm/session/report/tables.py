"""Tables of figures for a terminal."""

from rich.console import Console
from rich.table import Table

UNLIMITED_COLUMNS = 10_000


def make_table(title: str, first_heading: str, *number_headings: str) -> Table:
    """An empty table: names to the left, numbers to the right."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(first_heading, no_wrap=True)
    for heading in number_headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def natural_order(name: str) -> tuple[str, int]:
    """pcpu2 before pcpu10."""
    digits = len(name) - len(name.rstrip("0123456789"))
    return (name[: len(name) - digits], int(name[len(name) - digits :] or 0)) if digits else (name, -1)


def percent_text(part: int, whole: int) -> str:
    """Hundredths of a percent, rounded half up in integers, so that the text never depends on float rounding."""
    if whole == 0:
        return "-"
    hundredths = (part * 20_000 + whole) // (2 * whole)
    return f"{hundredths // 100}.{hundredths % 100:02}%"


def table_text(table: Table) -> str:
    """The table as plain lines, however long."""
    console = Console(width=UNLIMITED_COLUMNS, force_terminal=False, markup=False, highlight=False, emoji=False)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())
