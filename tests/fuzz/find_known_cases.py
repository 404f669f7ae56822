"""Gives every row of the table of deviations a case that needs it, in known_cases.json.

    python -m tests.fuzz.find_known_cases FIRST_SEED CASES

What is there stays, if it still shows its row. Rows without a case are printed: those that a million cases do not need
can go.
"""

import json
import sys
from functools import partial
from pathlib import Path

from tests.fuzz.comparison import Comparison
from tests.fuzz.deviations import DEVIATIONS, rows_used
from tests.fuzz.instruction_cases import Case, random_case
from tests.fuzz.minimise import minimise

KNOWN_CASES = Path(__file__).with_name("known_cases.json")


def known_cases() -> dict[str, Case]:
    """A case for each row, by the row's reason."""
    return {row["reason"]: Case.from_json(row) for row in json.loads(KNOWN_CASES.read_text())}


def shows(comparison: Comparison, case: Case) -> set[str]:
    """The reasons of the rows that a case needs."""
    differences = comparison.run(case)
    return set() if comparison.strayed else rows_used(case, differences)


def _still_shows(comparison: Comparison, reason: str, case: Case) -> bool:
    return reason in shows(comparison, case)


def _write(cases: dict[str, Case]) -> None:
    rows = [{"reason": row.reason, **cases[row.reason].as_json()} for row in DEVIATIONS if row.reason in cases]
    KNOWN_CASES.write_text("[\n" + ",\n".join(f"    {json.dumps(row)}" for row in rows) + "\n]\n")


def main(first_seed: int, count: int) -> None:
    """Look through `count` random cases."""
    comparison = Comparison()
    cases = {reason: case for reason, case in known_cases().items() if reason in shows(comparison, case)}
    for seed in range(first_seed, first_seed + count):
        case = random_case(seed)
        for reason in shows(comparison, case) - set(cases):
            cases[reason] = minimise(case, partial(_still_shows, comparison, reason))
            _write(cases)
    _write(cases)
    for row in DEVIATIONS:
        if row.reason not in cases:
            print(f"no case: {row.reason}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
