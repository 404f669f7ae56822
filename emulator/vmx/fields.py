"""The VMCS fields, and where each lives in the dense array that Python and C share.

Source: Intel SDM volume 3, appendix B "Field Encoding in VMCS". The constants below *are* the table: an encoding
carries its own width, kind and index, so those are decoded, never written a second time.

    31      15 14 13  12  11   10 9            1   0
    +---------+------+---+--------+--------------+------+
    |    0    | width| 0 |  kind  |    index     | high |     width: 0 16-bit, 1 64-bit, 2 32-bit, 3 natural
    +---------+------+---+--------+--------------+------+     kind:  0 control, 1 exit information (read-only),
                                                                     2 guest state, 3 host state
    high: 1 accesses bits 63:32 of a 64-bit field (GUEST_IA32_EFER | HIGH)

This module is also run alone, by the script that builds the C extension: it imports nothing of the project.
To add a field: add its constant to its group; its slot, its C define and its bit layout follow.
"""

from dataclasses import dataclass

# fmt: off
# --- 16-bit control fields
VIRTUAL_PROCESSOR_IDENTIFIER         = 0x0000
POSTED_INTERRUPT_NOTIFICATION_VECTOR = 0x0002
EPTP_INDEX                           = 0x0004
HLAT_PREFIX_SIZE                     = 0x0006
LAST_PID_POINTER_INDEX               = 0x0008
# --- 16-bit guest-state fields
GUEST_ES_SELECTOR                    = 0x0800
GUEST_CS_SELECTOR                    = 0x0802
GUEST_SS_SELECTOR                    = 0x0804
GUEST_DS_SELECTOR                    = 0x0806
GUEST_FS_SELECTOR                    = 0x0808
GUEST_GS_SELECTOR                    = 0x080A
GUEST_LDTR_SELECTOR                  = 0x080C
GUEST_TR_SELECTOR                    = 0x080E
GUEST_INTERRUPT_STATUS               = 0x0810
PML_INDEX                            = 0x0812
GUEST_UINV                           = 0x0814
# --- 16-bit host-state fields
HOST_ES_SELECTOR                     = 0x0C00
HOST_CS_SELECTOR                     = 0x0C02
HOST_SS_SELECTOR                     = 0x0C04
HOST_DS_SELECTOR                     = 0x0C06
HOST_FS_SELECTOR                     = 0x0C08
HOST_GS_SELECTOR                     = 0x0C0A
HOST_TR_SELECTOR                     = 0x0C0C
# --- 64-bit control fields
IO_BITMAP_A_ADDRESS                  = 0x2000
IO_BITMAP_B_ADDRESS                  = 0x2002
MSR_BITMAP_ADDRESS                   = 0x2004
VM_EXIT_MSR_STORE_ADDRESS            = 0x2006
VM_EXIT_MSR_LOAD_ADDRESS             = 0x2008
VM_ENTRY_MSR_LOAD_ADDRESS            = 0x200A
EXECUTIVE_VMCS_POINTER               = 0x200C
PML_ADDRESS                          = 0x200E
TSC_OFFSET                           = 0x2010
VIRTUAL_APIC_ADDRESS                 = 0x2012
APIC_ACCESS_ADDRESS                  = 0x2014
POSTED_INTERRUPT_DESCRIPTOR_ADDRESS  = 0x2016
VM_FUNCTION_CONTROLS                 = 0x2018
EPT_POINTER                          = 0x201A
EOI_EXIT_BITMAP_0                    = 0x201C
EOI_EXIT_BITMAP_1                    = 0x201E
EOI_EXIT_BITMAP_2                    = 0x2020
EOI_EXIT_BITMAP_3                    = 0x2022
EPTP_LIST_ADDRESS                    = 0x2024
VMREAD_BITMAP_ADDRESS                = 0x2026
VMWRITE_BITMAP_ADDRESS               = 0x2028
VIRTUALIZATION_EXCEPTION_INFORMATION_ADDRESS = 0x202A
XSS_EXITING_BITMAP                   = 0x202C
ENCLS_EXITING_BITMAP                 = 0x202E
SUB_PAGE_PERMISSION_TABLE_POINTER    = 0x2030
TSC_MULTIPLIER                       = 0x2032
TERTIARY_PROCESSOR_BASED_CONTROLS    = 0x2034
ENCLV_EXITING_BITMAP                 = 0x2036
LOW_PASID_DIRECTORY_ADDRESS          = 0x2038
HIGH_PASID_DIRECTORY_ADDRESS         = 0x203A
SHARED_EPT_POINTER                   = 0x203C
PCONFIG_EXITING_BITMAP               = 0x203E
HLAT_POINTER                         = 0x2040
PID_POINTER_TABLE_ADDRESS            = 0x2042
SECONDARY_VM_EXIT_CONTROLS           = 0x2044
IA32_SPEC_CTRL_MASK                  = 0x204A
IA32_SPEC_CTRL_SHADOW                = 0x204C
INJECTED_EVENT_DATA                  = 0x2052
# --- 64-bit exit-information fields
GUEST_PHYSICAL_ADDRESS               = 0x2400
ORIGINAL_EVENT_DATA                  = 0x2404
# --- 64-bit guest-state fields
VMCS_LINK_POINTER                    = 0x2800
GUEST_IA32_DEBUGCTL                  = 0x2802
GUEST_IA32_PAT                       = 0x2804
GUEST_IA32_EFER                      = 0x2806
GUEST_IA32_PERF_GLOBAL_CTRL          = 0x2808
GUEST_PDPTE0                         = 0x280A
GUEST_PDPTE1                         = 0x280C
GUEST_PDPTE2                         = 0x280E
GUEST_PDPTE3                         = 0x2810
GUEST_IA32_BNDCFGS                   = 0x2812
GUEST_IA32_RTIT_CTL                  = 0x2814
GUEST_IA32_LBR_CTL                   = 0x2816
GUEST_IA32_PKRS                      = 0x2818
GUEST_IA32_FRED_CONFIG               = 0x281A
GUEST_IA32_FRED_RSP1                 = 0x281C
GUEST_IA32_FRED_RSP2                 = 0x281E
GUEST_IA32_FRED_RSP3                 = 0x2820
GUEST_IA32_FRED_STKLVLS              = 0x2822
GUEST_IA32_FRED_SSP1                 = 0x2824
GUEST_IA32_FRED_SSP2                 = 0x2826
GUEST_IA32_FRED_SSP3                 = 0x2828
# --- 64-bit host-state fields
HOST_IA32_PAT                        = 0x2C00
HOST_IA32_EFER                       = 0x2C02
HOST_IA32_PERF_GLOBAL_CTRL           = 0x2C04
HOST_IA32_PKRS                       = 0x2C06
HOST_IA32_FRED_CONFIG                = 0x2C08
HOST_IA32_FRED_RSP1                  = 0x2C0A
HOST_IA32_FRED_RSP2                  = 0x2C0C
HOST_IA32_FRED_RSP3                  = 0x2C0E
HOST_IA32_FRED_STKLVLS               = 0x2C10
HOST_IA32_FRED_SSP1                  = 0x2C12
HOST_IA32_FRED_SSP2                  = 0x2C14
HOST_IA32_FRED_SSP3                  = 0x2C16
# --- 32-bit control fields
PIN_BASED_CONTROLS                   = 0x4000
PRIMARY_PROCESSOR_BASED_CONTROLS     = 0x4002
EXCEPTION_BITMAP                     = 0x4004
PAGE_FAULT_ERROR_CODE_MASK           = 0x4006
PAGE_FAULT_ERROR_CODE_MATCH          = 0x4008
CR3_TARGET_COUNT                     = 0x400A
VM_EXIT_CONTROLS                     = 0x400C
VM_EXIT_MSR_STORE_COUNT              = 0x400E
VM_EXIT_MSR_LOAD_COUNT               = 0x4010
VM_ENTRY_CONTROLS                    = 0x4012
VM_ENTRY_MSR_LOAD_COUNT              = 0x4014
VM_ENTRY_INTERRUPTION_INFORMATION    = 0x4016
VM_ENTRY_EXCEPTION_ERROR_CODE        = 0x4018
VM_ENTRY_INSTRUCTION_LENGTH          = 0x401A
TPR_THRESHOLD                        = 0x401C
SECONDARY_PROCESSOR_BASED_CONTROLS   = 0x401E
PLE_GAP                              = 0x4020
PLE_WINDOW                           = 0x4022
INSTRUCTION_TIMEOUT_CONTROL          = 0x4024
# --- 32-bit exit-information fields
VM_INSTRUCTION_ERROR                 = 0x4400
EXIT_REASON                          = 0x4402
VM_EXIT_INTERRUPTION_INFORMATION     = 0x4404
VM_EXIT_INTERRUPTION_ERROR_CODE      = 0x4406
IDT_VECTORING_INFORMATION            = 0x4408
IDT_VECTORING_ERROR_CODE             = 0x440A
VM_EXIT_INSTRUCTION_LENGTH           = 0x440C
VM_EXIT_INSTRUCTION_INFORMATION      = 0x440E
# --- 32-bit guest-state fields
GUEST_ES_LIMIT                       = 0x4800
GUEST_CS_LIMIT                       = 0x4802
GUEST_SS_LIMIT                       = 0x4804
GUEST_DS_LIMIT                       = 0x4806
GUEST_FS_LIMIT                       = 0x4808
GUEST_GS_LIMIT                       = 0x480A
GUEST_LDTR_LIMIT                     = 0x480C
GUEST_TR_LIMIT                       = 0x480E
GUEST_GDTR_LIMIT                     = 0x4810
GUEST_IDTR_LIMIT                     = 0x4812
GUEST_ES_ACCESS_RIGHTS               = 0x4814
GUEST_CS_ACCESS_RIGHTS               = 0x4816
GUEST_SS_ACCESS_RIGHTS               = 0x4818
GUEST_DS_ACCESS_RIGHTS               = 0x481A
GUEST_FS_ACCESS_RIGHTS               = 0x481C
GUEST_GS_ACCESS_RIGHTS               = 0x481E
GUEST_LDTR_ACCESS_RIGHTS             = 0x4820
GUEST_TR_ACCESS_RIGHTS               = 0x4822
GUEST_INTERRUPTIBILITY_STATE         = 0x4824
GUEST_ACTIVITY_STATE                 = 0x4826
GUEST_SMBASE                         = 0x4828
GUEST_IA32_SYSENTER_CS               = 0x482A
VMX_PREEMPTION_TIMER_VALUE           = 0x482E
# --- 32-bit host-state fields
HOST_IA32_SYSENTER_CS                = 0x4C00
# --- natural-width control fields
CR0_GUEST_HOST_MASK                  = 0x6000
CR4_GUEST_HOST_MASK                  = 0x6002
CR0_READ_SHADOW                      = 0x6004
CR4_READ_SHADOW                      = 0x6006
CR3_TARGET_VALUE_0                   = 0x6008
CR3_TARGET_VALUE_1                   = 0x600A
CR3_TARGET_VALUE_2                   = 0x600C
CR3_TARGET_VALUE_3                   = 0x600E
# --- natural-width exit-information fields
EXIT_QUALIFICATION                   = 0x6400
IO_RCX                               = 0x6402
IO_RSI                               = 0x6404
IO_RDI                               = 0x6406
IO_RIP                               = 0x6408
GUEST_LINEAR_ADDRESS                 = 0x640A
# --- natural-width guest-state fields
GUEST_CR0                            = 0x6800
GUEST_CR3                            = 0x6802
GUEST_CR4                            = 0x6804
GUEST_ES_BASE                        = 0x6806
GUEST_CS_BASE                        = 0x6808
GUEST_SS_BASE                        = 0x680A
GUEST_DS_BASE                        = 0x680C
GUEST_FS_BASE                        = 0x680E
GUEST_GS_BASE                        = 0x6810
GUEST_LDTR_BASE                      = 0x6812
GUEST_TR_BASE                        = 0x6814
GUEST_GDTR_BASE                      = 0x6816
GUEST_IDTR_BASE                      = 0x6818
GUEST_DR7                            = 0x681A
GUEST_RSP                            = 0x681C
GUEST_RIP                            = 0x681E
GUEST_RFLAGS                         = 0x6820
GUEST_PENDING_DEBUG_EXCEPTIONS       = 0x6822
GUEST_IA32_SYSENTER_ESP              = 0x6824
GUEST_IA32_SYSENTER_EIP              = 0x6826
GUEST_IA32_S_CET                     = 0x6828
GUEST_SSP                            = 0x682A
GUEST_IA32_INTERRUPT_SSP_TABLE_ADDR  = 0x682C
# --- natural-width host-state fields
HOST_CR0                             = 0x6C00
HOST_CR3                             = 0x6C02
HOST_CR4                             = 0x6C04
HOST_FS_BASE                         = 0x6C06
HOST_GS_BASE                         = 0x6C08
HOST_TR_BASE                         = 0x6C0A
HOST_GDTR_BASE                       = 0x6C0C
HOST_IDTR_BASE                       = 0x6C0E
HOST_IA32_SYSENTER_ESP               = 0x6C10
HOST_IA32_SYSENTER_EIP               = 0x6C12
HOST_RSP                             = 0x6C14
HOST_RIP                             = 0x6C16
HOST_IA32_S_CET                      = 0x6C18
HOST_SSP                             = 0x6C1A
HOST_IA32_INTERRUPT_SSP_TABLE_ADDR   = 0x6C1C
# fmt: on

