"""The commands `sidecore profiles`: what machines there are, what is known of one, how two differ.

What takes long to import is imported by the command that needs it.
"""

from typing import TYPE_CHECKING

import click

from vmm.cli.output import list_table, show

if TYPE_CHECKING:
    from emulator.profiles.profile import Profile


@click.group()
def profiles() -> None:
    """Machines a run can be timed as."""


@profiles.command("list")
def list_profiles() -> None:
    """Every profile that comes with sidecore, and what a VM exit and the entry after it take together.

    Round trip: cycles of the hardware alone, for an exit of the common kind, without what the VMM does between.
    """
    from emulator.profiles.profile import (
        DEFAULT_PROFILE,
        load_profile,
        shipped_profiles,
        shipped_variants,
    )

    table = list_table("Profile", "Round trip", "Description", right=("Round trip",))
    for name in (*shipped_profiles(), *shipped_variants()):
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
    table = list_table("Parameter", "Value", "Confidence", "Source", right=("Value",))
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
    table = list_table("Parameter", first, second, right=(first, second))
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

    table = list_table("Parameter", "Values", "Meaning")
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
