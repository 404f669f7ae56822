"""For every VM-entry check, a state that breaks it and no earlier one: check name -> (valid state, changes)."""

from emulator import x86
from emulator.vmx import controls as c
from emulator.vmx import fields as f
from emulator.vmx import interruption as i
from emulator.vmx.interruption import Interruption
from tests.emulator.vmx.examples import (
    DATA,
    EPT_64,
    EPT_PAE_32,
    FLAT_64,
    PAE_32,
    REAL_MODE,
    UNUSABLE,
    VIRTUAL_8086,
    State,
)

Violation = tuple[State, State]

PIN = f.PIN_BASED_CONTROLS
PROC = f.PRIMARY_PROCESSOR_BASED_CONTROLS
PROC2 = f.SECONDARY_PROCESSOR_BASED_CONTROLS
INFO = f.VM_ENTRY_INTERRUPTION_INFORMATION
ENTRY = f.VM_ENTRY_CONTROLS
EXIT = f.VM_EXIT_CONTROLS
BLOCKING = f.GUEST_INTERRUPTIBILITY_STATE
ACTIVITY = f.GUEST_ACTIVITY_STATE
NOT_CANONICAL = 1 << 47
BEYOND_PHYSICAL = 1 << 40


def _event(vector: int, event_type: int, *, has_error_code: bool = False) -> int:
    return Interruption(vector, event_type, has_error_code).pack()


def _flat(changes: State) -> Violation:
    return FLAT_64, changes


def _proc(bits: int, changes: State) -> Violation:
    return FLAT_64, {PROC: FLAT_64[PROC] | bits} | changes


def _proc2(bits: int, changes: State) -> Violation:
    """With secondary controls `bits` beside EPT and the TPR shadow."""
    tpr = {PROC: EPT_64[PROC] | c.PROC_USE_TPR_SHADOW}
    return EPT_64, tpr | {PROC2: EPT_64[PROC2] | bits} | changes


def _proc2_only(bits: int) -> Violation:
    return EPT_64, {PROC2: bits}


def _posted(changes: State) -> Violation:
    """Posted interrupts set up properly, then `changes`."""
    base, state = _proc2(
        c.PROC2_VIRTUAL_INTERRUPT_DELIVERY,
        {
            PIN: FLAT_64[PIN] | c.PIN_PROCESS_POSTED_INTERRUPTS,
            EXIT: FLAT_64[EXIT] | c.EXIT_ACKNOWLEDGE_INTERRUPT,
        },
    )
    return base, state | changes


def _field(name: str) -> int:
    return f.FIELD_BY_NAME[name].encoding


