"""VM-entry checks on the VMX controls; a failure is VMfailValid with error 7.

Source: Intel SDM volume 3, 26.2.1 "Checks on VMX Controls", in its order.
MODEL: the TPR threshold is not compared with the virtual-APIC page (memory is not read).
MODEL: checks of controls that no processor here offers (PT, SGX, CET, FRED, user interrupts, tertiary controls) are
covered by the reserved-bit checks alone.
"""

from emulator.vmx import controls as c
from emulator.vmx import fields as f
from emulator.vmx import interruption as i
from emulator.vmx.capabilities import EPT_CAP_ACCESSED_DIRTY, VmxCapabilities
from emulator.vmx.check import Check, secondary
from emulator.x86 import CR0_PE, ERROR_CODE_VECTORS, is_physical

_EXECUTION = "26.2.1.1"
_EXIT = "26.2.1.2"
_ENTRY = "26.2.1.3"
PIN = f.PIN_BASED_CONTROLS
PROC = f.PRIMARY_PROCESSOR_BASED_CONTROLS
PROC2 = f.SECONDARY_PROCESSOR_BASED_CONTROLS
INFO = f.VM_ENTRY_INTERRUPTION_INFORMATION

_MSR_ENTRY_BYTES = 16
_EVENT_VECTOR = {i.NMI: range(2, 3), i.HARDWARE_EXCEPTION: range(32), i.OTHER_EVENT: range(1)}
_MAX_INSTRUCTION_BYTES = 15


def _page(cap: VmxCapabilities, address: int) -> bool:
    return is_physical(address, cap.physical_address_bits)


def _if_proc(mask: int, name: str, address: int) -> Check:
    """`address` is used when primary control `mask` is 1."""
    return Check(name, _EXECUTION, (PROC, address), lambda cap, proc, value: not proc & mask or _page(cap, value))


def _if_proc2(mask: int, name: str, address: int) -> Check:
    """`address` is used when secondary control `mask` is 1."""
    return Check(
        name,
        _EXECUTION,
        (PROC, PROC2, address),
        lambda cap, proc, proc2, value: not secondary(proc, proc2) & mask or _page(cap, value),
    )


def _proc2_implies(mask: int, needed: int, name: str) -> Check:
    """Secondary controls: any of `mask` needs all of `needed`."""
    return Check(
        name,
        _EXECUTION,
        (PROC, PROC2),
        lambda cap, proc, proc2: not secondary(proc, proc2) & mask or proc2 & needed == needed,
    )


def _has_ept(proc: int, proc2: int) -> bool:
    return bool(secondary(proc, proc2) & c.PROC2_ENABLE_EPT)


def _is_ept_memory_type(cap: VmxCapabilities, proc: int, proc2: int, eptp: int) -> bool:
    """EPTP bits 2:0: 0 uncacheable (capability bit 8) or 6 write-back (capability bit 14)."""
    capability_bit = {0: 8, 6: 14}.get(eptp & 7)
    return not _has_ept(proc, proc2) or (capability_bit is not None and bool(cap.ept_vpid_cap >> capability_bit & 1))


def _is_ept_walk_length(cap: VmxCapabilities, proc: int, proc2: int, eptp: int) -> bool:
    """EPTP bits 5:3 hold the walk length minus 1; capability bits 6 (4 levels) and 7 (5 levels)."""
    capability_bit = {3: 6, 4: 7}.get(eptp >> 3 & 7)
    return not _has_ept(proc, proc2) or (capability_bit is not None and bool(cap.ept_vpid_cap >> capability_bit & 1))


def _is_ept_accessed_dirty(cap: VmxCapabilities, proc: int, proc2: int, eptp: int) -> bool:
    return not _has_ept(proc, proc2) or not eptp & 1 << 6 or bool(cap.ept_vpid_cap & EPT_CAP_ACCESSED_DIRTY)


def _is_ept_reserved(cap: VmxCapabilities, proc: int, proc2: int, eptp: int) -> bool:
    return not _has_ept(proc, proc2) or (not eptp & 0xF80 and eptp >> cap.physical_address_bits == 0)


def _is_posted(pin: int) -> bool:
    return bool(pin & c.PIN_PROCESS_POSTED_INTERRUPTS)


