"""Who listens hears where a frame's signal is, hop by hop; who does not changes nothing."""

from operator import itemgetter

import pytest

from tests.vmm.nic.rig import PS_PER_MS, PS_PER_US, Rig, frame_to, make_rig, receiver
from vmm.nic.registry import Signal

HOPS = ["arrived", "classified", "delivered", "signalled", "taken", "upcalled", "scheduled", "injected", "seen"]


class Listener:
    """Notes every hop."""

    def __init__(self) -> None:
        self.stamps: list[tuple[int, str]] = []

    def stamp(self, _vif_number: int, hop: str, now_ps: int) -> None:
        self.stamps.append((now_ps, hop))


def run(signal: Signal, *, listens: bool = True) -> tuple[Rig, Listener]:
    sidecores, listener = int(signal == "sidecore"), Listener()
    rig = make_rig("ept", cores=1 + sidecores, sidecores=sidecores, signal=signal)
    if listens:
        rig.nic.observers.append(listener)
    rig.add(receiver(1))
    rig.end.arrive(10 * PS_PER_MS, frame_to(0))
    rig.run(20 * PS_PER_MS)
    return rig, listener


@pytest.mark.parametrize("signal", ["interrupt", "sidecore", "msix"])
def test_a_frame_gets_from_hop_to_hop(signal: Signal) -> None:
    _, listener = run(signal)
    told = sorted(listener.stamps, key=itemgetter(0))
    expected = [hop for hop in HOPS if hop in {hop for _, hop in told}]
    assert [hop for _, hop in told] == expected
    assert set(expected) >= {"arrived", "delivered", "taken", "upcalled", "scheduled", "injected", "seen"}
    assert 10 * PS_PER_MS <= told[0][0] <= told[-1][0] < 10 * PS_PER_MS + 100 * PS_PER_US


def test_listening_takes_no_time() -> None:
    silent, heard = run("interrupt", listens=False)[0], run("interrupt")[0]
    clocks = [rig.machine.pcpus[0].clock.book().by_owner() for rig in (silent, heard)]
    assert clocks[0] == clocks[1]


def test_the_sidecore_takes_it_sooner_than_the_interrupt_does() -> None:
    delays_ps = []
    for signal in ("interrupt", "sidecore"):
        when_ps = {hop: now_ps for now_ps, hop in run(signal)[1].stamps}
        delays_ps.append(when_ps["taken"] - when_ps["delivered"])
    assert delays_ps[1] < delays_ps[0]
