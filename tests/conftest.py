"""What every test has: at each VM exit, and whenever a core books, the ledger sums to the clock."""

import pytest

from emulator.machine import Machine


@pytest.fixture(autouse=True)
def ledgers_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Machine, "checks_ledger", True)