def _is_area(cap: VmxCapabilities, count: int, address: int) -> bool:
    """An MSR area of `count` 16-byte entries is aligned and ends within the physical-address width."""
    if not count:
        return True
    last = address + count * _MSR_ENTRY_BYTES - 1
    return is_physical(address, cap.physical_address_bits, alignment_bits=4) and last >> cap.physical_address_bits == 0


def _is_valid_type(cap: VmxCapabilities, info: int) -> bool:
    event = i.unpack(info)
    if event.type == i.OTHER_EVENT:
        return not event.is_valid or bool(cap.proc.may_be_one & c.PROC_MONITOR_TRAP_FLAG)
    return not event.is_valid or event.type != i.RESERVED_TYPE


def _is_valid_vector(cap: VmxCapabilities, info: int) -> bool:
    event = i.unpack(info)
    return not event.is_valid or event.vector in _EVENT_VECTOR.get(event.type, range(256))


def _is_valid_error_code_bit(cap: VmxCapabilities, info: int, proc: int, proc2: int, cr0: int) -> bool:
    event = i.unpack(info)
    if not event.is_valid:
        return True
    is_real_mode = bool(secondary(proc, proc2) & c.PROC2_UNRESTRICTED_GUEST) and not cr0 & CR0_PE
    has_code = event.type == i.HARDWARE_EXCEPTION and event.vector in ERROR_CODE_VECTORS
    return event.has_error_code == (has_code and not is_real_mode)


def _is_valid_length(cap: VmxCapabilities, info: int, length: int) -> bool:
    event = i.unpack(info)
    if not event.is_valid or event.type not in i.SOFTWARE_TYPES:
        return True
    return (0 if cap.can_inject_zero_length else 1) <= length <= _MAX_INSTRUCTION_BYTES


