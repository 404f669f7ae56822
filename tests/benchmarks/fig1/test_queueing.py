"""The arithmetic of queues, on requests made up: who waited how long, for whom."""

from benchmarks.fig1.queueing import percentile, queue_of, service_cycles, waits_of
from vmm.sidecore.slots import Served

SERVED = (  # domain, operation, visible, began, ended
    Served(0, "null", 100, 103, 143),
    Served(1, "null", 110, 150, 190),  # 33 behind the first, 7 polls
    Served(2, "CPUID", 150, 200, 270),  # visible as the second began: all of that
    Served(0, "null", 160, 273, 313),  # 30 of the second, all of the third
    Served(1, "null", 400, 407, 447),  # nobody before it
)


def test_a_wait_is_split_into_others_and_polls() -> None:
    waits = waits_of(SERVED)
    assert [wait.cycles for wait in waits] == [3, 40, 50, 113, 7]
    assert [wait.behind_cycles for wait in waits] == [0, 33, 40, 100, 0]
    assert [wait.passed_over for wait in waits] == [0, 0, 1, 1, 0]


def test_a_queue_is_of_one_operation_and_the_sidecore_busy_with_all() -> None:
    queue = queue_of(SERVED, "null")
    assert [wait.cycles for wait in queue.waits] == [3, 40, 113, 7]
    assert queue.guests == (0, 1)
    assert queue.utilisation == (40 + 40 + 70 + 40 + 40) / (447 - 100)
    assert service_cycles(queue.waits) == 40
    assert queue.progress() == (2, 1)  # guest 0 has no more after the third of them


def test_a_warm_up_is_left_out_for_each_guest() -> None:
    queue = queue_of(SERVED, "null", warm_up=1)
    assert [wait.request.began_cycles for wait in queue.waits] == [273, 407]
    assert queue.utilisation == (70 + 40 + 40) / (447 - 160)


def test_percentiles_are_values_that_occur() -> None:
    assert percentile([5, 1, 3, 2, 4], 50) == 3
    assert percentile([5, 1, 3, 2, 4], 95) == 5
    assert percentile([7], 50) == 7
    assert [percentile(range(1, 101), percent) for percent in (0, 1, 95, 100)] == [1, 1, 95, 100]
