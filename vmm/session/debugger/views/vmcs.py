"""The VMCS in words: fields decoded by group, by name, and those that have changed."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from emulator.errors import ConfigError
from emulator.vmx import controls as c
from emulator.vmx import exit_reasons
from emulator.vmx import fields as f
from vmm.session.debugger.views import bits
from vmm.session.debugger.views.exit_words import event_text, qualification_text
from vmm.session.debugger.views.registers import ACTIVITIES, Segment
from vmm.session.debugger.views.subject import Subject
from vmm.session.debugger.views.values import Hex, View, lines_text, wrapped

GROUPS = ("control", "exit information", "guest", "host")
PLACES = ("_RIP", "_EIP", "DTR_BASE", "TR_BASE", "LINEAR_ADDRESS")  # ends of names of fields that hold addresses
SHOWN_MAX = 12  # names in an error


@dataclass(frozen=True)
class FieldValue:
    """A field; `before` is its value in an earlier copy, None where nothing is compared."""

    name: str
    encoding: Hex
    group: str
    value: Hex
    words: tuple[str, ...]
    before: Hex | None = None

    def lines(self) -> list[str]:
        """Name, value, old value, meaning."""
        head = f"{self.name} {self.value:x}"
        if self.before is not None and self.before != self.value:
            head = f"{self.name} {self.before:x} -> {self.value:x}"
        return wrapped(f"{head} ", self.words, indent=4) if self.words else [head]


@dataclass(frozen=True)
class VmcsFields(View):
    """Fields in the order of the SDM's appendix B."""

    fields: tuple[FieldValue, ...]
    is_comparison: bool = False

    def text(self) -> str:
        """A line for each field, by group."""
        lines: list[str] = []
        group = ""
        for field in self.fields:
            if field.group != group and len(self.fields) > 1:
                lines.append(f"--- {field.group}")
            group = field.group
            lines += field.lines()
        return lines_text(lines or ["no field has changed" if self.is_comparison else "all fields are 0"])


def fields_of(subject: Subject, name: str | None = None, *, with_zeros: bool = False) -> VmcsFields:
    """The fields that are not 0, or all; of one group, or those that `name` stands for. Raises ConfigError."""
    group = None if name is None else next((group for group in GROUPS if group.startswith(name.lower())), None)
    if group is not None:
        wanted: Iterable[f.Field] = (field for field in f.FIELDS if field.kind == group)
    elif name is not None:
        wanted, with_zeros = fields_named(name), True
    else:
        wanted = f.FIELDS
    chosen = sorted(wanted, key=lambda field: GROUPS.index(field.kind))
    values = (_value(subject, field, None) for field in chosen)
    return VmcsFields(tuple(value for value in values if with_zeros or value.value))


def changed(subject: Subject, before: Sequence[int]) -> VmcsFields:
    """The fields that are others than in `before`, a copy of the words (`Subject.words`)."""
    rows = []
    for field in f.FIELDS:
        old = before[f.SLOT[field.encoding]]
        if old != subject.read(field.encoding):
            rows.append(_value(subject, field, old))
    rows.sort(key=lambda row: GROUPS.index(row.group))
    return VmcsFields(tuple(rows), is_comparison=True)


def field_named(name: str) -> f.Field:
    """The one field that `name` stands for; of several the guest's. Raises ConfigError."""
    found = fields_named(name)
    if len(found) > 1:
        guests = [field for field in found if field.name == f"GUEST_{name.upper()}"]
        found = guests or found
    if len(found) > 1:
        shown = [field.name for field in found[:SHOWN_MAX]] + (["..."] if len(found) > SHOWN_MAX else [])
        raise ConfigError(f"{name!r} may be one of several fields: {', '.join(shown)}")
    return found[0]


def fields_named(name: str) -> list[f.Field]:
    """The fields whose name is `name`, or else has words that begin like its, in order: `exit_int_inf`.

    Raises ConfigError when there is none.
    """
    exact = f.FIELD_BY_NAME.get(name.upper())
    if exact is not None:
        return [exact]
    wanted = [word for word in name.upper().replace("-", "_").split("_") if word]
    found = [field for field in f.FIELDS if wanted and _has_words(field.name.split("_"), wanted)]
    if not found:
        raise ConfigError(f"no VMCS field {name!r}; names are those of the SDM, as in GUEST_RIP or exit_qual")
    return found


