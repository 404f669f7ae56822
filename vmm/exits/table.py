"""The VM-exit table: one handler per exit reason, and for each reason without one, why it cannot happen.

A handler reads the exit from the VMCS, changes state, and returns an `Outcome`; handlers do not call each other.
To handle a new reason: write `handle_<reason>` in the file it belongs to, and put it into the table.
"""

from collections.abc import Callable

from emulator.vmx.exit_reasons import ExitReason as R
from vmm.exits.control_registers import handle_cr_access
from vmm.exits.cpuid import handle_cpuid
from vmm.exits.exceptions import handle_ept_violation, handle_exception, handle_triple_fault
from vmm.exits.hypercalls import handle_vmcall
from vmm.exits.instructions import handle_hidden_instruction, handle_hlt, handle_invlpg, handle_nothing_to_do
from vmm.exits.interrupts import handle_external_interrupt, handle_interrupt_window, handle_nmi_window
from vmm.exits.msrs import handle_rdmsr, handle_wrmsr
from vmm.exits.port_io import handle_io
from vmm.exits.task_switch import handle_task_switch
from vmm.outcome import Outcome
from vmm.vcpu import VCpu

Handler = Callable[[VCpu], Outcome]

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
    R.INVEPT:              handle_hidden_instruction,
    R.INVVPID:             handle_hidden_instruction,
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
    R.RDTSCP:              "RDTSC exiting is never set",
    R.PREEMPTION_TIMER:    "the preemption timer is never activated",
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
