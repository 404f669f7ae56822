"""Shadow paging, what a domain has: its shadow tables, their lock, and the views of all its vCPUs.

Memory virtualization without EPT, as Xen did it in 2006 (and the paper's host). One #PF exit:

    exits/exceptions.py   ShadowView, of the vCPU         ShadowMmu, of the domain        ShadowTables
    handle_exception ---> handle_page_fault ------------> lock: Holder, who pays
                            _resolve -------------------------------------------------> resync
                              walk (guest_walk.py) of the guest's own tables
                              |- it faults ----> inject #PF
                              |- a device -----> access_device (device_access.py)
                              |                    its stores -> propagate -----------> guest_wrote, unshadow
                              |- a store to a shadowed table: _write_to_table
                              |                    emulate_instruction (instructions.py)
                              |                    its stores -> propagate -----------> guest_wrote, unshadow
                              |                                  keep_roots ----------> table
                              '- else ------------------> fill -----------------------> table, link, split, set_leaf
                            <-------------------------- flush_if_needed, unlock

- The guest's accessed and dirty bits are kept: accessed clear -> no shadow entry, dirty clear -> read-only shadow.
- Shadows are cached per guest table, so per guest CR3.
- With CR0.PG clear in the guest, the processor walks an identity map of guest-physical memory (PAE format).
"""

from typing import Protocol

from emulator.engine import FLUSH_ALL
from emulator.vmx import fields as f
from emulator.x86 import CR0_WP, CR4_SMEP, NO_EXECUTE, USER, WRITABLE
from vmm.cost import paths
from vmm.cost.meter import Meter
from vmm.domain import Domain
from vmm.paging.guest_walk import ADDRESS_MASK, PagingMode, Step, Translation
from vmm.paging.host_pages import HostPages, OutOfHostMemory
from vmm.paging.identity_map import build_identity_map
from vmm.paging.shadow_pages import Holder, ShadowTable
from vmm.paging.shadow_tables import PDPT, ShadowTables
from vmm.vcpu import VCpu


class View(Protocol):
    """One vCPU, as the domain's memory knows it: `shadow_view.ShadowView`. `mode` is as the guest believes it."""

    vcpu: VCpu
    mode: PagingMode


