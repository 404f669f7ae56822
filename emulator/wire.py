"""A wire between two hosts: full duplex, each frame arrives whole, in the order of sending.

    end 0  send --| frame | frame |--- latency ---> on_receive  end 1         bits_per_second: how long a frame is |  |
           on_receive <-- latency ---| frame |----- send                      None: no time at all

A frame that is sent while another leaves waits for it. What was sent is carried to the receiver's events by the world
(world.py), which lets no host get beyond what may still arrive.
"""

from collections.abc import Callable
from functools import partial

from emulator.events import PS_PER_SECOND, EventQueue

BACKLOG_MAX_PS = PS_PER_SECOND // 1000  # of frames that wait for others: a guest may send without an end


class WireEnd:
    """Where the host of `events` is connected. `on_sent` gets the time at which a frame arrives at the other end."""

    def __init__(
        self, events: EventQueue, *, latency_ps: int, bits_per_second: int | None, on_sent: Callable[[int], None]
    ) -> None:
        self.on_receive: Callable[[bytes], None] | None = None  # None: nobody listens
        self.free_ps = 0  # when the last frame has left: a network card sends the next then
        self.dropped_count = 0  # frames that would have waited too long
        self._events = events
        self._latency_ps = latency_ps
        self._bits_per_second = bits_per_second
        self._on_sent = on_sent
        self._sent: list[tuple[int, bytes]] = []  # (arrival, frame), not carried yet

    def send(self, frame: bytes, now_ps: int) -> bool:
        """Send a frame at `now_ps`, or when those before it have left; False: dropped, so many wait.

        `now_ps` is the sender's time: that of a device's own events, which are a domain's, or of the world (outside).
        """
        start_ps = max(now_ps, self.free_ps)
        if start_ps - now_ps > BACKLOG_MAX_PS:
            self.dropped_count += 1
            return False
        self.free_ps = start_ps
        if self._bits_per_second is not None:
            self.free_ps += -(-len(frame) * 8 * PS_PER_SECOND // self._bits_per_second)
        arrival_ps = self.free_ps + self._latency_ps
        self._sent.append((arrival_ps, frame))
        self._on_sent(arrival_ps)
        return True

    def carry_to(self, receiver: "WireEnd") -> None:
        """What was sent becomes events of the receiver's host."""
        for arrival_ps, frame in self._sent:
            receiver._events.schedule(arrival_ps, partial(receiver.receive, frame))
        self._sent.clear()

    def receive(self, frame: bytes) -> None:
        """A frame arrives."""
        if self.on_receive is not None:
            self.on_receive(frame)
