"""Queues with a rate and a latency."""

from devices.nic.units import DmaChannels, Unit

RATE = 10**12 // 7  # a byte takes a little over 7 ps


def test_a_request_of_a_free_unit_takes_its_bytes_and_the_latency() -> None:
    unit = Unit(latency_ps=300, bytes_per_second=10**12 // 7)
    assert unit.request(1000, 40) == 1000 + 40 * 7 + 1 + 300


def test_requests_are_served_one_after_the_other_but_answered_together() -> None:
    unit = Unit(latency_ps=300, bytes_per_second=10**12)
    answers = [unit.request(at_ps, size_bytes) for at_ps, size_bytes in ((0, 40), (10, 7), (47, 3), (60, 5))]
    assert answers == [340, 347, 350, 365]
    assert unit.usage.statistics() == {"requests": 4, "busy_ps": 55, "waited_ps": 30, "depth_max": 2}


def channels(count: int) -> DmaChannels:
    return DmaChannels(channels=count, setup_ps=11, read_ps=1000, write_ps=200, bytes_per_second=10**12)


def test_a_transfer_takes_the_set_up_the_bus_and_the_way() -> None:
    assert channels(3).read(5, 40) == 5 + 11 + 40 + 1000
    assert channels(3).write(5, 40) == 5 + 11 + 40 + 200


def test_transfers_share_the_bus_and_each_takes_a_channel() -> None:
    dma = channels(2)
    assert [dma.read(0, 40), dma.read(0, 40)] == [1051, 1091]
    assert dma.write(0, 7) == 1051 + 11 + 7 + 200
    assert dma.usage.statistics() == {
        "requests": 3,
        "busy_ps": 1051 + 1091 + 218,
        "waited_ps": 1051,
        "depth_max": 3,
    }
    assert dma.bus.usage.busy_ps == 87
