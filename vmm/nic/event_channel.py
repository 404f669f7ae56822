"""The event channel of a virtual interface: how its guest hears that there is something to look at.

    signal --> pending set already? --> merged: the guest has yet to look, and will see this, too
                  | no
                  v
               pending = 1 --> masked? --> the guest looks by itself
                  | no
                  v
               upcall: a vector that the VMM injects itself, before any of the local APIC's; or the function's MSI
                  |
                  v
               hypervisor.kick: a vCPU that sleeps is woken, a core that runs it elsewhere interrupted; if it runs on
                                this core nothing more is to do: the shortcut

After Xen 3.0, common/event_channel.c: evtchn_set_pending. There the words are in a page of the guest's and the VMM's,
and a selector word leads to them; here a VIF has its own. Upcalls go to the guest's first vCPU, as Xen binds them.

A signal is redundant when the device has delivered nothing since the last one: it was another guest's, whose VIF has
the same bit of the identifier register.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from emulator.timing.shared_lines import SharedLines
from vmm.core import Sender
from vmm.cost import paths
from vmm.line_access import change_word
from vmm.nic.hops import Hops
from vmm.nic.page import WORD_BYTES, VifPage
from vmm.vcpu import UPCALL, VCpu


@dataclass
class ChannelCounts:
    """What happened to the signals of a VIF. Schedulings: a vCPU that slept got a core because of one."""

    signals: int = 0
    upcalls: int = 0
    merged: int = 0
    masked: int = 0
    redundant: int = 0
    redundant_upcalls: int = 0
    schedulings: int = 0
    redundant_schedulings: int = 0


class Kicker(Protocol):
    """The hypervisor."""

    @property
    def running(self) -> Sender | None:
        """The core whose turn it is; None: devices', or the outside's."""
        ...

    def kick(self, vcpu: VCpu) -> None:
        """The vCPU has something to take."""
        ...


class EventChannel:
    """The channel of the VIF with number `number`; `send_message` sends its function's MSI."""

    def __init__(self, kicker: Kicker, lines: SharedLines, hops: Hops, number: int) -> None:
        self.counts = ChannelCounts()
        self.number = number
        self.vector = 0  # of the upcall; 0: by MSI
        self.send_message: Callable[[], None] | None = None
        self._kicker = kicker
        self._lines = lines
        self._hops = hops
        self._delivered = 0  # by the device, at the last signal
        self._wake_is_redundant = False

    def signal(self, page: VifPage, delivered: int, sender: Sender, *, is_news: bool = False) -> None:
        """Tell the guest to look; `sender` pays. `delivered` counts what the device has put into the receive queue."""
        counts, is_redundant = self.counts, delivered == self._delivered and not is_news
        self._delivered = delivered
        counts.signals += 1
        counts.redundant += is_redundant
        meter = sender.meter
        meter.follow(paths.SET_EVENT)
        meter.commit()
        change_word(sender.pcpu, self._lines, page.hpa, WORD_BYTES)
        meter.commit()
        if page.is_pending:
            counts.merged += 1
            return
        page.set_pending()
        page.vcpus[0].paging.guest_memory_written(meter, page.gpa, WORD_BYTES)
        meter.touch(page.hpa, WORD_BYTES, False)
        if page.is_masked:
            counts.masked += 1
            return
        counts.upcalls += 1
        counts.redundant_upcalls += is_redundant
        self._call(page.vcpus[0], sender, is_redundant)

    def post(self, delivered: int, vcpu: VCpu) -> None:
        """The processor has called the guest by itself: nobody has touched a word."""
        self.counts.signals += 1
        self.counts.upcalls += 1
        self.counts.redundant += delivered == self._delivered
        self._delivered = delivered
        now_ps = vcpu.meter.now_ps
        for hop in ("taken", "upcalled", "injected"):
            self._hops.stamp(self.number, hop, now_ps)

    def _call(self, vcpu: VCpu, sender: Sender, is_redundant: bool) -> None:
        meter = sender.meter
        meter.follow(paths.UPCALL)
        meter.commit()
        self._hops.stamp(self.number, "upcalled", sender.pcpu.clock.now_ps)
        slept = vcpu.is_blocked
        if self.vector:
            vcpu.upcall = self
            vcpu.interrupt_request |= UPCALL
            self._kicker.kick(vcpu)
        elif self.send_message is not None:
            self.send_message()
        if slept and not vcpu.is_blocked:
            vcpu.woken_by = self
            self._wake_is_redundant = is_redundant

    def forget(self, vcpu: VCpu) -> None:
        """The guest has left the page: nothing is to be injected for it."""
        if vcpu.upcall is self:
            vcpu.upcall = None
            vcpu.interrupt_request &= ~UPCALL

    # --- see vcpu.Upcall ---------------------------------------------------------------------------------------------

    def scheduled(self, vcpu: VCpu) -> None:
        """See Upcall."""
        self.counts.schedulings += 1
        self.counts.redundant_schedulings += self._wake_is_redundant
        self._hops.stamp(self.number, "scheduled", vcpu.meter.now_ps)

    def injected(self, vcpu: VCpu) -> None:
        """See Upcall."""
        self._hops.stamp(self.number, "injected", vcpu.meter.now_ps)
