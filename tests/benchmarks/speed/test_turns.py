"""Claims about timing turns."""

from benchmarks.speed.turns import measure_turns


def test_every_number_of_busy_cores_is_timed() -> None:
    costs = measure_turns(repeat=1, turns=200)
    assert [cost.machines for cost in costs] == ["2 busy cores", "8 busy cores", "64 busy cores"]
    assert all(cost.seconds > 0 for cost in costs)
