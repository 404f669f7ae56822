"""Why a VM exit took place: the control, bit, bitmap or entry that asked for it, and what would have to be otherwise.

    exit reason --CAUSES: a small function each--> Cause

A control is said as the SDM names it, with its word and bit. Source: Intel SDM volume 3, 25.1 and 25.2 (in newer
editions 26.1 and 26.2), 24.6, 28.2.3. It is told from what the VMCS and the registers are now: what the exit's handler
has changed already is said to be so.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from emulator.errors import ConfigError
from emulator.vmx import controls as c
from emulator.vmx import exit_reasons
from emulator.vmx import fields as f
from emulator.vmx import interruption as i
from emulator.vmx.exit_reasons import ExitReason as R
from emulator.vmx.qualifications import (
    CLTS,
    LMSW,
    MOV_FROM_CR,
    decode_cr_access,
    decode_ept_violation,
    decode_io,
)
from emulator.x86 import CR0_TS, PAGE_FAULT, PF_FETCH, PF_USER, PF_WRITE, RCX
from vmm.exits.table import IMPOSSIBLE
from vmm.host_apic import EVENT_CHECK, FLUSH, TIMER
from vmm.session.debugger.views import bits
from vmm.session.debugger.views.exit_words import reason_of
from vmm.session.debugger.views.page_faults import shadow_reason
from vmm.session.debugger.views.page_walk import Access, Walk, ept_walk
from vmm.session.debugger.views.subject import Subject
from vmm.session.debugger.views.values import View, lines_text, wrapped
from vmm.session.report.recent import EXCEPTIONS

WORD_NAMES = {
    "PIN": "pin-based controls",
    "PROC": "primary processor-based controls",
    "PROC2": "secondary processor-based controls",
}
HOST_VECTORS = {TIMER: "the core's local timer", EVENT_CHECK: "another core", FLUSH: "another core, for a TLB flush"}


@dataclass(frozen=True)
class Cause(View):
    """What asked for the exit `reason`; `place` is where that stands, empty for exits that nothing can switch off."""

    reason: str
    control: str
    place: str = ""
    details: tuple[str, ...] = ()
    otherwise: str = ""

    def summary(self) -> str:
        """One line."""
        return f"{self.control} ({self.place})" if self.place else self.control

    def text(self) -> str:
        """All of it."""
        lines = [*wrapped(f"{self.reason}: ", self.summary().split(), indent=2)]
        for detail in self.details:
            lines += wrapped("  ", detail.split(), indent=4)
        if self.otherwise:
            lines += wrapped("  It would not exit ", self.otherwise.split(), indent=4)
        return lines_text(lines)


def why(subject: Subject) -> Cause:
    """The cause of the exit that is handled, or was last. Raises ConfigError where there has been none."""
    if subject.vcpu is None:
        raise ConfigError("a native guest has no VM exits; choose shadow or ept")
    if not subject.vmcs.is_launched:
        raise ConfigError("the guest has not run yet, so nothing has exited")
    return cause_of(subject, reason_of(subject))


def cause_of(subject: Subject, reason: int) -> Cause:
    """The cause of an exit for `reason`, with the VMCS as it is."""
    row = CAUSES.get(reason)
    if row is not None:
        return row(subject, exit_reasons.name(reason))
    return Cause(exit_reasons.name(reason), IMPOSSIBLE.get(reason, "a reason that the SDM does not have"))


# --- what many rows have in common -----------------------------------------------------------------------------------


def _control(
    subject: Subject, reason: str, *, mask: int, word: str = "PROC", name: str, details: tuple[str, ...] = ()
) -> Cause:
    """A control bit that is 1."""
    value = subject.read(c.WORD_FIELD[word])
    place = f"{WORD_NAMES[word]}, bit {mask.bit_length() - 1}"
    if not value & mask:
        details = (*details, "The control is 0 now: it has been changed since.")
    return Cause(reason, name, place, details, f'with "{name}" 0.')


def _always(_subject: Subject, reason: str, *, name: str) -> Cause:
    """An instruction or event that exits whatever the controls are."""
    return Cause(reason, f"{name} always exits in VMX non-root operation")


def _by(name: str, mask: int, word: str = "PROC") -> Callable[[Subject, str], Cause]:
    return partial(_control, mask=mask, word=word, name=name)


def _unconditionally(name: str) -> Callable[[Subject, str], Cause]:
    return partial(_always, name=name)


# --- events ----------------------------------------------------------------------------------------------------------


def _exception(subject: Subject, reason: str) -> Cause:
    information = subject.read(f.VM_EXIT_INTERRUPTION_INFORMATION)
    event = i.unpack(information)
    if event.type == i.NMI:
        return _control(subject, reason, mask=c.PIN_NMI_EXITING, word="PIN", name="NMI exiting")
    vector = event.vector & 31
    bitmap = subject.read(f.EXCEPTION_BITMAP)
    name = EXCEPTIONS[vector] if vector < len(EXCEPTIONS) else f"vector {vector}"
    value = bitmap >> vector & 1
    place = f"EXCEPTION_BITMAP {bitmap:#x}, bit {vector} is {value}"
    if vector != PAGE_FAULT:
        return Cause(reason, f"exception bitmap, {name}", place, (), f"with bit {vector} of EXCEPTION_BITMAP 0.")
    return _page_fault(subject, reason, place, bool(value))


def _page_fault(subject: Subject, reason: str, place: str, is_set: bool) -> Cause:
    mask, match = subject.read(f.PAGE_FAULT_ERROR_CODE_MASK), subject.read(f.PAGE_FAULT_ERROR_CODE_MATCH)
    code, gva = subject.read(f.VM_EXIT_INTERRUPTION_ERROR_CODE), subject.read(f.EXIT_QUALIFICATION)
    relation = "is" if code & mask == match else "is not"
    details = [f"Error code {code:#x} & mask {mask:#x} {relation} match {match:#x}."]
    access = Access(bool(code & PF_WRITE), bool(code & PF_USER), bool(code & PF_FETCH))
    if found := shadow_reason(subject, gva, access):
        details.append(f"{found[0].upper()}{found[1:]}.")
    otherwise = "with bit 14 of EXCEPTION_BITMAP 0" if is_set else "with an error code that matches"
    if subject.shadow is not None:
        otherwise += ", which shadow paging cannot do without: then no fault would reach the VMM, and no shadow be made"
    return Cause(reason, "exception bitmap, #PF", place, tuple(details), f"{otherwise}.")


def _interrupt(subject: Subject, reason: str) -> Cause:
    information = subject.read(f.VM_EXIT_INTERRUPTION_INFORMATION)
    vector = information & i.VECTOR_MASK
    who = HOST_VECTORS.get(vector, "a device of the host")
    details = (f"Vector {vector:#x}, acknowledged by the exit: {who}.",) if information & i.VALID else ()
    name = "external-interrupt exiting"
    return _control(subject, reason, mask=c.PIN_EXTERNAL_INTERRUPT_EXITING, word="PIN", name=name, details=details)


def _interrupt_window(subject: Subject, reason: str) -> Cause:
    detail = "RFLAGS.IF is 1 and nothing blocks interrupts; the VMM waits to inject one."
    name, mask = "interrupt-window exiting", c.PROC_INTERRUPT_WINDOW_EXITING
    return _control(subject, reason, mask=mask, name=name, details=(detail,))


def _nmi_window(subject: Subject, reason: str) -> Cause:
    detail = "Nothing blocks NMIs; the VMM waits to inject one."
    return _control(subject, reason, mask=c.PROC_NMI_WINDOW_EXITING, name="NMI-window exiting", details=(detail,))


def _entry_failure(_subject: Subject, reason: str) -> Cause:
    return Cause(reason, "the VM entry failed: its checks are in `check`", "", (), "with guest state that passes.")


# --- control registers -----------------------------------------------------------------------------------------------


def _cr_access(subject: Subject, reason: str) -> Cause:
    access = decode_cr_access(subject.read(f.EXIT_QUALIFICATION))
    is_load = access.access != MOV_FROM_CR
    if access.cr == 8:
        mask = c.PROC_CR8_LOAD_EXITING if is_load else c.PROC_CR8_STORE_EXITING
        return _control(subject, reason, mask=mask, name=f"CR8-{'load' if is_load else 'store'} exiting")
    if access.cr == 3 and not is_load:
        return _control(subject, reason, mask=c.PROC_CR3_STORE_EXITING, name="CR3-store exiting")
    if access.cr == 3:
        return _cr3_load(subject, reason, subject.gpr(access.gpr))
    written = subject.gpr(access.gpr)
    if access.access == CLTS:
        written = subject.read(f.CR0_READ_SHADOW) & ~CR0_TS
    elif access.access == LMSW:
        written = subject.read(f.CR0_READ_SHADOW) & ~0xE | access.lmsw_source & 0xF
    return _owned_bits(subject, reason, 4 if access.cr == 4 else 0, written)


def _cr3_load(subject: Subject, reason: str, written: int) -> Cause:
    count = min(subject.read(f.CR3_TARGET_COUNT), 4)
    targets = [subject.read(f.CR3_TARGET_VALUE_0 + 2 * number) for number in range(count)]
    detail = f"CR3-target values: {', '.join(f'{target:#x}' for target in targets) or 'none'}."
    cause = _control(subject, reason, mask=c.PROC_CR3_LOAD_EXITING, name="CR3-load exiting", details=(detail,))
    otherwise = f"{cause.otherwise[:-1]}, or with {written:#x} among the CR3-target values."
    return Cause(reason, cause.control, cause.place, cause.details, otherwise)


def _owned_bits(subject: Subject, reason: str, cr: int, written: int) -> Cause:
    """A write that changes bits of CR0 or CR4 which the host owns."""
    mask_field, shadow_field, names = (
        (f.CR4_GUEST_HOST_MASK, f.CR4_READ_SHADOW, bits.CR4)
        if cr == 4
        else (f.CR0_GUEST_HOST_MASK, f.CR0_READ_SHADOW, bits.CR0)
    )
    mask, shadow = subject.read(mask_field), subject.read(shadow_field)
    differing = bits.bit_names(names, (written ^ shadow) & mask)
    if differing:
        detail = f"Written {written:#x}, read shadow {shadow:#x}; they differ in {', '.join(differing)}."
        otherwise = f"with {' and '.join(differing)} of CR{cr}_GUEST_HOST_MASK 0, or as CR{cr}_READ_SHADOW has it."
    else:
        detail = f"The read shadow is {shadow:#x}, as written: the handler has changed it since."
        otherwise = "for bits that the mask leaves to the guest."
    return Cause(reason, f"CR{cr} guest/host mask", f"CR{cr}_GUEST_HOST_MASK {mask:#x}", (detail,), otherwise)


# --- bitmaps ---------------------------------------------------------------------------------------------------------


def _io(subject: Subject, reason: str) -> Cause:
    access = decode_io(subject.read(f.EXIT_QUALIFICATION))
    if not subject.read(f.PRIMARY_PROCESSOR_BASED_CONTROLS) & c.PROC_USE_IO_BITMAPS:
        name = "unconditional I/O exiting"
        cause = _control(subject, reason, mask=c.PROC_UNCONDITIONAL_IO_EXITING, name=name)
        otherwise = f"{cause.otherwise[:-1]}, or with I/O bitmaps in which port {access.port:#x} has a 0."
        return Cause(reason, cause.control, cause.place, cause.details, otherwise)
    ports = range(access.port, access.port + access.size_bytes)
    if ports[-1] > 0xFFFF:
        return Cause(reason, "an access beyond port 0xffff", "with I/O bitmaps", (), "with a smaller port.")
    details = tuple(text for port in ports if (text := _port_bit(subject, port)))
    otherwise = "with these bits 0."
    return Cause(reason, "use I/O bitmaps", f"{WORD_NAMES['PROC']}, bit 25", details, otherwise)


def _port_bit(subject: Subject, port: int) -> str:
    letter, field = ("A", f.IO_BITMAP_A_ADDRESS) if port < 0x8000 else ("B", f.IO_BITMAP_B_ADDRESS)
    at = subject.read(field) + (port & 0x7FFF) // 8
    byte = subject.read_hpa(at, 1)
    if byte is not None and not byte[0] >> (port & 7) & 1:
        return ""
    what = "no memory" if byte is None else f"{byte[0]:#04x}"
    return f"Port {port:#x}: I/O bitmap {letter}, bit {port & 7} of the byte at hpa {at:#x} ({what})."


def _msr(subject: Subject, reason: str) -> Cause:
    index = subject.gpr(RCX) & 0xFFFF_FFFF
    is_write = reason_of(subject) == R.MSR_WRITE
    mask = c.PROC_USE_MSR_BITMAPS
    place = f"{WORD_NAMES['PROC']}, bit {mask.bit_length() - 1}"
    if not subject.read(f.PRIMARY_PROCESSOR_BASED_CONTROLS) & mask:
        name = f'{"WRMSR" if is_write else "RDMSR"} exits without "use MSR bitmaps"'
        return Cause(reason, name, place, (), "with the control 1 and a 0 in the bitmap.")
    is_high = 0xC000_0000 <= index <= 0xC000_1FFF
    if not is_high and index > 0x1FFF:
        detail = f"MSR {index:#x} is in neither range of the bitmaps, 0 to 1fff and c0000000 to c0001fff."
        return Cause(reason, "an MSR outside of the MSR bitmaps", place, (detail,), "")
    at = subject.read(f.MSR_BITMAP_ADDRESS) + (0x800 if is_write else 0) + (0x400 if is_high else 0)
    at += (index & 0x1FFF) // 8
    byte = subject.read_hpa(at, 1)
    what = "no memory" if byte is None else f"{byte[0]:#04x}"
    which = f"{'write' if is_write else 'read'} bitmap for {'high' if is_high else 'low'} MSRs"
    detail = f"MSR {index:#x}: {which}, bit {index & 7} of the byte at hpa {at:#x} ({what})."
    return Cause(reason, "use MSR bitmaps", place, (detail,), "with this bit 0.")


# --- memory ----------------------------------------------------------------------------------------------------------


def _ept_violation(subject: Subject, reason: str) -> Cause:
    violation = decode_ept_violation(subject.read(f.EXIT_QUALIFICATION))
    gpa = subject.read(f.GUEST_PHYSICAL_ADDRESS)
    letter = "X" if violation.is_fetch else "W" if violation.is_write else "R"
    found = ept_walk(subject, gpa)
    entry = next((entry for entry in found.entries if letter not in entry.bits), None)
    details = [f"Path: {_path(found)}."]
    if subject.domain is not None and subject.domain.is_device_page(gpa >> 12):
        details.append("A device answers there, so the VMM has made no entry, to carry the access out itself.")
    if entry is None:
        return Cause(reason, f"EPT entries of gpa {gpa:#x}", "", (*details, "They allow the access now."), "")
    control = f"EPT {entry.name}, {letter} is 0"
    place = f"entry {entry.value:#x} at hpa {entry.address:#x}"
    return Cause(reason, control, place, tuple(details), f"with {letter} 1 in each entry of the path.")


def _ept_misconfig(subject: Subject, reason: str) -> Cause:
    found = ept_walk(subject, subject.read(f.GUEST_PHYSICAL_ADDRESS))
    return Cause(reason, "a malformed EPT entry", "", (f"Path: {_path(found)}.",), "with a well-formed one.")


def _path(walk: Walk) -> str:
    return " -> ".join(f"{entry.name} {entry.value:#x}" for entry in walk.entries) or walk.end


# --- instructions ----------------------------------------------------------------------------------------------------


def _pause(subject: Subject, reason: str) -> Cause:
    if subject.read(f.PRIMARY_PROCESSOR_BASED_CONTROLS) & c.PROC_PAUSE_EXITING:
        return _control(subject, reason, mask=c.PROC_PAUSE_EXITING, name="PAUSE exiting")
    detail = f"PLE_GAP {subject.read(f.PLE_GAP):,}, PLE_WINDOW {subject.read(f.PLE_WINDOW):,} cycles."
    mask = c.PROC2_PAUSE_LOOP_EXITING
    return _control(subject, reason, mask=mask, word="PROC2", name="PAUSE-loop exiting", details=(detail,))


def _tpr(subject: Subject, reason: str) -> Cause:
    threshold = subject.read(f.TPR_THRESHOLD)
    cause = _control(subject, reason, mask=c.PROC_USE_TPR_SHADOW, name="use TPR shadow")
    detail = f"The task priority is below TPR_THRESHOLD {threshold}."
    return Cause(reason, cause.control, cause.place, (detail,), "with a lower TPR_THRESHOLD.")


# fmt: off
CAUSES: dict[int, Callable[[Subject, str], Cause]] = {
    R.EXCEPTION_NMI:       _exception,
    R.EXTERNAL_INTERRUPT:  _interrupt,
    R.TRIPLE_FAULT:        _unconditionally("a triple fault"),
    R.INIT_SIGNAL:         _unconditionally("an INIT signal"),
    R.SIPI_SIGNAL:         _unconditionally("a SIPI in the wait-for-SIPI state"),
    R.INTERRUPT_WINDOW:    _interrupt_window,
    R.NMI_WINDOW:          _nmi_window,
    R.TASK_SWITCH:         _unconditionally("a task switch"),
    R.CPUID:               _unconditionally("CPUID"),
    R.GETSEC:              _unconditionally("GETSEC"),
    R.HLT:                 _by("HLT exiting", c.PROC_HLT_EXITING),
    R.INVD:                _unconditionally("INVD"),
    R.INVLPG:              _by("INVLPG exiting", c.PROC_INVLPG_EXITING),
    R.RDPMC:               _by("RDPMC exiting", c.PROC_RDPMC_EXITING),
    R.RDTSC:               _by("RDTSC exiting", c.PROC_RDTSC_EXITING),
    R.VMCALL:              _unconditionally("VMCALL"),
    R.VMCLEAR:             _unconditionally("VMCLEAR"),
    R.VMLAUNCH:            _unconditionally("VMLAUNCH"),
    R.VMPTRLD:             _unconditionally("VMPTRLD"),
    R.VMPTRST:             _unconditionally("VMPTRST"),
    R.VMREAD:              _unconditionally("VMREAD without VMCS shadowing"),
    R.VMRESUME:            _unconditionally("VMRESUME"),
    R.VMWRITE:             _unconditionally("VMWRITE without VMCS shadowing"),
    R.VMXOFF:              _unconditionally("VMXOFF"),
    R.VMXON:               _unconditionally("VMXON"),
    R.CR_ACCESS:           _cr_access,
    R.DR_ACCESS:           _by("MOV-DR exiting", c.PROC_MOV_DR_EXITING),
    R.IO_INSTRUCTION:      _io,
    R.MSR_READ:            _msr,
    R.MSR_WRITE:           _msr,
    R.INVALID_STATE:       _entry_failure,
    R.MSR_LOAD_FAIL:       _entry_failure,
    R.MWAIT_INSTRUCTION:   _by("MWAIT exiting", c.PROC_MWAIT_EXITING),
    R.MONITOR_TRAP_FLAG:   _by("monitor trap flag", c.PROC_MONITOR_TRAP_FLAG),
    R.MONITOR_INSTRUCTION: _by("MONITOR exiting", c.PROC_MONITOR_EXITING),
    R.PAUSE_INSTRUCTION:   _pause,
    R.TPR_BELOW_THRESHOLD: _tpr,
    R.APIC_ACCESS:         _by("virtualize APIC accesses", c.PROC2_VIRTUALIZE_APIC_ACCESSES, "PROC2"),
    R.GDTR_IDTR:           _by("descriptor-table exiting", c.PROC2_DESCRIPTOR_TABLE_EXITING, "PROC2"),
    R.LDTR_TR:             _by("descriptor-table exiting", c.PROC2_DESCRIPTOR_TABLE_EXITING, "PROC2"),
    R.EPT_VIOLATION:       _ept_violation,
    R.EPT_MISCONFIG:       _ept_misconfig,
    R.INVEPT:              _unconditionally("INVEPT"),
    R.RDTSCP:              _by("RDTSC exiting", c.PROC_RDTSC_EXITING),
    R.PREEMPTION_TIMER:    _by("activate VMX-preemption timer", c.PIN_ACTIVATE_PREEMPTION_TIMER, "PIN"),
    R.INVVPID:             _unconditionally("INVVPID"),
    R.WBINVD:              _by("WBINVD exiting", c.PROC2_WBINVD_EXITING, "PROC2"),
    R.XSETBV:              _unconditionally("XSETBV"),
    R.RDRAND:              _by("RDRAND exiting", c.PROC2_RDRAND_EXITING, "PROC2"),
    R.RDSEED:              _by("RDSEED exiting", c.PROC2_RDSEED_EXITING, "PROC2"),
    R.INVPCID:             _by("INVLPG exiting", c.PROC_INVLPG_EXITING),
    R.PML_FULL:            _by("enable PML", c.PROC2_ENABLE_PML, "PROC2"),
}
# fmt: on
