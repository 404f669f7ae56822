"""Shadow paging: memory virtualization without EPT, as Xen did it in 2006 (and the paper's host).

    #PF exit --> walk the guest's tables --+--> the guest faults: inject #PF
                                           +--> write to a shadowed table: emulate the store, let the shadows follow
                                           +--> else: fill the shadow path, try again

- The guest's accessed and dirty bits are kept: accessed clear -> no shadow entry, dirty clear -> read-only shadow.
- Shadows are cached per guest table, so per guest CR3.
- Two zero writes in a row to one table without a real fault between: it is being torn down, so it is unshadowed.
- With CR0.PG clear in the guest, the processor walks an identity map of guest-physical memory (PAE format).

MODEL: with CR0.PE clear in the guest too, the processor is in real mode and still walks that map. VMX without
unrestricted guest cannot do this, so VMMs of the time emulated real mode or ran it as virtual-8086 code; AMD's
processors have it as "paged real mode" (APM volume 2, 15.19). Starting a processor takes a few hundred such
instructions, and this way they are the guest's own and not the VMM's.
"""

from copy import copy
from dataclasses import dataclass, replace

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
    LARGE,
    NO_EXECUTE,
    PAGE_BYTES,
    PF_FETCH,
    PF_USER,
    PF_WRITE,
    USER,
    WRITABLE,
)
from vmm.cost import paths
from vmm.cost.meter import Meter
from vmm.domain import Domain
from vmm.emulation import Emulated, PageFault
from vmm.outcome import AGAIN, Outcome
from vmm.paging.device_access import access_device
from vmm.paging.guest_walk import GuestFault, PagingMode, Step, Translation, reserved_bits, walk
from vmm.paging.host_pages import HostPages, OutOfHostMemory
from vmm.paging.instructions import PAGE_MASK, Stored, emulate_instruction
from vmm.paging.shadow_tables import ENTRY_BYTES, PDPT, ShadowTable, ShadowTables
from vmm.vcpu import VCpu

ADDRESS_MASK = 0xFF_FFFF_F000
MIB2 = 2 << 20
PAGE_FAULT_BIT = 1 << 14
IDENTITY_FLAGS = 0x67  # present, writable, user, accessed, dirty
HOST_PHYSICAL_BITS = 40
UNEMULATED_LIMIT = 32  # times one instruction may fail in a row before it cannot be going anywhere


@dataclass
class GuestRegisters:
    """The control registers as the guest believes them to be."""

    cr0: int = 0
    cr3: int = 0
    cr4: int = 0
    efer: int = 0

    def mode(self) -> PagingMode:
        """How the guest's own tables translate."""
        return PagingMode(self.cr0, self.cr3, self.cr4, self.efer)


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


