"""An Ethernet switch: it stores and forwards, and learns behind which port an address is.

    on_receive, the last bit is in --forward_ns--> who is where? --> queue of a port --> | frame | gap | --> wire
                                                   unknown, or to a group: all other ports

A queue holds `queue_bytes`; a frame that does not fit is dropped and counted, at that port alone. Frames from one port
to another stay in order. IEEE 802.1D, 7: forwarding, filtering, learning.

MODEL: what is learned never ages; no spanning tree, so switches must not form a circle; no flow control.
"""

from collections import deque
from dataclasses import dataclass
from functools import partial

from emulator.events import PS_PER_NS, PS_PER_SECOND
from emulator.station import Station
from emulator.wire import WireEnd

HEADER_BYTES = 14
ADDRESS_BYTES = 6
PREAMBLE_BYTES, CHECK_BYTES, GAP_BYTES = 8, 4, 12  # IEEE 802.3, 4.4.2 and 3.1.1
FRAME_MIN_BYTES = 60  # without the check sequence
ADDRESSES_MAX = 8192  # of switches of the time; who sends from more addresses makes it forget the oldest


@dataclass
class PortCounts:
    """What a port has done with frames."""

    received: int = 0
    sent: int = 0
    queue_drops: int = 0  # to it: its queue was full
    malformed_drops: int = 0  # from it
    filtered: int = 0  # from it, to whoever is behind the same port
    flooded: int = 0  # from it, to all others


class Port:
    """Where a wire is connected: its queue, and who sends."""

    def __init__(self, switch: "Switch") -> None:
        self.counts = PortCounts()
        self.end: WireEnd | None = None
        self.queued_bytes = 0  # what is being sent does not count
        self._switch = switch
        self._queue: deque[bytes] = deque()
        self._is_sending = False

    def connect(self, end: WireEnd) -> None:
        """Put a wire in."""
        self.end = end
        end.on_receive = partial(self._switch.receive, self)

    def put(self, frame: bytes) -> None:
        """Send a frame behind those that wait."""
        if not self._is_sending:
            self._send(frame)
        elif self.queued_bytes + len(frame) > self._switch.queue_bytes:
            self.counts.queue_drops += 1
        else:
            self.queued_bytes += len(frame)
            self._queue.append(frame)

    def _send(self, frame: bytes) -> None:
        switch = self._switch
        events = switch.machine.events
        last_bit_ps = events.now_ps + switch.wire_ps(PREAMBLE_BYTES + max(len(frame), FRAME_MIN_BYTES) + CHECK_BYTES)
        self._is_sending = True
        self.counts.sent += 1
        if self.end is not None:
            self.end.send(frame, last_bit_ps)
        events.schedule(last_bit_ps + switch.wire_ps(GAP_BYTES), self._go_on)

    def _go_on(self) -> None:
        """The next frame may start."""
        self._is_sending = False
        if self._queue:
            frame = self._queue.popleft()
            self.queued_bytes -= len(frame)
            self._send(frame)


class Switch(Station):
    """`port_count` ports of `bits_per_second`; `forward_ns` from a frame's last bit to its place in a queue."""

    def __init__(self, port_count: int, *, queue_bytes: int, forward_ns: int, bits_per_second: int) -> None:
        super().__init__()
        self.queue_bytes = queue_bytes
        self._forward_ps = forward_ns * PS_PER_NS
        self._bits_per_second = bits_per_second
        self._places: dict[bytes, Port] = {}  # by address, the one heard of first before others
        self.ports = [Port(self) for _ in range(port_count)]

    def wire_ps(self, length_bytes: int) -> int:
        """How long so many bytes are on a wire."""
        return -(-length_bytes * 8 * PS_PER_SECOND // self._bits_per_second)

    @property
    def lead_ps(self) -> int:
        """How long a frame is sent before its last bit has left, at least."""
        return self.wire_ps(PREAMBLE_BYTES + FRAME_MIN_BYTES + CHECK_BYTES)

    def receive(self, port: Port, frame: bytes) -> None:
        """The last bit of a frame is in."""
        port.counts.received += 1
        if len(frame) < HEADER_BYTES:
            port.counts.malformed_drops += 1
            return
        events = self.machine.events
        events.schedule(events.now_ps + self._forward_ps, partial(self._forward, port, frame))

    def _forward(self, port: Port, frame: bytes) -> None:
        destination, source = frame[:ADDRESS_BYTES], frame[ADDRESS_BYTES : 2 * ADDRESS_BYTES]
        self._learn(source, port)
        place = None if _is_group(destination) else self._places.get(destination)
        if place is port:
            port.counts.filtered += 1
        elif place is not None:
            place.put(frame)
        else:
            port.counts.flooded += 1
            for other in self.ports:
                if other is not port:
                    other.put(frame)

    def _learn(self, source: bytes, port: Port) -> None:
        if _is_group(source):
            return
        if source not in self._places and len(self._places) >= ADDRESSES_MAX:
            del self._places[next(iter(self._places))]
        self._places[source] = port


def _is_group(address: bytes) -> bool:
    return bool(address[0] & 1)