# fmt: off
CONTROL_VIOLATIONS: dict[str, Violation] = {
    "reserved bits in the pin-based controls must have their allowed settings": _flat({PIN: FLAT_64[PIN] | 1 << 31}),
    "reserved bits in the primary processor-based controls must have their allowed settings": _flat({PROC: 1 << 0}),
    "reserved bits in the secondary processor-based controls must have their allowed settings": _proc2(1 << 29, {}),
    "the CR3-target count must not exceed what the processor supports": _flat({f.CR3_TARGET_COUNT: 5}),
    "the address of I/O bitmap A must be a page address":
        _proc(c.PROC_USE_IO_BITMAPS, {f.IO_BITMAP_A_ADDRESS: 0x1001}),
    "the address of I/O bitmap B must be a page address":
        _proc(c.PROC_USE_IO_BITMAPS, {f.IO_BITMAP_B_ADDRESS: BEYOND_PHYSICAL}),
    "the MSR-bitmap address must be a page address": _proc(c.PROC_USE_MSR_BITMAPS, {f.MSR_BITMAP_ADDRESS: 0x800}),
    "the virtual-APIC address must be a page address": _proc(c.PROC_USE_TPR_SHADOW, {f.VIRTUAL_APIC_ADDRESS: 0x10}),
    "bits 31:4 of the TPR threshold must be 0 when 'use TPR shadow' is 1 without 'virtual-interrupt delivery'":
        _proc(c.PROC_USE_TPR_SHADOW, {f.TPR_THRESHOLD: 16}),
    "'virtual NMIs' must be 0 when 'NMI exiting' is 0": _flat({PIN: FLAT_64[PIN] & ~c.PIN_NMI_EXITING}),
    "'NMI-window exiting' must be 0 when 'virtual NMIs' is 0":
        _proc(c.PROC_NMI_WINDOW_EXITING, {PIN: FLAT_64[PIN] & ~c.PIN_VIRTUAL_NMIS}),
    "the APIC-access address must be a page address":
        _proc2(c.PROC2_VIRTUALIZE_APIC_ACCESSES, {f.APIC_ACCESS_ADDRESS: 0xFEE0_0001}),
    "APIC virtualization controls must be 0 when 'use TPR shadow' is 0":
        _proc2_only(c.PROC2_APIC_REGISTER_VIRTUALIZATION),
    "'virtualize APIC accesses' must be 0 when 'virtualize x2APIC mode' is 1":
        _proc2(c.PROC2_VIRTUALIZE_APIC_ACCESSES | c.PROC2_VIRTUALIZE_X2APIC_MODE, {}),
    "'external-interrupt exiting' must be 1 when 'virtual-interrupt delivery' is 1":
        _proc2(c.PROC2_VIRTUAL_INTERRUPT_DELIVERY, {PIN: FLAT_64[PIN] & ~c.PIN_EXTERNAL_INTERRUPT_EXITING}),
    "'virtual-interrupt delivery' must be 1 when 'process posted interrupts' is 1": _posted({PROC2: 0}),
    "'acknowledge interrupt on exit' must be 1 when 'process posted interrupts' is 1": _posted({EXIT: FLAT_64[EXIT]}),
    "the posted-interrupt notification vector must be at most 255":
        _posted({f.POSTED_INTERRUPT_NOTIFICATION_VECTOR: 256}),
    "the posted-interrupt descriptor address must be 64-byte aligned and physical":
        _posted({f.POSTED_INTERRUPT_DESCRIPTOR_ADDRESS: 0x1020}),
    "the virtual-processor identifier must not be 0 when 'enable VPID' is 1": _proc2_only(c.PROC2_ENABLE_VPID),
    "the EPT memory type must be one that the processor supports": (EPT_64, {f.EPT_POINTER: 0x5000 | 3 << 3 | 1}),
    "the EPT page-walk length must be one that the processor supports": (EPT_64, {f.EPT_POINTER: 0x5000 | 4 << 3 | 6}),
    # reached only on a processor without the flags: see test_ept_accessed_dirty_flags_need_the_capability
    "reserved bits of the EPT pointer must be 0": (EPT_64, {f.EPT_POINTER: 0x5000 | 1 << 8 | 3 << 3 | 6}),
    "'enable EPT' must be 1 when 'enable PML' is 1": _proc2_only(c.PROC2_ENABLE_PML),
    "the PML address must be a page address": _proc2(c.PROC2_ENABLE_PML, {f.PML_ADDRESS: 8}),
    "'enable EPT' must be 1 when 'unrestricted guest' is 1": _proc2_only(c.PROC2_UNRESTRICTED_GUEST),
    "'enable EPT' must be 1 when 'mode-based execute control for EPT' is 1":
        _proc2_only(c.PROC2_MODE_BASED_EXECUTE_CONTROL_FOR_EPT),
    "'enable EPT' must be 1 when 'sub-page write permissions for EPT' is 1":
        _proc2_only(c.PROC2_SUB_PAGE_WRITE_PERMISSIONS),
    "the SPPTP must be a page address":
        _proc2(c.PROC2_SUB_PAGE_WRITE_PERMISSIONS, {f.SUB_PAGE_PERMISSION_TABLE_POINTER: 1}),
    "the VMREAD-bitmap address must be a page address":
        _proc2(c.PROC2_VMCS_SHADOWING, {f.VMREAD_BITMAP_ADDRESS: 1}),
    "the VMWRITE-bitmap address must be a page address":
        _proc2(c.PROC2_VMCS_SHADOWING, {f.VMWRITE_BITMAP_ADDRESS: 1}),
    "the virtualization-exception information address must be a page address":
        _proc2(c.PROC2_EPT_VIOLATION_VE, {f.VIRTUALIZATION_EXCEPTION_INFORMATION_ADDRESS: 1}),
    "the TSC multiplier must not be 0 when 'use TSC scaling' is 1": _proc2(c.PROC2_USE_TSC_SCALING, {}),
    "reserved bits in the VM-exit controls must have their allowed settings": _flat({EXIT: FLAT_64[EXIT] & ~1}),
    "'save VMX-preemption timer value' must be 0 when 'activate VMX-preemption timer' is 0":
        _flat({EXIT: FLAT_64[EXIT] | c.EXIT_SAVE_PREEMPTION_TIMER}),
    "the VM-exit MSR-store area must be 16-byte aligned and physical":
        _flat({f.VM_EXIT_MSR_STORE_COUNT: 1, f.VM_EXIT_MSR_STORE_ADDRESS: 8}),
    "the VM-exit MSR-load area must be 16-byte aligned and physical":
        _flat({f.VM_EXIT_MSR_LOAD_COUNT: 2, f.VM_EXIT_MSR_LOAD_ADDRESS: BEYOND_PHYSICAL - 16}),
    "reserved bits in the VM-entry controls must have their allowed settings": _flat({ENTRY: FLAT_64[ENTRY] & ~1}),
    "the type of the injected event must be one that the processor supports": _flat({INFO: _event(2, 1)}),
    "the vector of the injected event must fit its type": _flat({INFO: _event(3, i.NMI)}),
    "'deliver error code' must be 1 exactly for the exceptions that push one in protected mode":
        _flat({INFO: _event(14, i.HARDWARE_EXCEPTION)}),
    "reserved bits of the VM-entry interruption information must be 0":
        _flat({INFO: _event(32, i.EXTERNAL_INTERRUPT) | 1 << 12}),
    "bits 31:16 of the VM-entry exception error code must be 0":
        _flat({INFO: _event(14, i.HARDWARE_EXCEPTION, has_error_code=True),
               f.VM_ENTRY_EXCEPTION_ERROR_CODE: 0x1_0000}),
    "the VM-entry instruction length of a software event must be that of an instruction":
        _flat({INFO: _event(0x80, i.SOFTWARE_INTERRUPT), f.VM_ENTRY_INSTRUCTION_LENGTH: 0}),
    "the VM-entry MSR-load area must be 16-byte aligned and physical":
        _flat({f.VM_ENTRY_MSR_LOAD_COUNT: 1, f.VM_ENTRY_MSR_LOAD_ADDRESS: 4}),
    "'entry to SMM' and 'deactivate dual-monitor treatment' must be 0 outside SMM":
        _flat({ENTRY: FLAT_64[ENTRY] | c.ENTRY_TO_SMM}),
}

