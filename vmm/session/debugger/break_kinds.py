"""What can be broken at: a table of kinds, and what tells whether a happening is what an argument asks for.

exit IO_INSTRUCTION    --BreakKind.make(argument)--> Match: (happening, subject) -> bool
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from emulator.errors import ConfigError, choices_text
from emulator.profiles.sections import REASONS
from emulator.vmx import fields as f
from emulator.vmx import interruption as i
from emulator.vmx.exit_reasons import ExitReason as R
from emulator.x86 import PAGE_FAULT
from vmm.session.debugger.conditions import Condition
from vmm.session.debugger.happening import Happening, Kind, Place
from vmm.session.debugger.views.subject import Space, Subject

Match = Callable[[Happening, Subject], bool]
SPACES = {space.value: space for space in Space}
ACCESS_BYTES = 8  # of memory that is watched, unless told


class Finder(Protocol):
    """Who knows what a user means: a debugger, at the processor that it looks at."""

    def number_of(self, text: str) -> int:
        """An address or number."""
        ...

    @property
    def sidecalls(self) -> Collection[str]:
        """Names of what guests can ask of its host's sidecores; none: there are none."""
        ...

    def place_of(self, space: Space, address: int, size_bytes: int) -> Place:
        """Memory that is there now. Raises ConfigError."""
        ...


@dataclass(frozen=True)
class BreakKind:
    """A row of the table: what happens, what its argument is, and how to make a test of that."""

    name: str
    argument: str  # as in the help; in brackets it may be left out
    meaning: str
    kind: Kind
    make: Callable[[str, Finder], Match]
    words_max: int = 1  # of the argument


def _exit(text: str, _finder: Finder) -> Match:
    if text in ("", "*"):
        return lambda happening, _: happening.exit is not None
    reason = REASONS.get(text.upper())
    if reason is None:
        raise ConfigError(f"no exit reason {text!r}; {choices_text(text.upper(), list(REASONS))}")
    return lambda happening, _: happening.exit is not None and happening.exit.reason == reason


def _exits_with(name: str, *reasons: int) -> Callable[[str, Finder], Match]:
    """Exits for one of `reasons` whose `name`, as conditions have it, is a number."""

    def make(text: str, finder: Finder) -> Match:
        condition = Condition(f"{name} == {finder.number_of(text)}") if text else None

        def match(happening: Happening, subject: Subject) -> bool:
            if happening.exit is None or happening.exit.reason not in reasons:
                return False
            return condition is None or condition.holds(happening, subject, 0)

        return match

    return make


def _inject(*types: int) -> Callable[[str, Finder], Match]:
    def make(text: str, finder: Finder) -> Match:
        vector = finder.number_of(text) if text else None

        def match(_happening: Happening, subject: Subject) -> bool:
            event = i.unpack(subject.read(f.VM_ENTRY_INTERRUPTION_INFORMATION))
            return event.is_valid and (not types or event.type in types) and vector in (None, event.vector)

        return match

    return make


def _mmio(_text: str, _finder: Finder) -> Match:
    def match(happening: Happening, subject: Subject) -> bool:
        domain = subject.domain
        if happening.exit is None or domain is None:
            return False
        if happening.exit.reason == R.EPT_VIOLATION:
            return domain.is_device_page(subject.read(f.GUEST_PHYSICAL_ADDRESS) >> 12)
        information = i.unpack(subject.read(f.VM_EXIT_INTERRUPTION_INFORMATION))
        if happening.exit.reason != R.EXCEPTION_NMI or information.vector != PAGE_FAULT:
            return False
        gpa = subject.gpa_of(subject.read(f.EXIT_QUALIFICATION))
        return gpa is not None and domain.is_device_page(gpa >> 12)

    return match


def _vmcs_access(verb: str) -> Callable[[str, Finder], Match]:
    def make(text: str, _finder: Finder) -> Match:
        names = [name for name in _FIELD_NAMES if text.upper() in name] if text else []
        if text and not names:
            raise ConfigError(f"no VMCS field {text!r}; {choices_text(text.upper(), _FIELD_NAMES)}")
        wanted = {f"{verb} {name}" for name in ([text.upper()] if text.upper() in names else names)}

        def match(happening: Happening, _subject: Subject) -> bool:
            what = "" if happening.charge is None else happening.charge.what
            return what in wanted if wanted else what.startswith(f"{verb} ")

        return match

    return make


def _anything(_text: str, _finder: Finder) -> Match:
    return lambda _happening, _subject: True


