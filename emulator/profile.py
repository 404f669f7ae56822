"""Timing profiles: one TOML file per machine, every value with unit, source and confidence.

A profile is found by name among the shipped ones (emulator/profiles) or by path. Loading checks it whole: an unknown
key, a missing value or a wrong type is a `ConfigError` of one line that names the file and the key.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulator.errors import ConfigError, choices_text
from emulator.vmx.exit_reasons import NAMES

DEFAULT_PROFILE = "netburst-2006"
CONFIDENCES = ("exact", "secondary", "recalled", "guess")
_FOLDER = Path(__file__).parent / "profiles"
_TOP_LEVEL = ("name", "description", "core", "vmx")
_CORE = ("frequency_hz", "instruction_cycles", "port_access_cycles")
_VMX = ("exit_cycles", "entry_cycles", "vmread_cycles", "vmwrite_cycles")


@dataclass(frozen=True)
class Profile:
    """The parameters of one machine. Cycles are core cycles; `exit_cycles_by_reason` has the exceptions to the rule."""

    name: str
    description: str
    frequency_hz: int
    instruction_cycles: int
    port_access_cycles: int
    exit_cycles: int
    entry_cycles: int
    vmread_cycles: int
    vmwrite_cycles: int
    exit_cycles_by_reason: dict[int, int]

    def cycles_of(self, reason: int) -> int:
        """What the hardware part of a VM exit for `reason` takes."""
        return self.exit_cycles_by_reason.get(reason, self.exit_cycles)


def shipped_profiles() -> list[str]:
    """Names of the profiles that come with the emulator."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def load_profile(name_or_path: str) -> Profile:
    """The profile called `name_or_path`, or in the file at that path. Raises ConfigError."""
    path = profile_path(name_or_path)
    return _parse(path, read_profile(path))


def profile_path(name_or_path: str) -> Path:
    """Where the profile called `name_or_path` is; a path that ends in .toml stands for itself. Raises ConfigError."""
    names = shipped_profiles()
    if name_or_path in names:
        return _FOLDER / f"{name_or_path}.toml"
    if not name_or_path.endswith(".toml"):
        choices = choices_text(name_or_path, names)
        raise ConfigError(f"no profile {name_or_path!r} (nor a path that ends in .toml); {choices}")
    return Path(name_or_path)


def read_profile(path: Path) -> dict[str, Any]:
    """The tables of a profile as they are in the file, sources and all, unchecked. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except (OSError, ValueError) as error:
        if isinstance(error, tomllib.TOMLDecodeError | UnicodeDecodeError):
            raise ConfigError(f"profile {path} is not TOML: {error}") from error
        raise ConfigError(f"cannot read profile {path}: {getattr(error, 'strerror', None) or error}") from error


def _parse(path: Path, table: dict[str, Any]) -> Profile:
    _expect_keys(path, "", table, _TOP_LEVEL, ())
    for key in ("name", "description"):
        if not isinstance(table[key], str):
            raise ConfigError(f"profile {path}: {key} must be a text")
    for key in ("core", "vmx"):
        if not isinstance(table[key], dict):
            raise ConfigError(f"profile {path}: {key} must be a table")
    core, vmx = table["core"], dict(table["vmx"])
    by_reason = vmx.pop("exit_cycles_by_reason", {})
    _expect_keys(path, "core.", core, _CORE, ())
    _expect_keys(path, "vmx.", vmx, _VMX, ())
    if not isinstance(by_reason, dict):
        raise ConfigError(f"profile {path}: vmx.exit_cycles_by_reason must be a table")
    numbers = {name: number for number, name in NAMES.items()}
    _expect_keys(path, "vmx.exit_cycles_by_reason.", by_reason, (), tuple(numbers))
    values = {key: _value(path, f"core.{key}", core[key]) for key in _CORE}
    values |= {key: _value(path, f"vmx.{key}", vmx[key]) for key in _VMX}
    return Profile(
        name=table["name"],
        description=table["description"],
        exit_cycles_by_reason={
            numbers[key]: _value(path, f"vmx.exit_cycles_by_reason.{key}", row) for key, row in by_reason.items()
        },
        **values,
    )


def _expect_keys(
    path: Path, where: str, table: dict[str, Any], required: tuple[str, ...], optional: tuple[str, ...]
) -> None:
    for key in table:
        if key not in required and key not in optional:
            raise ConfigError(f"profile {path}: unknown key {where}{key}")
    for key in required:
        if key not in table:
            raise ConfigError(f"profile {path}: {where}{key} is missing")


def _value(path: Path, key: str, row: object) -> int:
    """The number of one row `{ value = n, source = "...", confidence = "..." }`."""
    if not isinstance(row, dict):
        raise ConfigError(f"profile {path}: {key} must be {{ value = ..., source = ..., confidence = ... }}")
    _expect_keys(path, f"{key}.", row, ("value", "source", "confidence"), ())
    value, source, confidence = row["value"], row["source"], row["confidence"]
    if type(value) is not int or value < 1:
        raise ConfigError(f"profile {path}: {key}.value must be a whole number above 0")
    if not isinstance(source, str) or not source:
        raise ConfigError(f"profile {path}: {key}.source must say where the value comes from")
    if confidence not in CONFIDENCES:
        raise ConfigError(f"profile {path}: {key}.confidence must be one of {', '.join(CONFIDENCES)}")
    return value
