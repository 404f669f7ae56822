"""Every deviation in the table is still there: with an engine or an oracle that does not have it, its row goes."""

import pytest

from tests.fuzz.deviations import DEVIATIONS
from tests.fuzz.find_known_cases import known_cases, shows
from tests.fuzz.test_instructions import comparison

CASES = known_cases()
REASONS = [row.reason for row in DEVIATIONS]


def test_every_row_has_a_reason_of_its_own_and_a_case() -> None:
    assert len(set(REASONS)) == len(REASONS)
    assert set(CASES) == set(REASONS)


@pytest.mark.parametrize("reason", CASES)
def test_a_deviation_is_still_there(reason: str) -> None:
    assert reason in shows(comparison(), CASES[reason]), f"no longer, or another row explains it: {CASES[reason]}"
