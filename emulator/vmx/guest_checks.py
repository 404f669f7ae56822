"""VM-entry checks on the guest-state area; a failure is a VM exit with reason 33 (and bit 31 set).

Source: Intel SDM volume 3, 26.3.1 "Checks on the Guest State Area", in its order (segments: `guest_segment_checks`).
MODEL: no VMCS lies in guest-physical memory, so no VMCS link pointer but FFFFFFFF_FFFFFFFFH can be valid.
MODEL: the processor has no RTM, SGX, CET or SMM, so their bits in the non-register state are reserved.
"""

from collections.abc import Callable

from emulator import x86
from emulator.vmx import controls as c
from emulator.vmx import fields as f
from emulator.vmx import interruption as i
from emulator.vmx.capabilities import VmxCapabilities
from emulator.vmx.check import (
    QUALIFICATION_LINK_POINTER,
    QUALIFICATION_NMI,
    QUALIFICATION_PDPTE,
    Check,
    secondary,
)
from emulator.vmx.guest_segment_checks import SEGMENT_CHECKS, is_unrestricted
from emulator.vmx.guest_state import (
    ACTIVITY_ACTIVE,
    ACTIVITY_HLT,
    ACTIVITY_SHUTDOWN,
    ACTIVITY_WAIT_FOR_SIPI,
    BLOCKING_BY_MOV_SS,
    BLOCKING_BY_NMI,
    BLOCKING_BY_SMI,
    BLOCKING_BY_STI,
)

_REGISTERS = "26.3.1.1"
_RIP = "26.3.1.4"
_NON_REGISTER = "26.3.1.5"
_PDPTES = "26.3.1.6"
PROC = f.PRIMARY_PROCESSOR_BASED_CONTROLS
PROC2 = f.SECONDARY_PROCESSOR_BASED_CONTROLS
ENTRY = f.VM_ENTRY_CONTROLS
INFO = f.VM_ENTRY_INTERRUPTION_INFORMATION
ACTIVITY = f.GUEST_ACTIVITY_STATE
BLOCKING = f.GUEST_INTERRUPTIBILITY_STATE

PENDING_BS = 1 << 14
PENDING_RESERVED = 0xFFFF_FFFF_FFFF_AFF0  # all but B3-B0, 12 (enabled breakpoint) and 14 (BS)
NO_LINK = (1 << 64) - 1

_PENDING_MTF = 0
# activity state -> events that may be injected into it, as (type, vectors); 26.3.1.5
_WAKING_EVENTS: dict[int, dict[int, range | tuple[int, ...]]] = {
    ACTIVITY_HLT: {
        i.EXTERNAL_INTERRUPT: range(256),
        i.NMI: range(256),
        i.HARDWARE_EXCEPTION: (x86.DEBUG_EXCEPTION, x86.MACHINE_CHECK),
        i.OTHER_EVENT: (_PENDING_MTF,),
    },
    ACTIVITY_SHUTDOWN: {i.NMI: range(256), i.HARDWARE_EXCEPTION: (x86.MACHINE_CHECK,)},
    ACTIVITY_WAIT_FOR_SIPI: {},
}
PdpteReader = Callable[[int], tuple[int, ...]]


def _is_cr0(cap: VmxCapabilities, proc: int, proc2: int, cr0: int) -> bool:
    """An unrestricted guest may clear PE and PG, one in paged real mode only PE; they are fixed otherwise."""
    if is_unrestricted(cap, proc, proc2):
        must_be_one = cap.cr0.must_be_one & ~(x86.CR0_PE | (0 if cap.has_paged_real_mode else x86.CR0_PG))
        return cr0 & must_be_one == must_be_one and not cr0 & ~cap.cr0.may_be_one
    return cap.cr0.allows(cr0)


def _is_long(entry: int) -> bool:
    return bool(entry & c.ENTRY_IA32E_MODE_GUEST)


def _is_rip(cap: VmxCapabilities, entry: int, cs: int, rip: int) -> bool:
    """64-bit mode: bits 63:N equal each other (N linear-address bits); otherwise bits 63:32 are 0."""
    if _is_long(entry) and cs & x86.AR_L:
        return rip >> cap.linear_address_bits in (0, (1 << (64 - cap.linear_address_bits)) - 1)
    return rip >> 32 == 0


def _is_rflags(cap: VmxCapabilities, rflags: int) -> bool:
    return not rflags & x86.RFLAGS_RESERVED_0 and bool(rflags & x86.RFLAGS_RESERVED_1)


