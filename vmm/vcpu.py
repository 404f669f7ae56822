"""A virtual CPU: the VMM's view of one guest processor, through its VMCS.

Handlers read and write VMCS fields and general registers here, and say what they do, which is charged to the core.

    handler --read/write--> Vmcs (shared with the engine)      gpr: RAX .. R15 as VMMs save them at an exit
            --inject------> VM-entry interruption information  (RSP, RIP, RFLAGS are VMCS fields)
            --follow, touch, execute: charging.py
"""

from typing import TYPE_CHECKING

from emulator.engine import Engine
from emulator.events import EventQueue
from emulator.pcpu import PCpu
from emulator.vmx import fields as f
from emulator.vmx import interruption as i
from emulator.vmx.guest_state import BLOCKING_BY_MOV_SS, BLOCKING_BY_NMI, BLOCKING_BY_STI
from emulator.x86 import DOUBLE_FAULT, PAGE_FAULT
from vmm.cost import paths
from vmm.cost.meter import ChargedVmcs
from vmm.domain import Domain
from vmm.outcome import End, EndKind
from vmm.paging.guest_walk import GuestFault, PagingMode, Translation, Visit, walk

if TYPE_CHECKING:
    from vmm.core import Core
    from vmm.paging import Paging

RSP = 4
_RIP_SLOT, _RFLAGS_SLOT = f.SLOT[f.GUEST_RIP], f.SLOT[f.GUEST_RFLAGS]
_VECTORING_SLOT, _INJECTION_SLOT = f.SLOT[f.IDT_VECTORING_INFORMATION], f.SLOT[f.VM_ENTRY_INTERRUPTION_INFORMATION]
FLAG_TF, FLAG_IF = 1 << 8, 1 << 9
DEBUG_EXCEPTION = 1
DR6_SINGLE_STEP = 1 << 14
BLOCKING_BY_STI_OR_MOV_SS = BLOCKING_BY_STI | BLOCKING_BY_MOV_SS
NMI_VECTOR = 2
_CONTRIBUTORY = frozenset({0, 10, 11, 12, 13})  # SDM 3A table 6-5


