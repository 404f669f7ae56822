"""What a VM exit reports, in words: the qualification by exit reason, and events of interruption-information fields.

Source: Intel SDM volume 3, 27.2.1 "Basic VM-Exit Information", 27.2.2, 24.8.3. Formats are in emulator/vmx.
"""

from collections.abc import Callable

from emulator.vmx import fields as f
from emulator.vmx import interruption as i
from emulator.vmx.exit_reasons import ExitReason as R
from emulator.vmx.qualifications import (
    CLTS,
    LMSW,
    MOV_FROM_CR,
    decode_cr_access,
    decode_debug_exception,
    decode_dr_access,
    decode_ept_violation,
    decode_io,
    decode_task_switch,
)
from emulator.x86 import DEBUG_EXCEPTION, GPR_NAMES, PAGE_FAULT, RCX
from vmm.session.debugger.views import bits
from vmm.session.debugger.views.subject import Subject
from vmm.session.report.recent import EXCEPTIONS

BASIC_REASON = 0xFFFF
EVENT_TYPES = {
    i.EXTERNAL_INTERRUPT: "external interrupt",
    i.NMI: "NMI",
    i.HARDWARE_EXCEPTION: "exception",
    i.SOFTWARE_INTERRUPT: "INT n",
    i.PRIVILEGED_SOFTWARE_EXCEPTION: "INT1",
    i.SOFTWARE_EXCEPTION: "software exception",
    i.OTHER_EVENT: "other event",
}
SOURCES = ("CALL", "IRET", "JMP", "a task gate")
SIZES = {1: "byte", 2: "word", 4: "dword"}


def reason_of(subject: Subject) -> int:
    """The basic reason of the exit that is handled, or that was last."""
    return subject.read(f.EXIT_REASON) & BASIC_REASON


def event_text(information: int, error_code: int = 0) -> str:
    """An event in an interruption-information field: `exception #PF, error code 2`; empty when it is not valid."""
    event = i.unpack(information)
    if not event.is_valid:
        return ""
    text = f"{EVENT_TYPES.get(event.type, f'type {event.type}')} {vector_text(event.vector, event.type)}"
    if event.type == i.NMI:
        text = "NMI"
    if event.has_error_code:
        text += f", error code {error_code:#x}"
        if event.vector == PAGE_FAULT:
            text += f" ({page_fault_text(error_code)})"
    return text


def vector_text(vector: int, type_: int) -> str:
    """An exception by its mnemonic, another event by its vector."""
    is_exception = type_ in (i.HARDWARE_EXCEPTION, i.SOFTWARE_EXCEPTION, i.PRIVILEGED_SOFTWARE_EXCEPTION)
    return EXCEPTIONS[vector] if is_exception and vector < len(EXCEPTIONS) else f"vector {vector:#x}"


def page_fault_text(error_code: int) -> str:
    """The error code of a page fault in words."""
    names = bits.known_names(bits.PAGE_FAULT, error_code)
    what = "fetch" if "fetch" in names else "write" if "write" in names else "read"
    who = "user" if "user" in names else "supervisor"
    why = "reserved bit set" if "reserved bit" in names else "rights" if "present" in names else "not present"
    return f"{who} {what}, {why}"


def _exception(subject: Subject) -> str:
    information = subject.read(f.VM_EXIT_INTERRUPTION_INFORMATION)
    event, qualification = i.unpack(information), subject.read(f.EXIT_QUALIFICATION)
    error_code = subject.read(f.VM_EXIT_INTERRUPTION_ERROR_CODE)
    if event.type == i.HARDWARE_EXCEPTION and event.vector == PAGE_FAULT:
        return f"#PF {error_code:#x} at {qualification:#x}: {page_fault_text(error_code)}"
    if event.type != i.NMI and event.vector == DEBUG_EXCEPTION:
        return f"#DB: {debug_text(qualification)}"
    return event_text(information, error_code)


def debug_text(qualification: int) -> str:
    """A debug exception's qualification."""
    debug = decode_debug_exception(qualification)
    hits = [f"breakpoint {number}" for number in range(4) if debug.breakpoints >> number & 1]
    hits += ["access to a debug register"] if debug.is_access else []
    hits += ["single step"] if debug.is_single_step else []
    return ", ".join(hits) or "nothing noted"


def _interrupt(subject: Subject) -> str:
    return event_text(subject.read(f.VM_EXIT_INTERRUPTION_INFORMATION))


