"""The VM-entry checks: on the VMCS as it is, with edits, or on one from a file. All that fail, not only the first.

    {"GUEST_RIP": "0x8000000000000000", "GUEST_CR4": 0}      a file: fields by name, numbers or texts; others are 0

Source: Intel SDM volume 3, chapter 26; the checks are in emulator/vmx.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from emulator.errors import ConfigError
from emulator.vmx import fields as f
from emulator.vmx.capabilities import VmxCapabilities
from emulator.vmx.entry_checks import bind_checks
from vmm.session.debugger.views.subject import Subject
from vmm.session.debugger.views.values import Hex, View, lines_text, wrapped
from vmm.session.debugger.views.vmcs import field_named

FILE_MAX_BYTES = 1 << 20
NUMBER_MAX_CHARACTERS = 24


@dataclass(frozen=True)
class FailedCheck:
    """A check that fails: what it asks for, where the SDM says so, and the fields it looks at."""

    name: str
    section: str
    result: str
    fields: dict[str, Hex]


@dataclass(frozen=True)
class EntryChecks(View):
    """What VM entry would say. The first failure decides, in the SDM's order: controls, host state, guest state."""

    failures: tuple[FailedCheck, ...]
    check_count: int
    edits: dict[str, Hex]

    def text(self) -> str:
        """A paragraph for each failure."""
        edited = [f"{name} = {value:#x}" for name, value in self.edits.items()]
        lines = wrapped("with", [f"{edit}," for edit in edited[:-1]] + edited[-1:], indent=5) if edited else []
        if not self.failures:
            return lines_text([*lines, f"all {self.check_count} checks pass: VM entry succeeds"])
        for number, failure in enumerate(self.failures):
            what = f"{failure.name} [SDM 3C {failure.section}]"
            first = f"{failure.result}: " if number == 0 else "and then: "
            lines += wrapped(first, what.split(), indent=4)
            lines += wrapped("   ", [f"{name} {value:#x}" for name, value in failure.fields.items()], indent=4)
        return lines_text(lines)


def check(subject: Subject, edits: Mapping[str, int] | None = None) -> EntryChecks:
    """The checks of its VMCS, as if `edits` (values by the name of the field) had been written. Raises ConfigError."""
    edited = {field_named(name): value for name, value in (edits or {}).items()}
    words = {field.encoding: subject.read(field.encoding) for field in f.FIELDS}
    words |= {field.encoding: value & field.mask for field, value in edited.items()}
    return _check(words, capabilities_of(subject), {field.name: Hex(value) for field, value in edited.items()})


def check_file(path: Path, capabilities: VmxCapabilities) -> EntryChecks:
    """The checks of a VMCS from a file, for a processor with `capabilities`. Raises ConfigError."""
    words = dict.fromkeys(f.FIELD_BY_ENCODING, 0)
    for name, value in _read(path).items():
        field = f.FIELD_BY_NAME.get(name.upper())
        if field is None:
            raise ConfigError(f"{str(path)!r}: no VMCS field {name!r}; names are those of the SDM, as in GUEST_RIP")
        words[field.encoding] = _number(path, name, value) & field.mask
    return _check(words, capabilities, {})


def capabilities_of(subject: Subject) -> VmxCapabilities:
    """What the processor under it offers. Raises ConfigError where there is no VM entry."""
    paging = subject.shadow or subject.ept
    if paging is None:
        raise ConfigError("a native guest has no VM entries; choose shadow or ept")
    return paging.capabilities()


def _check(words: Mapping[int, int], capabilities: VmxCapabilities, edits: dict[str, Hex]) -> EntryChecks:
    rows = bind_checks(None)
    failures = []
    for row, failure in rows:
        values = [words[field] for field in row.fields]
        if not row.predicate(capabilities, *values):
            result = "VM exit 33, invalid guest state" if failure.error is None else f"VMfail {failure.error}"
            named = {
                f.FIELD_BY_ENCODING[field].name: Hex(value) for field, value in zip(row.fields, values, strict=True)
            }
            failures.append(FailedCheck(row.name, row.section, result, named))
    return EntryChecks(tuple(failures), len(rows), edits)


def _read(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            data = json.loads(file.read(FILE_MAX_BYTES))
    except OSError as error:
        raise ConfigError(f"cannot read the VMCS {str(path)!r}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise ConfigError(f'{str(path)!r} is no VMCS: write {{"GUEST_RIP": "0x1000", ...}}') from None
    if not isinstance(data, dict):
        raise ConfigError(f'{str(path)!r} is no VMCS: write {{"GUEST_RIP": "0x1000", ...}}')
    return data


def _number(path: Path, name: str, value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and len(value) <= NUMBER_MAX_CHARACTERS:
        with suppress(ValueError):
            return int(value, 0)
    raise ConfigError(f"{str(path)!r}: {name} is {str(value)[:20]!r}; write a number, or text as in '0x1000'")