HOST_VIOLATIONS: dict[str, Violation] = {
    "host CR0 must have the bits fixed in VMX operation": _flat({f.HOST_CR0: x86.CR0_PE | x86.CR0_PG}),
    "host CR4 must have the bits fixed in VMX operation": _flat({f.HOST_CR4: x86.CR4_PAE}),
    "host CR3 must not set bits beyond the physical-address width": _flat({f.HOST_CR3: BEYOND_PHYSICAL}),
    "host IA32_SYSENTER_ESP must be canonical": _flat({f.HOST_IA32_SYSENTER_ESP: NOT_CANONICAL}),
    "host IA32_SYSENTER_EIP must be canonical": _flat({f.HOST_IA32_SYSENTER_EIP: NOT_CANONICAL}),
    "host IA32_PAT must hold memory types when 'load IA32_PAT' is 1":
        _flat({EXIT: FLAT_64[EXIT] | c.EXIT_LOAD_IA32_PAT, f.HOST_IA32_PAT: 2 << 56}),
    "reserved bits of host IA32_EFER must be 0 when 'load IA32_EFER' is 1":
        _flat({f.HOST_IA32_EFER: FLAT_64[f.HOST_IA32_EFER] | 1 << 1}),
    "host EFER.LMA and EFER.LME must equal 'host address-space size'": _flat({f.HOST_IA32_EFER: x86.EFER_LME}),
    **{f"RPL and TI of the host {name} selector must be 0": _flat({_field(f"HOST_{name}_SELECTOR"): 0x40 | bits})
       for name, bits in (("CS", 1), ("SS", 2), ("DS", 3), ("ES", 4), ("FS", 5), ("GS", 6), ("TR", 7))},
    "the host CS selector must not be null": _flat({f.HOST_CS_SELECTOR: 0}),
    "the host TR selector must not be null": _flat({f.HOST_TR_SELECTOR: 0}),
    **{f"host {name} base must be canonical": _flat({_field(f"HOST_{name}_BASE"): NOT_CANONICAL})
       for name in ("FS", "GS", "GDTR", "IDTR", "TR")},
    "'host address-space size' must be 1 for a VMM in IA-32e mode": _flat({EXIT: c.DEFAULT1["EXIT"]}),
    "host CR4.PAE must be 1 when 'host address-space size' is 1": _flat({f.HOST_CR4: 1 << 13}),
    "host RIP must be canonical": _flat({f.HOST_RIP: NOT_CANONICAL}),
}