_TABLE = {name: value for name, value in list(globals().items()) if isinstance(value, int) and name.isupper()}

HIGH = 1  # access type: the high half of a 64-bit field
WIDTHS = ("16", "64", "32", "natural")  # by encoding bits 14:13
KINDS = ("control", "exit information", "guest", "host")  # by encoding bits 11:10
WIDTH_BITS = {"16": 16, "64": 64, "32": 32, "natural": 64}  # natural: the emulated processor has Intel 64


@dataclass(frozen=True, slots=True)
class Field:
    """One row of appendix B; everything but the name and the encoding is decoded from the encoding."""

    name: str
    encoding: int

    @property
    def width(self) -> str:
        """One of `WIDTHS`."""
        return WIDTHS[self.encoding >> 13 & 3]

    @property
    def kind(self) -> str:
        """One of `KINDS`."""
        return KINDS[self.encoding >> 10 & 3]

    @property
    def index(self) -> int:
        """The field's number within its width and kind."""
        return self.encoding >> 1 & 0x1FF

    @property
    def mask(self) -> int:
        """All ones in the field's width."""
        return (1 << WIDTH_BITS[self.width]) - 1

    @property
    def is_read_only(self) -> bool:
        """Whether VMWRITE to it fails; see IA32_VMX_MISC bit 29, which this processor does not set."""
        return self.kind == "exit information"


FIELDS: tuple[Field, ...] = tuple(Field(name, encoding) for name, encoding in _TABLE.items())
FIELD_BY_ENCODING: dict[int, Field] = {field.encoding: field for field in FIELDS}
FIELD_BY_NAME: dict[str, Field] = {field.name: field for field in FIELDS}
SLOT: dict[int, int] = {field.encoding: slot for slot, field in enumerate(FIELDS)}  # encoding -> dense slot
SLOT_COUNT = len(FIELDS)


def c_defines() -> str:
    """Text of a C header: `VMCS_<name>` is a field's slot in the shared array of uint64_t."""
    lines = [f"#define VMCS_{field.name} {SLOT[field.encoding]}" for field in FIELDS]
    return "\n".join([*lines, f"#define VMCS_SLOT_COUNT {SLOT_COUNT}", ""])
