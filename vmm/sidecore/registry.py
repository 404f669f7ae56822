"""Who shares which page with which sidecore: set up and taken down by hypercalls of guests."""

from collections.abc import Sequence

from emulator.machine import Machine
from emulator.memory import PAGE_BYTES
from emulator.pcpu import PCpu
from emulator.timing.shared_lines import SharedLines
from vmm.domain import Domain
from vmm.sidecore import abi
from vmm.sidecore.access import GuestAccess
from vmm.sidecore.service import Poll, Sidecore
from vmm.sidecore.slots import SlotPage

ENGINE_TLB = 2  # flush_tlb of shared.h: only what the engine has cached, which takes no time
OK, INVALID, EXISTS, ABSENT = 0, -22, -17, -2  # results of the hypercalls: -EINVAL, -EEXIST, -ENOENT


class Sidecores:
    """The sidecores of a machine, on `pcpus`; domain n is served by number n modulo how many there are."""

    def __init__(self, machine: Machine, pcpus: Sequence[PCpu], *, poll: Poll = "spin", jumps: bool = True) -> None:
        self.lines = SharedLines(machine.profile, machine.pcpu_count)
        self.cores = [Sidecore(pcpu, self.lines, poll=poll, jumps=jumps) for pcpu in pcpus]
        self.is_open = True  # whether sidecalls are on in pages that are registered from now on
        self._jumps = jumps
        self._pages: dict[Domain, SlotPage] = {}

    def page_of(self, domain: Domain) -> SlotPage | None:
        """The page that a domain shares."""
        return self._pages.get(domain)

    def _core_of(self, domain: Domain) -> Sidecore:
        return self.cores[domain.number % len(self.cores)]

    def register(self, domain: Domain, gpa: int, count: int, now_cycles: int) -> int:
        """Share the page of `domain` at `gpa`, `count` slots of it in use."""
        if domain in self._pages:
            return EXISTS
        if gpa % PAGE_BYTES or not domain.is_ram(gpa, PAGE_BYTES) or not 0 < count <= abi.SLOTS_MAX:
            return INVALID
        page, core = SlotPage(domain, gpa, count), self._core_of(domain)
        page.set_open(self.is_open)
        self._pages[domain] = page
        for vcpu in domain.vcpus:
            access = GuestAccess(vcpu, page, core, self.lines, jumps=self._jumps)
            vcpu.engine.on_watched_access = access.begin
            vcpu.engine.on_watched_store = access.finish_store
        self._watch(domain, page.hpa)
        core.add(page, now_cycles)
        return OK

    def unregister(self, domain: Domain, now_cycles: int) -> int:
        """Share it no longer."""
        page = self._pages.pop(domain, None)
        if page is None:
            return ABSENT
        page.is_registered = False
        self._watch(domain, 0)
        self._core_of(domain).remove(page, now_cycles)
        return OK

    def switch(self, domain: Domain, is_open: bool) -> int:
        """Turn the sidecalls of a domain on or off."""
        page = self._pages.get(domain)
        if page is None:
            return ABSENT
        page.set_open(is_open)
        return OK

    @staticmethod
    def _watch(domain: Domain, hpa: int) -> None:
        """Let the engines stop at accesses to the page; takes no time, as real processors do nothing of the kind."""
        for vcpu in domain.vcpus:
            vcpu.engine.shared.watched_hpa = hpa
            vcpu.engine.invept()
            vcpu.engine.shared.flush_tlb = ENGINE_TLB
        domain.vcpus[0].paging.watch(hpa)