def _sidecall(text: str, finder: Finder) -> Match:
    names = finder.sidecalls
    if not names:
        raise ConfigError("there is no sidecore; start with --sidecore")
    wanted = text.lower()
    if text and wanted not in [name.lower() for name in names]:
        raise ConfigError(f"no sidecall {text!r}; {choices_text(text, list(names))}")
    return lambda happening, _: wanted in ("", happening.what.lower())


def _event(text: str, _finder: Finder) -> Match:
    wanted = text.lower()
    return lambda happening, _: wanted in happening.what.lower()


def _exec(text: str, finder: Finder) -> Match:
    address = finder.number_of(text)
    return lambda _happening, subject: subject.linear_rip == address


def place_named(text: str, finder: Finder) -> Place:
    """[gva|gpa|hpa] ADDRESS|SYMBOL [BYTES]. Raises ConfigError."""
    words = text.split()
    space = SPACES[words.pop(0)] if words and words[0] in SPACES else Space.GVA
    if len(words) not in (1, 2):
        raise ConfigError(f"{text!r} is no memory; give {MEMORY_ARGUMENT}")
    size_bytes = finder.number_of(words[1]) if len(words) == 2 else ACCESS_BYTES
    return finder.place_of(space, finder.number_of(words[0]), size_bytes)


def _access(*, load: bool, store: bool) -> Callable[[str, Finder], Match]:
    def make(text: str, finder: Finder) -> Match:
        place = place_named(text, finder)

        def match(happening: Happening, _subject: Subject) -> bool:
            access = happening.access
            if access is None or access.place != place:
                return False
            return (load and access.is_load) or (store and access.is_store)

        return match

    return make


MEMORY_ARGUMENT = "[gva|gpa|hpa] ADDRESS|SYMBOL [BYTES]"
_FIELD_NAMES = [field.name for field in f.FIELD_BY_ENCODING.values()]
BREAK_KINDS: dict[str, BreakKind] = {
    row.name: row
    for row in (
        BreakKind("exit", "[REASON]", "a VM exit, for this reason", Kind.EXIT, _exit),
        BreakKind("entry", "[REASON]", "the VM entry that ends an exit", Kind.ENTRY, _exit),
        BreakKind("inject", "[VECTOR]", "a VM entry that delivers an event", Kind.ENTRY, _inject()),
        BreakKind("interrupt", "[VECTOR]", "one that delivers an interrupt", Kind.ENTRY, _inject(i.EXTERNAL_INTERRUPT)),
        BreakKind(
            "msr", "[INDEX]", "an exit of RDMSR or WRMSR", Kind.EXIT, _exits_with("msr", R.MSR_READ, R.MSR_WRITE)
        ),
        BreakKind("port", "[NUMBER]", "an exit of IN or OUT", Kind.EXIT, _exits_with("port", R.IO_INSTRUCTION)),
        BreakKind("mmio", "", "an exit by an access to a device in memory", Kind.EXIT, _mmio),
        BreakKind("schedule", "", "a vCPU that slept, or gave way, goes on", Kind.SCHEDULED, _anything),
        BreakKind("vmread", "[FIELD]", "the VMM reads a field of the VMCS", Kind.CHARGE, _vmcs_access("VMREAD")),
        BreakKind("vmwrite", "[FIELD]", "the VMM writes one", Kind.CHARGE, _vmcs_access("VMWRITE")),
        BreakKind(
            "sidecall",
            "[OPERATION]",
            "a sidecore takes such a request; after: has carried it out",
            Kind.SIDECALL,
            _sidecall,
            2,
        ),
        BreakKind(
            "event", "[DEVICE]", "a device does something by itself; `timeline` has names", Kind.EVENT, _event, 3
        ),
        BreakKind("entry-failure", "", "a VM entry fails: the check that fails", Kind.FAILED, _anything),
        BreakKind("exec", "ADDRESS|SYMBOL", "the guest is about to run this instruction", Kind.INSTRUCTION, _exec),
        BreakKind(
            "write", MEMORY_ARGUMENT, "it was stored to, or changed", Kind.ACCESS, _access(load=False, store=True), 3
        ),
        BreakKind(
            "read",
            MEMORY_ARGUMENT,
            "an instruction has loaded from it",
            Kind.ACCESS,
            _access(load=True, store=False),
            3,
        ),
        BreakKind("access", MEMORY_ARGUMENT, "either", Kind.ACCESS, _access(load=True, store=True), 3),
    )
}
