"""Claims about the file that `sidecore bench fit --write` keeps the allowances in."""

from pathlib import Path

import pytest

from benchmarks.fit import tables
from benchmarks.fit.measure import Case, Fit
from benchmarks.fit.tables import write_allowances
from emulator.timing import allowances as table
from emulator.timing.allowances import Allowance


def test_writing_keeps_the_other_allowances(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "allowances.toml"
    path.write_text('[[allowance]]\nprofile = "a"\nworkload = "linux"\npaging = "ept"\naccess_64ths = 7\n')
    for module in (table, tables):
        monkeypatch.setattr(module, "ALLOWANCES_PATH", path)
    table.allowances.cache_clear()
    try:
        write_allowances([Fit(Case("b", "mem", "native"), Allowance(3), 100, 90)])
        table.allowances.cache_clear()
        assert dict(table.allowances()) == {("a", "linux", "ept"): Allowance(7), ("b", "mem", "native"): Allowance(3)}
    finally:
        table.allowances.cache_clear()
