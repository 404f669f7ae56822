"""The pages that a guest shares with other cores: which they are, and who is asked for each access.

    access --> emulator/engine/arch/watched_page.c --> PageAccesses of the vCPU --by page--> begin: may it be now?
                                                                                    `------> finish_store: it was

A page is shared with a sidecore (sidecore/access.py) or with a network interface (nic/access.py). What it is for, and
what an access to it costs, is theirs to say; this file only knows whose it is.
"""

from collections.abc import Sequence
from typing import Protocol

from emulator.engine import FLUSH_ENGINE
from emulator.engine.abi import WATCHED_MAX
from emulator.x86 import PAGE_BYTES
from vmm.vcpu import VCpu


class PageAccess(Protocol):
    """A vCPU's accesses to one page."""

    def begin(self, hpa: int, is_store: bool) -> bool:
        """May the access take place now? Charges what it takes."""
        ...

    def finish_store(self) -> None:
        """The store that was begun has taken place, or something came before it."""
        ...


class PageAccesses:
    """The accesses of one vCPU, by page."""

    def __init__(self) -> None:
        self.by_page: dict[int, PageAccess] = {}

    def begin(self, hpa: int, is_store: bool) -> bool:
        """See PageAccess."""
        return self.by_page[hpa & -PAGE_BYTES].begin(hpa, is_store)

    def finish_store(self, hpa: int) -> None:
        """See PageAccess; the page may have been given up by that store."""
        access = self.by_page.get(hpa & -PAGE_BYTES)
        if access is not None:
            access.finish_store()


class SharedPages:
    """The shared pages of all domains of a hypervisor."""

    def __init__(self) -> None:
        self._of_vcpu: dict[VCpu, PageAccesses] = {}

    def share(self, vcpus: Sequence[VCpu], hpa: int, accesses: Sequence[PageAccess]) -> bool:
        """Ask `accesses`, one for each of a domain's vCPUs, from now on. False: shared already, or one too many."""
        pages = self._of_vcpu.get(vcpus[0])
        if pages is not None and (hpa in pages.by_page or len(pages.by_page) == WATCHED_MAX):
            return False
        for vcpu, access in zip(vcpus, accesses, strict=True):
            pages = self._of_vcpu.setdefault(vcpu, PageAccesses())
            pages.by_page[hpa] = access
            vcpu.engine.on_watched_access = pages.begin
            vcpu.engine.on_watched_store = pages.finish_store
        self._watch(vcpus)
        return True

    def give_up(self, vcpus: Sequence[VCpu], hpa: int) -> None:
        """The page at `hpa` is one like others again."""
        for vcpu in vcpus:
            del self._of_vcpu[vcpu].by_page[hpa]
        self._watch(vcpus)

    def _watch(self, vcpus: Sequence[VCpu]) -> None:
        """Let the engines stop at accesses to the pages; takes no time, as real processors do nothing of the kind."""
        hpas = tuple(self._of_vcpu[vcpus[0]].by_page)
        for vcpu in vcpus:
            for number in range(WATCHED_MAX):
                vcpu.shared.watched_hpas[number] = hpas[number] if number < len(hpas) else 0
            vcpu.engine.invept()
            vcpu.shared.flush_tlb = FLUSH_ENGINE
        vcpus[0].paging.watch(hpas)
