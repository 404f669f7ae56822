"""EPT: the processor translates guest-physical addresses itself; the guest's paging is its own business.

The tables are built once: the guest's RAM by 2 MiB pages (4 KiB at an odd end), and everything else, by pages as large
as fit, to an address where nothing answers on the host's bus either, so that stray accesses read all ones. The pages of
devices have no entry: an access there is an EPT violation, and the VMM carries the instruction out.

    47..39 | 38..30 | 29..21 | 20..12 | 11..0      entry: R 0, W 1, X 2, memory type 5..3, large 7 (SDM 3C 28.2.2)
"""

from collections.abc import Callable, Sequence

from emulator.engine import FLUSH_ALL
from emulator.errors import GuestError
from emulator.vmx import controls as c
from emulator.vmx import fields as f
from emulator.vmx.capabilities import VmxCapabilities, with_ept
from emulator.x86 import CR0_NE, CR4_VMXE, LARGE, PAGE_BYTES
from vmm.cost import paths
from vmm.cost.meter import Meter
from vmm.domain import Domain
from vmm.guest_memory import HOLE_HPA
from vmm.outcome import AGAIN, Outcome
from vmm.paging.device_access import access_device
from vmm.paging.guest_walk import paging_mode
from vmm.paging.host_pages import HostPages
from vmm.vcpu import VCpu

READ_WRITE_EXECUTE = 7
WRITE_BACK = 6 << 3
LEAF = READ_WRITE_EXECUTE | WRITE_BACK
GIB, MIB2 = 1 << 30, 1 << 21
PHYSICAL_LIMIT = 1 << 40
EPTP_WALK_LENGTH_4 = 3 << 3
EPTP_WRITE_BACK = 6
# Exit qualification of an EPT violation (SDM 3C table 27-7).
IS_FETCH, LINEAR_IS_VALID, IS_FINAL_ACCESS = 1 << 2, 1 << 7, 1 << 8


