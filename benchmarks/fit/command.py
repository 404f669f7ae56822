"""`sidecore bench fit`: fits, prints the table, keeps the allowances."""

from collections.abc import Sequence

from benchmarks.fit.measure import Case, fit_all
from benchmarks.fit.tables import fits_table, write_allowances
from vmm.cli.output import show


def fit_and_report(cases: Sequence[Case], *, write: bool) -> None:
    """Fit them and print; with `write` runs take the allowances from then on. Raises ConfigError."""
    fits = fit_all(cases)
    show(fits_table(fits))
    if write:
        write_allowances(fits)
