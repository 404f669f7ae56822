"""Claims about the tables of `sidecore bench speed`."""

from benchmarks.speed.exit_cost import ExitCost
from benchmarks.speed.loops import LoopCost
from benchmarks.speed.measure import Contender
from benchmarks.speed.tables import boot_rows, exit_rows, loop_rows, table_text, turn_rows
from benchmarks.speed.turns import TurnCost


def test_rows_compare_medians_with_qemu() -> None:
    ours = Contender("sidecore ept", [], seconds=[9.0, 4.0, 5.0], instructions=1_000_000_000, guest_seconds=0.5)
    peer = Contender("qemu tcg", [], seconds=[2.0, 3.0])
    _, first, second = boot_rows([ours, peer])
    assert first == ("sidecore ept", "5.00", "3", "0.500", "1,000,000,000", "200", "2.00")
    assert second == ("qemu tcg", "2.50", "2", "-", "-", "-", "1.00")


def test_without_qemu_there_is_nothing_to_compare_with() -> None:
    assert boot_rows([Contender("sidecore ept", [], seconds=[1.0])])[1][-1] == "-"


def test_columns_are_aligned() -> None:
    assert table_text([("name", "n"), ("a", "100")]) == "name    n\na     100"


def test_a_row_is_an_exit_under_a_way_of_paging() -> None:
    assert exit_rows([ExitCost("CPUID", "ept", 500.0, 4821)])[1] == ("CPUID, ept", "500.00", "4,821")


def test_a_row_is_a_machine_whose_cores_take_turns() -> None:
    assert turn_rows([TurnCost("8 busy cores", 31.25)])[1] == ("8 busy cores", "31.25")


def test_a_loop_stands_beside_qemu_in_every_mode() -> None:
    seconds = {"native": 1.0, "ept": 2.0, "shadow": 3.0, "native, detailed": 5.0}
    row = loop_rows([LoopCost("delay", 1000, 0.5, seconds)])[1]
    assert row == ("delay", "1,000", "500,000", "2.0", "4.0", "6.0", "10.0")
