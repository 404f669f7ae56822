"""Polling the send queues of some VIFs, jumped over: a poll that finds nothing is never executed.

    anchor          |<-- period -->|
    | read VIF 3 .. | read VIF 11 .. | read VIF 3 .. |     a poll is a read of a descriptor, answered `latency` later
                  ^ sample         ^                     then the loop's instructions

A microengine context that polls reads the next descriptor of one of its VIFs after the other. When it will find one
follows from this grid and from when the guest's store can be seen.

MODEL: polls that find nothing delay nobody, and nobody delays them.
"""

from typing import Protocol

from devices.nic.vif import Descriptor, Vif
from devices.nic.vif_page import SEND_RING
from emulator.events import Event, EventQueue


class Finder(Protocol):
    """A context that polls."""

    def hand(self, value: object, at_ps: int) -> None:
        """What it waits for, and when it has it."""
        ...


class Poller:
    """Polls for one context at a time, VIFs in order of their numbers, each as often as any other."""

    def __init__(self, events: EventQueue, *, latency_ps: int, loop_ps: int) -> None:
        self.polls = 0
        self._events = events
        self._latency_ps = latency_ps
        self._period_ps = latency_ps + loop_ps
        self._vifs: list[Vif] = []  # attached, by number
        self._next = 0  # of them, at the anchor
        self._anchor_ps = 0
        self._finder: Finder | None = None  # who polls; None: nobody
        self._poll = 0  # the one of `_event`, counted from the anchor
        self._event: Event | None = None

    def poll(self, finder: Finder, at_ps: int) -> None:
        """Poll from `at_ps` on, for `finder`."""
        self._finder, self._anchor_ps = finder, at_ps
        self._plan()

    def change(self, vif: Vif) -> None:
        """A VIF is attached, or detached."""
        self._move_anchor()
        following = self._vifs[self._next].number if self._vifs else 0
        self._vifs = [other for other in self._vifs if other is not vif]
        if vif.is_attached:
            self._vifs = sorted([*self._vifs, vif], key=_number_of)
        self._next = next((at for at, other in enumerate(self._vifs) if other.number >= following), 0)
        self._plan()

    def look(self, vif: Vif) -> None:
        """The next descriptor of a VIF may be found from another time on."""
        self._plan()

    def _move_anchor(self) -> None:
        """To the poll that comes next."""
        if self._finder is None or self._anchor_ps >= self._events.now_ps:
            return
        done = -(-(self._events.now_ps - self._anchor_ps) // self._period_ps) if self._vifs else 0
        self._go_on(done)
        if not self._vifs:
            self._anchor_ps = self._events.now_ps

    def _go_on(self, polls: int) -> None:
        if self._vifs:
            self.polls += polls
            self._anchor_ps += polls * self._period_ps
            self._next = (self._next + polls) % len(self._vifs)

    def _plan(self) -> None:
        """Find the first poll that may find something."""
        self._events.cancel(self._event)
        self._event = None
        if self._finder is None:
            return
        count, first = len(self._vifs), None
        for offset in range(count):
            visible_ps = self._vifs[(self._next + offset) % count].next_visible_ps
            if visible_ps is not None:
                sample_ps = self._anchor_ps + offset * self._period_ps + self._latency_ps
                late_ps = max(visible_ps, self._events.now_ps) - sample_ps
                rounds = -(-late_ps // (count * self._period_ps)) if late_ps > 0 else 0
                poll = offset + rounds * count
                first = poll if first is None or poll < first else first
        if first is not None:
            self._poll = first
            when_ps = self._anchor_ps + first * self._period_ps + self._latency_ps
            self._event = self._events.schedule(when_ps, self._sample)

    def _sample(self) -> None:
        self._event = None
        self._go_on(self._poll)
        vif = self._vifs[self._next]
        self._go_on(1)
        descriptor: Descriptor | None = vif.take(SEND_RING)
        if descriptor is None:
            vif.visible_ps[vif.send_index] = None
            self._plan()
            return
        finder, self._finder = self._finder, None
        assert finder is not None
        finder.hand(descriptor, self._events.now_ps)


def _number_of(vif: Vif) -> int:
    return vif.number
