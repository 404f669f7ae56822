"""What an exit costs: lines, running sum, sources, and where it lies among others."""

from itertools import pairwise

import pytest

from emulator.ledger import Category
from emulator.profiles.profile import load_profile
from tests.vmm.session.debugger.views.rig import check_view
from vmm.cost.meter import Charge
from vmm.session.debugger.views.cost import BUCKETS_MAX, cost, histogram

CHARGES = (
    Charge(Category.EXIT, 1942, "VM exit", "vmx.exit_cycles", ""),
    Charge(Category.VMCS, 178, "VMREAD EXIT_REASON", "vmx.vmread_cycles", ""),
    Charge(Category.PATHS, 40, "a path", "core.path_cycles_per_100_instructions", "the path's source"),
    Charge(Category.VMCS, 178, "VMREAD " + "X" * 100, "vmx.vmread_cycles", ""),
    Charge(Category.IDLE, 10**12, "waits", "", ""),
)


def test_lines_sum_up_and_name_their_sources_once() -> None:
    shown = cost(CHARGES, load_profile("netburst-2006"))
    check_view(shown)
    assert [line.sum_cycles for line in shown.lines] == [1942, 2120, 2160, 2338, 2338 + 10**12]
    assert shown.lines[1].sources == shown.lines[3].sources == (2,)
    assert shown.lines[2].sources == (3, 4)
    assert shown.lines[4].sources == ()
    assert shown.sources[2] == "the path's source"
    lines = shown.text().splitlines()
    assert lines[1].split() == ["vmcs", "access", "VMREAD", "EXIT_REASON", "178", "2,120", "[2]"]
    assert f"{shown.cycles:,} cycles" in lines
    assert "before, by cycles" not in shown.text()


def test_an_exit_that_was_charged_nothing_costs_nothing() -> None:
    assert cost((), load_profile("netburst-2006")).text() == "0 cycles"


@pytest.mark.parametrize("costs", [[5], [0, 0, 7], [4000, 4001, 9000, 10**7], list(range(1000)), [10**15, 1]])
def test_every_cost_is_in_one_of_a_few_buckets(costs: list[int]) -> None:
    buckets = histogram(costs)
    assert len(buckets) <= BUCKETS_MAX + 1
    assert sum(bucket.count for bucket in buckets) == len(costs)
    for before, after in pairwise(buckets):
        assert before.high_cycles == after.low_cycles
    for value in costs:
        (home,) = [bucket for bucket in buckets if bucket.low_cycles <= value < bucket.high_cycles]
        assert home.count


def test_the_histogram_marks_where_the_exit_lies() -> None:
    shown = cost(CHARGES[:2], load_profile("netburst-2006"), [2100, 2110, 8000, 2120])
    check_view(shown)
    (marked,) = [line for line in shown.text().splitlines() if line.endswith("<-")]
    assert marked.split()[1] == "3"