class ShadowPaging:
    """Shadow page tables of one domain, as one vCPU uses them."""

    name = "shadow"

    def __init__(self, domain: Domain, pages: HostPages) -> None:
        self._domain = domain
        self._lock_hpa = domain.state_hpa  # the lock has the first line of the domain's structure
        self._identity_hpa = self._build_identity_map(pages)
        self.tables = ShadowTables(domain, pages)
        self._family: list[ShadowPaging] = []  # of all the domain's vCPUs
        self._begin()

    def _begin(self) -> None:
        """What each vCPU has for itself."""
        self._vcpu: VCpu  # from `start` on
        self._guest = GuestRegisters()
        self._mode = self._guest.mode()
        self._reserved_bits = 0
        self._last_zero_write_gfn: int | None = None
        self._unemulated = ((0, 0), 0)  # (RIP, instructions retired), how often in a row

    def sibling(self) -> "ShadowPaging":
        """The vCPUs of a domain share the shadow tables."""
        other = copy(self)
        other._begin()
        return other

    def _build_identity_map(self, pages: HostPages) -> int:
        """PAE tables that map guest-physical addresses below 4 GiB to where they lie on the host; not to devices."""
        domain = self._domain
        words = domain.machine.memory.words
        root = pages.allocate()
        for gib in range(4):
            directory = pages.allocate()
            words[(root >> 3) + gib] = directory | 1
            for index in range(512):
                gpa = (gib << 30) + index * MIB2
                if domain.mmio_fills(gpa, MIB2):
                    continue
                if gpa < domain.memory_bytes < gpa + MIB2 or domain.mmio_covers(gpa, MIB2):  # memory ends inside
                    table = pages.allocate()
                    for page in range(512):
                        if not domain.is_device_page((gpa >> 12) + page):
                            words[(table >> 3) + page] = domain.hpa_of(gpa + page * PAGE_BYTES) | IDENTITY_FLAGS
                    words[(directory >> 3) + index] = table | IDENTITY_FLAGS
                else:
                    words[(directory >> 3) + index] = domain.hpa_of(gpa) & ~(MIB2 - 1) | IDENTITY_FLAGS | LARGE
        return root

    @staticmethod
    def capabilities() -> VmxCapabilities:
        """A processor without EPT; MODEL: with SMEP, which came later than EPT, and paged real mode, see above."""
        base = without_ept()
        cr4 = replace(base.cr4, may_be_one=base.cr4.may_be_one | CR4_SMEP)
        return replace(base, cr4=cr4, physical_address_bits=HOST_PHYSICAL_BITS, has_paged_real_mode=True)

    def start(self, vcpu: VCpu) -> None:
        """Intercept #PF, own the control registers, and shadow the first tables."""
        self._vcpu, guest = vcpu, self._guest
        if self not in self._family:
            self._family.append(self)
        guest.cr0, guest.cr3 = vcpu.read(f.GUEST_CR0), vcpu.read(f.GUEST_CR3)
        guest.cr4, guest.efer = vcpu.read(f.GUEST_CR4), vcpu.read(f.GUEST_IA32_EFER)
        self.tables.meter = vcpu.meter
        vcpu.write(f.EXCEPTION_BITMAP, PAGE_FAULT_BIT)
        vcpu.write(f.PAGE_FAULT_ERROR_CODE_MASK, 0)
        vcpu.write(f.PAGE_FAULT_ERROR_CODE_MATCH, 0)
        vcpu.write(f.CR0_GUEST_HOST_MASK, 0xFFFF_FFFF & ~CR0_TS)
        vcpu.write(f.CR4_GUEST_HOST_MASK, 0xFFFF_FFFF)
        self._load_registers(vcpu)

    # --- control registers -------------------------------------------------------------------------------------------

    def guest_cr3(self, _vcpu: VCpu) -> int:
        """What the guest wrote, not the shadow root."""
        return self._guest.cr3

    def guest_efer(self, _vcpu: VCpu) -> int:
        """What the guest wrote, with LMA."""
        return self._guest.efer

    def write_cr0(self, vcpu: VCpu, value: int) -> None:
        """Shadows begin anew: WP changes what leaf entries may allow, and without PG nobody sees stores to tables."""
        self._lock(vcpu.meter)
        if (value ^ self._guest.cr0) & (CR0_WP | CR0_PG):
            self._forget_all()
        self._guest.cr0 = value
        self._load_registers(vcpu)
        vcpu.meter.unlock(self._lock_hpa)

    def write_cr3(self, vcpu: VCpu, value: int) -> None:
        """Another root, cached or new."""
        self._guest.cr3 = value
        self._mode = self._guest.mode()
        self._lock(vcpu.meter)
        self.tables.protect()
        vcpu.write(f.GUEST_CR3, self._root_hpa())
        vcpu.meter.unlock(self._lock_hpa)
        vcpu.shared.flush_tlb = FLUSH_ALL
        self._flush_if_needed()

    def write_cr4(self, vcpu: VCpu, value: int) -> None:
        """PAE and PGE are the VMM's business; SMEP is the guest's."""
        self._lock(vcpu.meter)
        self._guest.cr0 = vcpu.guest_cr0  # TS changes without an exit
        opened_bits = CR4_SMEP if not self._guest.cr0 & CR0_WP else 0  # see _supervisor_only
        if (value ^ self._guest.cr4) & (CR4_PAE | CR4_PSE | opened_bits):
            self._forget_all()  # entries get another size or meaning
        self._guest.cr4 = value
        self._load_registers(vcpu)
        vcpu.meter.unlock(self._lock_hpa)

    def write_efer(self, vcpu: VCpu, value: int) -> None:
        """LME and LMA decide which tables the processor walks."""
        self._lock(vcpu.meter)
        if (value ^ self._guest.efer) & EFER_NXE:
            self._forget_all()  # bit 63 of an entry gets another meaning
        self._guest.cr0 = vcpu.guest_cr0
        self._guest.efer = value
        self._load_registers(vcpu)
        vcpu.meter.unlock(self._lock_hpa)

    def _lock(self, meter: Meter) -> None:
        """Take the domain's shadow lock: from now on `meter` pays for what the tables need."""
        meter.lock(self._lock_hpa)
        self.tables.meter, self.tables.reserved_bits = meter, self._reserved_bits

    def _load_registers(self, vcpu: VCpu) -> None:
        """The hardware's control registers from the guest's."""
        self.tables.protect()
        guest = self._guest
        self._mode = guest.mode()
        self._reserved_bits = reserved_bits(self._mode)
        is_long = bool(guest.efer & EFER_LMA) and self._mode.is_paging
        vcpu.write(f.GUEST_CR0, guest.cr0 | CR0_PG | CR0_NE | CR0_WP)
        vcpu.write(f.CR0_READ_SHADOW, guest.cr0)
        hidden = CR4_PSE | CR4_PGE | (0 if self._mode.is_paging else CR4_SMEP)  # the identity map is all user pages
        vcpu.write(f.GUEST_CR4, guest.cr4 & ~hidden | CR4_PAE | CR4_VMXE)
        vcpu.write(f.CR4_READ_SHADOW, guest.cr4)
        efer = guest.efer & ~(EFER_LME | EFER_LMA) | EFER_NXE | (EFER_LME | EFER_LMA if is_long else 0)
        vcpu.write(f.GUEST_IA32_EFER, efer)
        entry = vcpu.read(f.VM_ENTRY_CONTROLS) & ~c.ENTRY_IA32E_MODE_GUEST
        vcpu.write(f.VM_ENTRY_CONTROLS, entry | (c.ENTRY_IA32E_MODE_GUEST if is_long else 0))
        vcpu.write(f.GUEST_CR3, self._root_hpa())
        vcpu.shared.flush_tlb = FLUSH_ALL
        self._flush_if_needed()

    def _root_gfn(self) -> int:
        return (self._guest.cr3 & (ADDRESS_MASK if self._mode.is_long else 0xFFFF_F000)) >> 12

    def _root(self) -> ShadowTable:
        """The table for the guest's CR3."""
        if self._mode.is_long:
            return self.tables.table(self._root_gfn(), 4)
        return self.tables.table(self._root_gfn(), PDPT, None if self._mode.is_pae else 0)

    def _root_hpa(self) -> int:
        """CR3 for the processor: a PAE root lies at the same place in its page as the guest's."""
        self.tables.meter.follow(paths.UPDATE_CR3)
        if not self._mode.is_paging:
            return self._identity_hpa
        offset = self._guest.cr3 & 0xFE0 if self._mode.is_pae and not self._mode.is_long else 0
        try:
            return self._root().hpa | offset
        except OutOfHostMemory:
            self._forget_all()
            return self._root().hpa | offset

    def _forget_all(self) -> None:
        """Start anew with all tables; the other vCPUs, wherever they are, need other roots."""
        self.tables.forget_all()
        for other in self._family:
            if other is not self and other._mode.is_paging:
                other._load_root()

    def _load_root(self) -> None:
        """Give the processor the root for the guest's CR3, which was made anew by what another vCPU did."""
        self._vcpu.vmcs.save(f.GUEST_CR3, self._root_hpa())

    def _flush_if_needed(self) -> None:
        """After rights were taken away, no vCPU may go on with what its TLB has."""
        if self.tables.needs_flush:
            self.tables.needs_flush = False
            for member in self._family:
                member._vcpu.engine.shared.flush_tlb = FLUSH_ALL
                if member is not self:
                    member._vcpu.core.shoot_down(member._vcpu)

    def invlpg(self, vcpu: VCpu, gva: int) -> None:
        """Shadows follow the guest's stores at once, so mostly only the TLB is behind. MODEL: it is flushed whole."""
        self._lock(vcpu.meter)
        self.tables.protect()
        vcpu.meter.unlock(self._lock_hpa)
        vcpu.shared.flush_tlb = FLUSH_ALL

    # --- faults ------------------------------------------------------------------------------------------------------

    def handle_page_fault(self, vcpu: VCpu, gva: int, error_code: int) -> Outcome:
        """A #PF exit: whose is it?"""
        vcpu.meter.follow(paths.PAGE_FAULT)
        self._lock(vcpu.meter)
        outcome = self._handle_page_fault(vcpu, gva, error_code)
        vcpu.meter.unlock(self._lock_hpa)
        return outcome

    def _handle_page_fault(self, vcpu: VCpu, gva: int, error_code: int) -> Outcome:
        write, user = bool(error_code & PF_WRITE), bool(error_code & PF_USER)
        mode = self._mode
        self.tables.resync()
        found = walk(vcpu, mode, gva, write=write, user=user, fetch=bool(error_code & PF_FETCH))
        if isinstance(found, GuestFault):
            self._last_zero_write_gfn = None
            vcpu.inject_page_fault(found.gva, found.error_code)
            return AGAIN
        gfn = found.gpa >> 12
        if gfn >= self._domain.page_count and self._domain.is_device_page(gfn):
            self.propagate(access_device(vcpu, mode, found.gpa, is_fetch=bool(error_code & PF_FETCH)))
            self._keep_root(vcpu)
        elif write and self.tables.is_protected(gfn):
            self._write_to_table(vcpu, gva, found, user=user)
        else:
            self._last_zero_write_gfn = None
            self._fill(vcpu, gva, found, write=write, user=user)
        self._flush_if_needed()
        return AGAIN

    def _fill(self, vcpu: VCpu, gva: int, found: Translation, *, write: bool, user: bool) -> None:
        """Make the shadow path for a translation the guest's tables allow."""
        tables, gfn = self.tables, found.gpa >> 12
        overrides = write and not user and not self._guest.cr0 & CR0_WP
        smep = bool(self._guest.cr4 & CR4_SMEP)
        try:
            table = self._root()
            if not self._mode.is_pae:  # the guest has no table of this level
                directory = tables.table(table.gfn, 2, gva >> 30 & 3)
                tables.link(table, gva >> 30 & 3, directory, 0)
                table = directory
            for step in found.steps[:-1]:
                child_part = None if self._mode.is_pae else gva >> 21 & 1
                child = tables.table((step.entry & ADDRESS_MASK) >> 12, step.level - 1, child_part)
                entry = _supervisor_only(step.entry, smep=smep) if overrides else step.entry
                tables.link(table, self._slot(step, gva), child, entry)
                table = child
            last = found.steps[-1]
            entry = _supervisor_only(last.entry, smep=smep) if overrides else last.entry
            index = self._slot(last, gva)
            if last.level == 3:
                split = tables.split_gib(last.entry)
                tables.link(table, index, split, entry)
                table, index = split, gfn >> 9 & 511
            if last.level >= 2:
                split = tables.split(last.entry & ~ADDRESS_MASK | (gfn & ~511) << 12)
                tables.link(table, index, split, entry)
                table, index = split, gfn & 511
        except OutOfHostMemory:
            self._forget_all()
            vcpu.write(f.GUEST_CR3, self._root_hpa())
            return
        tables.set_leaf(table, index, gfn, tables.leaf(gfn, entry))

    def _slot(self, step: Step, gva: int) -> int:
        """The entry of the shadow (a part of it, in 32-bit paging) that stands for entry `step` of the guest."""
        return step.slot if self._mode.is_pae else gva >> 12 + 9 * (step.level - 1) & 511

    def _write_to_table(self, vcpu: VCpu, gva: int, found: Translation, *, user: bool) -> None:
        """A store to a shadowed guest table: emulate it, or give the page up as a table."""
        gfn = found.gpa >> 12
        if user:
            self.tables.unshadow(gfn)  # user programs have no page tables
        elif vcpu.read(f.IDT_VECTORING_INFORMATION) & i.VALID:
            self._give_up(vcpu, gfn)  # the stack of an event's delivery: no instruction stores there
        else:
            result, stored = emulate_instruction(vcpu, self._mode, known={gva >> 12: found.gpa & ~PAGE_MASK})
            if isinstance(result, Emulated):
                self.propagate(stored)
            elif isinstance(result, PageFault):
                vcpu.inject_page_fault(result.gva, result.error_code)
            else:
                self._give_up(vcpu, gfn)
        self._keep_root(vcpu)

    def _keep_root(self, vcpu: VCpu) -> None:
        """After stores, which may have unshadowed anything: the processor needs a root."""
        if self._mode.is_paging and not self.tables.is_shadowed(self._root_gfn()):
            vcpu.write(f.GUEST_CR3, self._root_hpa())
        for other in self._family:
            if other is not self and other._mode.is_paging and not self.tables.is_shadowed(other._root_gfn()):
                other._load_root()

    def _give_up(self, vcpu: VCpu, gfn: int) -> None:
        """Unshadow the page and run the instruction; where it is a table on the way there, leave it out of sync."""
        rip = vcpu.read(f.GUEST_RIP)
        where = (rip, vcpu.pcpu.clock.instructions)
        count = self._unemulated[1] + 1 if self._unemulated[0] == where else 1
        self._unemulated = (where, count)
        if count > UNEMULATED_LIMIT:
            code = vcpu.engine.code_at_rip().hex(" ")
            raise GuestError(f"the instruction at RIP {rip:#x} stores to a page table and is not emulated ({code})")
        if count == 1:
            self.tables.unshadow(gfn)
        else:
            self.tables.let_write(gfn)
        self._last_zero_write_gfn = None

    def propagate(self, stored: Stored) -> None:
        """Let the shadows follow stores of (gpa, size in bytes, value)."""
        for gpa, size_bytes, value in stored:
            gfn = gpa >> 12
            if not self.tables.is_shadowed(gfn):
                continue
            self.tables.guest_wrote(gpa, size_bytes)
            if value == 0 and self._last_zero_write_gfn == gfn:
                self.tables.unshadow(gfn)
                self._last_zero_write_gfn = None
            else:
                self._last_zero_write_gfn = gfn if value == 0 else None

    def store_entry(self, meter: Meter, gpa: int, entry: int) -> None:
        """Store a page-table entry; shadows follow as after an emulated store, but no table is given up."""
        self._lock(meter)
        meter.follow(paths.GUEST_COPY)
        meter.touch(self._domain.hpa_of(gpa), ENTRY_BYTES, True)
        self._domain.write(gpa, entry.to_bytes(ENTRY_BYTES, "little"))
        if self.tables.is_shadowed(gpa >> 12):
            self.tables.guest_wrote(gpa, ENTRY_BYTES)
        meter.unlock(self._lock_hpa)

    def watch(self, hpa: int) -> None:
        """See `Paging`."""
        self.tables.watch(hpa)

    def guest_memory_written(self, vcpu: VCpu, gpa: int) -> None:
        """The VMM stored one byte into guest memory."""
        if self.tables.is_shadowed(gpa >> 12):
            self._lock(vcpu.meter)
            self.tables.guest_wrote(gpa, 1)
            vcpu.meter.unlock(self._lock_hpa)
            vcpu.shared.flush_tlb = FLUSH_ALL
            self._flush_if_needed()

    def handle_ept_violation(self, vcpu: VCpu) -> Outcome:
        """There is no EPT."""
        raise AssertionError("EPT violation without EPT")
