"""Who shares which page with which sidecore: set up and taken down by hypercalls of guests."""

from collections.abc import Callable, Mapping, Sequence

from devices.pc import Pc
from emulator.pcpu import PCpu
from emulator.timing.shared_lines import SharedLines
from emulator.x86 import PAGE_BYTES
from vmm.domain import Domain
from vmm.shared_pages import SharedPages
from vmm.sidecore import abi
from vmm.sidecore.access import GuestAccess
from vmm.sidecore.operations import OPERATIONS, Operation
from vmm.sidecore.poll import Poll
from vmm.sidecore.service import Sidecore
from vmm.sidecore.slots import SlotPage
from vmm.vcpu import VCpu

OK, INVALID, EXISTS, ABSENT = 0, -22, -17, -2  # results of the hypercalls: -EINVAL, -EEXIST, -ENOENT


class Sidecores:
    """The sidecores of `pc`, on its last `count` cores; domain n is served by number n modulo how many there are."""

    def __init__(
        self,
        pc: Pc,
        count: int,
        shared_pages: SharedPages,
        *,
        poll: Poll = "spin",
        jumps: bool = True,
        is_served: bool = True,
        operations: Mapping[int, Operation] = OPERATIONS,
    ) -> None:
        machine = pc.machine
        self.lines = SharedLines(machine.profile, machine.pcpu_count)
        self.cores = [
            Sidecore(pcpu, chip, self.lines, poll=poll, jumps=jumps, is_on_duty=is_served, operations=operations)
            for pcpu, chip in zip(machine.pcpus[-count:], pc.board.apics[-count:], strict=True)
        ]
        self._is_on = True  # the switch for all domains
        self._is_served = is_served  # whether cores are there to serve
        self._jumps = jumps
        self._shared_pages = shared_pages
        self._pages: dict[Domain, SlotPage] = {}
        self.on_served: Callable[[bool], None] | None = None  # who wants to know whether a dynamic sidecore is there

    def page_of(self, domain: Domain) -> SlotPage | None:
        """The page that a domain shares."""
        return self._pages.get(domain)

    def core_of(self, domain_number: int) -> Sidecore:
        """Who serves a domain."""
        return self.cores[domain_number % len(self.cores)]

    @property
    def is_served(self) -> bool:
        """Whether cores are there to serve; a dynamic sidecore comes and goes."""
        return self._is_served

    @property
    def is_open(self) -> bool:
        """Whether a domain that wants sidecalls has them."""
        return self._is_on and self._is_served

    def turn(self, is_on: bool) -> None:
        """Turn the sidecalls of all domains on or off, as an operator does; each can turn off its own besides."""
        self._is_on = is_on
        self._open_or_close()

    def set_served(self, is_served: bool) -> None:
        """A dynamic sidecore is there from now on, or leaves."""
        self._is_served = is_served
        self._open_or_close()
        if self.on_served is not None:
            self.on_served(is_served)

    def _open_or_close(self) -> None:
        for page in self._pages.values():
            if page.is_alive:
                page.set_open(self.is_open and page.is_wanted)

    def answer_late_posts(self) -> None:
        """Nobody serves: answer what was posted all the same."""
        for page in self._pages.values():
            for slot in page.slots if page.is_alive else ():
                if slot.visible_cycles is not None:
                    slot.visible_cycles = None
                    page.counts.errors += 1
                    slot.answer(abi.Answer(abi.ECLOSED), is_open=False)

    def register(self, vcpus: Sequence[VCpu], gpa: int, count: int, now_cycles: int) -> int:
        """Share the page at `gpa` of the domain that has `vcpus`, `count` slots of it in use."""
        domain = vcpus[0].domain
        if domain in self._pages:
            return EXISTS
        if gpa % PAGE_BYTES or not domain.is_ram(gpa, PAGE_BYTES) or not 0 < count <= abi.SLOTS_MAX:
            return INVALID
        core = self.core_of(domain.number)
        page = SlotPage(vcpus, gpa, count, core.requests)
        accesses = [GuestAccess(vcpu, page, core, self.lines, jumps=self._jumps) for vcpu in vcpus]
        if not self._shared_pages.share(vcpus, page.hpa, accesses):
            return EXISTS
        page.set_open(self.is_open)
        self._pages[domain] = page
        core.add(page, now_cycles)
        return OK

    def device_wrote(self, domain: Domain, gpa: int, length_bytes: int, pcpu: PCpu | None) -> None:
        """A device has stored into the memory of `domain`: it may have posted, or ended a spin.

        `pcpu` copies for it; None: it has stored by itself, past all cores.
        """
        page = self._pages.get(domain)
        if page is None or not page.gpa <= gpa < page.gpa + PAGE_BYTES:
            return
        core, first = self.core_of(domain.number), gpa & ~(abi.SLOT_BYTES - 1)
        for hpa in range(domain.hpa_of(first), domain.hpa_of(gpa) + length_bytes, abi.SLOT_BYTES):
            if pcpu is None:
                visible_cycles = core.pcpu.timeline.event_cycles
                self.lines.store_by_device(hpa, 1, visible_cycles)
            else:
                visible_cycles = self.lines.store(pcpu.number, hpa, pcpu.clock.cycles)
            for vcpu in page.vcpus:
                vcpu.pcpu.waiting.end_spin(visible_cycles)
            slot = page.slot_at(hpa)
            if slot is not None:
                core.notice(slot, visible_cycles)
        if pcpu is not None and core.is_on_duty:
            pcpu.bound_by(core.pcpu)

    def device_stored(self, vcpu: VCpu, gpa: int, length_bytes: int) -> None:
        """See nic/dma.Sharer."""
        self.device_wrote(vcpu.domain, gpa, length_bytes, None)

    def unregister(self, domain: Domain, now_cycles: int) -> int:
        """Share it no longer."""
        page = self._pages.pop(domain, None)
        if page is None:
            return ABSENT
        page.is_registered = False
        self._shared_pages.give_up(page.vcpus, page.hpa)
        self.core_of(domain.number).remove(page, now_cycles)
        return OK

    def switch(self, domain: Domain, is_open: bool) -> int:
        """Turn the sidecalls of a domain on or off."""
        page = self._pages.get(domain)
        if page is None:
            return ABSENT
        page.is_wanted = is_open
        page.set_open(is_open and self.is_open)
        return OK
