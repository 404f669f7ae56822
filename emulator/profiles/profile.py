"""Timing profiles: one TOML file per machine, every value with unit, source and confidence.

    sections.py   the table of parameters, one dataclass per section
    file.py       from the text of a file or of --set to checked rows
    profile.py    a machine's Profile, found by name among the shipped ones (this folder, variants/) or by path

Loading checks a profile whole: an unknown key, a missing value, a wrong type, unit or range, or sizes that do not fit
each other are a `ConfigError` of one line that names the file and the key.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from emulator.errors import ConfigError
from emulator.profiles.file import (
    ProfileFile,
    Row,
    parse_override,
    profile_path,
    read_profile_file,
    shipped_profiles,
    shipped_variants,
)
from emulator.profiles.sections import (
    BY_REASON,
    REASONS,
    SECTIONS,
    Caches,
    Core,
    Events,
    Instructions,
    Memory,
    Tlb,
    Vmx,
)
from emulator.vmx.exit_reasons import name as reason_name

__all__ = ["DEFAULT_PROFILE", "Profile", "load_profile", "shipped_profiles", "shipped_variants"]

DEFAULT_PROFILE = "netburst-2006"


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The parameters of one machine, by section, and where each value comes from.

    The fields below the sections repeat those that are read at every exit, one look-up away.
    """

    name: str
    description: str
    machine: str  # the profile whose variant it is, or itself
    rows: Mapping[str, Row] = field(repr=False, compare=False)
    core: Core
    instructions: Instructions
    vmx: Vmx
    caches: Caches
    memory: Memory
    tlb: Tlb
    events: Events
    frequency_hz: int = field(init=False, repr=False, compare=False)
    port_access_cycles: int = field(init=False, repr=False, compare=False)
    exit_cycles: int = field(init=False, repr=False, compare=False)
    entry_cycles: int = field(init=False, repr=False, compare=False)
    vmread_cycles: int = field(init=False, repr=False, compare=False)
    vmwrite_cycles: int = field(init=False, repr=False, compare=False)
    vmptrld_cycles: int = field(init=False, repr=False, compare=False)
    exit_cycles_by_reason: Mapping[int, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for section in (self.core, self.vmx):
            for name in Profile.__dataclass_fields__:
                if hasattr(section, name):
                    object.__setattr__(self, name, getattr(section, name))

    def cycles_of(self, reason: int) -> int:
        """What the hardware part of a VM exit for `reason` takes."""
        return self.exit_cycles_by_reason.get(reason, self.exit_cycles)

    def parameter_of(self, reason: int) -> str:
        """The parameter that says so."""
        return f"{BY_REASON}.{reason_name(reason)}" if reason in self.exit_cycles_by_reason else "vmx.exit_cycles"


def load_profile(name_or_path: str, overrides: Sequence[str] = ()) -> Profile:
    """The profile called `name_or_path`, or in the file at that path.

    `overrides` are texts `section.key=value`; of two for the same key the last counts. Raises ConfigError.
    """
    path = profile_path(name_or_path)
    file = read_profile_file(path)
    rows = dict(file.rows)
    rows.update(parse_override(text) for text in overrides)
    profile = _build(file, rows)
    where = " ".join([f"profile {path}", *(f"--set {text!r}" for text in overrides)])
    _check_predictor(where, profile.core)
    _check_caches(where, profile.caches)
    _check_tlbs(where, profile.tlb)
    if profile.core.package_count > 1 and profile.core.remote_dirty_line_cycles == 0:
        raise ConfigError(f"{where}: core.remote_dirty_line_cycles must be above 0 as core.package_count is above 1")
    return profile


def _build(file: ProfileFile, rows: Mapping[str, Row]) -> Profile:
    sections: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    by_reason: dict[int, int] = {}
    for key, row in rows.items():
        table, _, name = key.rpartition(".")
        if table == BY_REASON:
            by_reason[REASONS[name]] = int(row.value)
        else:
            sections[table][name] = row.value
    sections["vmx"]["exit_cycles_by_reason"] = by_reason
    built: dict[str, Any] = {name: SECTIONS[name](**values) for name, values in sections.items()}
    return Profile(name=file.name, description=file.description, machine=file.machine, rows=rows, **built)


def _check_predictor(where: str, core: Core) -> None:
    _check_power_of_2(where, "core.predictor_entries_count", core.predictor_entries_count)
    _check_power_of_2(where, "core.target_entries_count", core.target_entries_count)


def _check_power_of_2(where: str, key: str, value: int) -> None:
    if value & (value - 1):
        raise ConfigError(f"{where}: {key} {value} must be a power of 2")


def _check_caches(where: str, caches: Caches) -> None:
    line_bytes = caches.line_bytes
    _check_power_of_2(where, "caches.line_bytes", line_bytes)
    for level in ("l1i", "l1d", "l2", "l3"):
        size_bytes, ways = getattr(caches, f"{level}_size_bytes"), getattr(caches, f"{level}_ways")
        if not _divides(ways * line_bytes, size_bytes):
            what = f"{size_bytes} must be a multiple of {level}_ways x line_bytes ({ways} x {line_bytes})"
            raise ConfigError(f"{where}: caches.{level}_size_bytes {what}")


def _check_tlbs(where: str, tlb: Tlb) -> None:
    for array in ("itlb_4k", "itlb_2m", "dtlb_4k", "dtlb_2m", "stlb"):
        entries, ways = getattr(tlb, f"{array}_entries"), getattr(tlb, f"{array}_ways")
        if not _divides(ways, entries):
            raise ConfigError(f"{where}: tlb.{array}_entries {entries} must be a multiple of {array}_ways ({ways})")


def _divides(part: int, whole: int) -> bool:
    """Whether `whole` is made of one or more `part`s; nothing is made of nothing."""
    return whole == 0 if part == 0 else whole > 0 and whole % part == 0
