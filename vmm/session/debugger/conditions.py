"""Conditions of breaks: Python expressions over the names of NAMES, as in `port == 0x64 and direction == write`.

A name that a happening does not have, as `port` of a CPUID exit, makes the condition false, and is no mistake.
"""

import ast
from collections.abc import Callable
from typing import Any

from emulator.errors import ConfigError, choices_text
from emulator.vmx import exit_reasons, qualifications
from emulator.vmx import fields as f
from emulator.vmx import interruption as i
from emulator.vmx.exit_reasons import ExitReason as R
from emulator.x86 import GPR_NAMES, RCX
from vmm.session.debugger.happening import Happening, Kind
from vmm.session.debugger.views.subject import Subject
from vmm.vcpu import Exit

Getter = Callable[[Happening, Subject], Any]
BUILTINS: dict[str, Any] = {"abs": abs, "hex": hex, "len": len, "max": max, "min": min, "sum": sum}
CONSTANTS: dict[str, str | bool] = {
    "read": "read",
    "write": "write",
    "into": "in",
    "out": "out",
    "true": True,
    "false": False,
}
CR_ACCESSES = ("write", "read", "clts", "lmsw")
SOURCE_MAX = 1000  # characters


HAPPENING, SUBJECT, SEEN = "happening ", "subject ", "seen "  # no name in a text has a space
PARAMETERS = ast.arguments([], [ast.arg(HAPPENING), ast.arg(SUBJECT), ast.arg(SEEN)], None, [], [], None, [])


class MissingError(Exception):
    """The happening does not have this."""


def _field(field: int) -> Getter:
    return lambda _happening, subject: subject.read(field)


def _gpr(index: int) -> Getter:
    return lambda _happening, subject: subject.gpr(index)


def _exit(happening: Happening, *reasons: int) -> Exit:
    """The exit that is handled, for one of `reasons`, if there are any. Raises MissingError."""
    if happening.exit is None or (reasons and happening.exit.reason not in reasons):
        raise MissingError
    return happening.exit


def _reason(happening: Happening, _subject: Subject) -> str:
    return exit_reasons.name(_exit(happening).reason)


def _io(name: str) -> Getter:
    def get(happening: Happening, subject: Subject) -> Any:
        _exit(happening, R.IO_INSTRUCTION)
        access = qualifications.decode_io(subject.read(f.EXIT_QUALIFICATION))
        return ("in" if access.is_in else "out") if name == "direction" else getattr(access, name)

    return get


def _cr(happening: Happening, subject: Subject) -> int:
    _exit(happening, R.CR_ACCESS)
    return qualifications.decode_cr_access(subject.read(f.EXIT_QUALIFICATION)).cr


def _access(happening: Happening, subject: Subject) -> str:
    if happening.access is not None:
        return "write" if happening.access.is_store else "read"
    reason, qualification = _exit(happening, R.CR_ACCESS, R.EPT_VIOLATION).reason, subject.read(f.EXIT_QUALIFICATION)
    if reason == R.CR_ACCESS:
        return CR_ACCESSES[qualifications.decode_cr_access(qualification).access]
    violation = qualifications.decode_ept_violation(qualification)
    return "write" if violation.is_write else "fetch" if violation.is_fetch else "read"


def _msr(happening: Happening, subject: Subject) -> int:
    _exit(happening, R.MSR_READ, R.MSR_WRITE)
    return subject.gpr(RCX) & 0xFFFF_FFFF


def _vector(happening: Happening, subject: Subject) -> int:
    if happening.kind is Kind.ENTRY:
        event = i.unpack(subject.read(f.VM_ENTRY_INTERRUPTION_INFORMATION))
    else:
        _exit(happening, R.EXCEPTION_NMI, R.EXTERNAL_INTERRUPT)
        event = i.unpack(subject.read(f.VM_EXIT_INTERRUPTION_INFORMATION))
    if not event.is_valid:
        raise MissingError
    return event.vector


def _address(happening: Happening, subject: Subject) -> int:
    is_ept = _exit(happening, R.EXCEPTION_NMI, R.EPT_VIOLATION, R.INVLPG).reason == R.EPT_VIOLATION
    return subject.read(f.GUEST_LINEAR_ADDRESS if is_ept else f.EXIT_QUALIFICATION)


def _gpa(happening: Happening, subject: Subject) -> int:
    _exit(happening, R.EPT_VIOLATION)
    return subject.read(f.GUEST_PHYSICAL_ADDRESS)


def _memory(name: str) -> Getter:
    def get(happening: Happening, _subject: Subject) -> int:
        if happening.access is None:
            raise MissingError
        return int.from_bytes(getattr(happening.access, name), "little")

    return get


def _cost(happening: Happening, _subject: Subject) -> int:
    exit = _exit(happening)
    return happening.exit_cycles or happening.cycles - exit.began_cycles


def _charge(name: str) -> Getter:
    def get(happening: Happening, _subject: Subject) -> Any:
        if happening.charge is None:
            raise MissingError
        return getattr(happening.charge, name)

    return get


def _what(happening: Happening, _subject: Subject) -> str:
    what = happening.what if happening.charge is None else happening.charge.what
    if not what:
        raise MissingError
    return what


