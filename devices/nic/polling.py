"""Polling the send queues of some VIFs, jumped over: a poll that finds nothing is never executed.

    anchor               anchor + period
    | read VIF 3  | loop | read VIF 11 | loop | read VIF 3  | loop | ...       a period is a read and the loop's
                  ^ sample             ^                                       instructions; a sample, a read's end

A microengine context that polls reads the next descriptor of one of its VIFs after the other. When it will find one
follows from this grid and from when the guest's store can be seen.

MODEL: polls delay nobody, and nobody delays them.
"""

from typing import Protocol

from devices.nic.chip_events import ChipEvents
from devices.nic.vif import Descriptor, Vif
from devices.nic.vif_page import SEND_RING

NOTHING_PS = -1


class Finder(Protocol):
    """A context that polls."""

    def hand(self, value: object, at_ps: int) -> None:
        """What it waits for, and when it has it."""
        ...


class Poller:
    """Polls for one context: VIFs in order of their numbers, each as often as any other.

    Without `jumps` each poll is executed: the same, for tests.
    """

    def __init__(self, events: ChipEvents, *, latency_ps: int, loop_ps: int, jumps: bool) -> None:
        self._events = events
        self._latency_ps = latency_ps
        self._period_ps = latency_ps + loop_ps
        self._jumps = jumps
        self._vifs: list[Vif] = []  # attached, by number
        self._next = 0  # of them, at the anchor
        self._anchor_ps = 0
        self._polls = 0  # before the anchor
        self._finder: Finder | None = None  # who polls; None: nobody, at the moment
        self._poll = 0  # the one that has an event, counted from the anchor
        self._event_ps = NOTHING_PS  # its sample

    def poll(self, finder: Finder, at_ps: int) -> None:
        """Poll from `at_ps` on, for `finder`."""
        self._finder, self._anchor_ps = finder, at_ps
        self._plan()

    def polls_until(self, now_ps: int) -> int:
        """How many polls have been answered."""
        if self._finder is None or not self._vifs:
            return self._polls
        return self._polls + max(0, (now_ps - self._anchor_ps - self._latency_ps) // self._period_ps + 1)

    def look(self) -> None:
        """The next descriptor of a VIF can be seen from another time on."""
        if self._finder is not None and self._jumps:
            self._plan()

    def change(self, vif: Vif) -> None:
        """A VIF is attached, or detached. A poll of another that is under way goes on."""
        if self._finder is not None:
            self._anchor_now()
        following = self._vifs[self._next] if self._vifs else vif
        if following is vif and self._vifs and self._anchor_ps < self._events.now_ps:
            self._go_on(1)
            following = self._vifs[self._next]
        others = [other for other in self._vifs if other is not vif]
        self._vifs = sorted([*others, vif] if vif.is_attached else others, key=_number_of)
        numbers = [other.number for other in self._vifs]
        self._next = next((at for at, number in enumerate(numbers) if number >= following.number), 0)
        self._plan()

    def _anchor_now(self) -> None:
        """To the poll that is under way now, or comes next."""
        now_ps = self._events.now_ps
        if not self._vifs:
            self._anchor_ps = max(self._anchor_ps, now_ps)
            return
        self._go_on(max(0, (now_ps - self._anchor_ps) // self._period_ps))
        if self._anchor_ps + self._latency_ps < now_ps:
            self._go_on(1)

    def _go_on(self, polls: int) -> None:
        self._polls += polls
        self._anchor_ps += polls * self._period_ps
        self._next = (self._next + polls) % len(self._vifs)

    def _plan(self) -> None:
        """Have an event for the first poll that may find something."""
        self._event_ps = NOTHING_PS
        if self._finder is None or not self._vifs:
            return
        poll = self._first_poll() if self._jumps else 0
        if poll is not None:
            self._poll = poll
            self._event_ps = self._anchor_ps + poll * self._period_ps + self._latency_ps
            self._events.schedule(self._event_ps, self._sample)

    def _first_poll(self) -> int | None:
        count, first = len(self._vifs), None
        for offset in range(count):
            visible_ps = self._vifs[(self._next + offset) % count].next_visible_ps
            if visible_ps is not None:
                sample_ps = self._anchor_ps + offset * self._period_ps + self._latency_ps
                late_ps = max(visible_ps, self._events.now_ps) - sample_ps
                poll = offset + (-(-late_ps // (count * self._period_ps)) * count if late_ps > 0 else 0)
                first = poll if first is None or poll < first else first
        return first

    def _sample(self) -> None:
        now_ps = self._events.now_ps
        if now_ps != self._event_ps:
            return  # another plan was made since
        self._go_on(self._poll)
        vif = self._vifs[self._next]
        self._go_on(1)
        descriptor: Descriptor | None = None
        if vif.next_visible_ps is not None and vif.next_visible_ps <= now_ps:
            descriptor = vif.take(SEND_RING)
        if descriptor is None or self._finder is None:
            self._plan()
            return
        finder, self._finder = self._finder, None
        self._event_ps = NOTHING_PS
        finder.hand(descriptor, now_ps)


def _number_of(vif: Vif) -> int:
    return vif.number
