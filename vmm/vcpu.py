"""A virtual CPU: the VMM's view of one guest processor, through its VMCS.

Handlers read and write VMCS fields and general registers here, and say what they do to the meter of the core.

    handler --read, write--> VMREAD, VMWRITE on the core (emulator/vmx/operation.py)
            --gpr----------> RAX .. R15 as VMMs save them at an exit (RSP, RIP, RFLAGS are VMCS fields)
            --inject-------> VM-entry interruption information
            --meter--------> what it takes (cost/meter.py)

Longer than other files: what a vCPU needs of its core and its paging stands here, since they know the vCPU, too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, Protocol

from emulator import cpuid
from emulator.engine import Engine
from emulator.events import EventQueue
from emulator.ledger import RUNNING, STARTING, Account
from emulator.pcpu import PCpu
from emulator.vmx import fields as f
from emulator.vmx import interruption as i
from emulator.vmx.capabilities import VmxCapabilities
from emulator.vmx.exit_reasons import name
from emulator.vmx.guest_state import BLOCKING_BY_MOV_SS, BLOCKING_BY_NMI, BLOCKING_BY_STI
from emulator.vmx.operation import VmxOperation
from emulator.vmx.vmcs import Vmcs
from emulator.x86 import (
    CONTRIBUTORY_VECTORS,
    DEBUG_EXCEPTION,
    DOUBLE_FAULT,
    DR6_BS,
    PAGE_FAULT,
    RFLAGS_IF,
    RFLAGS_TF,
    RSP,
)
from vmm.cost import paths
from vmm.cost.meter import Meter
from vmm.domain import Domain
from vmm.outcome import End, EndKind, Outcome

EXIT_REASON_MASK = 0xFFFF
_REASON_SLOT, _RIP_SLOT, _RFLAGS_SLOT = f.SLOT[f.EXIT_REASON], f.SLOT[f.GUEST_RIP], f.SLOT[f.GUEST_RFLAGS]
_VECTORING_SLOT, _INJECTION_SLOT = f.SLOT[f.IDT_VECTORING_INFORMATION], f.SLOT[f.VM_ENTRY_INTERRUPTION_INFORMATION]
_BLOCKING_SLOT = f.SLOT[f.GUEST_INTERRUPTIBILITY_STATE]
UPCALL = 2  # of `VCpu.interrupt_request`
BLOCKING_BY_STI_OR_MOV_SS = BLOCKING_BY_STI | BLOCKING_BY_MOV_SS


class Exit(NamedTuple):
    """A VM exit: why, where, and when the guest stopped. It lasts until the next entry."""

    reason: int
    rip: int
    began_cycles: int


_new_exit = partial(tuple.__new__, Exit)  # in a third of the time that a call of Exit takes


class Core(Protocol):
    """The core a vCPU is on, as its handlers and its paging know it: `core.Core`."""

    pcpu: PCpu
    meter: Meter
    operation: VmxOperation
    needs_scheduling: bool

    def take_interrupt(self, vector: int) -> None:
        """Handle an interrupt of the host that has been acknowledged, and end it."""
        ...

    def take_interrupts(self) -> None:
        """Take what else waits."""
        ...

    def serve(self, *queues: EventQueue) -> None:
        """Let the core's local timer drive `queues`, whose events may have changed."""
        ...

    def give_up(self, vcpu: "VCpu") -> None:
        """Another core runs the vCPU: unload its state, if it is here."""
        ...

    def shoot_down(self, vcpu: "VCpu") -> None:
        """The TLB of `vcpu` was flushed because of what another did: let it notice."""
        ...


class Upcall(Protocol):
    """Who calls a guest past its interrupt controllers: `nic.event_channel.EventChannel`."""

    vector: int

    def scheduled(self, vcpu: "VCpu") -> None:
        """The vCPU that it has woken gets a core."""
        ...

    def injected(self, vcpu: "VCpu") -> None:
        """The next VM entry calls the guest."""
        ...


