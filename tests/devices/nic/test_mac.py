"""The port: how long frames take, and what its buffers hold."""

import pytest

from devices.nic.board import load_board
from devices.nic.chip_events import ChipEvents
from devices.nic.mac import Mac, Received
from devices.nic.observe import Observers
from devices.nic.rings import Turns
from emulator.events import EventQueue
from tests.devices.nic.rig import End, Rig


class Context:
    def __init__(self) -> None:
        self.handed: list[object] = []
        self.retried: list[int] = []

    def take_turn(self, turns: Turns, at_ps: int) -> None:
        pass

    def hand(self, value: object, at_ps: int) -> None:
        self.handed.append(value)

    def retry(self, at_ps: int) -> None:
        self.retried.append(at_ps)


class Port:
    def __init__(self, *settings: str) -> None:
        self.events = EventQueue()
        self.mac = Mac(ChipEvents(self.events, batches=False), load_board(settings), Observers())
        self.end = End(self.events)
        self.mac.connect(self.end)

    def send(self, length: int, context: Context) -> None:
        assert self.mac.has_room(bytes(length), context)
        self.mac.send(bytes(length), 0, self.events.now_ps)


@pytest.mark.parametrize(
    ("length", "padded", "ns"), [(14, 60, 576), (60, 60, 576), (61, 61, 584), (1514, 1514, 12_208)]
)
def test_a_frames_last_bit_leaves_after_its_preamble_its_bytes_and_its_check(length: int, padded: int, ns: int) -> None:
    port = Port()
    port.send(length, Context())
    assert port.end.sent == [(bytes(padded), ns * 1000)]


def test_frames_leave_one_after_the_other_with_a_gap() -> None:
    port = Port()
    for _ in range(3):
        port.send(60, Context())
    assert [when_ps for _, when_ps in port.end.sent] == [576_000, 576_000 + 672_000, 576_000 + 2 * 672_000]


def test_who_finds_no_room_to_transmit_is_told_when_a_frame_has_left() -> None:
    port, waiting = Port("transmit_buffer_bytes=4096"), Context()
    for _ in range(2):
        port.send(1514, Context())
    port.send(1000, Context())
    assert not port.mac.has_room(bytes(129), waiting)
    port.events.run_until(12_208_000)
    assert waiting.retried == [12_208_000]
    assert port.mac.has_room(bytes(1514), waiting)
    assert port.mac.buffers()["transmit_max_bytes"] == 4096


def test_a_frame_that_finds_no_room_in_the_receive_buffer_is_dropped_and_counted() -> None:
    port, context = Port("receive_buffer_bytes=1664"), Context()
    for length in (1500, 128, 129, 64):
        port.mac.receive(bytes(length))
    assert (port.mac.arrived, port.mac.drops) == (4, {"receive buffer full": 2})
    port.mac.get(context, 0)
    port.mac.free(bytes(1500))
    port.mac.receive(bytes(129))
    port.mac.get(context, 0)
    port.mac.get(context, 0)
    assert [len(received.frame) for received in context.handed if isinstance(received, Received)] == [1500, 128, 129]
    assert port.mac.buffers()["receive_max_bytes"] == 1664


def test_frames_of_impossible_lengths_are_dropped_and_counted() -> None:
    port = Port()
    for length in (0, 13, 1515, 9000):
        port.mac.receive(bytes(length))
    assert port.mac.drops == {"length": 4}


def test_a_nic_whose_wire_is_loose_sends_all_the_same() -> None:
    rig = Rig()
    rig.nics[0]._chip.mac.end = None
    one = rig.guest(0, 0)
    one.send(b"\2\0\0\0\7\7", b"")
    rig.run(20)
    assert one.vif.counters.sent == rig.nics[0].stats()["mac"]["sent"] == 1


def test_faster_than_it_can_be_taken_frames_are_dropped_and_those_that_stay_are_in_order() -> None:
    """Frames of 64 bytes without a gap, to one guest, whose context needs longer for each."""
    rig = Rig()
    guest = rig.guest(1, 0)
    receive = rig.ends[1].on_receive
    assert receive is not None
    frames = [guest.mac + bytes(6) + number.to_bytes(2, "big") + bytes(46) for number in range(900)]
    taken = []
    for frame in frames:
        receive(frame)
        rig.events.run_until(rig.events.now_ps + 672_000)
        taken += guest.take_frames()
    for _ in range(20):
        rig.run(50)
        taken += guest.take_frames()
    assert taken == [frame for frame in frames if frame in taken]
    drops = guest.vif.counters.receive_drops
    assert drops == {"ring full": len(frames) - len(taken)}
    assert 300 < len(taken) < 900
