"""The commands `sidecore profiles`: what machines there are, what is known of one, how two differ.

What takes long to import is imported by the command that needs it.
"""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.table import Table

    from emulator.profiles.profile import Profile

FOLD_MIN_COLUMNS = 120  # a terminal this wide has room for a source folded beside its value
UNLIMITED_COLUMNS = 10_000


@click.group()
def profiles() -> None:
    """Machines a run can be timed as."""


@profiles.command("list")
def list_profiles() -> None:
    """Every profile that comes with sidecore, and what a VM exit and the entry after it take together.

    Round trip: cycles of the hardware alone, for an exit of the common kind, without what the VMM does between.
    """
    from emulator.profiles.profile import DEFAULT_PROFILE, load_profile, shipped_profiles

    table = make_table("Profile", "Round trip", "Description", right=("Round trip",))
    for name in shipped_profiles():
        profile = load_profile(name)
        note = " (default)" if name == DEFAULT_PROFILE else ""
        round_trip = profile.exit_cycles + profile.entry_cycles
        table.add_row(name, f"{round_trip:,}", profile.description + note)
    show(table)


@profiles.command("show")
@click.argument("profile")
def show_profile(profile: str) -> None:
    """Every value of PROFILE with how far it can be trusted, and its source."""
    from emulator.profiles.profile import load_profile

    loaded = load_profile(profile)
    click.echo(f"{loaded.name}: {loaded.description}")
    table = make_table("Parameter", "Value", "Confidence", "Source", right=("Value",))
    for key, row in loaded.rows.items():
        table.add_row(key, value_text(row.value), row.confidence, row.source)
    show(table)


@profiles.command("diff")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
def diff_profiles(first: str, second: str) -> None:
    """The values in which the profiles A and B differ."""
    from emulator.profiles.profile import load_profile

    pair = (load_profile(first), load_profile(second))
    rows = different_rows(*pair)
    if not rows:
        click.echo(f"{first} and {second} do not differ in any value")
        return
    table = make_table("Parameter", first, second, right=(first, second))
    for row in rows:
        table.add_row(*row)
    show(table)


@profiles.command("parameters")
def list_parameters() -> None:
    """What a profile consists of: every parameter, its range and meaning.

    REASON stands for the name of a VM-exit reason, such as CPUID; reasons
    without a row of their own take vmx.exit_cycles.
    """
    from emulator.profiles.sections import BY_REASON, PARAMETERS, REASONS

    table = make_table("Parameter", "Values", "Meaning")
    names = {key: key for key in PARAMETERS if not key.startswith(f"{BY_REASON}.")}
    names |= {f"{BY_REASON}.{next(iter(REASONS))}": f"{BY_REASON}.REASON"}
    for key, name in names.items():
        row = PARAMETERS[key]
        values = "true, false" if row.kind is bool else f"{row.least:,} to {row.most:,}"
        table.add_row(name, values, row.meaning)
    show(table)


def different_rows(first: "Profile", second: "Profile") -> list[tuple[str, str, str]]:
    """(parameter, first's value, second's value) where they differ; `-` where one has no row of its own."""
    from emulator.profiles.sections import PARAMETERS

    cells = []
    for key in PARAMETERS:
        values = [profile.rows[key].value if key in profile.rows else None for profile in (first, second)]
        if values[0] != values[1]:
            cells.append((key, value_text(values[0]), value_text(values[1])))
    return cells


def value_text(value: int | bool | None) -> str:
    """A value of a profile for people."""
    if value is None:
        return "-"
    return str(value).lower() if isinstance(value, bool) else f"{value:,}"


def make_table(*headings: str, right: tuple[str, ...] = ()) -> "Table":
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
