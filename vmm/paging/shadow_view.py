"""Shadow paging, what a vCPU has: its control registers as the guest believes them, and its faults.

    guest's CR0 CR3 CR4 EFER ---> mode: PagingMode ---> how the VMM walks the guest's own tables
                                    '---> the hardware's: PG, WP, PAE always on; CR3 leads to shadows or an identity map

The way of one #PF exit is in shadow_mmu.py. Two zero writes in a row to one table without a real fault between: it is
being torn down, so it is unshadowed.

MODEL: with CR0.PE clear in the guest too, the processor is in real mode and still walks the identity map. VMX without
unrestricted guest cannot do this, so VMMs of the time emulated real mode or ran it as virtual-8086 code; AMD's
processors have it as "paged real mode" (APM volume 2, 15.19). Starting a processor takes a few hundred such
instructions, and this way they are the guest's own and not the VMM's.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from emulator.engine import FLUSH_ALL
from emulator.errors import GuestError
from emulator.vmx import controls as c
from emulator.vmx import fields as f
from emulator.vmx import interruption as i
from emulator.vmx.capabilities import VmxCapabilities, without_ept
from emulator.x86 import (
    CR0_NE,
    CR0_PG,
    CR0_TS,
    CR0_WP,
    CR4_PAE,
    CR4_PGE,
    CR4_PSE,
    CR4_SMEP,
    CR4_VMXE,
    EFER_LMA,
    EFER_LME,
    EFER_NXE,
    PF_FETCH,
    PF_USER,
    PF_WRITE,
)
from vmm.cost import paths
from vmm.cost.meter import Meter
from vmm.domain import Domain
from vmm.emulation import Emulated, PageFault
from vmm.outcome import AGAIN, Outcome
from vmm.paging.device_access import access_device
from vmm.paging.guest_walk import GuestFault, PagingMode, Translation, reserved_bits, walk
from vmm.paging.host_pages import HostPages
from vmm.paging.instructions import PAGE_MASK, Stored, emulate_instruction
from vmm.paging.shadow_mmu import ShadowMmu
from vmm.paging.shadow_pages import ENTRY_BYTES, Holder
from vmm.vcpu import VCpu

PAGE_FAULT_BIT = 1 << 14
HOST_PHYSICAL_BITS = 40
UNEMULATED_LIMIT = 32  # times one instruction may fail in a row before it cannot be going anywhere


class ShadowView:
    """A domain's shadow paging as one vCPU uses it: see `vcpu.Paging`."""

    name = "shadow"

    def __init__(self, mmu: ShadowMmu, vcpu: VCpu) -> None:
        self.mmu = mmu
        self.vcpu = vcpu
        self.mode = PagingMode(0, 0, 0, 0)  # as the guest believes it
        self._reserved_bits = 0  # in that mode
        self._last_zero_write_gfn: int | None = None
        self._unemulated = ((0, 0), 0)  # (RIP, instructions retired), how often in a row
        mmu.views.append(self)

    @staticmethod
    def of_domain(domain: Domain, pages: HostPages) -> Callable[[VCpu], "ShadowView"]:
        """What makes the view of the first vCPU."""
        return partial(ShadowView, ShadowMmu(domain, pages))

    def sibling(self, vcpu: VCpu) -> "ShadowView":
        """The vCPUs of a domain share the shadow tables."""
        return ShadowView(self.mmu, vcpu)

    @staticmethod
    def capabilities() -> VmxCapabilities:
        """A processor without EPT; MODEL: with SMEP, which came later than EPT, and paged real mode, see above."""
        base = without_ept()
        cr4 = replace(base.cr4, may_be_one=base.cr4.may_be_one | CR4_SMEP)
        return replace(base, cr4=cr4, physical_address_bits=HOST_PHYSICAL_BITS, has_paged_real_mode=True)

    def start(self, vcpu: VCpu) -> None:
        """Intercept #PF, own the control registers, and shadow the first tables."""
        cr0, cr3 = vcpu.read(f.GUEST_CR0), vcpu.read(f.GUEST_CR3)
        cr4, efer = vcpu.read(f.GUEST_CR4), vcpu.read(f.GUEST_IA32_EFER)
        vcpu.write(f.EXCEPTION_BITMAP, PAGE_FAULT_BIT)
        vcpu.write(f.PAGE_FAULT_ERROR_CODE_MASK, 0)
        vcpu.write(f.PAGE_FAULT_ERROR_CODE_MATCH, 0)
        vcpu.write(f.CR0_GUEST_HOST_MASK, 0xFFFF_FFFF & ~CR0_TS)
        vcpu.write(f.CR4_GUEST_HOST_MASK, 0xFFFF_FFFF)
        # MODEL: the lock is not paid for, here alone.
        self._load_registers(Holder(vcpu.meter, self._reserved_bits), PagingMode(cr0, cr3, cr4, efer))

    # --- control registers -------------------------------------------------------------------------------------------

    def guest_cr3(self, _vcpu: VCpu) -> int:
        """What the guest wrote, not the shadow root."""
        return self.mode.cr3

    def guest_efer(self, _vcpu: VCpu) -> int:
        """What the guest wrote, with LMA."""
        return self.mode.efer

    def write_cr0(self, vcpu: VCpu, value: int) -> None:
        """Shadows begin anew: WP changes what leaf entries may allow, and without PG nobody sees stores to tables."""
        holder, mode = self._lock(vcpu.meter), self.mode
        if (value ^ mode.cr0) & (CR0_WP | CR0_PG):
            self.mmu.forget_all(holder, self)
        self._load_registers(holder, PagingMode(value, mode.cr3, mode.cr4, mode.efer))
        self.mmu.unlock(holder)

    def write_cr3(self, vcpu: VCpu, value: int) -> None:
        """Another root, cached or new."""
        mode = self.mode
        self.mode = PagingMode(mode.cr0, value, mode.cr4, mode.efer)
        holder = self._lock(vcpu.meter)
        self.mmu.tables.protect(holder)
        vcpu.write(f.GUEST_CR3, self.mmu.root_hpa(holder, self))
        self.mmu.unlock(holder)
        vcpu.shared.flush_tlb = FLUSH_ALL
        self.mmu.flush_if_needed(self)

    def write_cr4(self, vcpu: VCpu, value: int) -> None:
        """PAE and PGE are the VMM's business; SMEP is the guest's."""
        holder, mode = self._lock(vcpu.meter), self.mode
        cr0 = vcpu.guest_cr0  # TS changes without an exit
        opened_bits = CR4_SMEP if not cr0 & CR0_WP else 0  # see shadow_mmu._supervisor_only
        if (value ^ mode.cr4) & (CR4_PAE | CR4_PSE | opened_bits):
            self.mmu.forget_all(holder, self)  # entries get another size or meaning
        self._load_registers(holder, PagingMode(cr0, mode.cr3, value, mode.efer))
        self.mmu.unlock(holder)

    def write_efer(self, vcpu: VCpu, value: int) -> None:
        """LME and LMA decide which tables the processor walks."""
        holder, mode = self._lock(vcpu.meter), self.mode
        if (value ^ mode.efer) & EFER_NXE:
            self.mmu.forget_all(holder, self)  # bit 63 of an entry gets another meaning
        self._load_registers(holder, PagingMode(vcpu.guest_cr0, mode.cr3, mode.cr4, value))
        self.mmu.unlock(holder)

    def _lock(self, meter: Meter) -> Holder:
        return self.mmu.lock(meter, self._reserved_bits)

    def _load_registers(self, holder: Holder, mode: PagingMode) -> None:
        """The guest's control registers become `mode`, and the hardware's follow from them."""
        self.mmu.tables.protect(holder)
        self.mode = mode
        self._reserved_bits = reserved_bits(mode)
        vcpu, is_long = self.vcpu, mode.is_long and mode.is_paging
        vcpu.write(f.GUEST_CR0, mode.cr0 | CR0_PG | CR0_NE | CR0_WP)
        vcpu.write(f.CR0_READ_SHADOW, mode.cr0)
        hidden = CR4_PSE | CR4_PGE | (0 if mode.is_paging else CR4_SMEP)  # the identity map is all user pages
        vcpu.write(f.GUEST_CR4, mode.cr4 & ~hidden | CR4_PAE | CR4_VMXE)
        vcpu.write(f.CR4_READ_SHADOW, mode.cr4)
        efer = mode.efer & ~(EFER_LME | EFER_LMA) | EFER_NXE | (EFER_LME | EFER_LMA if is_long else 0)
        vcpu.write(f.GUEST_IA32_EFER, efer)
        entry = vcpu.read(f.VM_ENTRY_CONTROLS) & ~c.ENTRY_IA32E_MODE_GUEST
        vcpu.write(f.VM_ENTRY_CONTROLS, entry | (c.ENTRY_IA32E_MODE_GUEST if is_long else 0))
        vcpu.write(f.GUEST_CR3, self.mmu.root_hpa(holder, self))
        vcpu.shared.flush_tlb = FLUSH_ALL
        self.mmu.flush_if_needed(self)

    def invlpg(self, vcpu: VCpu, gva: int) -> None:
        """Shadows follow the guest's stores at once, so mostly only the TLB is behind. MODEL: it is flushed whole."""
        holder = self._lock(vcpu.meter)
        self.mmu.tables.protect(holder)
        self.mmu.unlock(holder)
        vcpu.shared.flush_tlb = FLUSH_ALL

    # --- faults ------------------------------------------------------------------------------------------------------

    def handle_page_fault(self, vcpu: VCpu, gva: int, error_code: int) -> Outcome:
        """A #PF exit: whose is it?"""
        vcpu.meter.follow(paths.PAGE_FAULT)
        holder = self._lock(vcpu.meter)
        self._resolve(holder, gva, error_code)
        self.mmu.unlock(holder)
        return AGAIN

    def _resolve(self, holder: Holder, gva: int, error_code: int) -> None:
        write, user, fetch = bool(error_code & PF_WRITE), bool(error_code & PF_USER), bool(error_code & PF_FETCH)
        mmu, vcpu, mode = self.mmu, self.vcpu, self.mode
        mmu.tables.resync(holder)
        found = walk(vcpu, mode, gva, write=write, user=user, fetch=fetch)
        if isinstance(found, GuestFault):
            self._last_zero_write_gfn = None
            vcpu.inject_page_fault(found.gva, found.error_code)
            return
        gfn = found.gpa >> 12
        if gfn >= mmu.domain.page_count and mmu.domain.is_device_page(gfn):
            self.propagate(holder, access_device(vcpu, mode, found.gpa, is_fetch=fetch))
            mmu.keep_roots(holder, self)
        elif write and mmu.tables.is_protected(gfn):
            self._write_to_table(holder, gva, found, user=user)
            mmu.keep_roots(holder, self)
        else:
            self._last_zero_write_gfn = None
            mmu.fill(holder, self, gva, found, write=write, user=user)
        mmu.flush_if_needed(self)

    def _write_to_table(self, holder: Holder, gva: int, found: Translation, *, user: bool) -> None:
        """A store to a shadowed guest table: emulate it, or give the page up as a table."""
        vcpu, gfn = self.vcpu, found.gpa >> 12
        if user:
            self.mmu.tables.unshadow(holder, gfn)  # user programs have no page tables
        elif vcpu.read(f.IDT_VECTORING_INFORMATION) & i.VALID:
            self._give_up(holder, gfn)  # the stack of an event's delivery: no instruction stores there
        else:
            result, stored = emulate_instruction(vcpu, self.mode, known={gva >> 12: found.gpa & ~PAGE_MASK})
            if isinstance(result, Emulated):
                self.propagate(holder, stored)
            elif isinstance(result, PageFault):
                vcpu.inject_page_fault(result.gva, result.error_code)
            else:
                self._give_up(holder, gfn)

    def _give_up(self, holder: Holder, gfn: int) -> None:
        """Unshadow the page and run the instruction; where it is a table on the way there, leave it out of sync."""
        vcpu = self.vcpu
        rip = vcpu.read(f.GUEST_RIP)
        where = (rip, vcpu.pcpu.clock.instructions)
        count = self._unemulated[1] + 1 if self._unemulated[0] == where else 1
        self._unemulated = (where, count)
        if count > UNEMULATED_LIMIT:
            code = vcpu.engine.code_at_rip().hex(" ")
            raise GuestError(f"the instruction at RIP {rip:#x} stores to a page table and is not emulated ({code})")
        if count == 1:
            self.mmu.tables.unshadow(holder, gfn)
        else:
            self.mmu.tables.let_write(holder, gfn)
        self._last_zero_write_gfn = None

    # --- stores that the guest did not do itself ---------------------------------------------------------------------

    def propagate(self, holder: Holder, stored: Stored) -> None:
        """Let the shadows follow the stores of emulated instructions."""
        tables = self.mmu.tables
        for gpa, size_bytes, value in stored:
            gfn = gpa >> 12
            if not tables.is_shadowed(gfn):
                continue
            tables.guest_wrote(holder, gpa, size_bytes)
            if value == 0 and self._last_zero_write_gfn == gfn:
                tables.unshadow(holder, gfn)
                self._last_zero_write_gfn = None
            else:
                self._last_zero_write_gfn = gfn if value == 0 else None

    def store_entry(self, meter: Meter, gpa: int, entry: int) -> None:
        """Store a page-table entry; shadows follow as after an emulated store, but no table is given up."""
        holder, domain = self._lock(meter), self.mmu.domain
        meter.follow(paths.GUEST_COPY)
        meter.touch(domain.hpa_of(gpa), ENTRY_BYTES, True)
        domain.write(gpa, entry.to_bytes(ENTRY_BYTES, "little"))
        if self.mmu.tables.is_shadowed(gpa >> 12):
            self.mmu.tables.guest_wrote(holder, gpa, ENTRY_BYTES)
        self.mmu.unlock(holder)

    def watch(self, hpas: Sequence[int]) -> None:
        """See `Paging`."""
        self.mmu.tables.watch(hpas)

    def guest_memory_written(self, meter: Meter, gpa: int, length_bytes: int) -> None:
        """See `Paging`. Any vCPU may run meanwhile, this one too, if a device stored."""
        if self.mmu.tables.is_shadowed(gpa >> 12):
            holder = self._lock(meter)
            self.mmu.tables.guest_wrote(holder, gpa, length_bytes)
            self.mmu.unlock(holder)
            self.mmu.flush_if_needed(None)

    def handle_ept_violation(self, vcpu: VCpu) -> Outcome:
        """There is no EPT."""
        raise AssertionError("EPT violation without EPT")
