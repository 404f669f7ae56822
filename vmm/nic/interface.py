"""The virtual interface of one domain, as the VMM has it: the device's VIF, the page, the channel.

guest's driver --> VifFunction, on the domain's PCI bus --> Vif (devices/nic): attach --> here: the page is watched
guest's stores --> access.py --> Vif.notice_send
interrupt, or sidecore --> signal --> event_channel.py --> the guest's driver
"""

from collections.abc import Sequence
from typing import Protocol

from devices.nic.vif import Vif
from devices.nic.vif_function import VifFunction
from devices.nic.vif_page import RECEIVED
from emulator.events import EventQueue
from emulator.timing.shared_lines import SharedLines
from vmm.core import Sender
from vmm.guest_memory import GuestMemory
from vmm.line_access import LineAccess
from vmm.nic.access import VifAccess
from vmm.nic.event_channel import ChannelCounts, EventChannel, Kicker
from vmm.nic.hops import Hops
from vmm.nic.page import VifPage
from vmm.shared_pages import SharedPages
from vmm.vcpu import VCpu


class Host(Protocol):
    """What all interfaces of a host have in common: `registry.Vifs`."""

    kicker: Kicker
    lines: SharedLines
    shared_pages: SharedPages
    hops: Hops
    jumps: bool  # over guests' polling

    def attached_to(self, interface: "Interface", page: VifPage) -> None:
        """The interface has a page from now on."""
        ...

    def signalled(self, interface: "Interface") -> None:
        """Its guest has been told to look."""
        ...

    def counted(self, interface: "Interface", visible_cycles: int) -> None:
        """The count of frames in its page is another; that can be seen from then on."""
        ...

    def detached_from(self, interface: "Interface", page: VifPage) -> None:
        """It has it no longer."""
        ...


class GuestFunction(VifFunction):
    """The function of a guest's own bus, whose time is the domain's, in front of a device with the host's."""

    def __init__(self, events: EventQueue, kicker: Kicker) -> None:
        super().__init__(events)
        self._kicker = kicker

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Store in a register, at the time of the core that does it."""
        running = self._kicker.running
        if running is None:
            super().write(offset, size_bytes, value)
            return
        running.meter.commit()
        with running.pcpu.timeline.events.at(running.pcpu.clock.now_ps):
            super().write(offset, size_bytes, value)
        running.pcpu.clock.bound_by_events()


class Interface:
    """The interface of domain `domain_number`, with `memory`, that will have `vcpus`. Without a VIF until `connect`."""

    def __init__(self, host: Host, domain_number: int, memory: GuestMemory, vcpus: Sequence[VCpu]) -> None:
        self.domain_number = domain_number
        self.page: VifPage | None = None
        self.function: GuestFunction | None = None
        self.memory = memory
        self.vcpus = vcpus
        self._host = host
        self._vif: Vif | None = None
        self._channel: EventChannel | None = None

    def make_function(self, events: EventQueue) -> "GuestFunction":
        """Its function on the domain's PCI bus, when the domain is made."""
        self.function = GuestFunction(events, self._host.kicker)
        self.function.vif = self._vif
        return self.function

    def connect(self, vif: Vif, *, needs_notice: bool) -> None:
        """The interface has `vif` from now on; whether its guest has to tell that there is something to send."""
        self._vif = vif
        self._channel = EventChannel(self._host.kicker, self._host.lines, self._host.hops, vif.number)
        vif.on_attached, vif.on_detached = self._attach, self._detach
        if self.function is not None:
            self.function.vif, self.function.needs_notice = vif, needs_notice

    @property
    def has_vif(self) -> bool:
        """Whether there is a VIF now."""
        return self._vif is not None and not self._vif.is_destroyed

    @property
    def was_connected(self) -> bool:
        """Whether there is a VIF, or was one."""
        return self._vif is not None

    @property
    def vif(self) -> Vif:
        """The device's side."""
        assert self._vif is not None
        return self._vif

    @property
    def given_back(self) -> int:
        """How many receive descriptors the device has given back."""
        return self.vif.counters.received + self.vif.counters.receive_errors

    @property
    def is_alive(self) -> bool:
        """Whether its guest still runs."""
        return self.vcpus[0].domain.end is None

    @property
    def counts(self) -> ChannelCounts:
        """What its event channel has done."""
        assert self._channel is not None
        return self._channel.counts

    @property
    def core_number(self) -> int:
        """Where the guest is, or was last."""
        return self.vcpus[0].pcpu.number if self.vcpus else 0

    def signal(self, sender: Sender, taken_ps: int, *, is_news: bool = False) -> None:
        """Tell the guest that there may be frames, or, with `is_news`, something else; known since `taken_ps`."""
        assert self._channel is not None
        assert self.function is not None
        if self.page is None:
            return
        self._host.hops.stamp(self.vif.number, "taken", taken_ps)
        self.vif.counters.signals += 1
        self._channel.vector = self.function.upcall_vector
        self._channel.send_message = self.function.function.send_message
        self._channel.signal(self.page, self.given_back, sender, is_news=is_news)
        self._host.signalled(self)

    @property
    def can_be_called(self) -> bool:
        """Whether a signal would be an upcall: there is a page, and a vector."""
        return self.page is not None and self.function is not None and self.function.upcall_vector != 0

    def post(self) -> int:
        """The processor calls the guest, which runs: the vector."""
        assert self._channel is not None
        assert self.function is not None
        self.vif.counters.signals += 1
        self._channel.post(self.given_back, self.vcpus[0])
        return self.function.upcall_vector

    # --- the device says --------------------------------------------------------------------------------------------

    def _attach(self, vif: Vif) -> None:
        """The guest has given a page, which is its RAM: it is watched, or given back."""
        page = VifPage(self.memory, self.vcpus, vif.page_gpa)
        host = self._host
        accesses = [
            VifAccess(vcpu, page, vif, LineAccess(vcpu, host.lines), host.hops, self, jumps=host.jumps)
            for vcpu in self.vcpus
        ]
        if not host.shared_pages.share(self.vcpus, page.hpa, accesses):
            vif.detach()
            return
        self.page = page
        host.attached_to(self, page)

    def _detach(self, _vif: Vif) -> None:
        page, self.page = self.page, None
        if page is None:
            return
        assert self._channel is not None
        self._host.detached_from(self, page)
        self._host.shared_pages.give_up(self.vcpus, page.hpa)
        self._channel.forget(self.vcpus[0])

    # --- see dma.Sharer ----------------------------------------------------------------------------------------------

    def device_stored(self, vcpu: VCpu, gpa: int, length_bytes: int) -> None:
        """The NIC has stored into the guest's memory: it takes the page's lines."""
        page = self.page
        if page is None or not page.covers(gpa):
            return
        lines, timeline = self._host.lines, vcpu.pcpu.timeline
        hpa = page.hpa + gpa - page.gpa
        lines.store_by_device(hpa, length_bytes, timeline.event_cycles)
        self.stored(hpa, length_bytes, timeline.event_cycles)

    def stored(self, hpa: int, length_bytes: int, visible_cycles: int) -> None:
        """Somebody has stored into the page."""
        assert self.page is not None
        if hpa <= self.page.hpa + RECEIVED < hpa + length_bytes:
            self._host.counted(self, visible_cycles)
