"""The receive queue of a virtual interface as a sidecore polls it, beside its slots: no interrupt tells of frames.

    NIC       descriptor DONE, `received` = n --.
    line      in memory                           `--visible--.
    sidecore  poll poll poll poll ................ transfer | event channel, IPI
                                                   <- in the account "receive queue" ->

It polls the device's count of frames, which has a line of its own: the descriptors cannot be polled, since a guest that
looks by itself may have given one back before the sidecore gets there. One signal tells of all frames that are there.
"""

from collections.abc import Sequence

from devices.nic.vif_page import RECEIVED
from emulator.ledger import HOST, IDLING, Category
from emulator.timing.shared_lines import SharedLines
from vmm.cost import paths
from vmm.nic.interface import Interface
from vmm.nic.page import WORD_BYTES, VifPage
from vmm.sidecore.abi import MASK_32
from vmm.sidecore.service import Sidecore


class ReceiveQueue:
    """That of `interface`, in `page`, which `sidecore` polls: see service.Place, and Page with this one place."""

    def __init__(self, interface: Interface, page: VifPage, sidecore: Sidecore, lines: SharedLines) -> None:
        self.visible_cycles: int | None = None
        self.page = page
        self.sidecore = sidecore
        self._interface = interface
        self._lines = lines
        self._seen = interface.given_back & MASK_32

    @property
    def places(self) -> Sequence["ReceiveQueue"]:
        """See service.Page."""
        return (self,)

    @property
    def is_alive(self) -> bool:
        """See service.Place."""
        return self._interface.page is self.page and self._interface.is_alive

    @property
    def is_ready(self) -> bool:
        """See service.Place."""
        return self.page.received != self._seen

    def end_spin(self, when_cycles: int) -> None:
        """See service.Place: nobody waits."""

    def serve(self) -> None:
        """There are frames: signal."""
        sidecore, page = self.sidecore, self.page
        clock, meter = sidecore.pcpu.clock, sidecore.meter
        began_ps = clock.now_ps
        self.visible_cycles = None
        clock.open_account(f"d{self._interface.domain_number}", "receive queue")
        cycles = self._lines.load(sidecore.pcpu.number, page.hpa + RECEIVED)
        if clock.fidelity != "detailed":
            clock.charge(Category.COHERENCE, cycles)
        meter.follow(paths.QUEUE)
        meter.touch(page.hpa + RECEIVED, WORD_BYTES, False)
        meter.commit()
        self._seen = page.received
        self._interface.signal(sidecore, began_ps)
        meter.commit()
        clock.open_account(HOST, IDLING)

    def catch_up(self) -> None:
        """The guest has been told of all that is there."""
        self.visible_cycles = None
        self._seen = self.page.received

    def notice(self, visible_cycles: int) -> None:
        """Somebody has stored to the count; that can be seen from then on."""
        self.sidecore.notice(self, visible_cycles)