# fmt: off
_EXECUTION_CHECKS: tuple[Check, ...] = (
    Check("reserved bits in the pin-based controls must have their allowed settings", _EXECUTION,
          (PIN,), lambda cap, pin: cap.pin.allows(pin)),
    Check("reserved bits in the primary processor-based controls must have their allowed settings", _EXECUTION,
          (PROC,), lambda cap, proc: cap.proc.allows(proc)),
    Check("reserved bits in the secondary processor-based controls must have their allowed settings", _EXECUTION,
          (PROC, PROC2), lambda cap, proc, proc2: cap.proc2.allows(secondary(proc, proc2))),
    Check("the CR3-target count must not exceed what the processor supports", _EXECUTION,
          (f.CR3_TARGET_COUNT,), lambda cap, count: count <= cap.cr3_target_count),
    _if_proc(c.PROC_USE_IO_BITMAPS, "the address of I/O bitmap A must be a page address", f.IO_BITMAP_A_ADDRESS),
    _if_proc(c.PROC_USE_IO_BITMAPS, "the address of I/O bitmap B must be a page address", f.IO_BITMAP_B_ADDRESS),
    _if_proc(c.PROC_USE_MSR_BITMAPS, "the MSR-bitmap address must be a page address", f.MSR_BITMAP_ADDRESS),
    _if_proc(c.PROC_USE_TPR_SHADOW, "the virtual-APIC address must be a page address", f.VIRTUAL_APIC_ADDRESS),
    Check("bits 31:4 of the TPR threshold must be 0 when 'use TPR shadow' is 1 without 'virtual-interrupt delivery'",
          _EXECUTION, (PROC, PROC2, f.TPR_THRESHOLD),
          lambda cap, proc, proc2, threshold: not proc & c.PROC_USE_TPR_SHADOW
          or bool(secondary(proc, proc2) & c.PROC2_VIRTUAL_INTERRUPT_DELIVERY) or threshold < 16),
    Check("'virtual NMIs' must be 0 when 'NMI exiting' is 0", _EXECUTION,
          (PIN,), lambda cap, pin: bool(pin & c.PIN_NMI_EXITING) or not pin & c.PIN_VIRTUAL_NMIS),
    Check("'NMI-window exiting' must be 0 when 'virtual NMIs' is 0", _EXECUTION,
          (PIN, PROC),
          lambda cap, pin, proc: bool(pin & c.PIN_VIRTUAL_NMIS) or not proc & c.PROC_NMI_WINDOW_EXITING),
    _if_proc2(c.PROC2_VIRTUALIZE_APIC_ACCESSES, "the APIC-access address must be a page address",
              f.APIC_ACCESS_ADDRESS),
    Check("APIC virtualization controls must be 0 when 'use TPR shadow' is 0", _EXECUTION,
          (PROC, PROC2), lambda cap, proc, proc2: bool(proc & c.PROC_USE_TPR_SHADOW) or not secondary(proc, proc2) & (
              c.PROC2_VIRTUALIZE_X2APIC_MODE | c.PROC2_APIC_REGISTER_VIRTUALIZATION
              | c.PROC2_VIRTUAL_INTERRUPT_DELIVERY)),
    Check("'virtualize APIC accesses' must be 0 when 'virtualize x2APIC mode' is 1", _EXECUTION,
          (PROC, PROC2), lambda cap, proc, proc2: not secondary(proc, proc2) & c.PROC2_VIRTUALIZE_X2APIC_MODE
          or not proc2 & c.PROC2_VIRTUALIZE_APIC_ACCESSES),
    Check("'external-interrupt exiting' must be 1 when 'virtual-interrupt delivery' is 1", _EXECUTION,
          (PIN, PROC, PROC2),
          lambda cap, pin, proc, proc2: not secondary(proc, proc2) & c.PROC2_VIRTUAL_INTERRUPT_DELIVERY
          or bool(pin & c.PIN_EXTERNAL_INTERRUPT_EXITING)),
    Check("'virtual-interrupt delivery' must be 1 when 'process posted interrupts' is 1", _EXECUTION,
          (PIN, PROC, PROC2), lambda cap, pin, proc, proc2: not _is_posted(pin)
          or bool(secondary(proc, proc2) & c.PROC2_VIRTUAL_INTERRUPT_DELIVERY)),
    Check("'acknowledge interrupt on exit' must be 1 when 'process posted interrupts' is 1", _EXECUTION,
          (PIN, f.VM_EXIT_CONTROLS),
          lambda cap, pin, exit_: not _is_posted(pin) or bool(exit_ & c.EXIT_ACKNOWLEDGE_INTERRUPT)),
    Check("the posted-interrupt notification vector must be at most 255", _EXECUTION,
          (PIN, f.POSTED_INTERRUPT_NOTIFICATION_VECTOR),
          lambda cap, pin, vector: not _is_posted(pin) or vector <= 255),
    Check("the posted-interrupt descriptor address must be 64-byte aligned and physical", _EXECUTION,
          (PIN, f.POSTED_INTERRUPT_DESCRIPTOR_ADDRESS),
          lambda cap, pin, address: not _is_posted(pin)
          or is_physical(address, cap.physical_address_bits, alignment_bits=6)),
    Check("the virtual-processor identifier must not be 0 when 'enable VPID' is 1", _EXECUTION,
          (PROC, PROC2, f.VIRTUAL_PROCESSOR_IDENTIFIER),
          lambda cap, proc, proc2, vpid: not secondary(proc, proc2) & c.PROC2_ENABLE_VPID or vpid != 0),
    Check("the EPT memory type must be one that the processor supports", _EXECUTION,
          (PROC, PROC2, f.EPT_POINTER), _is_ept_memory_type),
    Check("the EPT page-walk length must be one that the processor supports", _EXECUTION,
          (PROC, PROC2, f.EPT_POINTER), _is_ept_walk_length),
    Check("EPT accessed and dirty flags must not be enabled when the processor has none", _EXECUTION,
          (PROC, PROC2, f.EPT_POINTER), _is_ept_accessed_dirty),
    Check("reserved bits of the EPT pointer must be 0", _EXECUTION, (PROC, PROC2, f.EPT_POINTER), _is_ept_reserved),
    _proc2_implies(c.PROC2_ENABLE_PML, c.PROC2_ENABLE_EPT, "'enable EPT' must be 1 when 'enable PML' is 1"),
    _if_proc2(c.PROC2_ENABLE_PML, "the PML address must be a page address", f.PML_ADDRESS),
    _proc2_implies(c.PROC2_UNRESTRICTED_GUEST, c.PROC2_ENABLE_EPT,
                   "'enable EPT' must be 1 when 'unrestricted guest' is 1"),
    _proc2_implies(c.PROC2_MODE_BASED_EXECUTE_CONTROL_FOR_EPT, c.PROC2_ENABLE_EPT,
                   "'enable EPT' must be 1 when 'mode-based execute control for EPT' is 1"),
    _proc2_implies(c.PROC2_SUB_PAGE_WRITE_PERMISSIONS, c.PROC2_ENABLE_EPT,
                   "'enable EPT' must be 1 when 'sub-page write permissions for EPT' is 1"),
    _if_proc2(c.PROC2_SUB_PAGE_WRITE_PERMISSIONS, "the SPPTP must be a page address",
              f.SUB_PAGE_PERMISSION_TABLE_POINTER),
    _if_proc2(c.PROC2_VMCS_SHADOWING, "the VMREAD-bitmap address must be a page address", f.VMREAD_BITMAP_ADDRESS),
    _if_proc2(c.PROC2_VMCS_SHADOWING, "the VMWRITE-bitmap address must be a page address", f.VMWRITE_BITMAP_ADDRESS),
    _if_proc2(c.PROC2_EPT_VIOLATION_VE, "the virtualization-exception information address must be a page address",
              f.VIRTUALIZATION_EXCEPTION_INFORMATION_ADDRESS),
    Check("the TSC multiplier must not be 0 when 'use TSC scaling' is 1", _EXECUTION,
          (PROC, PROC2, f.TSC_MULTIPLIER),
          lambda cap, proc, proc2, value: not secondary(proc, proc2) & c.PROC2_USE_TSC_SCALING or value != 0),
)

