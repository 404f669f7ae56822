"""A guest's accesses to the page of its virtual interface: in order of time, with what the lines take.

    store of OWNED to a send descriptor --> the device is told since when that can be seen
    any other store ----------------------> takes the line: a sidecore that polls it gets it anew
    load of a DONE descriptor -----------> "seen", for who listens

A guest that polls is jumped over where nobody can change the word: until the machine's next event, and no farther than
other cores may be behind (spinning.py).

No access exits. The device may be told more often than there is something new: it looks, and decides.
"""

from typing import Protocol

from devices.nic.vif import Vif
from devices.nic.vif_page import DONE, OWNED, RECEIVE_RING, SEND_RING
from vmm.line_access import LineAccess
from vmm.nic.hops import Hops
from vmm.nic.page import LINE_BYTES, VifPage, descriptor_of
from vmm.spinning import Spinning
from vmm.vcpu import VCpu


class StoreListener(Protocol):
    """Who wants to know of other stores: the interface."""

    def stored(self, hpa: int, length_bytes: int, visible_cycles: int) -> None:
        """A store to the page that can be seen from then on."""
        ...


class VifAccess:
    """Accesses of `vcpu` to `page` of `vif`. `jumps` False: every load is executed."""

    def __init__(
        self,
        vcpu: VCpu,
        page: VifPage,
        vif: Vif,
        line: LineAccess,
        hops: Hops,
        listener: StoreListener,
        *,
        jumps: bool = True,
    ) -> None:
        self._vcpu = vcpu
        self._page = page
        self._vif = vif
        self._line = line
        self._hops = hops
        self._listener = listener
        self._jumps = jumps
        self._spinning = Spinning(vcpu, page.line)
        self._load_before: tuple[int, int] | None = None  # RIP and address of the last access, if that was a load
        self._stored: tuple[int, int] | None = None  # (hpa, visible from)
        self._seen: int | None = None  # the receive descriptor that the guest saw DONE last

    def begin(self, hpa: int, is_store: bool) -> bool:
        """See PageAccess."""
        if not self._line.is_due:
            return False
        if is_store:
            self._load_before = None
            self._stored = (hpa, self._line.store(hpa))
            return True
        if self._line.load(hpa):
            self._load_before = None
            if not self._line.is_in_turn:
                return False
        if self._hops.is_heard:
            self._look(hpa)
        self._watch(hpa)
        return True

    def _watch(self, hpa: int) -> None:
        """A load: one like the last may be another round of a loop that polls."""
        vcpu, load = self._vcpu, (self._vcpu.rip, hpa)
        if load != self._load_before:
            self._load_before = load
            self._spinning.forget()
            return
        spin = self._spinning.watch(hpa)
        if spin is not None and self._jumps:
            self._spinning.skip(spin, min(int(vcpu.shared.deadline_cycles), vcpu.pcpu.clock.horizon_cycles))

    def finish_store(self) -> None:
        """See PageAccess."""
        assert self._stored is not None
        hpa, visible_cycles = self._stored
        descriptor = descriptor_of(hpa, self._page.hpa)
        if descriptor is None:
            self._listener.stored(hpa & -LINE_BYTES, LINE_BYTES, visible_cycles)  # it may be wider than a word
            return
        if descriptor[0] != SEND_RING or self._page.state(*descriptor) != OWNED:
            return
        pcpu = self._vcpu.pcpu
        with pcpu.timeline.events.at(pcpu.clock.now_ps):
            self._vif.notice_send(descriptor[1], pcpu.timeline.cycles_to_ps(visible_cycles))
        pcpu.clock.bound_by_events()

    def _look(self, hpa: int) -> None:
        descriptor = descriptor_of(hpa, self._page.hpa)
        if descriptor is None or descriptor[0] != RECEIVE_RING or descriptor[1] == self._seen:
            return
        if self._page.state(*descriptor) == DONE:
            self._seen = descriptor[1]
            self._hops.stamp(self._vif.number, "seen", self._vcpu.pcpu.clock.now_ps)
