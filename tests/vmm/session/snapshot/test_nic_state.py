"""NICs are saved in the middle of everything: frames on the wire, microengine contexts asleep in a piece of work."""

import json
from typing import Any

import pytest

from tests.devices.nic.rig import Guest, Rig
from vmm.session.snapshot.objects import Applied, Capture, Skeleton


class Run:
    """Two hosts whose guests send to each other; answers go back."""

    def __init__(self) -> None:
        self.rig = Rig()
        self.guests = [[self.rig.guest(nic, number) for number in range(10)] for nic in range(2)]

    def start(self) -> None:
        for one, other in zip(*self.guests, strict=True):
            for length in (46, 1000, 200):
                one.send(other.mac, bytes([one.vif.number]) * length)
        self.guests[0][3].post(1 << 50, 100)
        self.guests[1][3].vif.detach()

    def outcome(self) -> Any:
        self.rig.run(500)
        return [
            (bytes(guest.ram.bytes), guest.vif.counters, guest.delivered, [end.sent for end in self.rig.ends])
            for guests in self.guests
            for guest in guests
        ], [nic.stats() for nic in self.rig.nics]


def restored(first: Run, skeleton: Skeleton) -> Run:
    second = Run()
    records = json.loads(json.dumps(Capture(skeleton).records))
    Applied(Skeleton(second, "run"), records)
    return second


@pytest.mark.parametrize("at_ns", [300, 1500, 2300, 3100, 4000, 7000, 11_000, 16_000, 25_000, 40_000])
def test_a_nic_that_was_saved_goes_on_as_if_it_had_not_been(at_ns: int) -> None:
    run, unbroken = Run(), Run()
    skeleton = Skeleton(run, "run")
    for started in (run, unbroken):
        started.start()
        started.rig.events.run_until(at_ns * 1000)
    again = restored(run, skeleton)
    assert again.outcome() == unbroken.outcome() == run.outcome()
    assert sum(len(guest.delivered) for guest in again.guests[1]) == 27


def test_a_vif_that_was_made_while_it_ran_is_saved() -> None:
    run = Run()
    skeleton = Skeleton(run, "run")
    late = Guest(run.rig.nics[1], b"\2\0\0\0\1\x70", run.rig.events)
    run.guests[1].append(late)
    late.attach()
    run.guests[0][0].send(late.mac, b"late")
    run.rig.run(4)
    again = restored(run, skeleton)
    assert again.guests[1][10].vif is not late.vif
    again.rig.run(10)
    assert (late.delivered, again.guests[1][10].delivered) == ([], [0])
    run.rig.run(10)
    assert run.outcome()[1] == again.outcome()[1]