def _is_injecting(info: int, event_type: int) -> bool:
    return info & (i.VALID | i.TYPE_MASK << i.TYPE_SHIFT) == i.VALID | event_type << i.TYPE_SHIFT


def _is_activity(cap: VmxCapabilities, activity: int) -> bool:
    return activity == ACTIVITY_ACTIVE or (
        activity <= ACTIVITY_WAIT_FOR_SIPI and bool(cap.activity_states >> (activity - 1) & 1)
    )


def _can_wake(cap: VmxCapabilities, activity: int, info: int) -> bool:
    event = i.unpack(info)
    if activity not in _WAKING_EVENTS or not event.is_valid:
        return True
    return event.vector in _WAKING_EVENTS[activity].get(event.type, ())


def _is_single_step_pending(
    cap: VmxCapabilities, blocking: int, activity: int, pending: int, rflags: int, debugctl: int
) -> bool:
    """While #DBs are held back, BS must say that a single-step trap (TF without BTF) is among them."""
    if not blocking & (BLOCKING_BY_STI | BLOCKING_BY_MOV_SS) and activity != ACTIVITY_HLT:
        return True
    is_stepping = bool(rflags & x86.RFLAGS_TF) and not debugctl & x86.DEBUGCTL_BTF
    return bool(pending & PENDING_BS) == is_stepping


def _is_pae(entry: int, cr0: int, cr4: int) -> bool:
    """Whether the guest will use PAE paging."""
    return bool(cr0 & x86.CR0_PG) and bool(cr4 & x86.CR4_PAE) and not _is_long(entry)


def is_pdpte(pdpte: int, physical_address_bits: int) -> bool:
    """Not present, or with bits 2:1, 8:5 and those beyond the physical-address width 0 (4.4.1)."""
    return not pdpte & 1 or (not pdpte & 0x1E6 and pdpte >> physical_address_bits == 0)


def _is_pdpte_field(cap: VmxCapabilities, entry: int, proc: int, proc2: int, cr0: int, cr4: int, pdpte: int) -> bool:
    if not secondary(proc, proc2) & c.PROC2_ENABLE_EPT or not _is_pae(entry, cr0, cr4):
        return True
    return is_pdpte(pdpte, cap.physical_address_bits)


def pdpte_memory_check(read_pdptes: PdpteReader) -> Check:
    """The PDPTEs in memory, for PAE paging without EPT; `read_pdptes(gpa)` returns the four at that address.

    MODEL: memory is looked at when CR0, CR3, CR4 or the controls were written; a real processor reads it each time.
    """

    def is_valid(cap: VmxCapabilities, entry: int, proc: int, proc2: int, cr0: int, cr4: int, cr3: int) -> bool:
        if secondary(proc, proc2) & c.PROC2_ENABLE_EPT or not _is_pae(entry, cr0, cr4):
            return True
        return all(is_pdpte(pdpte, cap.physical_address_bits) for pdpte in read_pdptes(cr3 & 0xFFFF_FFE0))

    used = (ENTRY, PROC, PROC2, f.GUEST_CR0, f.GUEST_CR4, f.GUEST_CR3)
    return Check("the PDPTEs at guest CR3 must be valid", _PDPTES, used, is_valid, QUALIFICATION_PDPTE, is_pure=False)