def _has_words(words: list[str], wanted: list[str]) -> bool:
    position = 0
    for beginning in wanted:
        while position < len(words) and not words[position].startswith(beginning):
            position += 1
        if position == len(words):
            return False
        position += 1
    return True


def _value(subject: Subject, field: f.Field, before: int | None) -> FieldValue:
    value = subject.read(field.encoding)
    words = meaning(subject, field, value)
    return FieldValue(
        field.name, Hex(field.encoding), field.kind, Hex(value), words, None if before is None else Hex(before)
    )


# --- what values mean ------------------------------------------------------------------------------------------------


def _bits(names: bits.Bits) -> Callable[[Subject, int], Iterable[str]]:
    def words(_subject: Subject, value: int) -> Iterable[str]:
        return bits.known_names(names, value)

    return words


def _controls(word: str) -> Callable[[Subject, int], Iterable[str]]:
    def words(_subject: Subject, value: int) -> Iterable[str]:
        return c.names(word, value)

    return words


def _event(error_field: int) -> Callable[[Subject, int], Iterable[str]]:
    def words(subject: Subject, value: int) -> Iterable[str]:
        return (event_text(value, subject.read(error_field)) or "not valid",)

    return words


def _reason(_subject: Subject, value: int) -> Iterable[str]:
    failed = ("VM entry failed:",) if value & exit_reasons.ENTRY_FAILURE else ()
    return (*failed, exit_reasons.name(value))


def _qualification(subject: Subject, _value: int) -> Iterable[str]:
    return (qualification_text(subject),)


def _activity(_subject: Subject, value: int) -> Iterable[str]:
    return (ACTIVITIES.get(value, "active" if value == 0 else "reserved"),)


def _rights(_subject: Subject, value: int) -> Iterable[str]:
    return (Segment("", Hex(0), Hex(0), Hex(0), Hex(value)).kind,)


MEANINGS: dict[int, Callable[[Subject, int], Iterable[str]]] = {
    **{field: _controls(word) for word, field in c.WORD_FIELD.items()},
    f.EXCEPTION_BITMAP: lambda _subject, value: (f"vector {vector}" for vector in range(32) if value >> vector & 1),
    f.EXIT_REASON: _reason,
    f.EXIT_QUALIFICATION: _qualification,
    f.VM_EXIT_INTERRUPTION_INFORMATION: _event(f.VM_EXIT_INTERRUPTION_ERROR_CODE),
    f.IDT_VECTORING_INFORMATION: _event(f.IDT_VECTORING_ERROR_CODE),
    f.VM_ENTRY_INTERRUPTION_INFORMATION: _event(f.VM_ENTRY_EXCEPTION_ERROR_CODE),
    f.GUEST_INTERRUPTIBILITY_STATE: _bits(bits.INTERRUPTIBILITY),
    f.GUEST_ACTIVITY_STATE: _activity,
    f.GUEST_RFLAGS: _bits(bits.RFLAGS),
    **dict.fromkeys((f.GUEST_CR0, f.CR0_READ_SHADOW, f.CR0_GUEST_HOST_MASK, f.HOST_CR0), _bits(bits.CR0)),
    **dict.fromkeys((f.GUEST_CR4, f.CR4_READ_SHADOW, f.CR4_GUEST_HOST_MASK, f.HOST_CR4), _bits(bits.CR4)),
    **dict.fromkeys((f.GUEST_IA32_EFER, f.HOST_IA32_EFER), _bits(bits.EFER)),
    **{field.encoding: _rights for field in f.FIELDS if field.name.endswith("_ACCESS_RIGHTS")},
}


def meaning(subject: Subject, field: f.Field, value: int) -> tuple[str, ...]:
    """What `value` of `field` says, in words; nothing for plain numbers. Symbols for addresses of code."""
    words = MEANINGS.get(field.encoding)
    if words is not None:
        return tuple(word for word in words(subject, value) if word)
    symbol = subject.symbols.name_of(value) if field.name.endswith(PLACES) else ""
    return (f"<{symbol}>",) if symbol else ()
