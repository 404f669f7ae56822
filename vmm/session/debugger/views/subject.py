"""Who is looked at: one processor of a built guest, as it stands between turns, inside an exit, or inside a block.

    VirtualGuest, NativeGuest --Subject(guest, number)--> registers: VMCS words, gpr, the struct shared with C
                                                          memory: by gva, gpa, hpa

Reading changes nothing: no accessed bit, no charge, no access to a device. Memory is what RAM holds; where there is
none the answer is None. An address that is not canonical, a table that leads outside of memory: None, too.
"""

from enum import Enum

from emulator.engine import Engine
from emulator.errors import ConfigError
from emulator.pcpu import PCpu
from emulator.vmx import fields as f
from emulator.vmx.vmcs import Vmcs
from emulator.x86 import AR_D, AR_L, EFER_LMA, GPR_NAMES, PAGE_BYTES, RFLAGS_VM, RSP, is_canonical
from vmm.domain import Domain
from vmm.paging.ept import EptPaging
from vmm.paging.guest_walk import GuestFault, Memory, PagingMode, Translation, walk_tables
from vmm.paging.shadow_view import ShadowView
from vmm.session.guest import Guest
from vmm.session.slide import GATE_BYTES, gate_address, slide_of
from vmm.session.symbols import Symbols
from vmm.vcpu import Exit, VCpu

LINEAR_BITS = 48
WORD = (1 << 64) - 1


class Space(Enum):
    """Whose addresses: linear ones of the guest, its physical ones, the host's."""

    GVA = "gva"
    GPA = "gpa"
    HPA = "hpa"