class Paging(Protocol):
    """What a way of paging does for a domain's vCPUs. Values that reach it are valid: #GP was decided before."""

    name: str

    def sibling(self, vcpu: "VCpu") -> "Paging":
        """The paging of another vCPU of the same domain."""
        ...

    def start(self, vcpu: "VCpu") -> None:
        """Set the controls and control registers of a vCPU whose guest state was just written."""
        ...

    def guest_cr3(self, vcpu: "VCpu") -> int:
        """CR3 as the guest reads it."""
        ...

    def guest_efer(self, vcpu: "VCpu") -> int:
        """EFER as the guest reads it."""
        ...

    def write_cr0(self, vcpu: "VCpu", value: int) -> None:
        """The guest's CR0 becomes `value`."""
        ...

    def write_cr3(self, vcpu: "VCpu", value: int) -> None:
        """The guest's CR3 becomes `value`."""
        ...

    def write_cr4(self, vcpu: "VCpu", value: int) -> None:
        """The guest's CR4 becomes `value`."""
        ...

    def write_efer(self, vcpu: "VCpu", value: int) -> None:
        """The guest's EFER becomes `value`."""
        ...

    def invlpg(self, vcpu: "VCpu", gva: int) -> None:
        """The guest executed INVLPG."""
        ...

    def handle_page_fault(self, vcpu: "VCpu", gva: int, error_code: int) -> Outcome:
        """A #PF exit."""
        ...

    def handle_ept_violation(self, vcpu: "VCpu") -> Outcome:
        """An EPT violation exit."""
        ...

    def store_entry(self, meter: Meter, gpa: int, entry: int) -> None:
        """Store a page-table entry for the guest, at the cost of `meter`; TLBs are the caller's to flush.

        `gpa` is in the guest's memory.
        """
        ...

    def watch(self, hpas: Sequence[int]) -> None:
        """The emulator wants to see each access to the pages at `hpas`. No part of any VMM, takes no time."""
        ...

    def guest_memory_written(self, meter: Meter, gpa: int, length_bytes: int) -> None:
        """The VMM itself stored into guest memory, inside one page: for an instruction, or for a device."""
        ...


Hypercall = Callable[["VCpu", int, int], int]  # (vCPU, RDI, RSI) -> RAX


@dataclass
class Extensions:
    """What a hypervisor has for its guests that no processor has."""

    hypercalls: dict[int, Hypercall] = field(default_factory=dict)  # by number, in RAX
    cpuid_leaves: dict[int, cpuid.Registers] = field(default_factory=dict)  # behind 0x40000000


