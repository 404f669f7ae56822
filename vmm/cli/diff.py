"""The command `sidecore diff`: where two runs part, by their traces or snapshots. Status 0: nowhere; 1: somewhere.

What takes long to import is imported by the command that needs it.
"""

import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from emulator.errors import ConfigError

if TYPE_CHECKING:
    from vmm.session.diff.traces import Record

DIFFERENT_STATUS = 1
SHOWN_MAX = 40
FILE = click.Path(path_type=Path)


@click.command()
@click.argument("first", type=FILE, metavar="A")
@click.argument("second", type=FILE, metavar="B")
@click.option("--ignore", "ignored", multiple=True, metavar="COLUMN", help="May differ between traces. Repeatable.")
@click.option("--all", "shows_all", is_flag=True, help=f"Every difference of snapshots, not the first {SHOWN_MAX}.")
def diff(first: Path, second: Path, ignored: tuple[str, ...], shows_all: bool) -> None:
    """Compare the traces, or the snapshots, A and B.

    Of traces the first exit (.jsonl, .csv) or event (.json) is shown at which they part, and what differs. Of snapshots
    all that differs: registers, memory, devices. Exit status: 0 they are equal, 1 they are not, 2 they cannot be
    compared.
    """
    from vmm.session.diff.traces import kind_of

    kinds = [kind_of(path) for path in (first, second)]
    if all(kind is None for kind in kinds):
        is_equal = _diff_snapshots(first, second, None if shows_all else SHOWN_MAX, ignored)
    elif None in kinds:
        other = (first, second)[kinds.index(None)]
        raise ConfigError(f"{str(other)!r} is no trace; compare two traces, or two snapshots")
    else:
        is_equal = _diff_traces(first, second, ignored)
    sys.exit(0 if is_equal else DIFFERENT_STATUS)


def _diff_traces(first: Path, second: Path, ignored: tuple[str, ...]) -> bool:
    from vmm.session.diff.traces import part

    parting, count = part(first, second, ignored)
    if parting is None:
        click.echo(f"no difference in {count:,} records")
        return True
    if parting.first is None or parting.second is None:
        ended, goes_on = (first, second) if parting.first is None else (second, first)
        click.echo(f"{ended} ends behind {parting.what} {count:,}; {goes_on} goes on with")
        click.echo(_line(parting.first or parting.second or {}))
        return False
    click.echo(f"they part at {parting.what} {parting.number:,}")
    if parting.before is not None:
        click.echo(f"  before it:  {_line(parting.before)}")
    for name, one, other in parting.differences:
        note = " (ignored)" if name in ignored else ""
        click.echo(f"  {name + note}:  {one}  |  {other}")
    click.echo(f"  {first}:  {_line(parting.first)}\n  {second}:  {_line(parting.second)}")
    return False


def _line(record: "Record") -> str:
    return " ".join(f"{name}={value}" for name, value in record.items())


def _diff_snapshots(first: Path, second: Path, count_max: int | None, ignored: tuple[str, ...]) -> bool:
    from vmm.session.diff.snapshots import differences
    from vmm.session.snapshot import read_snapshot

    if ignored:
        raise ConfigError("--ignore is for traces; leave it out")
    rows = differences(*(read_snapshot(path) for path in (first, second)))
    shown = list(islice(rows, count_max))
    if not shown:
        click.echo("no difference")
        return True
    for place, one, other in shown:
        click.echo(f"{place}:  {one}  |  {other}")
    left = sum(1 for _ in rows)
    if left:
        click.echo(f"and {left:,} more differences; --all shows them")
    return False