def _task_switch(subject: Subject) -> str:
    switch = decode_task_switch(subject.read(f.EXIT_QUALIFICATION))
    return f"to TSS {switch.tss_selector:#x} by {SOURCES[switch.source]}"


def _cr_access(subject: Subject) -> str:
    access = decode_cr_access(subject.read(f.EXIT_QUALIFICATION))
    gpr = GPR_NAMES[access.gpr]
    if access.access == CLTS:
        return "CLTS"
    if access.access == LMSW:
        return f"LMSW of {access.lmsw_source:#x}" + (" from memory" if access.lmsw_is_memory else "")
    if access.access == MOV_FROM_CR:
        return f"MOV {gpr} from CR{access.cr}"
    return f"MOV to CR{access.cr} from {gpr} = {subject.gpr(access.gpr):#x}"


def _dr_access(subject: Subject) -> str:
    access = decode_dr_access(subject.read(f.EXIT_QUALIFICATION))
    gpr = GPR_NAMES[access.gpr]
    return f"MOV {gpr} from DR{access.dr}" if access.is_read else f"MOV to DR{access.dr} from {gpr}"


def _io(subject: Subject) -> str:
    access = decode_io(subject.read(f.EXIT_QUALIFICATION))
    name = {(True, False): "IN", (False, False): "OUT", (True, True): "INS", (False, True): "OUTS"}
    text = "REP " if access.is_rep else ""
    text += f"{name[access.is_in, access.is_string]} port {access.port:#x}, {SIZES.get(access.size_bytes, 'odd size')}"
    if not access.is_in and not access.is_string:
        text += f" {subject.gpr(0) & (1 << 8 * access.size_bytes) - 1:#x}"
    return text


def _msr(subject: Subject) -> str:
    index = subject.gpr(RCX) & 0xFFFF_FFFF
    is_write = reason_of(subject) == R.MSR_WRITE
    value = f" = {subject.gpr(2) << 32 & 0xFFFF_FFFF_0000_0000 | subject.gpr(0) & 0xFFFF_FFFF:#x}" if is_write else ""
    return f"MSR {index:#x}{value}"


def _ept_violation(subject: Subject) -> str:
    violation = decode_ept_violation(subject.read(f.EXIT_QUALIFICATION))
    what = "fetch" if violation.is_fetch else "write" if violation.is_write else "read"
    allowed = (violation.readable, violation.writable, violation.executable)
    rights = "".join(letter if is_set else "-" for letter, is_set in zip("rwx", allowed, strict=True))
    text = f"{what} at gpa {subject.read(f.GUEST_PHYSICAL_ADDRESS):#x}, allowed {rights}"
    if violation.has_linear_address:
        text += f", gva {subject.read(f.GUEST_LINEAR_ADDRESS):#x}" + ("" if violation.is_final else " in the page walk")
    return text


def _ept_misconfig(subject: Subject) -> str:
    return f"at gpa {subject.read(f.GUEST_PHYSICAL_ADDRESS):#x}"


def _address(subject: Subject) -> str:
    return f"at {subject.read(f.EXIT_QUALIFICATION):#x}"


def _cpuid(subject: Subject) -> str:
    return f"leaf {subject.gpr(0) & 0xFFFF_FFFF:#x}, subleaf {subject.gpr(RCX) & 0xFFFF_FFFF:#x}"


def _vmcall(subject: Subject) -> str:
    return f"number {subject.gpr(0):#x}, arguments {subject.gpr(7):#x}, {subject.gpr(6):#x}"


QUALIFICATIONS: dict[int, Callable[[Subject], str]] = {
    R.EXCEPTION_NMI: _exception,
    R.EXTERNAL_INTERRUPT: _interrupt,
    R.TASK_SWITCH: _task_switch,
    R.CPUID: _cpuid,
    R.INVLPG: _address,
    R.VMCALL: _vmcall,
    R.CR_ACCESS: _cr_access,
    R.DR_ACCESS: _dr_access,
    R.IO_INSTRUCTION: _io,
    R.MSR_READ: _msr,
    R.MSR_WRITE: _msr,
    R.EPT_VIOLATION: _ept_violation,
    R.EPT_MISCONFIG: _ept_misconfig,
}


def qualification_text(subject: Subject) -> str:
    """What the exit that is handled reports, as far as its handler has changed no register; empty: no more than that it
    took place."""
    text = QUALIFICATIONS.get(reason_of(subject))
    return "" if text is None else text(subject)