class VCpu(ChargedVmcs):
    """vCPU `number` of `domain`, run by `pcpu`."""

    __slots__ = (
        "apic", "core", "domain", "gpr", "init_request", "interrupt_request", "is_blocked", "is_parked", "mmio", "msrs",
        "nmi_request", "number", "paging", "start_up_vector", "timers", "waits_for_start_up",
    )  # fmt: skip

    def __init__(
        self, domain: Domain, pcpu: PCpu, engine: Engine, number: int = 0, *, state_hpa: int, timers: EventQueue
    ) -> None:
        """A vCPU whose structure in the VMM's memory is the page at `state_hpa`, its local APIC's timer on `timers`."""
        super().__init__(pcpu, engine, state_hpa=state_hpa)
        self.timers = timers
        self.domain = domain
        self.number = number
        self.apic = domain.board.apics[number]
        self.mmio = domain.cpu_mmio[number]
        self.gpr = engine.gpr
        self.paging: Paging  # set by the hypervisor
        self.core: Core  # where it is loaded: set there
        self.is_blocked = False  # halted, waiting for an interrupt
        self.is_parked = False  # blocked with interrupts off: only an INIT wakes it
        self.waits_for_start_up = False  # blocked, and only a SIPI wakes it
        self.init_request = False  # an INIT came, to be carried out where the vCPU runs
        self.start_up_vector: int | None = None  # of a SIPI behind that INIT
        self.interrupt_request = False  # level of the virtual interrupt controller's output
        self.nmi_request = False  # an NMI waits: of several, one
        self.msrs: dict[int, int] = {}

    def run_devices(self) -> None:
        """Bring the domain's devices to the core's time, before one is accessed."""
        self.commit_cycles()
        now_ps = self.pcpu.clock.now_ps
        self.domain.timers.run_until(now_ps)
        self.timers.run_until(now_ps)

    def arm_timer(self) -> None:
        """Ask the core's local timer for the devices' next event, after one was accessed."""
        self.core.serve(self.domain.timers, self.timers)

    def tsc_to_ps(self, tsc: int) -> int:
        """When the guest's time-stamp counter shows `tsc`."""
        return self.pcpu.clock.tsc_to_ps(tsc, int(self.engine.shared.tsc_base))

    # --- registers ---------------------------------------------------------------------------------------------------

    def read_gpr(self, index: int) -> int:
        """General register 0 (RAX) to 15 (R15)."""
        return self.read(f.GUEST_RSP) if index == RSP else self.gpr[index]

    def write_gpr(self, index: int, value: int) -> None:
        """Set a general register to a 64-bit value."""
        value &= (1 << 64) - 1
        if index == RSP:
            self.write(f.GUEST_RSP, value)
        else:
            self.gpr[index] = value

    @property
    def rip(self) -> int:
        """RIP at the exit, for people and traces: costs nothing."""
        return self._words[_RIP_SLOT]

    def advance_rip(self) -> None:
        """Step over the instruction that exited; the blocking by STI or MOV SS ends with it."""
        self.follow(paths.ADVANCE_RIP)
        self.write(f.GUEST_RIP, self.read(f.GUEST_RIP) + self.read(f.VM_EXIT_INSTRUCTION_LENGTH))
        self.finish_instruction()

    def finish_instruction(self) -> None:
        """The VMM did an instruction: blocking by STI or MOV SS ends; with RFLAGS.TF it traps (SDM 3B 17.3.1)."""
        blocking = self.read(f.GUEST_INTERRUPTIBILITY_STATE)
        if blocking & BLOCKING_BY_STI_OR_MOV_SS:
            self.write(f.GUEST_INTERRUPTIBILITY_STATE, blocking & ~BLOCKING_BY_STI_OR_MOV_SS)
        if self._words[_RFLAGS_SLOT] & FLAG_TF:
            self.engine.shared.dr6 |= DR6_SINGLE_STEP
            self.inject(DEBUG_EXCEPTION, i.HARDWARE_EXCEPTION)

    @property
    def cpl(self) -> int:
        """Current privilege level: the DPL of SS (SDM 3C 24.4.1)."""
        return self.read(f.GUEST_SS_ACCESS_RIGHTS) >> 5 & 3

    @property
    def guest_cr0(self) -> int:
        """CR0 as the guest reads it."""
        mask = self.vmcs.read(f.CR0_GUEST_HOST_MASK)
        return self.read(f.GUEST_CR0) & ~mask | self.read(f.CR0_READ_SHADOW) & mask

    @property
    def guest_cr4(self) -> int:
        """CR4 as the guest reads it."""
        mask = self.vmcs.read(f.CR4_GUEST_HOST_MASK)
        return self.read(f.GUEST_CR4) & ~mask | self.read(f.CR4_READ_SHADOW) & mask

    @property
    def guest_efer(self) -> int:
        """EFER as the guest reads it."""
        return self.paging.guest_efer(self)

    def paging_mode(self) -> PagingMode:
        """How the guest's own tables translate now."""
        return PagingMode(self.guest_cr0, self.paging.guest_cr3(self), self.guest_cr4, self.guest_efer)

    def walk(
        self, mode: PagingMode, gva: int, *, write: bool = False, user: bool = False, fetch: bool = False
    ) -> Translation | GuestFault:
        """Walk the guest's own page tables in software."""
        visited: list[Visit] = []
        found = walk(self.domain, mode, gva, write=write, user=user, fetch=fetch, visited=visited)
        self.charge_walk(visited)
        return found

    def charge_walk(self, visited: list[Visit]) -> None:
        """Charge a walk that touches these entries."""
        self.follow(paths.WALK)
        hpa_of = self.domain.hpa_of
        for gpa, size_bytes, is_write in visited:
            self.follow(paths.MARK_USED if is_write else paths.WALK_STEP)
            self.touch(hpa_of(gpa), size_bytes, is_write)

    # --- events ------------------------------------------------------------------------------------------------------

    @property
    def is_injecting(self) -> bool:
        """Whether the next VM entry delivers an event."""
        return bool(self._words[_INJECTION_SLOT] & i.VALID)

    def inject(self, vector: int, type_: int, *, error_code: int | None = None, instruction_bytes: int = 0) -> None:
        """Deliver an event at the next VM entry."""
        self.follow(paths.INJECT)
        info = i.VALID | type_ << i.TYPE_SHIFT | vector
        if error_code is not None:
            info |= i.ERROR_CODE_VALID
            self.write(f.VM_ENTRY_EXCEPTION_ERROR_CODE, error_code)
        if type_ in i.SOFTWARE_TYPES:
            self.write(f.VM_ENTRY_INSTRUCTION_LENGTH, instruction_bytes)
        self.write(f.VM_ENTRY_INTERRUPTION_INFORMATION, info)

    def inject_exception(self, vector: int, error_code: int | None = None) -> None:
        """Raise an exception in the guest, on top of the event that the exit interrupted, if any (SDM 3A 6.15)."""
        vectoring = self.vmcs.read(f.IDT_VECTORING_INFORMATION)
        if vectoring & i.VALID:
            first, type_ = vectoring & i.VECTOR_MASK, vectoring >> i.TYPE_SHIFT & i.TYPE_MASK
            if type_ in (i.HARDWARE_EXCEPTION, i.SOFTWARE_EXCEPTION, i.PRIVILEGED_SOFTWARE_EXCEPTION):
                if first == DOUBLE_FAULT:
                    self.shut_down()
                    return
                second_is_serious = vector in _CONTRIBUTORY or (first == PAGE_FAULT and vector == PAGE_FAULT)
                if (first in _CONTRIBUTORY or first == PAGE_FAULT) and second_is_serious:
                    vector, error_code = DOUBLE_FAULT, 0
        self.inject(vector, i.HARDWARE_EXCEPTION, error_code=error_code)

    def inject_page_fault(self, gva: int, error_code: int) -> None:
        """#PF: CR2 is the VMM's to set (SDM 3C 26.6.1.1)."""
        self.engine.shared.cr2 = gva
        self.inject_exception(PAGE_FAULT, error_code)

    def shut_down(self) -> None:
        """The guest's processor shuts down."""
        self.domain.finish(End(EndKind.SHUTDOWN, detail="triple fault"))

    def reinject_interrupted_event(self) -> None:
        """Deliver again what the exit interrupted on its way through the IDT (SDM 3C 27.2.4)."""
        vectoring = self._words[_VECTORING_SLOT]
        if not vectoring & i.VALID or self.is_injecting:
            return
        self.follow(paths.REINJECT)
        type_ = vectoring >> i.TYPE_SHIFT & i.TYPE_MASK
        if type_ == i.NMI:  # it has blocked NMIs already
            self._set_nmi_blocking(is_blocked=False)
        self.inject(
            vectoring & i.VECTOR_MASK,
            type_,
            error_code=self.read(f.IDT_VECTORING_ERROR_CODE) if vectoring & i.ERROR_CODE_VALID else None,
            instruction_bytes=self.read(f.VM_EXIT_INSTRUCTION_LENGTH),
        )

    @property
    def can_take_interrupt(self) -> bool:
        """Whether an external interrupt could be injected at the next entry."""
        if self.is_injecting or not self.read(f.GUEST_RFLAGS) & FLAG_IF:
            return False
        return not self.read(f.GUEST_INTERRUPTIBILITY_STATE) & BLOCKING_BY_STI_OR_MOV_SS

    @property
    def is_woken(self) -> bool:
        """Whether an event waits that ends a HLT."""
        has_interrupt = self.interrupt_request and self.can_take_interrupt
        return has_interrupt or (self.nmi_request and self.can_take_nmi)

    @property
    def can_take_nmi(self) -> bool:
        """Whether an NMI could be injected at the next entry."""
        blocking = self.read(f.GUEST_INTERRUPTIBILITY_STATE)
        return not self.is_injecting and not blocking & (BLOCKING_BY_STI_OR_MOV_SS | BLOCKING_BY_NMI)

    def take_back_iret(self) -> None:
        """An IRET has exited after it ended blocking by NMI, and will run again (SDM 3C 31.7.1.1, bit 12)."""
        if not self.is_injecting:
            self._set_nmi_blocking(is_blocked=True)

    def _set_nmi_blocking(self, *, is_blocked: bool) -> None:
        blocking = self.read(f.GUEST_INTERRUPTIBILITY_STATE) & ~BLOCKING_BY_NMI
        self.write(f.GUEST_INTERRUPTIBILITY_STATE, blocking | (BLOCKING_BY_NMI if is_blocked else 0))