class EptPaging:
    """Extended page tables of one domain."""

    WIRED = ("_words",)

    name = "ept"

    def __init__(self, domain: Domain, pages: HostPages) -> None:
        self._words = domain.machine.memory.words
        self._pages = pages
        self._domain = domain
        self.root_hpa = pages.allocate()
        gpa = 0
        while gpa < PHYSICAL_LIMIT:
            gpa += self._map_largest(gpa)

    def _map_largest(self, gpa: int) -> int:
        """Map the largest page at `gpa` that is all RAM or all empty, or skip a device's; returns its size."""
        memory = self._domain.memory
        run_bytes = memory.run_bytes(gpa)
        for size, level in ((GIB, 3), (MIB2, 2), (PAGE_BYTES, 1)):
            hpa = self._domain.hpa_of(gpa)
            inside = run_bytes >= size and hpa % size == 0
            if not run_bytes and self._domain.mmio_covers(gpa, size):
                if size == PAGE_BYTES or (gpa % size == 0 and self._domain.mmio_fills(gpa, size)):
                    return size
                continue
            if gpa % size == 0 and (inside or not memory.overlaps(gpa, size)):
                target = hpa if inside else HOLE_HPA
                self._set(gpa, level, target | LEAF | (LARGE if level > 1 else 0))
                return size
        raise AssertionError("guest memory is not page aligned")

    def _set(self, gpa: int, level: int, entry: int) -> None:
        table = self.root_hpa
        for upper in range(4, level, -1):
            slot = (table >> 3) + (gpa >> (12 + 9 * (upper - 1)) & 511)
            if not self._words[slot]:
                self._words[slot] = self._pages.allocate() | READ_WRITE_EXECUTE
            table = self._words[slot] & ~0xFFF
        self._words[(table >> 3) + (gpa >> (12 + 9 * (level - 1)) & 511)] = entry

    @staticmethod
    def of_domain(domain: Domain, pages: HostPages) -> Callable[[VCpu], "EptPaging"]:
        """What the first vCPU gets its paging from."""
        return EptPaging(domain, pages).sibling

    def sibling(self, _vcpu: VCpu) -> "EptPaging":
        """All vCPUs have the same tables, and nothing else is kept here."""
        return self

    @staticmethod
    def capabilities() -> VmxCapabilities:
        """A processor with EPT and unrestricted guest."""
        return with_ept()

    def start(self, vcpu: VCpu) -> None:
        """EPT on; of CR0 and CR4 the host owns only the bits VMX operation fixes."""
        wanted = c.PROC2_ENABLE_EPT | c.PROC2_UNRESTRICTED_GUEST
        vcpu.write(f.SECONDARY_PROCESSOR_BASED_CONTROLS, wanted)
        vcpu.write(f.EPT_POINTER, self.root_hpa | EPTP_WALK_LENGTH_4 | EPTP_WRITE_BACK)
        vcpu.write(f.CR0_GUEST_HOST_MASK, CR0_NE)
        vcpu.write(f.CR4_GUEST_HOST_MASK, CR4_VMXE)
        self.write_cr0(vcpu, vcpu.read(f.GUEST_CR0))
        self.write_cr4(vcpu, vcpu.read(f.GUEST_CR4))
        self.write_efer(vcpu, vcpu.read(f.GUEST_IA32_EFER))

    def guest_cr3(self, vcpu: VCpu) -> int:
        """CR3 is the guest's own."""
        return vcpu.read(f.GUEST_CR3)

    def guest_efer(self, vcpu: VCpu) -> int:
        """EFER is the guest's own; the processor keeps LMA."""
        return vcpu.read(f.GUEST_IA32_EFER)

    def write_cr0(self, vcpu: VCpu, value: int) -> None:
        """All but NE goes to the processor; EFER.LMA follows CR0.PG."""
        vcpu.write(f.CR0_READ_SHADOW, value)
        vcpu.write(f.GUEST_CR0, value | CR0_NE)

    def write_cr3(self, vcpu: VCpu, value: int) -> None:
        """MOV never exits under EPT; a task switch is the VMM's."""
        vcpu.write(f.GUEST_CR3, value)
        vcpu.shared.flush_tlb = FLUSH_ALL

    def write_cr4(self, vcpu: VCpu, value: int) -> None:
        """All but VMXE goes to the processor."""
        vcpu.write(f.CR4_READ_SHADOW, value)
        vcpu.write(f.GUEST_CR4, value | CR4_VMXE)

    def write_efer(self, vcpu: VCpu, value: int) -> None:
        """The processor has the guest's EFER."""
        vcpu.write(f.GUEST_IA32_EFER, value)
        entry = vcpu.read(f.VM_ENTRY_CONTROLS) & ~c.ENTRY_IA32E_MODE_GUEST
        vcpu.write(f.VM_ENTRY_CONTROLS, entry | (c.ENTRY_IA32E_MODE_GUEST if value & 0x400 else 0))

    def invlpg(self, vcpu: VCpu, gva: int) -> None:
        """Never exits under EPT."""
        raise AssertionError("INVLPG exited under EPT")

    def handle_page_fault(self, vcpu: VCpu, gva: int, error_code: int) -> Outcome:
        """Never exits under EPT."""
        raise AssertionError("a page fault exited under EPT")

    def handle_ept_violation(self, vcpu: VCpu) -> Outcome:
        """An access to a device's page: the tables cover every other address the processor can form."""
        gpa = vcpu.read(f.GUEST_PHYSICAL_ADDRESS)
        violation = vcpu.read(f.EXIT_QUALIFICATION)
        if violation & LINEAR_IS_VALID and not violation & IS_FINAL_ACCESS:
            raise GuestError(f"the guest has page tables at {gpa:#x}, where there is a device and no memory")
        access_device(vcpu, paging_mode(vcpu), gpa, is_fetch=bool(violation & IS_FETCH))
        return AGAIN

    def store_entry(self, meter: Meter, gpa: int, entry: int) -> None:
        """The processor walks the guest's own tables: a store is all."""
        meter.follow(paths.GUEST_COPY)
        meter.touch(self._domain.hpa_of(gpa), 8, True)
        self._domain.write(gpa, entry.to_bytes(8, "little"))

    def watch(self, hpas: Sequence[int]) -> None:
        """The engine keeps its nested tables from having them."""

    def guest_memory_written(self, meter: Meter, gpa: int, length_bytes: int) -> None:
        """Nothing is derived from guest memory."""
