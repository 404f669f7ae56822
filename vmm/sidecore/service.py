"""The loop of a sidecore: poll one place after the other, serve what is found, go on with the next place.

    guest, or NIC  store --.
    line                    `--visible--.
    sidecore          poll poll poll poll, transfer | serve: requests.py for a slot, nic/polling.py for a queue
                      <- jumped over ->

A place is a slot of sidecalls, or the receive queue of a virtual interface. Polling is not executed: place k of n is
looked at every n polls, so the poll that finds something follows from when it could be seen. Who has the lines, and how
long a transfer takes, says emulator/timing/shared_lines.py. With `mwait` it sleeps after a look at every place, and a
store to any of them wakes it (events.mwait_wake_ns).
MODEL: one MONITOR watches all lines; the looks before it sleeps are booked as idle too.
MODEL: a poll sees its place when it begins; the sidecore's stores wait in its store buffer, not it.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from emulator.clock import NO_HORIZON
from emulator.events import PS_PER_NS
from emulator.ledger import HOST, IDLING, Category
from emulator.pcpu import PCpu
from emulator.timing.shared_lines import SharedLines
from vmm.cost import paths
from vmm.cost.meter import Meter
from vmm.host_apic import HostApic, LocalApic
from vmm.sidecore.operations import OPERATIONS, Operation
from vmm.sidecore.poll import Poll
from vmm.sidecore.requests import Requests
from vmm.sidecore.slots import Slot


class Place(Protocol):
    """What the loop looks at."""

    visible_cycles: int | None  # since when the sidecore can see that there is something; None: there is nothing

    @property
    def is_alive(self) -> bool:
        """Whether anybody may still touch it."""
        ...

    @property
    def is_ready(self) -> bool:
        """Whether there is something to serve, by what is in memory now."""
        ...

    def serve(self) -> None:
        """Do it, on the sidecore."""
        ...

    def end_spin(self, when_cycles: int) -> None:
        """The guest that waits for it, if any, is to get to that time."""
        ...


class Page(Protocol):
    """A page with places."""

    @property
    def places(self) -> Sequence[Place]:
        """They are looked at in this order."""
        ...

    @property
    def is_alive(self) -> bool:
        """Whether anybody may still touch it."""
        ...


class Sidecore:
    """A core in root mode that serves the pages it is given. `jumps` False: every poll is executed, for comparison."""

    def __init__(
        self,
        pcpu: PCpu,
        chip: LocalApic,
        lines: SharedLines,
        *,
        poll: Poll = "spin",
        jumps: bool = True,
        is_on_duty: bool = True,
        operations: Mapping[int, Operation] = OPERATIONS,
    ) -> None:
        self.pcpu = pcpu
        self.meter = Meter(pcpu)
        self.apic = HostApic(chip, self.meter)
        self.pages: list[Page] = []
        self.requests = Requests(self, lines, operations)
        self.is_on_duty = is_on_duty  # if not, the core runs guests: see dynamic.py
        self._is_dedicated = is_on_duty
        self._sleeps = poll == "mwait"
        self._jumps = jumps or self._sleeps
        self._wake_cycles = pcpu.timeline.ps_to_cycles(pcpu.profile.events.mwait_wake_ns * PS_PER_NS)
        self._places: list[Place] = []
        self._position = 0  # the place that is looked at next,
        self._since_cycles = 0  # at this time
        self._finds: tuple[int, Place] | None = None  # (when, what) the polling will find
        profile = pcpu.profile
        self._poll_cycles = paths.POLL.cycles(profile) + profile.caches.l1d_latency_cycles
        if is_on_duty:
            self._poll_on()

    # --- pages -------------------------------------------------------------------------------------------------------

    def add(self, page: Page, now_cycles: int) -> None:
        """Serve `page` from now on."""
        self._change_pages([*self.pages, page], now_cycles)

    def remove(self, page: Page, now_cycles: int) -> None:
        """Serve `page` no longer; what it has posted is forgotten."""
        self._change_pages([other for other in self.pages if other is not page], now_cycles)

    def _change_pages(self, pages: list[Page], now_cycles: int) -> None:
        """The places are others from the first poll at or after `now_cycles` on; it looks at the first of them."""
        if not self.is_on_duty:
            self._set_pages(pages)
            return
        if self._places:
            polls = max(0, -(-(now_cycles - self._since_cycles) // self._poll_cycles))
            self._since_cycles += polls * self._poll_cycles
        else:
            self._since_cycles = max(now_cycles, self._since_cycles)
        self._set_pages(pages)
        self.pcpu.waiting.pass_time(self._since_cycles)
        self._poll_on()

    def _set_pages(self, pages: list[Page]) -> None:
        self.pages = pages
        self._places = [place for page in pages for place in page.places]
        self._position = 0
        self._finds = None
        if self.is_on_duty:
            for place in self._places:
                self._expect(place)

    # --- duty --------------------------------------------------------------------------------------------------------

    def begin_duty(self) -> None:
        """Poll from now on."""
        self.is_on_duty = True
        self._since_cycles = self.pcpu.clock.cycles
        self._set_pages(self.pages)
        self._poll_on()

    @property
    def is_drained(self) -> bool:
        """Whether nothing is posted that could be seen."""
        return all(place.visible_cycles is None for place in self._places if place.is_alive)

    @property
    def finds(self) -> tuple[int, Place] | None:
        """When its polling will find something, and what; None: nothing that is known now."""
        return self._finds

    def poll_end_cycles(self, now_cycles: int) -> int:
        """When the poll in progress at `now_cycles` ends: then the core can turn to something else."""
        if self._sleeps or not self._places:
            return now_cycles
        return (
            self._since_cycles + max(0, -(-(now_cycles - self._since_cycles) // self._poll_cycles)) * self._poll_cycles
        )

    def end_duty(self) -> None:
        """Poll no longer; the core does something else."""
        self.is_on_duty = False
        self._finds = None

    # --- a turn ------------------------------------------------------------------------------------------------------

    def run(self, deadline_cycles: int) -> None:
        """Serve what polling has found."""
        pcpu = self.pcpu
        if self._places and not self._jumps:
            self._poll_until(min(deadline_cycles, pcpu.clock.horizon_cycles + 1, self._next_event_cycles()))
        if self._finds is not None and self._finds[0] <= pcpu.clock.cycles <= pcpu.clock.horizon_cycles:
            place = self._finds[1]
            self._finds = None
            if place.visible_cycles is not None and place.is_alive:
                self._position = self._places.index(place) + 1
                place.serve()
            self._drop_ended()
            self._look_on()
        self._poll_on()

    def _look_on(self) -> None:
        """Polling begins anew behind the slot that was served."""
        self._since_cycles = self.pcpu.clock.cycles
        for place in self._places:
            self._expect(place)

    def _poll_on(self) -> None:
        """Poll from now on; without places there is nothing to poll."""
        category = Category.SPIN if self._places and not self._sleeps else Category.IDLE
        self.pcpu.waiting.wait(category, is_by_mwait=self._sleeps)
        if self._finds is not None:
            self._wake()
        elif self._places and not self._jumps:
            self.pcpu.waiting.wake(self._since_cycles)

    def _poll_until(self, limit_cycles: int) -> None:
        """Execute polls up to the one that finds something, or to the limit."""
        pcpu = self.pcpu
        account = pcpu.clock.ledger.account(HOST, IDLING)
        while pcpu.clock.cycles < limit_cycles and not (self._finds and self._finds[0] <= pcpu.clock.cycles):
            account[Category.SPIN] += self._poll_cycles
            pcpu.clock.pass_time(self._poll_cycles)

    def _next_event_cycles(self) -> int:
        """When the machine's next event is due, which may end the duty."""
        next_cycles = self.pcpu.timeline.next_event_cycles()
        return NO_HORIZON if next_cycles is None else next_cycles

    def _drop_ended(self) -> None:
        if any(not page.is_alive for page in self.pages):
            self.pages = [page for page in self.pages if page.is_alive]
            self._places = [place for page in self.pages for place in page.places]
            self._position = 0

    def notice(self, place: Place, visible_cycles: int) -> None:
        """Somebody has stored to `place`; that can be seen from `visible_cycles` on."""
        if place.visible_cycles is not None or not place.is_alive or not place.is_ready:
            return
        place.visible_cycles = visible_cycles
        if self.is_on_duty:
            self._expect(place)
        if self._finds is not None:
            self._wake()

    def _wake(self) -> None:
        """Go on when polling finds something; the guest that waits for it is to get there, too."""
        assert self._finds is not None
        when_cycles, place = self._finds
        self.pcpu.waiting.wake(when_cycles)
        place.end_spin(when_cycles)

    def will_wake(self, slot: Slot) -> bool:
        """Whether nothing happens to the request in `slot` before the guest's spinning is ended here."""
        if not self._is_dedicated:
            return False
        is_queued = slot.visible_cycles is not None and self._finds is not None and self._finds[1] is not slot
        return is_queued or slot.is_in_service

    def _expect(self, place: Place) -> None:
        """Work out which poll finds what is in `place`, if there is something."""
        if place.visible_cycles is None or not place.is_alive:
            return
        count, poll_cycles = len(self._places), self._poll_cycles
        first = (self._places.index(place) - self._position) % count
        since_cycles = self._since_cycles
        if self._sleeps and place.visible_cycles > since_cycles + count * poll_cycles:  # nothing found: it sleeps
            since_cycles = place.visible_cycles + self._wake_cycles
        late = place.visible_cycles - since_cycles - first * poll_cycles
        rounds = max(0, -(-late // (count * poll_cycles)))
        when_cycles = since_cycles + (first + rounds * count) * poll_cycles
        if self._finds is None or when_cycles < self._finds[0]:
            self._finds = (when_cycles, place)
