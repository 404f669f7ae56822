"""The VM-exit table: one handler per exit reason, and for each reason without one, why it cannot happen.

A handler reads the exit from the VMCS, changes state, and returns an `Outcome`; handlers do not call each other.
To handle a new reason: write `handle_<reason>` and put it into the table.
"""

from collections.abc import Callable

from emulator.errors import GuestError
from emulator.vmx import fields as f
from emulator.vmx import interruption as i
from emulator.vmx.exit_reasons import ExitReason as R
from emulator.vmx.qualifications import decode_task_switch
from vmm.cost import paths
from vmm.exits.control_registers import GENERAL_PROTECTION, handle_cr_access
from vmm.exits.cpuid import guest_cpuid, read_msr, write_msr
from vmm.exits.hypercalls import HYPERCALLS, UNKNOWN
from vmm.exits.port_io import handle_io
from vmm.outcome import AGAIN, NEXT, STOP, WAIT, Outcome
from vmm.vcpu import VCpu

Handler = Callable[[VCpu], Outcome]

RAX, RCX, RDX, RBX, RSI, RDI = 0, 1, 2, 3, 6, 7
INVALID_OPCODE = 6
PAGE_FAULT = 14


def handle_cpuid(vcpu: VCpu) -> Outcome:
    """CPUID."""
    vcpu.follow(paths.CPUID)
    gpr = vcpu.gpr
    gpr[RAX], gpr[RBX], gpr[RCX], gpr[RDX] = guest_cpuid(vcpu, gpr[RAX] & 0xFFFF_FFFF, gpr[RCX] & 0xFFFF_FFFF)
    return NEXT


def handle_exception(vcpu: VCpu) -> Outcome:
    """An exception of the exception bitmap: only #PF is in it, and only under shadow paging."""
    info = vcpu.read(f.VM_EXIT_INTERRUPTION_INFORMATION)
    assert info & i.VECTOR_MASK == PAGE_FAULT, f"vector {info & i.VECTOR_MASK} exited"
    error_code = vcpu.read(f.VM_EXIT_INTERRUPTION_ERROR_CODE)
    outcome = vcpu.paging.handle_page_fault(vcpu, vcpu.read(f.EXIT_QUALIFICATION), error_code)
    if info & i.NMI_UNBLOCKING:
        vcpu.take_back_iret()
    return outcome


def handle_external_interrupt(vcpu: VCpu) -> Outcome:
    """The host's local timer or another core: the VMM looks what there is to do, the guest has no part in it."""
    vcpu.core.take_interrupts()
    return AGAIN


def handle_interrupt_window(_vcpu: VCpu) -> Outcome:
    """The guest can take an interrupt now: the dispatcher injects it on the way back."""
    return AGAIN


def handle_nmi_window(_vcpu: VCpu) -> Outcome:
    """The guest can take an NMI now: the dispatcher injects it on the way back."""
    return AGAIN


def handle_task_switch(vcpu: VCpu) -> Outcome:
    """A task gate in the guest's IDT. MODEL: no task switch is emulated; the guest ends with a clear error."""
    switch = decode_task_switch(vcpu.read(f.EXIT_QUALIFICATION))
    vector = vcpu.read(f.IDT_VECTORING_INFORMATION) & i.VECTOR_MASK
    where = f"at RIP {vcpu.rip:#x}, by the task gate of vector {vector} to the TSS {switch.tss_selector:#x}"
    raise GuestError(f"the guest switches tasks by hardware, which is not modelled: {where}")


def handle_triple_fault(vcpu: VCpu) -> Outcome:
    """The guest's processor shut down."""
    vcpu.shut_down()
    return STOP


def handle_hlt(_vcpu: VCpu) -> Outcome:
    """HLT."""
    return WAIT


def handle_invlpg(vcpu: VCpu) -> Outcome:
    """INVLPG; the qualification is the linear address."""
    vcpu.follow(paths.INVLPG)
    vcpu.paging.invlpg(vcpu, vcpu.read(f.EXIT_QUALIFICATION))
    return NEXT


def handle_vmcall(vcpu: VCpu) -> Outcome:
    """A hypercall from ring 0 (vmm/exits/hypercalls.py). From ring 3: #GP."""
    if vcpu.cpl != 0:
        vcpu.inject_exception(GENERAL_PROTECTION, 0)
        return AGAIN
    vcpu.follow(paths.HYPERCALL)
    gpr = vcpu.gpr
    call = HYPERCALLS.get(gpr[RAX])
    gpr[RAX] = (UNKNOWN if call is None else call(vcpu, gpr[RDI], gpr[RSI])) & (1 << 64) - 1
    return NEXT


def handle_hidden_instruction(vcpu: VCpu) -> Outcome:
    """An instruction that CPUID hides from the guest (VMX, MONITOR and MWAIT): it is undefined there."""
    vcpu.inject_exception(INVALID_OPCODE)
    return AGAIN


def handle_rdmsr(vcpu: VCpu) -> Outcome:
    """RDMSR of an MSR that is not passed through."""
    vcpu.follow(paths.READ_MSR)
    value = read_msr(vcpu, vcpu.gpr[RCX] & 0xFFFF_FFFF)
    if value is None:
        vcpu.inject_exception(GENERAL_PROTECTION, 0)
        return AGAIN
    vcpu.gpr[RAX], vcpu.gpr[RDX] = value & 0xFFFF_FFFF, value >> 32
    return NEXT


