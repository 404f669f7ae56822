"""The VM-execution, VM-exit and VM-entry control bits, and which of them a processor lets software set.

Source: Intel SDM volume 3, 24.6 "VM-Execution Control Fields", 24.7 "VM-Exit Control Fields", 24.8 "VM-Entry Control
Fields" and appendix A "VMX Capability Reporting Facility".
The constants below are the table: `<word>_<name>` = 1 << position.

    63                    32 31                     0        a capability MSR such as IA32_VMX_PINBASED_CTLS
    +-----------------------+-----------------------+
    | allowed 1: may be set | allowed 0: must be set|
    +-----------------------+-----------------------+

To add a control: add its constant; to let a processor use it, add it to that processor's `VmxCapabilities`.
"""

from dataclasses import dataclass

from emulator.vmx import fields

# fmt: off
# --- pin-based VM-execution controls
PIN_EXTERNAL_INTERRUPT_EXITING           = 1 << 0
PIN_NMI_EXITING                          = 1 << 3
PIN_VIRTUAL_NMIS                         = 1 << 5
PIN_ACTIVATE_PREEMPTION_TIMER            = 1 << 6
PIN_PROCESS_POSTED_INTERRUPTS            = 1 << 7
# --- primary processor-based VM-execution controls
PROC_INTERRUPT_WINDOW_EXITING            = 1 << 2
PROC_USE_TSC_OFFSETTING                  = 1 << 3
PROC_HLT_EXITING                         = 1 << 7
PROC_INVLPG_EXITING                      = 1 << 9
PROC_MWAIT_EXITING                       = 1 << 10
PROC_RDPMC_EXITING                       = 1 << 11
PROC_RDTSC_EXITING                       = 1 << 12
PROC_CR3_LOAD_EXITING                    = 1 << 15
PROC_CR3_STORE_EXITING                   = 1 << 16
PROC_ACTIVATE_TERTIARY_CONTROLS          = 1 << 17
PROC_CR8_LOAD_EXITING                    = 1 << 19
PROC_CR8_STORE_EXITING                   = 1 << 20
PROC_USE_TPR_SHADOW                      = 1 << 21
PROC_NMI_WINDOW_EXITING                  = 1 << 22
PROC_MOV_DR_EXITING                      = 1 << 23
PROC_UNCONDITIONAL_IO_EXITING            = 1 << 24
PROC_USE_IO_BITMAPS                      = 1 << 25
PROC_MONITOR_TRAP_FLAG                   = 1 << 27
PROC_USE_MSR_BITMAPS                     = 1 << 28
PROC_MONITOR_EXITING                     = 1 << 29
PROC_PAUSE_EXITING                       = 1 << 30
PROC_ACTIVATE_SECONDARY_CONTROLS         = 1 << 31
# --- secondary processor-based VM-execution controls
PROC2_VIRTUALIZE_APIC_ACCESSES           = 1 << 0
PROC2_ENABLE_EPT                         = 1 << 1
PROC2_DESCRIPTOR_TABLE_EXITING           = 1 << 2
PROC2_ENABLE_RDTSCP                      = 1 << 3
PROC2_VIRTUALIZE_X2APIC_MODE             = 1 << 4
PROC2_ENABLE_VPID                        = 1 << 5
PROC2_WBINVD_EXITING                     = 1 << 6
PROC2_UNRESTRICTED_GUEST                 = 1 << 7
PROC2_APIC_REGISTER_VIRTUALIZATION       = 1 << 8
PROC2_VIRTUAL_INTERRUPT_DELIVERY         = 1 << 9
PROC2_PAUSE_LOOP_EXITING                 = 1 << 10
PROC2_RDRAND_EXITING                     = 1 << 11
PROC2_ENABLE_INVPCID                     = 1 << 12
PROC2_ENABLE_VM_FUNCTIONS                = 1 << 13
PROC2_VMCS_SHADOWING                     = 1 << 14
PROC2_ENABLE_ENCLS_EXITING               = 1 << 15
PROC2_RDSEED_EXITING                     = 1 << 16
PROC2_ENABLE_PML                         = 1 << 17
PROC2_EPT_VIOLATION_VE                   = 1 << 18
PROC2_CONCEAL_VMX_FROM_PT                = 1 << 19
PROC2_ENABLE_XSAVES                      = 1 << 20
PROC2_PASID_TRANSLATION                  = 1 << 21
PROC2_MODE_BASED_EXECUTE_CONTROL_FOR_EPT = 1 << 22
PROC2_SUB_PAGE_WRITE_PERMISSIONS         = 1 << 23
PROC2_PT_USES_GUEST_PHYSICAL_ADDRESSES   = 1 << 24
PROC2_USE_TSC_SCALING                    = 1 << 25
PROC2_ENABLE_USER_WAIT_AND_PAUSE         = 1 << 26
PROC2_ENABLE_PCONFIG                     = 1 << 27
PROC2_ENABLE_ENCLV_EXITING               = 1 << 28
PROC2_VMM_BUS_LOCK_DETECTION             = 1 << 30
PROC2_INSTRUCTION_TIMEOUT                = 1 << 31
# --- primary VM-exit controls
EXIT_SAVE_DEBUG_CONTROLS                 = 1 << 2
EXIT_HOST_ADDRESS_SPACE_SIZE             = 1 << 9
EXIT_LOAD_IA32_PERF_GLOBAL_CTRL          = 1 << 12
EXIT_ACKNOWLEDGE_INTERRUPT               = 1 << 15
EXIT_SAVE_IA32_PAT                       = 1 << 18
EXIT_LOAD_IA32_PAT                       = 1 << 19
EXIT_SAVE_IA32_EFER                      = 1 << 20
EXIT_LOAD_IA32_EFER                      = 1 << 21
EXIT_SAVE_PREEMPTION_TIMER               = 1 << 22
EXIT_CLEAR_IA32_BNDCFGS                  = 1 << 23
EXIT_CONCEAL_VMX_FROM_PT                 = 1 << 24
EXIT_CLEAR_IA32_RTIT_CTL                 = 1 << 25
EXIT_CLEAR_IA32_LBR_CTL                  = 1 << 26
EXIT_CLEAR_UINV                          = 1 << 27
EXIT_LOAD_CET_STATE                      = 1 << 28
EXIT_LOAD_PKRS                           = 1 << 29
EXIT_SAVE_IA32_PERF_GLOBAL_CTRL          = 1 << 30
EXIT_ACTIVATE_SECONDARY_CONTROLS         = 1 << 31
# --- VM-entry controls
ENTRY_LOAD_DEBUG_CONTROLS                = 1 << 2
ENTRY_IA32E_MODE_GUEST                   = 1 << 9
ENTRY_TO_SMM                             = 1 << 10
ENTRY_DEACTIVATE_DUAL_MONITOR            = 1 << 11
ENTRY_LOAD_IA32_PERF_GLOBAL_CTRL         = 1 << 13
ENTRY_LOAD_IA32_PAT                      = 1 << 14
ENTRY_LOAD_IA32_EFER                     = 1 << 15
ENTRY_LOAD_IA32_BNDCFGS                  = 1 << 16
ENTRY_CONCEAL_VMX_FROM_PT                = 1 << 17
ENTRY_LOAD_IA32_RTIT_CTL                 = 1 << 18
ENTRY_LOAD_UINV                          = 1 << 19
ENTRY_LOAD_CET_STATE                     = 1 << 20
ENTRY_LOAD_IA32_LBR_CTL                  = 1 << 21
ENTRY_LOAD_PKRS                          = 1 << 22
# fmt: on

