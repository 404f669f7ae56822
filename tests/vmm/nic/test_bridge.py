"""Claims about VIFs of a bridge: what a guest gives is taken once and in order, and what it scribbles harms nobody."""

import random

import pytest

from devices.nic import vif_page
from devices.nic.vif import VIF_MAX, Vif
from devices.nic.vif_page import BAD_ADDRESS, BAD_LENGTH, DONE, ERROR, FREE, OWNED, RECEIVE_RING, SEND_RING
from tests.devices.nic.rig import PAGE, RAM_BYTES, RECEIVE_BUFFERS, SEND_BUFFERS, Ram
from vmm.nic.bridge import Bridge, Carried

FRAME = bytes(range(64))


class Guest:
    """A guest with a VIF of `bridge`, attached, with all its receive descriptors given."""

    def __init__(self, bridge: Bridge, number: int = 0) -> None:
        self.ram = Ram()
        vif = bridge.create(bytes((2, 0, 0, 0, 0, number)), self.ram)
        assert vif is not None
        self.vif: Vif = vif
        for index in range(vif_page.RING_COUNT):
            self.give(RECEIVE_RING, index, RECEIVE_BUFFERS + 2048 * index, 2048)
        assert vif.attach(PAGE)

    def give(self, ring: int, index: int, address: int, length: int) -> None:
        self.ram.write(PAGE + vif_page.descriptor_at(ring, index), vif_page.pack(address, length, OWNED))

    def send(self, index: int, frame: bytes) -> None:
        self.ram.write(SEND_BUFFERS + 2048 * index, frame)
        self.give(SEND_RING, index, SEND_BUFFERS + 2048 * index, len(frame))

    def result(self, ring: int, index: int) -> tuple[int, int]:
        """(length, state) of a descriptor."""
        at = PAGE + vif_page.descriptor_at(ring, index)
        return vif_page.unpack(self.ram.read(at, vif_page.DESCRIPTOR_BYTES))[1:]


def carried(index: int, frame: bytes) -> Carried:
    """A frame of `Guest.send`, fetched."""
    return Carried(SEND_BUFFERS + 2048 * index, frame, PAGE + vif_page.descriptor_at(SEND_RING, index))


@pytest.fixture
def pending() -> list[str]:
    return []


@pytest.fixture
def bridge(pending: list[str]) -> Bridge:
    return Bridge(now_ps=lambda: 7, on_pending=lambda: pending.append("pending"))


def test_frames_are_fetched_once_and_in_order(bridge: Bridge) -> None:
    guest = Guest(bridge)
    frames = [bytes([number]) * (14 + 100 * number) for number in range(10)]
    for number, frame in enumerate(frames):
        guest.send(number, frame)
    fetched = [bridge.fetch(0) for _ in range(11)]
    assert fetched == [*(carried(number, frame) for number, frame in enumerate(frames)), None]
    assert [guest.result(SEND_RING, number) for number in range(10)] == [(len(frame), DONE) for frame in frames]
    assert guest.vif.counters.posted == guest.vif.counters.sent == 10


def test_frames_are_delivered_in_order_and_the_count_in_the_page_says_so(bridge: Bridge) -> None:
    guest = Guest(bridge)
    for number in range(3):
        assert bridge.deliver(0, FRAME + bytes([number]))
        assert guest.result(RECEIVE_RING, number) == (65, DONE)
        assert guest.ram.read(RECEIVE_BUFFERS + 2048 * number, 65) == FRAME + bytes([number])
    assert guest.ram.read(PAGE + vif_page.RECEIVED, 4) == (3).to_bytes(4, "little")


def test_the_backend_is_told_when_there_is_something_and_there_was_nothing(bridge: Bridge, pending: list[str]) -> None:
    guests = [Guest(bridge, number) for number in range(3)]
    bridge.notify(guests[2].vif)
    bridge.notify(guests[0].vif)
    assert pending == ["pending"]
    assert bridge.take_pending() == 0b101
    assert bridge.take_pending() == 0
    bridge.notify(guests[1].vif)
    assert pending == ["pending"] * 2


def test_a_vif_that_is_detached_or_destroyed_has_nothing_pending(bridge: Bridge, pending: list[str]) -> None:
    first, second = Guest(bridge, 0), Guest(bridge, 1)
    bridge.notify(first.vif)
    bridge.notify(second.vif)
    first.vif.detach()
    bridge.destroy(second.vif)
    assert bridge.take_pending() == 0
    bridge.notify(first.vif)
    bridge.notify(second.vif)
    assert pending == ["pending"]
    assert bridge.fetch(0) is bridge.fetch(1) is bridge.fetch(99) is None
    assert not bridge.deliver(0, FRAME)
    assert not bridge.deliver(99, FRAME)


