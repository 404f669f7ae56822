"""Figure 3: page faults and context switches gain by sidecalls, and where the gain is from."""

import json
from collections.abc import Mapping

import pytest

from benchmarks.fig3.measure import COMMANDS, comparison_of, measure
from benchmarks.fig3.plot import draw
from benchmarks.fig3.tables import tables
from benchmarks.harness.pairs import Comparison, Pair
from benchmarks.harness.parts import parts, served_parts
from benchmarks.harness.plotting import plot_bytes
from benchmarks.harness.results import Run

ARRAY_PAGES, FILE_PAGES, TABLE_PAGES = 4, 1024, 512


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    (comparison,) = measure([Run("fig3", "netburst-2006", "shadow", "fast", has_sidecore=True)], "fig3")
    return comparison


@pytest.fixture(scope="module")
def by_key(comparison: Comparison) -> Mapping[str, Pair]:
    return {pair.key: pair for pair in comparison.pairs}


def test_each_is_measured_both_ways(by_key: Mapping[str, Pair]) -> None:
    assert list(by_key) == ["pagefault", "ctx/1", "ctx/4", "ctx/16", "ctx/0"]


def test_both_improve_as_in_the_paper(by_key: Mapping[str, Pair]) -> None:
    assert 0.30 < by_key["pagefault"].improvement < 0.55
    assert by_key["pagefault"].improvement > by_key["ctx/1"].improvement > by_key["ctx/4"].improvement
    assert by_key["ctx/4"].improvement > by_key["ctx/16"].improvement > 0.03


def test_a_context_switch_without_page_faults_gains_nothing(by_key: Mapping[str, Pair]) -> None:
    resident = by_key["ctx/0"]
    assert resident.exit.value == pytest.approx(resident.sidecall.value, abs=0.1)
    assert resident.exit.account.exits == resident.sidecall.account.exits == {"CR_ACCESS": 1}


def test_a_context_switch_gains_what_its_page_faults_do(by_key: Mapping[str, Pair]) -> None:
    gains = []
    for laps in (1, 4, 16):
        pair = by_key[f"ctx/{laps}"]
        gains.append((pair.exit.value - pair.sidecall.value) * laps / ARRAY_PAGES)
    assert gains == pytest.approx([gains[0]] * 3, rel=0.005)


def test_a_page_fault_takes_an_exit_less(by_key: Mapping[str, Pair]) -> None:
    # Clearing a page table: two zeros, with which it is no table any more, then one store finds it still read-only.
    # So its next first entry is a plain store and the load faults again, or a sidecall does not save an exit.
    pair = by_key["pagefault"]
    tables = FILE_PAGES // TABLE_PAGES
    exits = {way: dict(side.account.exits) for way, side in (("exit", pair.exit), ("sidecall", pair.sidecall))}
    assert exits["exit"] == {"EXCEPTION_NMI": 2 + 3 * tables / FILE_PAGES, "CR_ACCESS": 1 / FILE_PAGES}
    assert exits["sidecall"] == {"EXCEPTION_NMI": 1 + 4 * tables / FILE_PAGES, "CR_ACCESS": 1 / FILE_PAGES}


@pytest.mark.parametrize("laps", [1, 4, 16])
def test_exits_of_a_context_switch(by_key: Mapping[str, Pair], laps: int) -> None:
    # The first entry of an array goes to a table that is not shadowed: no store exits, the load faults again.
    pair = by_key[f"ctx/{laps}"]
    assert pair.exit.account.exits == {"CR_ACCESS": 1, "EXCEPTION_NMI": 2 * ARRAY_PAGES / laps}
    assert pair.sidecall.account.exits == {"CR_ACCESS": 1, "EXCEPTION_NMI": (ARRAY_PAGES + 1) / laps}


def test_the_account_of_an_operation_is_the_operation(by_key: Mapping[str, Pair]) -> None:
    for pair in by_key.values():
        for side in (pair.exit, pair.sidecall):
            assert sum(parts(side.account).values()) == pytest.approx(side.value, abs=1)
        assert sum(served_parts(pair.exit.account).values()) == 0


def test_rows_are_whole(comparison: Comparison) -> None:
    switches = comparison_of(comparison.results, COMMANDS["ctx"])
    records = json.loads(json.dumps([row.record() for row in switches.rows()]))
    for metric in ("ctx", "ctx_exit", "improvement"):
        assert [row["about"]["laps"] for row in records if row["metric"] == metric] == [1, 4, 16, 0]
    page_faults = comparison_of(comparison.results, COMMANDS["pagefault"])
    assert [table.row_count for _, table in tables([page_faults])] == [1, 3]


def test_it_is_drawn(comparison: Comparison) -> None:
    assert plot_bytes(lambda figure: draw(figure, [comparison]), ".svg").count(b"<svg") == 1
