"""What every test has: at each VM exit, and whenever a core books, the ledger sums to the clock."""

import pytest

from emulator.machine import CHECKS_LEDGER


@pytest.fixture(autouse=True)
def ledgers_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CHECKS_LEDGER, "1")
