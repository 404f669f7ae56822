"""The table of `sidecore bench fit`, and the file that keeps the allowances."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.fit.measure import Fit
from emulator.errors import ConfigError
from emulator.timing.allowances import ALLOWANCES_PATH, allowances
from vmm.cli.output import list_table

if TYPE_CHECKING:
    from rich.table import Table


def fits_table(fits: Sequence[Fit]) -> "Table":
    """What was fitted, and how far `fast` is from `detailed` with it."""
    numbers = ("cycles an access", "detailed", "fast", "error")
    table = list_table("Workload", "Profile", "Paging", *numbers, right=numbers)
    for row in fits:
        cycles = f"{row.allowance.access_64ths / 64:.2f}"
        totals = (f"{row.detailed_cycles:,}", f"{row.fast_cycles:,}")
        table.add_row(row.case.workload, row.case.profile, row.case.paging, cycles, *totals, f"{row.error:+.1%}")
    return table


def write_allowances(fits: Sequence[Fit]) -> None:
    """Put the fitted allowances beside those there are. Raises ConfigError when the file cannot be written."""
    rows = dict(allowances()) | {(f.case.profile, f.case.workload, f.case.paging): f.allowance for f in fits}
    text = "# What memory costs in `fast`: fitted by `sidecore bench fit --write`, not by hand. See allowances.py.\n"
    for (profile, workload, paging), allowance in sorted(rows.items()):
        text += f'\n[[allowance]]\nprofile = "{profile}"\nworkload = "{workload}"\npaging = "{paging}"\n'
        text += f"access_64ths = {allowance.access_64ths}\n"
    try:
        ALLOWANCES_PATH.write_text(text)
    except OSError as error:
        raise ConfigError(f"cannot write {ALLOWANCES_PATH}: {error.strerror}") from None