_WITH_DEBUG_CONTROLS = {ENTRY: FLAT_64[ENTRY] | c.ENTRY_LOAD_DEBUG_CONTROLS}
_LDT = {f.GUEST_LDTR_ACCESS_RIGHTS: 0x82, f.GUEST_LDTR_LIMIT: 0xFFFF}
_CODE_AND_DATA = ("CS", "SS", "DS", "ES", "FS", "GS")
_DATA = ("DS", "ES", "FS", "GS")


def _rights(name: str, *, clear: int = 0, set_: int = 0) -> Violation:
    """The access rights of segment `name` with bits changed."""
    base = FLAT_64 | (_LDT if name == "LDTR" else {})
    field = _field(f"GUEST_{name}_ACCESS_RIGHTS")
    return base, {field: base[field] & ~clear | set_}


SEGMENT_VIOLATIONS: dict[str, Violation] = {
    "TI of the guest TR selector must be 0": _flat({f.GUEST_TR_SELECTOR: 0x44}),
    "TI of the guest LDTR selector must be 0": _flat(_LDT | {f.GUEST_LDTR_SELECTOR: 4}),
    "RPL of the guest SS selector must equal that of CS": _flat({f.GUEST_SS_SELECTOR: 0x1B}),
    **{f"guest {name} base must be the selector times 16 in virtual-8086 mode":
       (VIRTUAL_8086, {_field(f"GUEST_{name}_BASE"): 0xF_0001}) for name in _CODE_AND_DATA},
    **{f"guest {name} base must be canonical": _flat({_field(f"GUEST_{name}_BASE"): NOT_CANONICAL})
       for name in ("TR", "FS", "GS", "GDTR", "IDTR")},
    "guest LDTR base must be canonical": _flat(_LDT | {f.GUEST_LDTR_BASE: NOT_CANONICAL}),
    **{f"bits 63:32 of guest {name} base must be 0": _flat({_field(f"GUEST_{name}_BASE"): 1 << 32})
       for name in ("CS", "SS", "DS", "ES")},
    **{f"guest {name} limit must be FFFFH in virtual-8086 mode":
       (VIRTUAL_8086, {_field(f"GUEST_{name}_LIMIT"): 0xFFFE}) for name in _CODE_AND_DATA},
    **{f"guest {name} access rights must be F3H in virtual-8086 mode":
       (VIRTUAL_8086, {_field(f"GUEST_{name}_ACCESS_RIGHTS"): 0x93}) for name in _CODE_AND_DATA},
    "guest CS type must be accessed code, or read/write data for an unrestricted guest":
        _flat({f.GUEST_CS_ACCESS_RIGHTS: DATA}),
    "guest SS type must be accessed read/write data": _rights("SS", clear=x86.AR_READABLE),
    **{f"guest {name} type must be accessed, and readable if it is code": _rights(name, clear=x86.AR_READABLE, set_=8)
       for name in _DATA},
    **{f"guest {name} must be a code or data segment": _rights(name, clear=x86.AR_S) for name in _CODE_AND_DATA},
    "guest CS DPL must fit its type and SS DPL": _rights("CS", set_=3 << 5),
    "guest SS DPL must equal the RPL of the SS selector":
        _flat({f.GUEST_SS_ACCESS_RIGHTS: DATA | 3 << 5, f.GUEST_CS_ACCESS_RIGHTS: 0xA0FB}),
    "guest SS DPL must be 0 when CS is data or CR0.PE is 0": (REAL_MODE, {f.GUEST_SS_ACCESS_RIGHTS: 0xF3}),
    **{f"guest {name} DPL must not be below the RPL of its selector":
       _flat({_field(f"GUEST_{name}_SELECTOR"): 0x1B}) for name in _DATA},
    **{f"guest {name} must be present": _rights(name, clear=x86.AR_P) for name in (*_CODE_AND_DATA, "TR", "LDTR")},
    **{f"guest {name} access rights bits 11:8 must be 0": _rights(name, set_=1 << 11)
       for name in (*_CODE_AND_DATA, "TR", "LDTR")},
    "guest CS.D must be 0 when CS.L is 1 in IA-32e mode": _rights("CS", set_=x86.AR_D),
    **{f"guest {name} granularity must fit its limit": _rights(name, clear=x86.AR_G) for name in _CODE_AND_DATA},
    "guest TR granularity must fit its limit": _rights("TR", set_=x86.AR_G),
    "guest LDTR granularity must fit its limit": (FLAT_64 | _LDT, {f.GUEST_LDTR_LIMIT: 1 << 20}),
    **{f"guest {name} access rights bits 31:17 must be 0": _rights(name, set_=1 << 17)
       for name in (*_CODE_AND_DATA, "TR", "LDTR")},
    "guest TR must be a busy TSS of the right size": _flat({f.GUEST_TR_ACCESS_RIGHTS: 0x83}),
    "guest TR must be a system segment": _rights("TR", set_=x86.AR_S),
    "guest TR must be usable": _rights("TR", set_=UNUSABLE),
    "guest LDTR type must be an LDT": _rights("LDTR", set_=1),
    "guest LDTR must be a system segment": _rights("LDTR", set_=x86.AR_S),
    "bits 31:16 of guest GDTR limit must be 0": _flat({f.GUEST_GDTR_LIMIT: 0x1_0000}),
    "bits 31:16 of guest IDTR limit must be 0": _flat({f.GUEST_IDTR_LIMIT: 0x8000_0000}),
}

