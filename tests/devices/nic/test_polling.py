"""Polls that are jumped over, and events that nobody sees: the same to the picosecond as when each is executed."""

import pytest

from tests.devices.nic.scenario import Life, alike


@pytest.mark.parametrize("send_queues", ["guest", "nic"])
@pytest.mark.parametrize("seed", range(3))
def test_polls_are_the_same_jumped_over_or_executed(seed: int, send_queues: str) -> None:
    options = {"send_queues": send_queues, "actions": 150, "within_ps": 150_000_000}
    assert alike(seed, {**options, "jumps": True}, {**options, "jumps": False})


@pytest.mark.parametrize("send_queues", ["guest", "nic"])
@pytest.mark.parametrize("seed", range(3))
def test_the_chips_own_events_are_the_same_in_batches_or_one_by_one(seed: int, send_queues: str) -> None:
    options = {"send_queues": send_queues}
    assert alike(seed, {**options, "batches": True}, {**options, "batches": False})


def test_lives_are_lively() -> None:
    life = Life(1).run()
    assert sum(map(len, life.came.values())) > 50