# fmt: off
_REGISTER_CHECKS: tuple[Check, ...] = (
    Check("guest CR0 must have the bits fixed in VMX operation", _REGISTERS, (PROC, PROC2, f.GUEST_CR0), _is_cr0),
    Check("guest CR0.PE must be 1 when CR0.PG is 1", _REGISTERS,
          (f.GUEST_CR0,), lambda cap, cr0: not cr0 & x86.CR0_PG or bool(cr0 & x86.CR0_PE) or cap.has_paged_real_mode),
    Check("guest CR4 must have the bits fixed in VMX operation", _REGISTERS,
          (f.GUEST_CR4,), lambda cap, cr4: cap.cr4.allows(cr4)),
    Check("reserved bits of guest IA32_DEBUGCTL must be 0 when 'load debug controls' is 1", _REGISTERS,
          (ENTRY, f.GUEST_IA32_DEBUGCTL),
          lambda cap, entry, value: not entry & c.ENTRY_LOAD_DEBUG_CONTROLS or not value & ~x86.DEBUGCTL_DEFINED),
    Check("CR0.PG must be 1 when 'IA-32e mode guest' is 1", _REGISTERS,
          (ENTRY, f.GUEST_CR0), lambda cap, entry, cr0: not _is_long(entry) or bool(cr0 & x86.CR0_PG)),
    Check("CR4.PAE must be 1 when 'IA-32e mode guest' is 1", _REGISTERS,
          (ENTRY, f.GUEST_CR4), lambda cap, entry, cr4: not _is_long(entry) or bool(cr4 & x86.CR4_PAE)),
    Check("CR4.PCIDE must be 0 when 'IA-32e mode guest' is 0", _REGISTERS,
          (ENTRY, f.GUEST_CR4), lambda cap, entry, cr4: _is_long(entry) or not cr4 & x86.CR4_PCIDE),
    Check("guest CR3 must not set bits beyond the physical-address width", _REGISTERS,
          (f.GUEST_CR3,), lambda cap, cr3: cr3 >> cap.physical_address_bits == 0),
    Check("bits 63:32 of guest DR7 must be 0 when 'load debug controls' is 1", _REGISTERS,
          (ENTRY, f.GUEST_DR7), lambda cap, entry, dr7: not entry & c.ENTRY_LOAD_DEBUG_CONTROLS or dr7 >> 32 == 0),
    Check("guest IA32_SYSENTER_ESP must be canonical", _REGISTERS,
          (f.GUEST_IA32_SYSENTER_ESP,), lambda cap, address: x86.is_canonical(address, cap.linear_address_bits)),
    Check("guest IA32_SYSENTER_EIP must be canonical", _REGISTERS,
          (f.GUEST_IA32_SYSENTER_EIP,), lambda cap, address: x86.is_canonical(address, cap.linear_address_bits)),
    Check("guest IA32_PAT must hold memory types when 'load IA32_PAT' is 1", _REGISTERS,
          (ENTRY, f.GUEST_IA32_PAT), lambda cap, entry, pat: not entry & c.ENTRY_LOAD_IA32_PAT or x86.is_pat(pat)),
    Check("reserved bits of guest IA32_EFER must be 0 when 'load IA32_EFER' is 1", _REGISTERS,
          (ENTRY, f.GUEST_IA32_EFER),
          lambda cap, entry, efer: not entry & c.ENTRY_LOAD_IA32_EFER or not efer & ~x86.EFER_DEFINED),
    Check("guest EFER.LMA must equal 'IA-32e mode guest'", _REGISTERS,
          (ENTRY, f.GUEST_IA32_EFER),
          lambda cap, entry, efer: not entry & c.ENTRY_LOAD_IA32_EFER or bool(efer & x86.EFER_LMA) == _is_long(entry)),
    Check("guest EFER.LME must equal EFER.LMA when CR0.PG is 1", _REGISTERS,
          (ENTRY, f.GUEST_CR0, f.GUEST_IA32_EFER),
          lambda cap, entry, cr0, efer: not entry & c.ENTRY_LOAD_IA32_EFER or not cr0 & x86.CR0_PG
          or bool(efer & x86.EFER_LMA) == bool(efer & x86.EFER_LME)),
)

_RIP_CHECKS: tuple[Check, ...] = (
    Check("guest RIP must fit the guest's address width", _RIP,
          (ENTRY, f.GUEST_CS_ACCESS_RIGHTS, f.GUEST_RIP), _is_rip),
    Check("reserved bits of guest RFLAGS must have their fixed values", _RIP, (f.GUEST_RFLAGS,), _is_rflags),
    Check("RFLAGS.VM must be 0 in IA-32e mode and when CR0.PE is 0", _RIP,
          (ENTRY, f.GUEST_CR0, f.GUEST_RFLAGS),
          lambda cap, entry, cr0, rflags: not rflags & x86.RFLAGS_VM
          or (not _is_long(entry) and bool(cr0 & x86.CR0_PE))),
    Check("RFLAGS.IF must be 1 when an external interrupt is injected", _RIP,
          (INFO, f.GUEST_RFLAGS),
          lambda cap, info, rflags: not _is_injecting(info, i.EXTERNAL_INTERRUPT) or bool(rflags & x86.RFLAGS_IF)),
)

