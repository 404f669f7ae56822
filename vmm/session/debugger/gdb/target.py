"""The registers that gdb is told of: names, sizes and values, in the order of their numbers.

    TABLE --target_xml--> what gdb asks for first             core, segments: as gdb names them (gdb/features/i386)
          --value, bytes_of--> answers to `g`, `p`            system: cr0 ... k_gs_base as QEMU names them

A guest is always shown as x86-64: in other modes the upper halves are what they are, and gdb disassembles as 64 bits
unless it is told `set architecture`.
MODEL: registers of the FPU are named, because gdb needs them, and unavailable.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from emulator.vmx import fields as f
from emulator.x86 import GPR_NAMES, IA32_KERNEL_GS_BASE
from vmm.session.debugger.views.subject import Subject

CORE, SEGMENTS, SYSTEM = "org.gnu.gdb.i386.core", "org.gnu.gdb.i386.segments", "org.sidecore.x86.system"
Getter = Callable[[Subject], int | None]


@dataclass(frozen=True)
class Register:
    """A register of gdb's. `get` answers None where it is not known."""

    name: str
    bits: int
    type: str
    feature: str
    get: Getter

    @property
    def size_bytes(self) -> int:
        """How many bytes are sent."""
        return self.bits // 8


def _field(field: int, subject: Subject) -> int:
    return subject.read(field)


def _gpr(index: int, subject: Subject) -> int:
    return subject.gpr(index)


def _unavailable(_subject: Subject) -> None:
    return None


def _mode(name: str, subject: Subject) -> int:
    return int(getattr(subject.mode, name))


def _cr2(subject: Subject) -> int:
    return int(subject.engine.shared.cr2)


def _cr8(subject: Subject) -> int:
    return subject.engine.platform.cr8_read() if subject.vcpu is None else subject.vcpu.apic.cr8


def _debug(number: int, subject: Subject) -> int:
    return int(subject.engine.shared.dr6 if number == 6 else subject.engine.shared.dr[number])


def _kernel_gs_base(subject: Subject) -> int | None:
    return subject.engine.rdmsr(IA32_KERNEL_GS_BASE)


GENERAL = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", *(f"r{number}" for number in range(8, 16)))
POINTERS = {"rbp": "data_ptr", "rsp": "data_ptr"}
FPU_STACK = tuple(f"st{number}" for number in range(8))
FPU_CONTROL = ("fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop")
SELECTORS = ("CS", "SS", "DS", "ES", "FS", "GS")


def _segment(name: str, part: str) -> Getter:
    return partial(_field, getattr(f, f"GUEST_{name}_{part}"))


# fmt: off
TABLE: tuple[Register, ...] = (
    *(Register(name, 64, POINTERS.get(name, "int64"), CORE, partial(_gpr, GPR_NAMES.index(name))) for name in GENERAL),
    Register("rip", 64, "code_ptr", CORE, partial(_field, f.GUEST_RIP)),
    Register("eflags", 32, "flags", CORE, partial(_field, f.GUEST_RFLAGS)),
    *(Register(name.lower(), 32, "int32", CORE, _segment(name, "SELECTOR")) for name in SELECTORS),
    *(Register(name, 80, "i387_ext", CORE, _unavailable) for name in FPU_STACK),
    *(Register(name, 32, "int32", CORE, _unavailable) for name in FPU_CONTROL),
    Register("fs_base", 64, "int64", SEGMENTS, _segment("FS", "BASE")),
    Register("gs_base", 64, "int64", SEGMENTS, _segment("GS", "BASE")),
    Register("k_gs_base", 64, "int64", SYSTEM, _kernel_gs_base),
    Register("cr0", 64, "int64", SYSTEM, partial(_mode, "cr0")),
    Register("cr2", 64, "int64", SYSTEM, _cr2),
    Register("cr3", 64, "int64", SYSTEM, partial(_mode, "cr3")),
    Register("cr4", 64, "int64", SYSTEM, partial(_mode, "cr4")),
    Register("cr8", 64, "int64", SYSTEM, _cr8),
    Register("efer", 64, "int64", SYSTEM, partial(_mode, "efer")),
    *(Register(f"{name.lower()}_base", 64, "int64", SYSTEM, _segment(name, "BASE")) for name in SELECTORS[:4]),
    Register("tr", 32, "int32", SYSTEM, _segment("TR", "SELECTOR")),
    Register("tr_base", 64, "int64", SYSTEM, _segment("TR", "BASE")),
    Register("ldtr", 32, "int32", SYSTEM, _segment("LDTR", "SELECTOR")),
    Register("ldtr_base", 64, "int64", SYSTEM, _segment("LDTR", "BASE")),
    Register("gdtr_base", 64, "int64", SYSTEM, _segment("GDTR", "BASE")),
    Register("gdtr_limit", 32, "int32", SYSTEM, _segment("GDTR", "LIMIT")),
    Register("idtr_base", 64, "int64", SYSTEM, _segment("IDTR", "BASE")),
    Register("idtr_limit", 32, "int32", SYSTEM, _segment("IDTR", "LIMIT")),
    *(Register(f"dr{number}", 64, "int64", SYSTEM, partial(_debug, number)) for number in (0, 1, 2, 3, 6)),
    Register("dr7", 64, "int64", SYSTEM, partial(_field, f.GUEST_DR7)),
)
FLAGS = {
    0: "CF", 1: "", 2: "PF", 4: "AF", 6: "ZF", 7: "SF", 8: "TF", 9: "IF", 10: "DF", 11: "OF", 14: "NT", 16: "RF",
    17: "VM", 18: "AC", 19: "VIF", 20: "VIP", 21: "ID",
}
# fmt: on
NUMBERS = {register.name: number for number, register in enumerate(TABLE)}


def target_xml() -> bytes:
    """The description of the target."""
    lines = [
        '<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd">',
        '<target version="1.0"><architecture>i386:x86-64</architecture>',
    ]
    for feature in (CORE, SEGMENTS, SYSTEM):
        lines.append(f'<feature name="{feature}">')
        if feature == CORE:
            lines.append('<flags id="flags" size="4">')
            lines += [f'<field name="{name}" start="{bit}" end="{bit}"/>' for bit, name in FLAGS.items()]
            lines.append("</flags>")
        lines += [
            f'<reg name="{row.name}" bitsize="{row.bits}" type="{row.type}" regnum="{number}"/>'
            for number, row in enumerate(TABLE)
            if row.feature == feature
        ]
        lines.append("</feature>")
    return "\n".join([*lines, "</target>"]).encode()


def hex_of(register: Register, subject: Subject) -> bytes:
    """Its value as gdb wants it: bytes in hexadecimal, the lowest first; x where it is unavailable."""
    value = register.get(subject)
    if value is None:
        return b"xx" * register.size_bytes
    return (value & (1 << register.bits) - 1).to_bytes(register.size_bytes, "little").hex().encode()
