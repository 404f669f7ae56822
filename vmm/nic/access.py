"""A guest's accesses to the page of its virtual interface: in order of time, with what the lines take.

    store of OWNED to a send descriptor --> the device is told since when that can be seen
    any other store ----------------------> takes the line: a sidecore that polls it gets it anew
    load of a DONE descriptor -----------> "seen", for who listens

No access exits. The device may be told more often than there is something new: it looks, and decides.
"""

from typing import Protocol

from devices.nic.vif import Vif
from devices.nic.vif_page import DONE, OWNED, RECEIVE_RING, SEND_RING
from vmm.line_access import LineAccess
from vmm.nic.hops import Hops
from vmm.nic.page import VifPage, descriptor_of
from vmm.vcpu import VCpu

LINE_BYTES = 64  # a store may be wider than a word


class StoreListener(Protocol):
    """Who wants to know of other stores: the interface."""

    def stored(self, hpa: int, length_bytes: int, visible_cycles: int) -> None:
        """A store to the page that can be seen from then on."""
        ...


class VifAccess:
    """Accesses of `vcpu` to `page` of `vif`."""

    def __init__(
        self, vcpu: VCpu, page: VifPage, vif: Vif, line: LineAccess, hops: Hops, listener: StoreListener
    ) -> None:
        self._vcpu = vcpu
        self._page = page
        self._vif = vif
        self._line = line
        self._hops = hops
        self._listener = listener
        self._stored: tuple[int, int] | None = None  # (hpa, visible from)
        self._seen: int | None = None  # the receive descriptor that the guest saw DONE last

    def begin(self, hpa: int, is_store: bool) -> bool:
        """See PageAccess."""
        if not self._line.is_due:
            return False
        if is_store:
            self._stored = (hpa, self._line.store(hpa))
            return True
        if self._line.load(hpa) and not self._line.is_in_turn:
            return False
        if self._hops.is_heard:
            self._look(hpa)
        return True

    def finish_store(self) -> None:
        """See PageAccess."""
        assert self._stored is not None
        hpa, visible_cycles = self._stored
        descriptor = descriptor_of(hpa, self._page.hpa)
        if descriptor is None:
            self._listener.stored(hpa & -LINE_BYTES, LINE_BYTES, visible_cycles)
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