_TABLE = {name: value for name, value in list(globals().items()) if isinstance(value, int) and name.isupper()}


@dataclass(frozen=True, slots=True)
class ControlBit:
    """One row of the control tables."""

    name: str
    mask: int

    @property
    def word(self) -> str:
        """Which control word it is in: PIN, PROC, PROC2, EXIT or ENTRY."""
        return self.name.partition("_")[0]

    @property
    def position(self) -> int:
        """Its bit number."""
        return self.mask.bit_length() - 1


CONTROL_BITS: tuple[ControlBit, ...] = tuple(ControlBit(name, mask) for name, mask in _TABLE.items())

PREEMPTION_TIMER_SHIFT = 5  # the timer counts down once per 2^5 TSC cycles (IA32_VMX_MISC bits 4:0)

WORD_FIELD: dict[str, int] = {
    "PIN": fields.PIN_BASED_CONTROLS,
    "PROC": fields.PRIMARY_PROCESSOR_BASED_CONTROLS,
    "PROC2": fields.SECONDARY_PROCESSOR_BASED_CONTROLS,
    "EXIT": fields.VM_EXIT_CONTROLS,
    "ENTRY": fields.VM_ENTRY_CONTROLS,
}

# Bits that read as 1 in the capability MSRs without "TRUE" in their name (appendix A.2, "the default1 class").
DEFAULT1 = {"PIN": 0x0000_0016, "PROC": 0x0401_E172, "PROC2": 0, "EXIT": 0x0003_6DFF, "ENTRY": 0x0000_11FF}


def names(word: str, value: int) -> list[str]:
    """Names of the bits set in `value` of control word `word`, without the prefix; bits without a name are left out."""
    return [bit.name.partition("_")[2] for bit in CONTROL_BITS if bit.word == word and bit.mask & value]


def c_defines() -> str:
    """Text of a C header: `PROC_HLT_EXITING` and so on as masks."""
    defines = "".join(f"#define {bit.name} (1u << {bit.position})\n" for bit in CONTROL_BITS)
    return f"{defines}#define PREEMPTION_TIMER_SHIFT {PREEMPTION_TIMER_SHIFT}\n"
