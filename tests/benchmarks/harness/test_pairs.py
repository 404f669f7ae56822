"""Claims about pairs by VM exit and by sidecall, made up: what is gained, and how they are shown."""

import pytest

from benchmarks.harness.accounts import OTHER_CORES, Account
from benchmarks.harness.measurements import Measurement
from benchmarks.harness.pair_tables import latency_table, parts_table
from benchmarks.harness.pairs import Comparison, Pair
from benchmarks.harness.parts import parts, served_parts
from benchmarks.harness.results import Result, Results, Run, row_of

BY_EXIT = Account({"guest": 3, "exit hardware": 7, "entry hardware": 40, "vmcs access": 50}, {"CPUID": 1})
BY_CALL = Account({"guest": 3, "spin": 37, OTHER_CORES + "VMM paths": 20, OTHER_CORES + "coherence": 5}, {})


def measured(name: str, account: Account, cycles: int) -> Result:
    return row_of({}, Measurement(name, (), 10, (0,), (10 * cycles,)), account)


@pytest.fixture
def comparison() -> Comparison:
    call = measured("call", BY_CALL, 40)
    pairs = (
        Pair("one", "an exit", measured("one_exit", BY_EXIT, 100), call),
        Pair("other", "a cheaper exit", measured("other_exit", BY_EXIT, 32), call),
    )
    return Comparison(Results(Run("fig1", "haswell", "shadow", "fast"), 2_000_000_000, ()), pairs)


def test_what_is_gained_is_a_part_of_the_exit(comparison: Comparison) -> None:
    assert comparison.pair("one").improvement == pytest.approx(0.6)
    assert comparison.pair("other").improvement == pytest.approx(-0.25)
    assert [pair.saved_cycles for pair in comparison.pairs] == [60, -8]


def test_parts_are_those_of_the_guests_core_and_the_sidecores_stand_apart() -> None:
    named = {"transitions": 0, "VMCS": 0, "VMM software": 0, "line transfers": 0, "waiting": 0}
    assert parts(BY_EXIT) == named | {"transitions": 47, "VMCS": 50, "guest": 3}
    assert parts(BY_CALL) == named | {"waiting": 37, "guest": 3}
    assert served_parts(BY_CALL) == named | {"VMM software": 20, "line transfers": 5}


def test_a_sidecall_that_two_exits_are_compared_with_is_shown_once(comparison: Comparison) -> None:
    title, table = parts_table("Operation", comparison)
    assert "haswell" in title
    assert list(table.columns[0].cells) == [
        "an exit, VM exit",
        "an exit, sidecall",
        "  the sidecore meanwhile",
        "a cheaper exit, VM exit",
    ]
    assert list(table.columns[-1].cells) == ["100", "40", "25", "100"]


def test_the_profile_stands_at_its_first_row_only(comparison: Comparison) -> None:
    title, table = latency_table("Figure 9", [comparison, comparison], ".2f")
    assert title.startswith("Figure 9: ")
    assert list(table.columns[0].cells) == ["haswell", "", "haswell", ""]
    assert list(table.columns[-1].cells)[:2] == ["1.00 / 0.00"] * 2