# What each name means, and who has it.
NAMES: dict[str, tuple[str, Getter]] = {
    "reason": ("name of the exit reason, as in reason == 'CPUID'", _reason),
    "qualification": ("of the exit, as a number", _field(f.EXIT_QUALIFICATION)),
    "port": ("of an I/O exit", _io("port")),
    "size": ("bytes of an I/O exit's access", _io("size_bytes")),
    "direction": ("of an I/O exit: 'in' or 'out'", _io("direction")),
    "is_string": ("of an I/O exit: INS or OUTS", _io("is_string")),
    "cr": ("number of the control register of a CR exit", _cr),
    "access": ("of a CR exit, EPT violation or access: read, write, 'fetch', 'clts', 'lmsw'", _access),
    "msr": ("index of an MSR exit", _msr),
    "vector": ("of an exception or interrupt that exits, or is injected at an entry", _vector),
    "address": ("linear address of a page fault, EPT violation or INVLPG", _address),
    "gpa": ("guest-physical address of an EPT violation", _gpa),
    "cost": ("cycles that the exit has taken so far; at an entry, all", _cost),
    "what": ("a charge's words, as in 'VMREAD' in what; an event's, a sidecall's operation", _what),
    "cycles": ("of a charge", _charge("cycles")),
    "cycle": ("of the core's clock", lambda happening, _: happening.cycles),
    "old": ("of memory that was accessed: what was there", _memory("old")),
    "new": ("and what is there now", _memory("new")),
    "n": ("how often this has been there, whatever the condition says", lambda _happening, _subject: 0),
    "exits": ("VM exits so far, this one included", lambda happening, _: happening.exits),
    "vcpu": ("number of the virtual CPU in its guest", lambda _, subject: subject.number),
    "domain": ("number of the guest on its host", lambda _, s: 0 if s.domain is None else s.domain.number),
    "core": ("number of the physical core", lambda _, subject: subject.pcpu.number),
    "cpl": ("current privilege level", lambda _, subject: subject.cpl),
    "symbol": ("name of the function at RIP", lambda _, s: s.symbols.name_of(s.linear_rip).partition("+")[0]),
    "rip": ("instruction pointer", lambda happening, _: happening.rip),
    "rsp": ("stack pointer", _field(f.GUEST_RSP)),
    "rflags": ("flags", _field(f.GUEST_RFLAGS)),
    "cr0": ("as the processor has it", _field(f.GUEST_CR0)),
    "cr3": ("as the processor has it", _field(f.GUEST_CR3)),
    "cr4": ("as the processor has it", _field(f.GUEST_CR4)),
    **{name: ("general register", _gpr(index)) for index, name in enumerate(GPR_NAMES) if name != "rsp"},
}


class _Calls(ast.NodeTransformer):
    """Each name becomes a call of its getter, so that only what is needed is looked up; constants their value."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """See above."""
        if node.id in CONSTANTS:
            return ast.Constant(CONSTANTS[node.id])
        if node.id == "n":
            return ast.Name(SEEN, ast.Load())
        if node.id not in NAMES:
            return node
        arguments: list[ast.expr] = [ast.Name(HAPPENING, ast.Load()), ast.Name(SUBJECT, ast.Load())]
        return ast.Call(ast.Name(node.id, ast.Load()), arguments, [])


class Condition:
    """An expression, and whether it holds. Raises ConfigError for a text that is none, or has unknown names."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._function = _compiled(text)

    def value(self, happening: Happening, subject: Subject, seen: int = 0) -> Any:
        """What it is worth; None when the happening lacks a name of it. Raises ConfigError."""
        try:
            return self._function(happening, subject, seen)
        except MissingError:
            return None
        except Exception as error:
            raise ConfigError(f"{self.text!r} cannot be computed here: {error}") from None

    def holds(self, happening: Happening, subject: Subject, seen: int) -> bool:
        """Whether it is true; one that cannot be computed is not."""
        try:
            return bool(self.value(happening, subject, seen))
        except ConfigError:
            return False


def _compiled(text: str) -> Callable[[Happening, Subject, int], Any]:
    """A function of its own: it is asked at each exit."""
    if len(text) > SOURCE_MAX:
        raise ConfigError(f"a condition has {SOURCE_MAX} characters at most")
    try:
        tree = ast.parse(text.strip(), mode="eval")
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute | ast.Lambda | ast.Await | ast.ListComp | ast.GeneratorExp | ast.Pow):
                raise ConfigError(f"{text!r}: compare names and numbers; {type(node).__name__} is not possible")
            if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
                raise ConfigError(f"{text!r}: compare names and numbers; {node.id!r} cannot be given a value")
            if isinstance(node, ast.Name) and node.id not in NAMES and node.id not in (*CONSTANTS, *BUILTINS):
                raise ConfigError(f"{text!r}: no name {node.id!r}; {choices_text(node.id, list(NAMES))}")
        tree.body = ast.Lambda(PARAMETERS, _Calls().visit(tree.body))
        code = compile(ast.fix_missing_locations(tree), "<condition>", "eval")
        getters = {name: get for name, (_, get) in NAMES.items()}
        function: Callable[[Happening, Subject, int], Any] = eval(code, {"__builtins__": BUILTINS, **getters})
        return function
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"{text!r} is no condition: {getattr(error, 'msg', error)}") from None


def documented() -> list[str]:
    """A line for each name."""
    return [f"{name:<14} {meaning}" for name, (meaning, _) in NAMES.items()]
