"""Where frames go: to VIFs of the same NIC past the wire, to the wire, to groups, to who sees all."""

from devices.nic.vif import VifCounters
from devices.nic.vif_page import RECEIVED
from tests.devices.nic.rig import PAGE, Guest, Ram, Rig

GROUP = b"\xff" * 6
NOBODY = b"\2\0\0\0\7\7"


def frames(rig: Rig, nic: int) -> list[bytes]:
    return [frame for frame, _ in rig.ends[nic].sent]


def test_a_frame_for_a_guest_of_the_same_host_does_not_use_the_wire() -> None:
    rig = Rig()
    one, other = rig.guest(0, 0), rig.guest(0, 9)
    one.send(other.mac, b"near" * 12)
    one.send(one.mac, b"self" * 12)
    rig.run(30)
    assert (other.take(), one.take(), frames(rig, 0)) == ([b"near" * 12], [b"self" * 12], [])
    assert (one.vif.counters.posted, one.vif.counters.sent) == (2, 2)


def test_one_for_a_guest_that_is_detached_is_nobodys() -> None:
    rig = Rig()
    one, other = rig.guest(0, 0), rig.guest(0, 1)
    other.vif.detach()
    one.send(other.mac, b"")
    rig.run(30)
    assert (frames(rig, 0), one.vif.counters.sent, other.vif.counters) == ([], 1, VifCounters())


def test_a_frame_to_a_group_goes_to_the_wire_and_to_all_guests_but_its_sender() -> None:
    rig = Rig()
    near = [rig.guest(0, number) for number in range(10)]
    far = [rig.guest(1, number) for number in range(9)]
    far[4].vif.detach()
    near[3].send(GROUP, b"y" * 46)
    rig.run(60)
    assert [len(guest.take()) for guest in near] == [1, 1, 1, 0, 1, 1, 1, 1, 1, 1]
    assert [len(guest.take()) for guest in far] == [1, 1, 1, 1, 0, 1, 1, 1, 1]
    assert len(frames(rig, 0)) == 1


def test_a_frame_from_the_wire_for_nobody_is_counted_or_goes_to_a_promiscuous_guest() -> None:
    rig = Rig()
    sender, other = rig.guest(0, 0), rig.guest(1, 0)
    sender.send(NOBODY, b"z" * 46)
    rig.run(30)
    assert (other.take(), rig.nics[1].stats()["mac"]["drops"]) == ([], {"no VIF": 1})
    backend = rig.nics[1].create_vif(b"\2\0\0\0\1\x63", Ram(), is_promiscuous=True)
    assert backend is not None
    assert backend.attach(PAGE)
    sender.send(NOBODY, b"z" * 46)
    sender.send(other.mac, b"")
    rig.run(30)
    assert (backend.counters.arrived, other.vif.counters.arrived) == (1, 1)


def test_a_short_frame_is_padded_on_the_wire_only() -> None:
    rig = Rig()
    one, near, far = rig.guest(0, 0), rig.guest(0, 1), rig.guest(1, 0)
    one.send(near.mac, b"")
    one.send(far.mac, b"abc")
    rig.run(30)
    assert (near.take(), far.take()) == ([b""], [b"abc" + bytes(43)])


def test_the_page_says_how_many_descriptors_have_been_given_back() -> None:
    rig = Rig()
    one, other = rig.guest(0, 0), rig.guest(1, 0)
    seen = []
    for _ in range(3):
        one.send(other.mac, b"")
        rig.run(20)
        seen.append(received(other))
    other.write(2048, 3, 1 << 40, 2048, 1)
    one.send(other.mac, b"")
    rig.run(20)
    assert ([*seen, received(other)], other.vif.counters.receive_errors) == ([1, 2, 3, 4], 1)


def received(guest: Guest) -> int:
    return int.from_bytes(guest.ram.bytes[PAGE + RECEIVED :][:4], "little")
