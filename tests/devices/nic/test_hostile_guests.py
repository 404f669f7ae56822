"""Guests that write anything into their descriptors, detach and are destroyed in mid-flight: others notice nothing."""

import pytest

from devices.nic.vif import VifCounters
from devices.nic.vif_page import (
    BAD_ADDRESS,
    BAD_LENGTH,
    DONE,
    ERROR,
    FREE,
    OWNED,
    RECEIVE_RING,
    SEND_RING,
)
from tests.devices.nic.rig import PAGE, RAM_BYTES, SEND_BUFFERS, Rig
from tests.devices.nic.scenario import Life


def check(life: Life) -> None:
    """What is true of every life."""
    for flow, frames in life.came.items():
        assert frames == [frame for frame in life.sent[flow] if frame in frames], "twice, or not in order"
    for nic, guests in enumerate(life.guests):
        buffer_drops = life.rig.nics[nic].stats()["mac"]["drops"].get("receive buffer full", 0)
        for guest in guests:
            missing = sum(
                len(sent) - len(life.came.get(flow, ())) for flow, sent in life.sent.items() if flow[1] == guest.mac
            )
            assert missing <= sum(guest.vif.counters.receive_drops.values()) + buffer_drops
            check_counters(guest.vif.counters, guest.vif.sends_in_work, guest.vif.receives_in_work)
            assert (guest.vif.sends_in_work, guest.vif.receives_in_work, guest.ram.outside) == (0, 0, 0)
    for counters in life.gone:
        check_counters(counters, 0, 0)


def check_counters(c: VifCounters, sends_in_work: int, receives_in_work: int) -> None:
    """Every descriptor and every frame has ended in one way, or is in work."""
    assert c.posted == c.sent + c.send_errors + sum(c.send_drops.values()) + sends_in_work
    assert c.arrived == c.received + c.receive_errors + sum(c.receive_drops.values()) + receives_in_work


@pytest.mark.parametrize("seed", range(6))
def test_flows_of_others_are_complete_and_in_order_and_everything_is_counted(seed: int) -> None:
    check(Life(seed, actions=400).run())


def test_a_thousand_descriptors_of_anything_crash_nothing() -> None:
    life = Life(77, guests=12, hostile=10, actions=1000).run()
    check(life)
    errors = [counters.send_errors for counters in [*life.gone, *(g.vif.counters for g in life.guests[0])]]
    assert sum(errors) > 50


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 20))
def test_ten_thousand_descriptors_of_anything_crash_nothing(seed: int) -> None:
    check(Life(seed, guests=20, hostile=14, actions=4000, within_ps=3_000_000_000).run())


@pytest.mark.parametrize(
    ("address", "length", "reason"),
    [
        (SEND_BUFFERS, 0, BAD_LENGTH),
        (SEND_BUFFERS, 13, BAD_LENGTH),
        (SEND_BUFFERS, 1515, BAD_LENGTH),
        (SEND_BUFFERS, 0xFFFF_FFFF, BAD_LENGTH),
        (RAM_BYTES - 59, 60, BAD_ADDRESS),
        (RAM_BYTES, 60, BAD_ADDRESS),
        ((1 << 64) - 60, 60, BAD_ADDRESS),
        ((1 << 64) - 1, 60, BAD_ADDRESS),
    ],
)
def test_a_malformed_send_descriptor_is_an_error_and_the_ring_goes_on(address: int, length: int, reason: int) -> None:
    rig = Rig()
    one, other = rig.guest(0, 0), rig.guest(1, 0)
    one.post(address, length)
    one.send(other.mac, b"after" * 10)
    rig.run(30)
    assert one.read(SEND_RING, 0) == (address, reason, ERROR)
    assert (other.take(), one.vif.counters.send_errors, one.vif.counters.sent) == ([b"after" * 10], 1, 1)


def test_frames_at_the_edges_of_ram_and_of_pages_are_sent() -> None:
    rig = Rig()
    one, other = rig.guest(0, 0), rig.guest(1, 0)
    frame = other.mac + one.mac + bytes(1502)
    for address in (RAM_BYTES - 1514, 0x3000 - 1, 0x6000 - 1513):
        one.ram.bytes[address : address + 1514] = frame
        one.post(address, 1514)
    rig.run(80)
    assert [len(payload) for payload in other.take()] == [1500] * 3