_NON_REGISTER_CHECKS: tuple[Check, ...] = (
    Check("the activity state must be one that the processor supports", _NON_REGISTER, (ACTIVITY,), _is_activity),
    Check("the activity state must not be HLT when SS DPL is not 0", _NON_REGISTER,
          (ACTIVITY, f.GUEST_SS_ACCESS_RIGHTS), lambda cap, activity, ss: activity != ACTIVITY_HLT or x86.dpl(ss) == 0),
    Check("the activity state must be active when there is blocking by STI or MOV SS", _NON_REGISTER,
          (ACTIVITY, BLOCKING),
          lambda cap, activity, blocking: activity == ACTIVITY_ACTIVE
          or not blocking & (BLOCKING_BY_STI | BLOCKING_BY_MOV_SS)),
    Check("the injected event must be one that is deliverable in the activity state", _NON_REGISTER,
          (ACTIVITY, INFO), _can_wake),
    Check("reserved bits of the interruptibility state must be 0", _NON_REGISTER,
          (BLOCKING,), lambda cap, blocking: blocking <= 0xF),
    Check("there must not be blocking by both STI and MOV SS", _NON_REGISTER,
          (BLOCKING,), lambda cap, blocking: blocking & 3 != BLOCKING_BY_STI | BLOCKING_BY_MOV_SS),
    Check("there must not be blocking by STI when RFLAGS.IF is 0", _NON_REGISTER,
          (BLOCKING, f.GUEST_RFLAGS),
          lambda cap, blocking, rflags: not blocking & BLOCKING_BY_STI or bool(rflags & x86.RFLAGS_IF)),
    Check("an external interrupt must not be injected with blocking by STI or MOV SS", _NON_REGISTER,
          (INFO, BLOCKING), lambda cap, info, blocking: not _is_injecting(info, i.EXTERNAL_INTERRUPT)
          or not blocking & (BLOCKING_BY_STI | BLOCKING_BY_MOV_SS)),
    Check("an NMI must not be injected with blocking by MOV SS", _NON_REGISTER,
          (INFO, BLOCKING),
          lambda cap, info, blocking: not _is_injecting(info, i.NMI) or not blocking & BLOCKING_BY_MOV_SS),
    Check("there must not be blocking by SMI outside SMM", _NON_REGISTER,
          (BLOCKING,), lambda cap, blocking: not blocking & BLOCKING_BY_SMI),
    # Optional for a processor; those that do not require it are more permissive than this one.
    Check("an NMI must not be injected with blocking by STI", _NON_REGISTER, (INFO, BLOCKING),
          lambda cap, info, blocking: not _is_injecting(info, i.NMI) or not blocking & BLOCKING_BY_STI,
          QUALIFICATION_NMI),
    Check("an NMI must not be injected with blocking by NMI when 'virtual NMIs' is 1", _NON_REGISTER,
          (f.PIN_BASED_CONTROLS, INFO, BLOCKING),
          lambda cap, pin, info, blocking: not pin & c.PIN_VIRTUAL_NMIS or not _is_injecting(info, i.NMI)
          or not blocking & BLOCKING_BY_NMI),
    Check("reserved bits of the pending debug exceptions must be 0", _NON_REGISTER,
          (f.GUEST_PENDING_DEBUG_EXCEPTIONS,), lambda cap, pending: not pending & PENDING_RESERVED),
    Check("pending debug exceptions must hold BS exactly when single-stepping is held back", _NON_REGISTER,
          (BLOCKING, ACTIVITY, f.GUEST_PENDING_DEBUG_EXCEPTIONS, f.GUEST_RFLAGS, f.GUEST_IA32_DEBUGCTL),
          _is_single_step_pending),
    Check("the VMCS link pointer must be FFFFFFFF_FFFFFFFFH", _NON_REGISTER,
          (f.VMCS_LINK_POINTER,), lambda cap, pointer: pointer == NO_LINK, QUALIFICATION_LINK_POINTER),
)

_PDPTE_CHECKS: tuple[Check, ...] = tuple(
    Check(f"reserved bits of guest PDPTE{n} must be 0 for PAE paging with EPT", _PDPTES,
          (ENTRY, PROC, PROC2, f.GUEST_CR0, f.GUEST_CR4, pdpte), _is_pdpte_field, QUALIFICATION_PDPTE)
    for n, pdpte in enumerate((f.GUEST_PDPTE0, f.GUEST_PDPTE1, f.GUEST_PDPTE2, f.GUEST_PDPTE3))
)
# fmt: on

GUEST_CHECKS: tuple[Check, ...] = _REGISTER_CHECKS + SEGMENT_CHECKS + _RIP_CHECKS + _NON_REGISTER_CHECKS + _PDPTE_CHECKS