@pytest.mark.parametrize(
    ("address", "length", "why"),
    [
        (SEND_BUFFERS, 13, BAD_LENGTH),
        (SEND_BUFFERS, 1515, BAD_LENGTH),
        (SEND_BUFFERS, (1 << 32) - 1, BAD_LENGTH),
        (RAM_BYTES, 64, BAD_ADDRESS),
        (RAM_BYTES - 63, 64, BAD_ADDRESS),
        ((1 << 64) - 1, 64, BAD_ADDRESS),
    ],
    ids=str,
)
def test_a_malformed_descriptor_is_an_error_and_the_next_goes_on(
    bridge: Bridge, address: int, length: int, why: int
) -> None:
    guest = Guest(bridge)
    guest.give(SEND_RING, 0, address, length)
    guest.send(1, FRAME)
    assert bridge.fetch(0) == carried(1, FRAME)
    assert guest.result(SEND_RING, 0) == (why, ERROR)
    assert guest.vif.counters.send_errors == 1
    assert guest.ram.outside == 0


@pytest.mark.parametrize(
    ("address", "room", "why"),
    [(RECEIVE_BUFFERS, 63, BAD_LENGTH), (RAM_BYTES - 1, 2048, BAD_ADDRESS), ((1 << 64) - 8, 2048, BAD_ADDRESS)],
    ids=str,
)
def test_a_receive_descriptor_without_room_is_an_error(bridge: Bridge, address: int, room: int, why: int) -> None:
    guest = Guest(bridge)
    guest.give(RECEIVE_RING, 0, address, room)
    assert bridge.deliver(0, FRAME) == Carried(address, b"", PAGE + RECEIVE_RING)
    assert guest.result(RECEIVE_RING, 0) == (why, ERROR)
    assert guest.ram.outside == 0


def test_without_a_receive_descriptor_a_frame_is_dropped_and_counted(bridge: Bridge) -> None:
    guest = Guest(bridge)
    assert all(bridge.deliver(0, FRAME) for _ in range(vif_page.RING_COUNT))
    assert not bridge.deliver(0, FRAME)
    assert guest.vif.counters.receive_drops == {"no descriptor": 1}
    guest.give(RECEIVE_RING, 0, RECEIVE_BUFFERS, 2048)
    assert bridge.deliver(0, FRAME)


def test_addresses_are_those_of_one_interface_each(bridge: Bridge) -> None:
    Guest(bridge, 1)
    for mac in (bytes((2, 0, 0, 0, 0, 1)), bytes(5), b"\1" + bytes(5)):
        with pytest.raises(ValueError, match="no MAC address for a VIF, or it is taken"):
            bridge.create(mac, Ram())
    for number in range(2, VIF_MAX + 1):
        assert bridge.create(bytes((2, 0, 0, 0, 0, number)), Ram()) is not None
    assert bridge.create(bytes((2, 0, 0, 0, 1, 0)), Ram()) is None


@pytest.mark.parametrize("seed", range(5))
def test_a_guest_that_scribbles_over_its_rings_harms_nobody_and_every_descriptor_is_counted(
    bridge: Bridge, seed: int
) -> None:
    scribbler, other = Guest(bridge, 0), Guest(bridge, 1)
    before, draw = bytes(other.ram.bytes), random.Random(seed)
    for _ in range(400):
        at = PAGE + draw.randrange(0, 4096, 4)
        value = draw.choice((draw.getrandbits(32), draw.randrange(RAM_BYTES), OWNED, FREE, DONE, 64))
        scribbler.ram.write(at, value.to_bytes(4, "little"))
        bridge.notify(scribbler.vif)
        bridge.take_pending()
        bridge.fetch(0)
        bridge.deliver(0, FRAME)
    counts, vif = scribbler.vif.counters, scribbler.vif
    assert counts.posted == counts.sent + counts.send_errors + vif.sends_in_work
    drops = sum(counts.receive_drops.values())
    assert counts.arrived == counts.received + counts.receive_errors + drops + vif.receives_in_work
    assert (vif.sends_in_work, vif.receives_in_work, scribbler.ram.outside) == (0, 0, 0)
    assert bytes(other.ram.bytes) == before
    other.send(0, FRAME)
    assert bridge.fetch(1) == carried(0, FRAME)