class VCpu:
    """vCPU `number` of `domain`; `siblings` are all of the domain's, this one too.

    Slots, because CPython 3.11 finds attributes of an object with more than 30 of them 20 ns later.
    """

    WIRED = ("shared", "clock", "gpr", "_words")

    __slots__ = (
        "_account", "_accounts", "_words", "apic", "clock", "core", "domain", "engine", "exit",
        "extensions", "gpr", "has_run", "init_request", "interrupt_request", "is_blocked", "is_parked", "meter",
        "mmio", "msrs", "nmi_request", "number", "paging", "read", "running_account", "shared",
        "siblings", "start_up_vector", "state_hpa",
        "timers", "upcall", "vmcs", "waits_for_start_up", "windows", "woken_by", "write",
    )  # fmt: skip

    def __init__(
        self,
        domain: Domain,
        engine: Engine,
        number: int = 0,
        *,
        core: Core,
        capabilities: VmxCapabilities,
        paging: Callable[["VCpu"], Paging],
        siblings: "Sequence[VCpu]",
        state_hpa: int,
        extensions: Extensions,
    ) -> None:
        """A vCPU whose structure in the VMM's memory is the page at `state_hpa`.

        It is set up on `core`, but what that takes is paid by the core where it first runs.
        """
        self.domain = domain
        self.engine = engine
        self.number = number
        self.siblings = siblings
        self.extensions = extensions
        self.state_hpa = state_hpa
        self.apic = domain.board.apics[number]
        self.timers = self.apic.timer.events
        self.mmio = domain.cpu_mmio[number]
        self.shared = engine.shared
        self.gpr = engine.gpr
        self.clock = engine.clock
        self.vmcs = Vmcs(engine.vmcs)
        self._words = self.vmcs.storage
        self.exit: Exit | None = None  # that is handled; None: the guest runs, or has never run
        self.has_run = False  # its state has been loaded on a core
        self.is_blocked = False  # halted, waiting for an interrupt
        self.is_parked = False  # blocked with interrupts off: only an INIT wakes it
        self.waits_for_start_up = False  # blocked, and only a SIPI wakes it
        self.init_request = False  # an INIT came, to be carried out where the vCPU runs
        self.start_up_vector: int | None = None  # of a SIPI behind that INIT
        self.interrupt_request = 0  # of 1, the level of the virtual interrupt controller's output, and UPCALL
        self.upcall: Upcall | None = None  # to be injected before an interrupt of that controller
        self.woken_by: Upcall | None = None  # by whose upcall it sleeps no longer; it has not been scheduled since
        self.nmi_request = False  # an NMI waits: of several, one
        self.windows = 0  # interrupt-window and NMI-window exiting, as far as they are set
        self.msrs: dict[int, int] = {}
        meter = Meter(core.pcpu)
        operation = VmxOperation(capabilities, core.pcpu.profile, meter)
        operation.vmxon()
        operation.make_current(self.vmcs)
        self._use(core, meter, operation)
        self.paging = paging(self)

    def load(self, core: Core) -> None:
        """Its state is loaded on `core`: VMPTRLD was executed there. The core pays, for an exit in progress too."""
        if not self.has_run:
            self.has_run = True
            core.meter.take_over(self.meter)
        self._use(core, core.meter, core.operation)

    def _use(self, core: Core, meter: Meter, operation: VmxOperation) -> None:
        self.core, self.meter = core, meter
        self.read: Callable[[int], int] = operation.read  # VMREAD
        self.write: Callable[[int, int], None] = operation.write  # VMWRITE
        self._accounts: dict[int, Account] = {}  # of exits on this core, by reason
        self.running_account = core.pcpu.clock.ledger.account(self.engine.owner, RUNNING)
        activity = name(self._words[_REASON_SLOT] & EXIT_REASON_MASK) if self.vmcs.is_launched else STARTING
        self._account = core.pcpu.clock.ledger.account(self.engine.owner, activity)

    # --- exits -------------------------------------------------------------------------------------------------------

    def take_exit(self, clock_cycles: int) -> Exit:
        """The VM exit that has taken place at `clock_cycles`: charges go to its account from now on."""
        reason = self._words[_REASON_SLOT] & EXIT_REASON_MASK
        try:
            account = self._accounts[reason]
        except KeyError:
            account = self._accounts[reason] = self.meter.clock.ledger.account(self.engine.owner, name(reason))
        self.meter.clock.account = self._account = account
        self.exit = exit = _new_exit((reason, self._words[_RIP_SLOT], clock_cycles))
        return exit

    def resume_exit(self) -> None:
        """Go on with an exit after a sleep: charges go to its account again."""
        self.meter.clock.account = self._account

    @property
    def pcpu(self) -> PCpu:
        """The core where its state is loaded, or was last."""
        return self.core.pcpu

    def run_devices(self) -> None:
        """Bring the domain's devices to the core's time, before one is accessed."""
        self.meter.commit()
        now_ps = self.pcpu.clock.now_ps
        self.domain.timers.run_until(now_ps)
        self.timers.run_until(now_ps)

    def arm_timer(self) -> None:
        """Ask the core's local timer for the devices' next event, after one was accessed."""
        self.core.serve(self.domain.timers, self.timers)

    def tsc_to_ps(self, tsc: int) -> int:
        """When the guest's time-stamp counter shows `tsc`."""
        return self.pcpu.clock.tsc_to_ps(tsc, int(self.shared.tsc_base))

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
        """Step over the instruction that exited."""
        vmx = self.core.operation
        self.meter.follow(paths.ADVANCE_RIP)
        rip, length_bytes, blocking = vmx.read_three(
            f.GUEST_RIP, f.VM_EXIT_INSTRUCTION_LENGTH, f.GUEST_INTERRUPTIBILITY_STATE
        )
        vmx.write(f.GUEST_RIP, rip + length_bytes)
        if blocking & BLOCKING_BY_STI_OR_MOV_SS or self._words[_RFLAGS_SLOT] & RFLAGS_TF:
            self._end_instruction()

    def finish_instruction(self) -> None:
        """The VMM did an instruction, RIP included."""
        self.read(f.GUEST_INTERRUPTIBILITY_STATE)
        self._end_instruction()

    def _end_instruction(self) -> None:
        """Blocking by STI or MOV SS ends with it; with RFLAGS.TF it traps (SDM 3B 17.3.1)."""
        blocking = self._words[_BLOCKING_SLOT]
        if blocking & BLOCKING_BY_STI_OR_MOV_SS:
            self.write(f.GUEST_INTERRUPTIBILITY_STATE, blocking & ~BLOCKING_BY_STI_OR_MOV_SS)
        if self._words[_RFLAGS_SLOT] & RFLAGS_TF:
            self.shared.dr6 |= DR6_BS
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

    # --- events ------------------------------------------------------------------------------------------------------

    @property
    def is_injecting(self) -> bool:
        """Whether the next VM entry delivers an event."""
        return bool(self._words[_INJECTION_SLOT] & i.VALID)

    def inject(self, vector: int, type_: int, *, error_code: int | None = None, instruction_bytes: int = 0) -> None:
        """Deliver an event at the next VM entry."""
        self.meter.follow(paths.INJECT)
        info = i.VALID | type_ << i.TYPE_SHIFT | vector
        if error_code is not None:
            info |= i.ERROR_CODE_VALID
            self.write(f.VM_ENTRY_EXCEPTION_ERROR_CODE, error_code)
        if type_ in i.SOFTWARE_TYPES:
            self.write(f.VM_ENTRY_INSTRUCTION_LENGTH, instruction_bytes)
        self.write(f.VM_ENTRY_INTERRUPTION_INFORMATION, info)

    def take_upcall(self, upcall: Upcall) -> None:
        """Deliver an upcall at the next VM entry: an interrupt that no controller has a part in."""
        self.upcall = None
        self.interrupt_request &= ~UPCALL
        self.inject(upcall.vector, i.EXTERNAL_INTERRUPT)
        upcall.injected(self)

    def inject_exception(self, vector: int, error_code: int | None = None) -> None:
        """Raise an exception in the guest, on top of the event that the exit interrupted, if any (SDM 3A 6.15)."""
        vectoring = self.vmcs.read(f.IDT_VECTORING_INFORMATION)
        if vectoring & i.VALID:
            first, type_ = vectoring & i.VECTOR_MASK, vectoring >> i.TYPE_SHIFT & i.TYPE_MASK
            if type_ in (i.HARDWARE_EXCEPTION, i.SOFTWARE_EXCEPTION, i.PRIVILEGED_SOFTWARE_EXCEPTION):
                if first == DOUBLE_FAULT:
                    self.shut_down()
                    return
                second_is_serious = vector in CONTRIBUTORY_VECTORS or (first == PAGE_FAULT and vector == PAGE_FAULT)
                if (first in CONTRIBUTORY_VECTORS or first == PAGE_FAULT) and second_is_serious:
                    vector, error_code = DOUBLE_FAULT, 0
        self.inject(vector, i.HARDWARE_EXCEPTION, error_code=error_code)

    def inject_page_fault(self, gva: int, error_code: int) -> None:
        """#PF: CR2 is the VMM's to set (SDM 3C 26.6.1.1)."""
        self.shared.cr2 = gva
        self.inject_exception(PAGE_FAULT, error_code)

    def shut_down(self) -> None:
        """The guest's processor shuts down."""
        self.domain.finish(End(EndKind.TRIPLE_FAULT, detail="triple fault", cpu=self.number))

    def reinject_interrupted_event(self) -> None:
        """Deliver again what the exit interrupted on its way through the IDT (SDM 3C 27.2.4)."""
        vectoring = self._words[_VECTORING_SLOT]
        if not vectoring & i.VALID or self.is_injecting:
            return
        self.meter.follow(paths.REINJECT)
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
        if self.is_injecting or not self.read(f.GUEST_RFLAGS) & RFLAGS_IF:
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
