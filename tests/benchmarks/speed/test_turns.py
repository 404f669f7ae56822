"""Claims about timing turns."""

from benchmarks.speed.turns import BUSY_CORES, PAIRS, measure_turns


def test_every_kind_of_machine_is_timed() -> None:
    costs = measure_turns(repeat=1, turns=200)
    assert [cost.machines for cost in costs] == [*(f"{count} busy cores" for count in BUSY_CORES), *PAIRS]
    assert all(cost.seconds > 0 for cost in costs)
