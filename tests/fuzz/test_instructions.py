"""Random instructions in every mode: our CPU does what Bochs does, but for the table of deviations.

SIDECORE_FUZZ_SEED is the first seed (a case follows from its seed), SIDECORE_FUZZ_CASES how many there are in all. A
failure prints its seed and the smallest case that still fails, as a row for kept_cases.json.
"""

import json
import os
from functools import cache
from pathlib import Path

import pytest

from tests.fuzz.comparison import Comparison, Difference
from tests.fuzz.deviations import instructions_of, unexplained
from tests.fuzz.instruction_cases import Case, random_case
from tests.fuzz.minimise import minimise

FIRST_SEED = int(os.environ.get("SIDECORE_FUZZ_SEED", "0"))
CASES = int(os.environ.get("SIDECORE_FUZZ_CASES", "100000"))
SHARDS = 20
STRAYED_MAX = 0.12  # most are wild addresses where nothing is paged
KEPT = json.loads(Path(__file__).with_name("kept_cases.json").read_text())


@cache
def comparison() -> Comparison:
    """Both processors: Bochs has one in a process."""
    return Comparison()


def failures(case: Case) -> list[Difference]:
    """What differs and nobody can explain. A case that runs what is no code, or stores where nothing is compared, says
    nothing."""
    differences = comparison().run(case)
    return [] if not differences or comparison().strayed else unexplained(case, differences)


def report(seed: int, case: Case) -> str:
    """A failure, as small as it gets."""
    small = minimise(case, lambda one: bool(failures(one)))
    names = ", ".join(name for name, _code in instructions_of(small))
    differences = "\n  ".join(str(difference) for difference in failures(small))
    return f"seed {seed}: {small.mode}: {names}\n  {differences}\n  {json.dumps(small.as_json())}"


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(SHARDS))
def test_random_instructions_do_what_they_do_on_bochs(shard: int) -> None:
    per_shard = CASES // SHARDS
    first = FIRST_SEED + shard * per_shard
    print(f"SIDECORE_FUZZ_SEED={FIRST_SEED} SIDECORE_FUZZ_CASES={CASES}: seeds {first} to {first + per_shard - 1}")
    failed, strayed = [], 0
    for seed in range(first, first + per_shard):
        case = random_case(seed)
        if failures(case):
            failed.append(report(seed, case))
        strayed += comparison().strayed
    assert not failed, f"{len(failed)} cases differ:\n" + "\n".join(failed[:20])
    assert strayed <= STRAYED_MAX * per_shard + 10


@pytest.mark.parametrize("row", KEPT, ids=[row["what"] for row in KEPT])
def test_a_case_that_failed_once_does_not_fail_again(row: dict[str, str]) -> None:
    case = Case.from_json(row)
    assert not failures(case), report(-1, case)