@pytest.mark.parametrize(
    ("address", "room", "result"),
    [
        (0x20000, 63, (BAD_LENGTH, ERROR)),
        (0x20000, 64, (64, DONE)),
        (RAM_BYTES - 63, 64, (BAD_ADDRESS, ERROR)),
        ((1 << 64) - 1, 2048, (BAD_ADDRESS, ERROR)),
        (0x20000, 0xFFFF_FFFF, (64, DONE)),
    ],
)
def test_a_receive_descriptor_that_cannot_take_the_frame_is_an_error(
    address: int, room: int, result: tuple[int, int]
) -> None:
    rig = Rig()
    one, other = rig.guest(0, 0), rig.guest(1, 0)
    before = bytes(other.ram.bytes[:PAGE])
    other.write(RECEIVE_RING, 0, address, room, OWNED)
    one.send(other.mac, bytes(50))
    one.send(other.mac, b"next".ljust(50))
    rig.run(30)
    assert other.read(RECEIVE_RING, 0) == (address, *result)
    assert other.read(RECEIVE_RING, 1)[1:] == (64, DONE)
    assert bytes(other.ram.bytes[:PAGE]) == before


@pytest.mark.parametrize("state", [FREE, DONE, ERROR, 4, 0xFFFF_FFFF])
def test_a_frame_that_finds_no_owned_descriptor_is_dropped_and_counted(state: int) -> None:
    rig = Rig()
    one, other = rig.guest(0, 0), rig.guest(1, 0)
    descriptor = (0x20000, 2048, state)
    other.write(RECEIVE_RING, 0, *descriptor)
    one.send(other.mac, bytes(50))
    rig.run(30)
    assert (other.read(RECEIVE_RING, 0), other.vif.counters.receive_drops) == (descriptor, {"no descriptor": 1})
    assert (rig.lines[1].level, other.delivered) == (False, [])


def test_a_descriptor_is_read_once() -> None:
    """Rewritten while its frame is fetched, it still leads where it led."""
    rig = Rig()
    one, other = rig.guest(0, 0), rig.guest(1, 0)
    one.send(other.mac, b"as it was".ljust(50))
    while one.vif.counters.posted == 0:
        rig.events.run_until(rig.events.now_ps + 10_000)
    one.write(SEND_RING, 0, 1 << 60, 5000, OWNED)
    rig.run(30)
    assert (other.take(), one.read(SEND_RING, 0)) == ([b"as it was".ljust(50)], (1 << 60, 64, DONE))


@pytest.mark.parametrize("after_ns", range(0, 6000, 150))
def test_a_vif_may_go_at_any_time(after_ns: int) -> None:
    rig = Rig()
    senders, receivers = [rig.guest(0, n) for n in range(2)], [rig.guest(1, n) for n in range(9)]
    for sender in senders:
        sender.send(receivers[0].mac, bytes(200))
        sender.send(receivers[8].mac, bytes(200))
    rig.events.run_until(after_ns * 1000)
    rig.nics[0].destroy_vif(senders[0].vif)
    receivers[0].vif.detach()
    memory = [bytes(guest.ram.bytes) for guest in (senders[0], receivers[0])]
    rig.run(50)
    assert memory == [bytes(guest.ram.bytes) for guest in (senders[0], receivers[0])]
    for guest in (*senders, *receivers):
        check_counters(guest.vif.counters, 0, 0)
    sent = senders[0].vif.counters.sent + 2
    assert senders[1].vif.counters.sent == 2
    assert receivers[8].vif.counters.received == receivers[8].vif.counters.arrived
    assert len(rig.ends[0].sent) == sent


def test_one_that_floods_holds_up_nobody_of_another_context() -> None:
    """64 frames to one that takes nothing fill its ring's share; a frame to another comes all the same."""
    rig = Rig()
    flooder, one = rig.guest(0, 0), rig.guest(0, 1)
    victim, other = rig.guest(1, 0), rig.guest(1, 1)
    for number in range(64):
        victim.write(RECEIVE_RING, number, 0, 0, FREE)
        flooder.send(victim.mac, bytes(46))
    one.send(other.mac, b"through".ljust(46))
    rig.run(10)
    assert other.take() == [b"through".ljust(46)]
    rig.run(200)
    assert victim.vif.counters.receive_drops == {"no descriptor": 64}