_EXIT_CHECKS: tuple[Check, ...] = (
    Check("reserved bits in the VM-exit controls must have their allowed settings", _EXIT,
          (f.VM_EXIT_CONTROLS,), lambda cap, exit_: cap.exit.allows(exit_)),
    Check("'save VMX-preemption timer value' must be 0 when 'activate VMX-preemption timer' is 0", _EXIT,
          (PIN, f.VM_EXIT_CONTROLS), lambda cap, pin, exit_: bool(pin & c.PIN_ACTIVATE_PREEMPTION_TIMER)
          or not exit_ & c.EXIT_SAVE_PREEMPTION_TIMER),
    Check("the VM-exit MSR-store area must be 16-byte aligned and physical", _EXIT,
          (f.VM_EXIT_MSR_STORE_COUNT, f.VM_EXIT_MSR_STORE_ADDRESS), _is_area),
    Check("the VM-exit MSR-load area must be 16-byte aligned and physical", _EXIT,
          (f.VM_EXIT_MSR_LOAD_COUNT, f.VM_EXIT_MSR_LOAD_ADDRESS), _is_area),
)

_ENTRY_CHECKS: tuple[Check, ...] = (
    Check("reserved bits in the VM-entry controls must have their allowed settings", _ENTRY,
          (f.VM_ENTRY_CONTROLS,), lambda cap, entry: cap.entry.allows(entry)),
    Check("the type of the injected event must be one that the processor supports", _ENTRY, (INFO,), _is_valid_type),
    Check("the vector of the injected event must fit its type", _ENTRY, (INFO,), _is_valid_vector),
    Check("'deliver error code' must be 1 exactly for the exceptions that push one in protected mode", _ENTRY,
          (INFO, PROC, PROC2, f.GUEST_CR0), _is_valid_error_code_bit),
    Check("reserved bits of the VM-entry interruption information must be 0", _ENTRY,
          (INFO,), lambda cap, info: not info & i.VALID or not info & 0x7FFF_F000),
    Check("bits 31:16 of the VM-entry exception error code must be 0", _ENTRY,
          (INFO, f.VM_ENTRY_EXCEPTION_ERROR_CODE),
          lambda cap, info, code: not info & i.VALID or not info & i.ERROR_CODE_VALID or code <= 0xFFFF),
    Check("the VM-entry instruction length of a software event must be that of an instruction", _ENTRY,
          (INFO, f.VM_ENTRY_INSTRUCTION_LENGTH), _is_valid_length),
    Check("the VM-entry MSR-load area must be 16-byte aligned and physical", _ENTRY,
          (f.VM_ENTRY_MSR_LOAD_COUNT, f.VM_ENTRY_MSR_LOAD_ADDRESS), _is_area),
    Check("'entry to SMM' and 'deactivate dual-monitor treatment' must be 0 outside SMM", _ENTRY,
          (f.VM_ENTRY_CONTROLS,),
          lambda cap, entry: not entry & (c.ENTRY_TO_SMM | c.ENTRY_DEACTIVATE_DUAL_MONITOR)),
)
# fmt: on

CONTROL_CHECKS: tuple[Check, ...] = _EXECUTION_CHECKS + _EXIT_CHECKS + _ENTRY_CHECKS
