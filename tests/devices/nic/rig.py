"""NICs on fake wires, with fake guests: memory of a few pages, in which a driver of a few lines writes descriptors."""

from collections.abc import Callable
from functools import partial
from typing import Any

from devices.nic import vif_page
from devices.nic.board import NicBoard, load_board
from devices.nic.nic import Nic
from devices.nic.vif import Vif
from devices.nic.vif_page import DONE, OWNED, RECEIVE_RING, SEND_RING
from emulator.events import EventQueue
from tests.devices.wire import Wire

WIRE_PS = 500_000
SHORTEST_PS = 576_000  # preamble and 64 bytes at 1 Gb/s
PAGE, RAM_BYTES = 0x1000, 0x40000
SEND_BUFFERS, RECEIVE_BUFFERS, BUFFER_BYTES = 0x2000, 0x20000, 2048


class Ram:
    """A guest's memory: what it refuses is what is not below its end."""

    def __init__(self, size_bytes: int = RAM_BYTES) -> None:
        self.bytes = bytearray(size_bytes)
        self.outside = 0  # accesses beyond it

    def is_ram(self, address: int, length_bytes: int) -> bool:
        return address + length_bytes <= len(self.bytes)

    def read(self, address: int, length_bytes: int) -> bytes:
        if not self.is_ram(address, length_bytes):
            self.outside += 1
            return b"\xff" * length_bytes
        return bytes(self.bytes[address : address + length_bytes])

    def write(self, address: int, data: bytes) -> None:
        if self.is_ram(address, len(data)):
            self.bytes[address : address + len(data)] = data
        else:
            self.outside += 1


class End:
    """An end of a fake wire; what the NIC sent is in `sent`, with the times of the last bits."""

    def __init__(self, events: EventQueue) -> None:
        self.on_receive: Callable[[bytes], None] | None = None
        self.other: End | None = None
        self.sent: list[tuple[bytes, int]] = []
        self._events = events

    def send(self, frame: bytes, now_ps: int) -> bool:
        assert now_ps - self._events.now_ps >= SHORTEST_PS, "a frame has to be told when its first bit leaves"
        self.sent.append((frame, now_ps))
        if self.other is not None and self.other.on_receive is not None:
            self._events.schedule(now_ps + WIRE_PS, partial(self.other.on_receive, frame))
        return True


class Guest:
    """A driver that is always well-behaved; tests write to `ram` what it would not."""

    def __init__(self, nic: Nic, mac: bytes, events: EventQueue) -> None:
        self.ram, self.mac = Ram(), mac
        self._events = events
        vif = nic.create_vif(mac, self.ram)
        assert vif is not None
        self.vif: Vif = vif
        self.posted = self.taken = 0
        self.delivered: list[int] = []
        vif.on_delivered = self.on_delivered

    def on_delivered(self, vif: Vif, number: int) -> None:
        self.delivered.append(number)

    def attach(self) -> None:
        for number in range(vif_page.RING_COUNT):
            self.give(number)
        assert self.vif.attach(PAGE)

    def write(self, ring: int, number: int, address: int, length: int, state: int) -> None:
        at = PAGE + vif_page.descriptor_at(ring, number)
        self.ram.bytes[at : at + 16] = vif_page.pack(address, length, state)

    def read(self, ring: int, number: int) -> tuple[int, int, int]:
        at = PAGE + vif_page.descriptor_at(ring, number)
        return vif_page.unpack(bytes(self.ram.bytes[at : at + 16]))

    def give(self, number: int) -> None:
        self.write(RECEIVE_RING, number, RECEIVE_BUFFERS + number % 64 * BUFFER_BYTES, BUFFER_BYTES, OWNED)

    def post(self, address: int, length: int) -> None:
        self.write(SEND_RING, self.posted, address, length, OWNED)
        self.vif.notice_send(self.posted, self._events.now_ps)
        self.posted += 1

    def send(self, to: bytes, payload: bytes) -> None:
        frame = to + self.mac + b"\x88\xb5" + payload
        address = SEND_BUFFERS + self.posted % 32 * BUFFER_BYTES
        self.ram.bytes[address : address + len(frame)] = frame
        self.post(address, len(frame))

    def take(self) -> list[bytes]:
        """The payloads that have come, in order; their descriptors are the device's again."""
        return [frame[14:] for frame in self.take_frames()]

    def take_frames(self) -> list[bytes]:
        """The frames that have come."""
        frames: list[bytes] = []
        while True:
            address, length, state = self.read(RECEIVE_RING, self.taken)
            if state != DONE:
                return frames
            frames.append(bytes(self.ram.bytes[address : address + length]))
            self.give(self.taken)
            self.taken += 1


class Rig:
    """Two NICs that a wire joins, or one whose end of the wire is loose."""

    def __init__(self, board: NicBoard | None = None, **options: Any) -> None:
        self.events = EventQueue()
        self.nics = [Nic(self.events, board or load_board(), **options) for _ in range(2)]
        self.ends = [End(self.events), End(self.events)]
        self.lines = [Wire(self.events), Wire(self.events)]
        self.ends[0].other, self.ends[1].other = self.ends[1], self.ends[0]
        for nic, end, line in zip(self.nics, self.ends, self.lines, strict=True):
            nic.connect(end)
            nic.function.line = line

    def guest(self, nic: int, number: int) -> Guest:
        """A guest of NIC `nic`, attached; `number` makes its MAC address."""
        guest = Guest(self.nics[nic], bytes((2, 0, 0, 0, nic, number)), self.events)
        guest.attach()
        return guest

    def run(self, us: int) -> None:
        self.events.run_until(self.events.now_ps + us * 1_000_000)
