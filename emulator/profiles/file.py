"""Reads and checks profile files and `--set` overrides: from text to rows that are known to be right.

    core.frequency_hz = { value = 3_000_000_000, source = "where it comes from", confidence = "exact" }

A file with a `base` is a variant: it has only the rows in which it differs from that profile.

Every mistake is a `ConfigError` of one line that names the file and the key.
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from emulator.errors import ConfigError, choices_text
from emulator.profiles.sections import BY_REASON, PARAMETERS, SECTIONS

CONFIDENCES = {
    "exact": "read in the source",
    "secondary": "quoted by another source",
    "recalled": "from memory of the source, or split off a number that is: a knob, not a reference",
    "guess": "no source; the text says how it was chosen",
}
_FOLDER = Path(__file__).parent
_VARIANTS = _FOLDER / "variants"
_TEXTS = ("name", "description")
_BASE = "base"
_ROW_KEYS = ("value", "source", "confidence")
_TABLES = (*SECTIONS, BY_REASON)
_OVERRIDE_SOURCE = "--set"
_LIST_COMMAND = "sidecore profiles parameters"


@dataclass(frozen=True)
class Row:
    """The value of one parameter and why it may be believed."""

    value: int | bool
    source: str
    confidence: str


@dataclass(frozen=True)
class ProfileFile:
    """A file that is whole: `rows` has every required parameter, by its full name, in the order of the table.

    `machine` is the profile whose variant it is, or itself.
    """

    name: str
    description: str
    machine: str
    rows: Mapping[str, Row]


def shipped_profiles() -> list[str]:
    """Names of the profiles that come with the emulator."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def shipped_variants() -> list[str]:
    """Names of those that differ from one of them in some rows."""
    return sorted(path.stem for path in _VARIANTS.glob("*.toml"))


def profile_path(name_or_path: str) -> Path:
    """Where the profile called `name_or_path` is; a path that ends in .toml stands for itself. Raises ConfigError."""
    names = [*shipped_profiles(), *shipped_variants()]
    if name_or_path in names:
        return (_FOLDER if name_or_path in shipped_profiles() else _VARIANTS) / f"{name_or_path}.toml"
    if not name_or_path.endswith(".toml"):
        choices = choices_text(name_or_path, names)
        raise ConfigError(f"no profile {name_or_path!r} (nor a path that ends in .toml); {choices}")
    return Path(name_or_path)


def read_profile_file(path: Path) -> ProfileFile:
    """The profile in the file at `path`, checked row by row. Raises ConfigError."""
    where = f"profile {path}"
    table = _read_toml(path)
    for key in _TEXTS:
        _check_text(where, key, table.get(key))
    base = _read_base(where, table)
    tables = {key: value for key, value in table.items() if key not in (*_TEXTS, _BASE)}
    rows = {} if base is None else dict(base.rows)
    rows |= {key: _check_row(where, key, row) for key, row in _flat_rows(where, tables)}
    for key, parameter in PARAMETERS.items():
        if parameter.is_required and key not in rows:
            raise ConfigError(f"{where}: {key} is missing ({parameter.meaning})")
    machine = table["name"] if base is None else base.name
    ordered = {key: rows[key] for key in PARAMETERS if key in rows}
    return ProfileFile(table["name"], table["description"], machine, ordered)


def _read_base(where: str, table: Mapping[str, Any]) -> ProfileFile | None:
    """The profile whose variant a file is. Raises ConfigError."""
    if _BASE not in table:
        return None
    name, names = table[_BASE], shipped_profiles()
    if name not in names:
        raise ConfigError(f"{where}: base {name!r} is no profile; {choices_text(str(name), names)}")
    return read_profile_file(_FOLDER / f"{name}.toml")


def parse_override(text: str) -> tuple[str, Row]:
    """The parameter and row of `section.key=value`, as after --set. Raises ConfigError."""
    where = f"--set {text!r}"
    key, equals, value_text = text.partition("=")
    key, value_text = key.strip(), value_text.strip()
    if not equals:
        raise ConfigError(f"{where}: write it as section.key=value")
    if key not in PARAMETERS:
        raise ConfigError(f"{where}: {_wrong_key_text(key)}")
    value = _flag(value_text) if PARAMETERS[key].kind is bool else _whole_number(value_text)
    _check_value(where, key, value_text if value is None else value)
    assert value is not None
    return key, Row(value, _OVERRIDE_SOURCE, "guess")


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"profile {path} is not TOML: {error}") from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path, or a number of thousands of digits
        raise ConfigError(f"cannot read profile {path}: {getattr(error, 'strerror', None) or error}") from error


def _flat_rows(where: str, table: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """(full name, row) of everything in the tables of a file."""
    for key, value in table.items():
        full = prefix + key
        if full in PARAMETERS:
            yield full, value
        elif full not in _TABLES:
            raise ConfigError(f"{where}: {_wrong_key_text(full)}")
        elif not isinstance(value, dict):
            raise ConfigError(f"{where}: {full} must be a table")
        else:
            yield from _flat_rows(where, value, f"{full}.")


def _wrong_key_text(key: str) -> str:
    if key in _TABLES:
        return f"{key!r} is a table, not a value"
    choices = [*_TEXTS, _BASE, *_TABLES, *PARAMETERS]
    return f"unknown key {key!r}; {choices_text(key, choices, listed_by=_LIST_COMMAND)}"


def _check_row(where: str, key: str, row: object) -> Row:
    if not isinstance(row, dict):
        raise ConfigError(f"{where}: {key} must be {{ value = ..., source = ..., confidence = ... }}")
    for name in row:
        if name not in _ROW_KEYS:
            what = "the unit is part of the key's name" if name == "unit" else choices_text(name, _ROW_KEYS)
            raise ConfigError(f"{where}: unknown key '{key}.{name}'; {what}")
    for name in _ROW_KEYS:
        if name not in row:
            raise ConfigError(f"{where}: {key}.{name} is missing")
    _check_value(where, key, row["value"])
    _check_text(where, f"{key}.source", row["source"])
    if not isinstance(row["confidence"], str) or row["confidence"] not in CONFIDENCES:
        raise ConfigError(f"{where}: {key}.confidence must be one of {', '.join(CONFIDENCES)}")
    return Row(row["value"], row["source"], row["confidence"])


def _check_text(where: str, key: str, text: object) -> None:
    if text is None:
        raise ConfigError(f"{where}: {key} is missing")
    if not isinstance(text, str) or not text or not text.isprintable():
        raise ConfigError(f"{where}: {key} must be a text of one line")


def _check_value(where: str, key: str, value: object) -> None:
    parameter = PARAMETERS[key]
    if parameter.kind is bool:
        if type(value) is not bool:
            raise ConfigError(f"{where}: {key} must be true or false")
    elif type(value) is not int or not parameter.least <= value <= parameter.most:
        raise ConfigError(f"{where}: {key} must be a whole number from {parameter.least:,} to {parameter.most:,}")


def _flag(text: str) -> bool | None:
    return {"true": True, "false": False}.get(text.lower())


def _whole_number(text: str) -> int | None:
    """`text` as a whole number: 3000, 3_000, 3e3; None when it is none, or too large for any parameter."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    if not number.is_finite() or number.adjusted() > 18 or number != number.to_integral_value():
        return None
    return int(number)