class ShadowMmu:
    """The shadow page tables of one domain."""

    def __init__(self, domain: Domain, pages: HostPages) -> None:
        self.domain = domain
        self.views: list[View] = []  # of all the domain's vCPUs
        self._lock_hpa = domain.state_hpa  # the lock has the first line of the domain's structure
        self._identity_hpa = build_identity_map(domain, pages)
        self.tables = ShadowTables(domain, pages)

    def lock(self, meter: Meter, reserved_bits: int) -> Holder:
        """Take the domain's shadow lock: `meter` pays for what the tables need until `unlock`."""
        meter.lock(self._lock_hpa)
        return Holder(meter, reserved_bits)

    def unlock(self, holder: Holder) -> None:
        """Release it."""
        holder.meter.unlock(self._lock_hpa)

    # --- roots -------------------------------------------------------------------------------------------------------

    @staticmethod
    def _root_gfn(mode: PagingMode) -> int:
        return (mode.cr3 & (ADDRESS_MASK if mode.is_long else 0xFFFF_F000)) >> 12

    def _root(self, holder: Holder, mode: PagingMode) -> ShadowTable:
        """The table for the guest's CR3."""
        if mode.is_long:
            return self.tables.table(holder, self._root_gfn(mode), 4)
        return self.tables.table(holder, self._root_gfn(mode), PDPT, None if mode.is_pae else 0)

    def root_hpa(self, holder: Holder, view: View) -> int:
        """CR3 for the processor: a PAE root lies at the same place in its page as the guest's."""
        holder.meter.follow(paths.UPDATE_CR3)
        mode = view.mode
        if not mode.is_paging:
            return self._identity_hpa
        offset = mode.cr3 & 0xFE0 if mode.is_pae and not mode.is_long else 0
        try:
            return self._root(holder, mode).hpa | offset
        except OutOfHostMemory:
            self.forget_all(holder, view)
            return self._root(holder, mode).hpa | offset

    def forget_all(self, holder: Holder, view: View) -> None:
        """Start anew with all tables; the other vCPUs, wherever they are, need other roots. That of `view` is next."""
        self.tables.forget_all(holder)
        for other in self.views:
            if other is not view and other.mode.is_paging:
                self._load_root(holder, other)

    def keep_roots(self, holder: Holder, view: View) -> None:
        """After stores, which may have unshadowed anything: every processor needs a root."""
        if view.mode.is_paging and not self.tables.is_shadowed(self._root_gfn(view.mode)):
            view.vcpu.write(f.GUEST_CR3, self.root_hpa(holder, view))
        for other in self.views:
            mode = other.mode
            if other is not view and mode.is_paging and not self.tables.is_shadowed(self._root_gfn(mode)):
                self._load_root(holder, other)

    def _load_root(self, holder: Holder, other: View) -> None:
        """Give another processor the root for its guest's CR3, made anew."""
        other.vcpu.vmcs.save(f.GUEST_CR3, self.root_hpa(holder, other))

    def flush_if_needed(self, view: View | None) -> None:
        """After rights were taken away, no vCPU may go on with what its TLB has; that of `view` has exited."""
        if self.tables.needs_flush:
            self.tables.needs_flush = False
            for member in self.views:
                member.vcpu.shared.flush_tlb = FLUSH_ALL
                if member is not view:
                    member.vcpu.core.shoot_down(member.vcpu)

    # --- paths -------------------------------------------------------------------------------------------------------

    def fill(self, holder: Holder, view: View, gva: int, found: Translation, *, write: bool, user: bool) -> None:
        """Make the shadow path for a translation the guest's tables allow."""
        tables, mode, gfn = self.tables, view.mode, found.gpa >> 12
        overrides = write and not user and not mode.cr0 & CR0_WP
        smep = bool(mode.cr4 & CR4_SMEP)
        is_pae = mode.is_pae
        try:
            table = self._root(holder, mode)
            if not is_pae:  # the guest has no table of this level
                directory = tables.table(holder, table.gfn, 2, gva >> 30 & 3)
                tables.link(holder, table, gva >> 30 & 3, directory, 0)
                table = directory
            *steps, last = found.steps
            for step in steps:
                child_part = None if is_pae else gva >> 21 & 1
                child = tables.table(holder, (step.entry & ADDRESS_MASK) >> 12, step.level - 1, child_part)
                entry = _supervisor_only(step.entry, smep=smep) if overrides else step.entry
                tables.link(holder, table, _slot(step, gva, is_pae=is_pae), child, entry)
                table = child
            entry = _supervisor_only(last.entry, smep=smep) if overrides else last.entry
            index = _slot(last, gva, is_pae=is_pae)
            if last.level == 3:
                split = tables.split_gib(holder, last.entry)
                tables.link(holder, table, index, split, entry)
                table, index = split, gfn >> 9 & 511
            if last.level >= 2:
                split = tables.split(holder, last.entry & ~ADDRESS_MASK | (gfn & ~511) << 12)
                tables.link(holder, table, index, split, entry)
                table, index = split, gfn & 511
        except OutOfHostMemory:
            self.forget_all(holder, view)
            view.vcpu.write(f.GUEST_CR3, self.root_hpa(holder, view))
            return
        tables.set_leaf(holder, table, index, gfn, tables.leaf(gfn, entry))


def _slot(step: Step, gva: int, *, is_pae: bool) -> int:
    """The entry of the shadow (a part of it, in 32-bit paging) that stands for entry `step` of the guest."""
    return step.slot if is_pae else gva >> 12 + 9 * (step.level - 1) & 511


def _supervisor_only(entry: int, *, smep: bool) -> int:
    """A read-only entry for a supervisor's write while the guest's CR0.WP is 0 (the processor's is always 1).

    Writable, and closed to users until they fault and get the guest's own rights back. To SMEP it looks like a
    supervisor's page then, so it is closed to fetches likewise. MODEL: code that lies where such an entry (of users,
    read-only) leads and stores there too faults for ever.
    """
    if entry & WRITABLE:
        return entry
    no_fetch = NO_EXECUTE if smep and entry & USER else 0
    return (entry | WRITABLE | no_fetch) & ~USER