class Subject:
    """Processor `number` of `guest`: a vCPU, or natively a core."""

    def __init__(self, guest: Guest, number: int = 0, symbols: Symbols | None = None) -> None:
        """Raises ConfigError when there is no such processor."""
        self.guest = guest
        self.number = number
        self.symbols = self._linked = symbols or Symbols()
        self._slide = 0
        self.vcpu: VCpu | None = None
        self.domain: Domain | None = None
        self.shadow: ShadowView | None = None  # its paging, if it is that
        self.ept: EptPaging | None = None
        processors = guest.processors
        if not 0 <= number < len(processors):
            raise ConfigError(f"the guest has no vCPU {number}; choose one from 0 to {len(processors) - 1}")
        processor = processors[number]
        self.engine: Engine = processor.engine
        self.vmcs: Vmcs = processor.vmcs
        self._processor = processor
        self.host_memory = guest.machine.memory
        self.memory: Memory = self.host_memory  # as the guest's own page tables address it
        if isinstance(processor, VCpu):
            self.vcpu, self.domain, self.memory = processor, processor.domain, processor.domain
            self.shadow = processor.paging if isinstance(processor.paging, ShadowView) else None
            self.ept = processor.paging if isinstance(processor.paging, EptPaging) else None

    def find_kernel(self) -> None:
        """Move the symbols to where the guest's Linux lies by now, if it tells (KASLR): see slide.py."""
        slide = slide_of(self._linked, self.read_gva(gate_address(self.vmcs), GATE_BYTES))
        if slide != self._slide:  # to move all of them takes a while
            self.symbols, self._slide = self._linked.moved(slide) if slide else self._linked, slide

    @property
    def paging(self) -> str:
        """How its memory is virtualized: native, shadow or ept."""
        return "native" if self.vcpu is None else self.vcpu.paging.name

    @property
    def name(self) -> str:
        """`d0v1`; natively `cpu1`."""
        return f"cpu{self.number}" if self.vcpu is None else self.engine.owner

    @property
    def pcpu(self) -> PCpu:
        """The core where it runs, or ran last."""
        return self._processor.pcpu

    @property
    def cycles(self) -> int:
        """Its core's clock, with what an exit that is being handled has been charged."""
        return self.pcpu.clock.cycles if self.vcpu is None else self.vcpu.meter.now_cycles

    @property
    def exit(self) -> Exit | None:
        """The VM exit that is being handled."""
        return None if self.vcpu is None else self.vcpu.exit

    # --- registers ---------------------------------------------------------------------------------------------------

    def read(self, field: int) -> int:
        """A field of the VMCS; guest-state fields are registers, natively too."""
        return self.vmcs.read(field)

    def words(self) -> tuple[int, ...]:
        """A copy of the VMCS, by slot."""
        return tuple(self.vmcs.storage)

    def gpr(self, index: int) -> int:
        """General register 0 (RAX) to 15 (R15)."""
        return self.read(f.GUEST_RSP) if index == RSP else int(self.engine.gpr[index])

    def gprs(self) -> dict[str, int]:
        """All of them by name."""
        return {name: self.gpr(index) for index, name in enumerate(GPR_NAMES)}

    @property
    def rip(self) -> int:
        """The instruction pointer."""
        return self.read(f.GUEST_RIP)

    @property
    def cpl(self) -> int:
        """Current privilege level: the DPL of SS (SDM 3C 24.4.1)."""
        return self.read(f.GUEST_SS_ACCESS_RIGHTS) >> 5 & 3

    @property
    def code_bits(self) -> int:
        """64, 32 or 16: how instructions are decoded."""
        rights = self.read(f.GUEST_CS_ACCESS_RIGHTS)
        if self.read(f.GUEST_IA32_EFER) & EFER_LMA and rights & AR_L:
            return 64
        return 32 if rights & AR_D and not self.read(f.GUEST_RFLAGS) & RFLAGS_VM else 16

    @property
    def linear_rip(self) -> int:
        """Where the next instruction lies."""
        return self.linear_code(self.rip)

    def linear_code(self, offset: int) -> int:
        """The linear address of an offset in the code segment."""
        return offset if self.code_bits == 64 else offset + self.read(f.GUEST_CS_BASE) & 0xFFFF_FFFF

    @property
    def mode(self) -> PagingMode:
        """The registers that decide how addresses translate, as the guest believes them."""
        vcpu = self.vcpu
        if vcpu is None:
            return self.hardware_mode
        hardware = self.hardware_mode
        cr0 = self._with_shadow(hardware.cr0, f.CR0_GUEST_HOST_MASK, f.CR0_READ_SHADOW)
        cr4 = self._with_shadow(hardware.cr4, f.CR4_GUEST_HOST_MASK, f.CR4_READ_SHADOW)
        if self.shadow is None:
            return PagingMode(cr0, hardware.cr3, cr4, hardware.efer)
        return PagingMode(cr0, self.shadow.mode.cr3, cr4, self.shadow.mode.efer)

    def _with_shadow(self, value: int, mask_field: int, shadow_field: int) -> int:
        mask = self.read(mask_field)
        return value & ~mask | self.read(shadow_field) & mask

    @property
    def hardware_mode(self) -> PagingMode:
        """The same as the processor has them."""
        return PagingMode(
            self.read(f.GUEST_CR0), self.read(f.GUEST_CR3), self.read(f.GUEST_CR4), self.read(f.GUEST_IA32_EFER)
        )

    # --- translation -------------------------------------------------------------------------------------------------

    def walk(
        self, gva: int, *, write: bool = False, user: bool = False, fetch: bool = False
    ) -> Translation | GuestFault | None:
        """The guest's own tables for an access. None: `gva` is not canonical."""
        return self._walk(self.memory, self.mode, gva, write=write, user=user, fetch=fetch)

    def walk_hardware(
        self, gva: int, *, write: bool = False, user: bool = False, fetch: bool = False
    ) -> Translation | GuestFault | None:
        """The tables that the processor walks, where they lie in the host's memory: natively, and with shadows."""
        mode = self.hardware_mode
        return self._walk(self.host_memory, mode, gva, write=write, user=user, fetch=fetch)

    def _walk(
        self, memory: Memory, mode: PagingMode, gva: int, *, write: bool, user: bool, fetch: bool
    ) -> Translation | GuestFault | None:
        if not 0 <= gva <= WORD or (mode.is_long and not is_canonical(gva, LINEAR_BITS)):
            return None
        return walk_tables(memory, mode, gva, write=write, user=user, fetch=fetch, probe=True)

    def gpa_of(self, gva: int) -> int | None:
        """Where the guest's tables lead from `gva`; None: nowhere."""
        found = self.walk(gva)
        return found.gpa if isinstance(found, Translation) else None

    def hpa_of(self, gpa: int) -> int | None:
        """Where guest-physical memory lies in the host's; None: the guest has no RAM there."""
        if self.domain is None:
            return gpa if self.host_memory.is_ram(gpa, 1) else None
        return self.domain.hpa_of(gpa) if self.domain.is_ram(gpa) else None

    # --- memory ------------------------------------------------------------------------------------------------------

    def read_gva(self, gva: int, length_bytes: int) -> bytes | None:
        """Memory at a linear address of the guest; None unless all of it is mapped to RAM."""
        data = self.read_available(Space.GVA, gva, length_bytes)
        return data if len(data) == length_bytes else None

    def read_gpa(self, gpa: int, length_bytes: int) -> bytes | None:
        """Guest-physical memory; None unless all of it is RAM."""
        data = self.read_available(Space.GPA, gpa, length_bytes)
        return data if len(data) == length_bytes else None

    def read_hpa(self, hpa: int, length_bytes: int) -> bytes | None:
        """Host-physical memory; None unless all of it is RAM."""
        return self.host_memory.read(hpa, length_bytes) if self.host_memory.is_ram(hpa, length_bytes) else None

    def read_available(self, space: Space, address: int, length_bytes: int) -> bytes:
        """Memory from `address` on, as far as there is any; pages are looked up one by one."""
        parts = []
        while length_bytes > 0:
            here = min(length_bytes, PAGE_BYTES - address % PAGE_BYTES)
            hpa = self.place(space, address)
            data = None if hpa is None else self.read_hpa(hpa, here)
            if data is None:
                break
            parts.append(data)
            address, length_bytes = address + here & WORD, length_bytes - here
        return b"".join(parts)

    def place(self, space: Space, address: int) -> int | None:
        """The host-physical address of any address; None: no RAM is there."""
        if space is Space.HPA:
            return address if self.host_memory.is_ram(address, 1) else None
        gpa = address if space is Space.GPA else self.gpa_of(address)
        return None if gpa is None else self.hpa_of(gpa)
