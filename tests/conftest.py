"""What every test has: at each VM exit, and whenever a core books, the ledger sums to the clock; no compiler warns."""

import pytest

from emulator.machine import CHECKS_LEDGER


@pytest.fixture(autouse=True)
def ledgers_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CHECKS_LEDGER, "1")


@pytest.fixture(autouse=True)
def compilers_are_strict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIDECORE_STRICT", "1")