GUEST_VIOLATIONS: dict[str, Violation] = SEGMENT_VIOLATIONS | {
    "guest CR0 must have the bits fixed in VMX operation": _flat({f.GUEST_CR0: x86.CR0_PE | x86.CR0_PG}),
    "guest CR0.PE must be 1 when CR0.PG is 1": (REAL_MODE, {f.GUEST_CR0: x86.CR0_PG | 1 << 5}),
    "guest CR4 must have the bits fixed in VMX operation": _flat({f.GUEST_CR4: x86.CR4_PAE | 1 << 13 | 1 << 15}),
    "reserved bits of guest IA32_DEBUGCTL must be 0 when 'load debug controls' is 1":
        _flat(_WITH_DEBUG_CONTROLS | {f.GUEST_IA32_DEBUGCTL: 1 << 4}),
    "CR0.PG must be 1 when 'IA-32e mode guest' is 1": (REAL_MODE, {ENTRY: FLAT_64[ENTRY]}),
    "CR4.PAE must be 1 when 'IA-32e mode guest' is 1": _flat({f.GUEST_CR4: 1 << 13}),
    "CR4.PCIDE must be 0 when 'IA-32e mode guest' is 0": (PAE_32, {f.GUEST_CR4: PAE_32[f.GUEST_CR4] | x86.CR4_PCIDE}),
    "guest CR3 must not set bits beyond the physical-address width": _flat({f.GUEST_CR3: BEYOND_PHYSICAL}),
    "bits 63:32 of guest DR7 must be 0 when 'load debug controls' is 1":
        _flat(_WITH_DEBUG_CONTROLS | {f.GUEST_DR7: 1 << 32}),
    "guest IA32_SYSENTER_ESP must be canonical": _flat({f.GUEST_IA32_SYSENTER_ESP: NOT_CANONICAL}),
    "guest IA32_SYSENTER_EIP must be canonical": _flat({f.GUEST_IA32_SYSENTER_EIP: NOT_CANONICAL}),
    "guest IA32_PAT must hold memory types when 'load IA32_PAT' is 1":
        _flat({ENTRY: FLAT_64[ENTRY] | c.ENTRY_LOAD_IA32_PAT, f.GUEST_IA32_PAT: 3}),
    "reserved bits of guest IA32_EFER must be 0 when 'load IA32_EFER' is 1":
        _flat({f.GUEST_IA32_EFER: FLAT_64[f.GUEST_IA32_EFER] | 1 << 12}),
    "guest EFER.LMA must equal 'IA-32e mode guest'": _flat({f.GUEST_IA32_EFER: x86.EFER_LME}),
    "guest EFER.LME must equal EFER.LMA when CR0.PG is 1": _flat({f.GUEST_IA32_EFER: x86.EFER_LMA}),
    "guest RIP must fit the guest's address width": (PAE_32, {f.GUEST_RIP: 1 << 32}),
    "reserved bits of guest RFLAGS must have their fixed values": _flat({f.GUEST_RFLAGS: 0}),
    "RFLAGS.VM must be 0 in IA-32e mode and when CR0.PE is 0":
        (VIRTUAL_8086, {ENTRY: FLAT_64[ENTRY], f.GUEST_IA32_EFER: FLAT_64[f.GUEST_IA32_EFER]}),
    "RFLAGS.IF must be 1 when an external interrupt is injected":
        _flat({INFO: _event(32, i.EXTERNAL_INTERRUPT), f.GUEST_RFLAGS: 2}),
    "the activity state must be one that the processor supports": _flat({ACTIVITY: 4}),
    "the activity state must not be HLT when SS DPL is not 0":
        _flat({ACTIVITY: 1, f.GUEST_SS_SELECTOR: 0x1B, f.GUEST_CS_SELECTOR: 0x13,
               f.GUEST_SS_ACCESS_RIGHTS: DATA | 3 << 5, f.GUEST_CS_ACCESS_RIGHTS: 0xA0FB}),
    "the activity state must be active when there is blocking by STI or MOV SS": _flat({ACTIVITY: 1, BLOCKING: 1}),
    "the injected event must be one that is deliverable in the activity state":
        _flat({ACTIVITY: 2, INFO: _event(32, i.EXTERNAL_INTERRUPT)}),
    "reserved bits of the interruptibility state must be 0": _flat({BLOCKING: 1 << 5}),
    "there must not be blocking by both STI and MOV SS": _flat({BLOCKING: 3}),
    "there must not be blocking by STI when RFLAGS.IF is 0": _flat({BLOCKING: 1, f.GUEST_RFLAGS: 2}),
    "an external interrupt must not be injected with blocking by STI or MOV SS":
        _flat({BLOCKING: 1, INFO: _event(32, i.EXTERNAL_INTERRUPT)}),
    "an NMI must not be injected with blocking by MOV SS": _flat({BLOCKING: 2, INFO: _event(2, i.NMI)}),
    "there must not be blocking by SMI outside SMM": _flat({BLOCKING: 4}),
    "an NMI must not be injected with blocking by STI": _flat({BLOCKING: 1, INFO: _event(2, i.NMI)}),
    "an NMI must not be injected with blocking by NMI when 'virtual NMIs' is 1":
        _flat({BLOCKING: 8, INFO: _event(2, i.NMI)}),
    "reserved bits of the pending debug exceptions must be 0": _flat({f.GUEST_PENDING_DEBUG_EXCEPTIONS: 1 << 4}),
    "pending debug exceptions must hold BS exactly when single-stepping is held back":
        _flat({BLOCKING: 1, f.GUEST_RFLAGS: 0x302}),
    "the VMCS link pointer must be FFFFFFFF_FFFFFFFFH": _flat({f.VMCS_LINK_POINTER: 0x3000}),
    **{f"reserved bits of guest PDPTE{n} must be 0 for PAE paging with EPT":
       (EPT_PAE_32, {_field(f"GUEST_PDPTE{n}"): 1 | 1 << 5}) for n in range(4)},
}
# fmt: on
