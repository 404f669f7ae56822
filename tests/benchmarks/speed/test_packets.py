"""The measurement of frames between two hosts takes both fidelities."""

from benchmarks.speed.packets import TIMINGS, measure_packets


def test_both_fidelities_are_timed() -> None:
    costs = measure_packets(seconds=0.0005)
    assert [cost.machines.rpartition(" ")[2] for cost in costs] == list(TIMINGS)
    assert all(cost.seconds > 0 for cost in costs)
