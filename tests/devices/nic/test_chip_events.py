"""The chip's own events: late for the machine, in time for the chip."""

from functools import partial

from devices.nic.chip_events import ChipEvents
from emulator.events import EventQueue


class Rig:
    def __init__(self, *, batches: bool = True) -> None:
        self.machine = EventQueue()
        self.chip = ChipEvents(self.machine, batches=batches)
        self.happened: list[tuple[str, int, int]] = []  # what, at the chip's time, at the machine's

    def happen(self, what: str) -> None:
        self.happened.append((what, self.chip.now_ps, self.machine.now_ps))

    def at(self, when_ps: int, what: str, unseen_ps: int = 0) -> None:
        self.chip.schedule(when_ps, partial(self.happen, what), unseen_ps=unseen_ps)


def test_what_is_unseen_happens_with_what_must_have_happened_next_in_order_of_time() -> None:
    rig = Rig()
    rig.at(300, "seen")
    rig.at(100, "a", 50)
    rig.at(140, "b", 500)
    rig.at(151, "c", 500)
    rig.machine.run_until(1000)
    assert rig.happened == [("a", 100, 150), ("b", 140, 150), ("c", 151, 300), ("seen", 300, 300)]


def test_without_batches_each_happens_at_its_time() -> None:
    rig = Rig(batches=False)
    rig.at(140, "b", 500)
    rig.at(100, "a", 50)
    rig.machine.run_until(1000)
    assert rig.happened == [("a", 100, 100), ("b", 140, 140)]


def test_whoever_comes_from_outside_finds_what_has_happened() -> None:
    rig = Rig()
    rig.at(100, "a", 500)
    rig.at(200, "b", 500)
    rig.machine.run_until(150)
    rig.chip.catch_up()
    assert (rig.happened, rig.chip.now_ps) == ([("a", 100, 150)], 150)
    rig.machine.run_until(1000)
    assert rig.happened[1:] == [("b", 200, 600)]  # when a had to have happened


def test_a_core_that_is_ahead_brings_it_up_to_what_is_due_only() -> None:
    """What is due is an event of the machine, and happens when that comes; what is before it has its own time."""
    rig = Rig()
    rig.at(100, "a", 500)
    rig.at(400, "due")
    with rig.machine.at(900):
        rig.chip.catch_up()
        assert rig.happened == [("a", 100, 399)]
        assert (rig.chip.now_ps, rig.machine.now_ps) == (900, 900)
    rig.machine.run_until(1000)
    assert rig.happened[1:] == [("due", 400, 400)]