def handle_wrmsr(vcpu: VCpu) -> Outcome:
    """WRMSR of an MSR that is not passed through."""
    vcpu.follow(paths.WRITE_MSR)
    gpr = vcpu.gpr
    if write_msr(vcpu, gpr[RCX] & 0xFFFF_FFFF, (gpr[RDX] & 0xFFFF_FFFF) << 32 | gpr[RAX] & 0xFFFF_FFFF):
        return NEXT
    vcpu.inject_exception(GENERAL_PROTECTION, 0)
    return AGAIN


def handle_nothing_to_do(_vcpu: VCpu) -> Outcome:
    """INVD, WBINVD: caches hold nothing that memory has not."""
    return NEXT


def handle_ept_violation(vcpu: VCpu) -> Outcome:
    """An access the extended page tables do not allow."""
    return vcpu.paging.handle_ept_violation(vcpu)


# fmt: off
EXIT_HANDLERS: dict[int, Handler] = {
    R.EXCEPTION_NMI:       handle_exception,
    R.EXTERNAL_INTERRUPT:  handle_external_interrupt,
    R.TRIPLE_FAULT:        handle_triple_fault,
    R.INTERRUPT_WINDOW:    handle_interrupt_window,
    R.NMI_WINDOW:          handle_nmi_window,
    R.TASK_SWITCH:         handle_task_switch,
    R.CPUID:               handle_cpuid,
    R.GETSEC:              handle_hidden_instruction,
    R.HLT:                 handle_hlt,
    R.INVD:                handle_nothing_to_do,
    R.INVLPG:              handle_invlpg,
    R.VMCALL:              handle_vmcall,
    R.VMCLEAR:             handle_hidden_instruction,
    R.VMLAUNCH:            handle_hidden_instruction,
    R.VMPTRLD:             handle_hidden_instruction,
    R.VMPTRST:             handle_hidden_instruction,
    R.VMREAD:              handle_hidden_instruction,
    R.VMRESUME:            handle_hidden_instruction,
    R.VMWRITE:             handle_hidden_instruction,
    R.VMXOFF:              handle_hidden_instruction,
    R.VMXON:               handle_hidden_instruction,
    R.CR_ACCESS:           handle_cr_access,
    R.IO_INSTRUCTION:      handle_io,
    R.MSR_READ:            handle_rdmsr,
    R.MSR_WRITE:           handle_wrmsr,
    R.MWAIT_INSTRUCTION:   handle_hidden_instruction,
    R.MONITOR_INSTRUCTION: handle_hidden_instruction,
    R.EPT_VIOLATION:       handle_ept_violation,
    R.WBINVD:              handle_nothing_to_do,
}

IMPOSSIBLE: dict[int, str] = {
    R.INIT_SIGNAL:         "no processor of the host sends INIT",
    R.SIPI_SIGNAL:         "no vCPU waits for SIPI",
    R.IO_SMI:              "the host has no SMM",
    R.OTHER_SMI:           "the host has no SMM",
    R.RDPMC:               "RDPMC exiting is never set; the instruction raises #GP",
    R.RDTSC:               "RDTSC exiting is never set",
    R.RSM:                 "the host has no SMM: RSM raises #UD",
    R.DR_ACCESS:           "MOV-DR exiting is never set",
    R.INVALID_STATE:       "entry failures are reported by the entry checks, with the name of the check",
    R.MSR_LOAD_FAIL:       "the MSR-load area is empty",
    R.MONITOR_TRAP_FLAG:   "the monitor trap flag is never set",
    R.PAUSE_INSTRUCTION:   "neither PAUSE exiting nor PAUSE-loop exiting is set",
    R.MCE_DURING_VMENTRY:  "the host has no machine checks",
    R.TPR_BELOW_THRESHOLD: "the TPR shadow is never used",
    R.APIC_ACCESS:         "APIC accesses are never virtualized",
    R.EOI_INDUCED:         "virtual-interrupt delivery is never used",
    R.GDTR_IDTR:           "descriptor-table exiting is never set",
    R.LDTR_TR:             "descriptor-table exiting is never set",
    R.EPT_MISCONFIG:       "the VMM writes no malformed EPT entry",
    R.INVEPT:              "arrives as #UD: the engine does not know the instruction",
    R.RDTSCP:              "RDTSC exiting is never set",
    R.PREEMPTION_TIMER:    "the preemption timer is never activated",
    R.INVVPID:             "arrives as #UD: the engine does not know the instruction",
    R.XSETBV:              "CR4.OSXSAVE cannot be set, so XSETBV raises #UD",
    R.APIC_WRITE:          "APIC registers are never virtualized",
    R.RDRAND:              "CPUID does not offer RDRAND: it raises #UD",
    R.INVPCID:             "INVPCID is never enabled: it raises #UD",
    R.VMFUNC:              "VM functions are never enabled: it raises #UD",
    R.ENCLS:               "the host has no SGX",
    R.RDSEED:              "CPUID does not offer RDSEED: it raises #UD",
    R.PML_FULL:            "page-modification logging is never enabled",
    R.XSAVES:              "XSAVES is never enabled: it raises #UD",
    R.XRSTORS:             "XRSTORS is never enabled: it raises #UD",
}
# fmt: on
_NEWER = "a control of later processors that no profile of the host offers"
IMPOSSIBLE.update({r: _NEWER for r in range(R.PCONFIG, R.MSR_WRITE_IMM + 1) if r not in EXIT_HANDLERS})
