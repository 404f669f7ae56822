"""A wire between two hosts: full duplex, each frame arrives whole, in the order of sending.

    end 0  send --| frame | frame |--- latency ---> on_receive  end 1         bits_per_second: how long a frame is |  |
           on_receive <-- latency ---| frame |----- send                      None: no time at all

A frame that is sent while another leaves waits for it. What was sent is carried to the receiver's events by the world
(world.py), which lets no host get beyond what may still arrive: the latency away. Who paces frames itself, as a network
card does, and says at its first bit when the last will have left, gives the receiver `lead_ps` more.

A wire can have a fault: it loses frames, or holds them up. Which ones is the same in every run.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from emulator.events import PS_PER_SECOND, EventQueue

BACKLOG_MAX_PS = PS_PER_SECOND // 1000  # of frames that wait for others: a guest may send without an end
PARTS = 10**6
_WORD = (1 << 64) - 1


@dataclass(frozen=True)
class Fault:
    """Of a million frames `loss_ppm` are lost, and each is up to `jitter_ps` late; none overtakes another."""

    loss_ppm: int = 0
    jitter_ps: int = 0
    seed: int = 0

    def loses(self, number: int) -> bool:
        """Whether frame `number` of a wire's end is lost."""
        return self.loss_ppm > 0 and self._drawn(2 * number) * PARTS >> 64 < self.loss_ppm

    def delay_ps(self, number: int) -> int:
        """How late it is."""
        return self._drawn(2 * number + 1) * (self.jitter_ps + 1) >> 64 if self.jitter_ps else 0

    def _drawn(self, index: int) -> int:
        """64 bits that look random: splitmix64 (Steele, Lea, Flood, OOPSLA 2014), at once for any index."""
        word = ((self.seed + 1) * 0xD1342543DE82EF95 + (index + 1) * 0x9E3779B97F4A7C15) & _WORD
        word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & _WORD
        word = (word ^ word >> 27) * 0x94D049BB133111EB & _WORD
        return word ^ word >> 31


NO_FAULT = Fault()


class Departures(Protocol):
    """What is known of the frames that a card will send."""

    answer_ps: int  # from anything that happens outside the card to the first bit of a frame because of it, at least

    def first_ps(self, next_ps: int) -> int:
        """No first bit leaves before, if nothing happens outside the card before `next_ps`; never less than before."""
        ...


class WireEnd:
    """Where the host of `events` is connected. `on_sent` gets the time at which a frame arrives at the other end."""

    def __init__(
        self,
        events: EventQueue,
        *,
        latency_ps: int,
        bits_per_second: int | None,
        on_sent: Callable[[int], None],
        fault: Fault = NO_FAULT,
    ) -> None:
        self.on_receive: Callable[[bytes], None] | None = None  # None: nobody listens
        self.free_ps = 0  # when the last frame has left: a network card sends the next then
        self.dropped_count = 0  # frames that would have waited too long
        self.sent_count = self.lost_count = 0  # lost ones were sent
        self._events = events
        self._latency_ps = latency_ps
        self._bits_per_second = bits_per_second
        self._on_sent = on_sent
        self._fault = fault
        self._last_arrival_ps = 0
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
        number = self.sent_count
        self.sent_count += 1
        if self._fault.loses(number):
            self.lost_count += 1
            return True
        arrival_ps = max(self.free_ps + self._latency_ps + self._fault.delay_ps(number), self._last_arrival_ps)
        self._last_arrival_ps = arrival_ps
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
