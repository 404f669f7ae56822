"""What a report can know of a NIC, and what is told of each hop."""

from typing import Any

from devices.nic.programs import DELIVER, RECEIVED, TRANSMIT
from tests.devices.nic.rig import Guest, Rig

SENT_HOPS = ["posted", "polled", "fetched", "sent"]
RECEIVED_HOPS = ["arrived", "classified", "delivered", "signalled"]


class Observer:
    def __init__(self) -> None:
        self.stamps: list[tuple[int, str, int]] = []

    def stamp(self, vif_number: int, hop: str, now_ps: int) -> None:
        self.stamps.append((vif_number, hop, now_ps))


def ran(*, packets: int = 5) -> tuple[Rig, Guest, Guest, list[Observer]]:
    rig, observers = Rig(), [Observer(), Observer()]
    one, other = rig.guest(0, 0), rig.guest(1, 0)
    for nic, observer in zip(rig.nics, observers, strict=True):
        nic.observers.append(observer)
    for _ in range(packets):
        one.send(other.mac, bytes(50))
        rig.run(30)
    return rig, one, other, observers


def test_each_hop_of_a_packet_is_told_once_in_order_of_time() -> None:
    _, _, _, (sender, receiver) = ran(packets=1)
    for observer, hops in ((sender, SENT_HOPS), (receiver, RECEIVED_HOPS)):
        assert [(vif, hop) for vif, hop, _ in observer.stamps] == [(0, hop) for hop in hops]
        times = [now_ps for _, _, now_ps in observer.stamps]
        assert times == sorted(set(times))
    assert (
        receiver.stamps[0][2] == sender.stamps[-1][2] + 8 * 8 * 1000 + 68 * 8 * 1000 + 500_000
    )  # preamble, frame, wire


def test_times_of_a_context_sum_to_no_more_than_the_time() -> None:
    rig, _, _, _ = ran()
    for nic in rig.nics:
        stats = nic.stats()
        for engine in stats["microengines"].values():
            assert 0 < engine["executing_ps"] < stats["now_ps"]
            assert engine["executing_ps"] + engine["polling_ps"] + engine["idle_ps"] == stats["now_ps"]
            assert sum(context["swaps"] for context in engine["contexts"]) == engine["swaps"]


def test_requests_of_units_and_puts_into_rings_are_counted() -> None:
    rig, _, _, _ = ran(packets=5)
    sender, receiver = (nic.stats() for nic in rig.nics)
    assert sender["units"]["DMA channels"]["requests"] == 2 * 5  # frame, descriptor
    assert receiver["units"]["DMA channels"]["requests"] == 3 * 5  # descriptor, frame, descriptor
    assert {ring: counts["puts"] for ring, counts in sender["rings"].items()} == {TRANSMIT: 5}
    assert {ring: counts["puts"] for ring, counts in receiver["rings"].items()} == {RECEIVED: 5, DELIVER: 5}


def test_polls_are_counted_though_they_are_jumped_over() -> None:
    """A poll takes a microsecond and 20 ns; before the first packet, behind each one, and since."""
    rig, _, _, _ = ran(packets=0)
    rig.run(1020 - 31)

    def polls() -> Any:
        return rig.nics[0].stats()["microengines"][3]["contexts"][0]

    before = polls()
    assert before["polls"] == before["polling_ps"] // 20_000
    assert 960 <= before["polls"] <= 1000
    rig.run(102)
    assert polls()["polls"] == before["polls"] + 100


def test_counters_of_the_port_and_of_vifs_agree() -> None:
    rig, _, _, _ = ran(packets=7)
    sender, receiver = (nic.stats() for nic in rig.nics)
    assert (sender["mac"]["sent"], receiver["mac"]["arrived"]) == (7, 7)
    assert (sender["vifs"][0]["sent"], receiver["vifs"][0]["received"], receiver["vifs"][0]["told"]) == (7, 7, 7)


def test_statistics_are_plain() -> None:
    rig, _, _, _ = ran()

    def check(thing: Any) -> None:
        if isinstance(thing, dict):
            for key, value in thing.items():
                assert isinstance(key, str | int)
                check(value)
        elif isinstance(thing, list):
            for value in thing:
                check(value)
        else:
            assert isinstance(thing, str | int)

    check(rig.nics[0].stats())
