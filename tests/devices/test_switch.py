"""Claims about a switch: who gets a frame, when, and what becomes of those that find no room."""

from functools import partial

import pytest

from devices.switch import ADDRESSES_MAX, Switch
from emulator.station import Station
from emulator.world import World

NS = 1000
CABLE_NS, FORWARD_NS = 500, 1000
WIRE_NS = (8 + 60 + 4) * 8  # of a short frame at a gigabit
GROUP = b"\xff" * 6
END_PS = 10**9


class Sender(Station):
    """Sends frames when it is told to, and notes what comes."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.mac = bytes([2, 0, 0, 0, 0, number])
        self.log: list[tuple[int, bytes]] = []

    def receive(self, frame: bytes) -> None:
        self.log.append((self.machine.events.now_ps, frame))

    @property
    def texts(self) -> list[bytes]:
        return [frame[12:].rstrip(b"\0") for _, frame in self.log]


class Network:
    """`count` senders around a switch."""

    def __init__(self, count: int, *, queue_bytes: int = 64 << 10) -> None:
        self.senders = [Sender(number) for number in range(count)]
        self.switch = Switch(count, queue_bytes=queue_bytes, forward_ns=FORWARD_NS, bits_per_second=10**9)
        self.world = World([*self.senders, self.switch])
        self.ends = []
        for sender, port in zip(self.senders, self.switch.ports, strict=True):
            there, here = self.world.connect(sender, self.switch, latency_ps=CABLE_NS * NS, lead_ps=self.switch.lead_ps)
            there.on_receive = sender.receive
            port.connect(here)
            self.ends.append(there)

    def send(self, at_ns: int, sender: int, to: bytes, text: bytes) -> None:
        """A frame's first bit leaves at `at_ns`."""
        frame = (to + self.senders[sender].mac + text).ljust(60, b"\0")
        self.senders[sender].machine.events.schedule(at_ns * NS, partial(self.put, sender, frame))

    def put(self, sender: int, frame: bytes) -> None:
        """A frame's first bit leaves now."""
        self.ends[sender].send(frame, self.senders[sender].machine.events.now_ps + WIRE_NS * NS)

    def run(self, *limits_ps: int) -> None:
        for limit_ps in (*limits_ps, END_PS):
            self.world.advance(limit_ps)


def test_a_frame_to_nobody_it_knows_goes_to_all_others_and_the_answer_to_one() -> None:
    network = Network(3)
    first, second, third = network.senders
    network.send(0, 0, second.mac, b"hello")
    network.send(10_000, 1, first.mac, b"answer")
    network.send(20_000, 0, second.mac, b"again")
    network.run()
    assert (first.texts, second.texts, third.texts) == ([b"answer"], [b"hello", b"again"], [b"hello"])
    assert [port.counts.flooded for port in network.switch.ports] == [1, 0, 0]


def test_a_group_gets_every_frame() -> None:
    network = Network(3)
    network.send(0, 1, GROUP, b"all")
    network.send(9_000, 0, GROUP, b"all")
    network.run()
    assert [sender.texts for sender in network.senders] == [[b"all"], [b"all"], [b"all"] * 2]


def test_a_frame_is_stored_forwarded_and_sent() -> None:
    network = Network(2)
    network.send(0, 0, GROUP, b"x")
    network.run()
    assert network.senders[1].log[0][0] == (2 * (WIRE_NS + CABLE_NS) + FORWARD_NS) * NS


def test_frames_to_one_port_leave_one_behind_the_other_with_a_gap() -> None:
    network = Network(3)
    network.send(0, 0, GROUP, b"one")
    network.send(0, 1, GROUP, b"two")
    network.run()
    (first_ps, _), (second_ps, _) = network.senders[2].log
    assert network.senders[2].texts == [b"one", b"two"]
    assert second_ps - first_ps == (WIRE_NS + 12 * 8) * NS


def test_a_full_queue_drops_for_its_port_alone_and_counts() -> None:
    network = Network(4, queue_bytes=2 * 60)
    for number in range(8):
        at_ns = number * (WIRE_NS + 96)
        network.send(at_ns, 0, GROUP, b"a%d" % number)
        network.send(at_ns, 1, GROUP, b"b%d" % number)
    network.run()
    drops = [port.counts.queue_drops for port in network.switch.ports]
    assert drops[0] == drops[1] == 0  # one other sends to them, at the rate of a wire
    assert drops[2] == drops[3] > 0
    for sender, dropped in zip(network.senders[2:], drops[2:], strict=True):
        assert len(sender.texts) == 16 - dropped
        assert [text for text in sender.texts if text[:1] == b"a"] == sorted(t for t in sender.texts if t[:1] == b"a")


def test_a_frame_to_its_own_port_or_without_a_header_goes_nowhere() -> None:
    network = Network(2)
    network.send(0, 0, network.senders[0].mac, b"self")
    network.senders[0].machine.events.schedule(9_000 * NS, partial(network.put, 0, b"short"))
    network.run()
    assert network.senders[1].log == []
    counts = network.switch.ports[0].counts
    assert (counts.received, counts.filtered, counts.malformed_drops) == (2, 1, 1)


def test_it_keeps_so_many_addresses_and_no_more() -> None:
    network = Network(2)
    for number in range(ADDRESSES_MAX + 3):
        source = b"\x02" + number.to_bytes(5)
        network.switch.receive(network.switch.ports[0], GROUP + source + bytes(48))
    network.run()
    assert len(network.switch._places) == ADDRESSES_MAX
    assert b"\x02" + (2).to_bytes(5) not in network.switch._places


@pytest.mark.parametrize("limits_ps", [(1, 700_000, 2_500_001), tuple(range(0, 9_000_000, 111_111))])
def test_slices_change_nothing(limits_ps: tuple[int, ...]) -> None:
    logs = []
    for limits in ((), limits_ps):
        network = Network(4, queue_bytes=200)
        for number in range(40):
            network.send(number * 997, number % 4, GROUP, b"%d" % number)
        network.run(*limits)
        logs.append([sender.log for sender in network.senders])
    assert logs[0] == logs[1]
