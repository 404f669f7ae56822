"""Claims about timing profiles: the table is right, and a bad file or override is one clear line that names the key."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import ConfigError
from emulator.profiles.file import Row, parse_override, read_profile_file
from emulator.profiles.profile import DEFAULT_PROFILE, load_profile
from emulator.profiles.sections import BY_REASON, FLAG_PREFIXES, PARAMETERS, REASONS, SECTIONS, UNITS
from emulator.timing.instruction_classes import CLASSES
from emulator.vmx.exit_reasons import ExitReason
from tests import ROOT

CPUID_ROW = "CPUID = { value = 55, source = 'test', confidence = 'exact' }"


SMALL_VALUES = {  # where 1, or false, will not do
    "core.frequency_hz": 1_000_000,
    "core.apic_timer_hz": 1_000_000,
    "vmx.exit_cycles": 100,
    "caches.line_bytes": 64,
    **{f"caches.{level}_size_bytes": 4096 for level in ("l1i", "l1d", "l2", "l3")},
    "core.remote_dirty_line_cycles": 0,
    **{f"core.sibling_{state}_cycles_per_100": 100 for state in ("works", "pauses", "mwaits", "halted")},
}


def row_text(name: str, value: object) -> str:
    return f"{name} = {{ value = {value}, source = 'test', confidence = 'guess' }}"


def small_profile() -> str:
    """The text of a profile that is whole."""
    lines = ["name = 'small'", "description = 'for tests'"]
    for section in SECTIONS:
        lines.append(f"[{section}]")
        for key, parameter in PARAMETERS.items():
            if key.startswith(f"{section}.") and parameter.is_required:
                value = SMALL_VALUES.get(key, "false" if parameter.kind is bool else 1)
                lines.append(row_text(key.partition(".")[2], value))
        if section == "vmx":
            lines += [f"[{BY_REASON}]", CPUID_ROW]
    return "\n".join([*lines, ""])


TEXT = small_profile()


def write(folder: Path, text: str) -> str:
    path = folder / "small.toml"
    path.write_text(text)
    return str(path)


def message_of(path: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as raised:
        load_profile(path, overrides)
    message = str(raised.value)
    assert "\n" not in message
    return message


# --- the table --------------------------------------------------------------------------------------------------------


def test_every_parameter_has_its_unit_in_its_name_and_one_sentence() -> None:
    for key, parameter in PARAMETERS.items():
        name = key.rpartition(".")[2]
        if key.startswith(BY_REASON):
            assert name in REASONS
        elif parameter.kind is bool:
            assert name.startswith(FLAG_PREFIXES)
        else:
            assert name.endswith(tuple(f"_{unit}" for unit in UNITS))
        assert parameter.meaning
        assert not parameter.meaning.endswith(".")
        assert parameter.least <= parameter.most


def sources() -> Iterator[str]:
    for package in ("emulator", "devices", "vmm", "benchmarks"):
        for path in (ROOT / package).rglob("*.py"):
            if not path.name.startswith("profile"):
                yield path.read_text()


def test_every_parameter_is_read_by_a_model() -> None:
    words = {word for text in sources() for word in re.findall(r"\w+", text)}
    words |= {f"{level}_{what}" for level in ("l1i", "l1d", "l2", "l3") for what in ("size_bytes", "ways")}
    words |= {
        f"{array}_{what}"
        for array in ("itlb_4k", "itlb_2m", "dtlb_4k", "dtlb_2m", "stlb")
        for what in ("entries", "ways")
    }
    by_class = {row.parameter.rpartition(".")[2] for row in CLASSES.values() if row.parameter}
    names = {key.rpartition(".")[2] for key in PARAMETERS if not key.startswith(BY_REASON)}
    assert names <= words | by_class


# --- loading ----------------------------------------------------------------------------------------------------------


def test_a_profile_can_be_a_file_and_a_reason_without_a_row_costs_the_common_value(tmp_path: Path) -> None:
    profile = load_profile(write(tmp_path, TEXT))
    assert profile.name == "small"
    assert profile.cycles_of(ExitReason.CPUID) == 55
    assert profile.cycles_of(ExitReason.HLT) == 100
    assert profile.cycles_of(9999) == 100
    assert profile.rows["vmx.exit_cycles_by_reason.CPUID"] == Row(55, "test", "exact")


def test_what_is_read_often_is_one_look_up_away() -> None:
    profile = load_profile(DEFAULT_PROFILE, ["core.frequency_hz=7e9", "vmx.vmread_cycles=8"])
    assert profile.frequency_hz == profile.core.frequency_hz == 7_000_000_000
    assert profile.vmread_cycles == profile.vmx.vmread_cycles == 8
    for name in ("port_access_cycles",):
        assert getattr(profile, name) == getattr(profile.core, name)
    for name in ("exit_cycles", "entry_cycles", "vmwrite_cycles", "exit_cycles_by_reason"):
        assert getattr(profile, name) == getattr(profile.vmx, name)


# what to replace, by what, and what the one line of the error must name
BROKEN = {
    "unknown top-level key": ("name = 'small'", "name = 'small'\ncolour = 1", "unknown key 'colour'"),
    "unknown key": ("entry_cycles", "entry_cylces", "'vmx.entry_cylces'; did you mean 'vmx.entry_cycles'?"),
    "other unit": ("frequency_hz", "frequency_mhz", "'core.frequency_mhz'; did you mean 'core.frequency_hz'?"),
    "unit in the row": ("value = 55,", "value = 55, unit = 'us',", "CPUID.unit'; the unit is part of the key's name"),
    "missing key": (row_text("port_access_cycles", 1), "", "core.port_access_cycles is missing (IN or OUT"),
    "missing table": ("[core]", "[kore]", "unknown key 'kore'; did you mean 'core'?"),
    "unknown base": ("name = 'small'", "name = 'small'\nbase = 'haswel'", "base 'haswel' is no profile; did you mean"),
    "base not a text": ("name = 'small'", "name = 'small'\nbase = ['haswell']", "base ['haswell'] is no profile"),
    "name not a text": ("name = 'small'", "name = 3", "name must be a text"),
    "no name": ("name = 'small'", "", "name is missing"),
    "name of two lines": ("name = 'small'", 'name = "a\\nb"', "name must be a text of one line"),
    "a bare number": (row_text("package_count", 1), "package_count = 7", "core.package_count must be {"),
    "a fraction": ("value = 55", "value = 5.5", "CPUID must be a whole number"),
    "a truth": ("value = 55", "value = true", "CPUID must be a whole number"),
    "a text": ("value = 55", "value = '55'", "CPUID must be a whole number"),
    "zero": ("value = 55", "value = 0", "CPUID must be a whole number from 1 to 1,000,000"),
    "too large": ("value = 55", "value = 1000001", "CPUID must be a whole number from 1 to 1,000,000"),
    "a flag as number": (row_text("has_vpid", "false"), row_text("has_vpid", 1), "vmx.has_vpid must be true or false"),
    "no value": ("value = 55, ", "", "CPUID.value is missing"),
    "no source": ("value = 55, source", "value = 55, sauce", "CPUID.sauce'; did you mean 'source'?"),
    "empty source": ("55, source = 'test'", "55, source = ''", "CPUID.source must be a text of one line"),
    "odd confidence": ("'exact'", "'certain'", "CPUID.confidence must be one of exact, secondary, recalled, guess"),
    "confidence a list": ("'exact'", "['exact']", "CPUID.confidence must be one of"),
    "unknown exit reason": ("CPUID =", "CUPID =", "did you mean 'vmx.exit_cycles_by_reason.CPUID'?"),
    "cache not a multiple": (
        row_text("l2_size_bytes", 4096),
        row_text("l2_size_bytes", 5000),
        "caches.l2_size_bytes 5000 must be a multiple of l2_ways x line_bytes (1 x 64)",
    ),
    "no ways": (row_text("l3_ways", 1), row_text("l3_ways", 0), "caches.l3_size_bytes 4096 must be a multiple"),
    "no cache with ways": (row_text("l3_size_bytes", 4096), row_text("l3_size_bytes", 0), "caches.l3_size_bytes 0"),
    "line no power of 2": (row_text("line_bytes", 64), row_text("line_bytes", 96), "caches.line_bytes 96 must be a"),
    "predictor no power of 2": (
        row_text("predictor_entries_count", 1),
        row_text("predictor_entries_count", 3),
        "core.predictor_entries_count 3 must be a power of 2",
    ),
    "targets no power of 2": (
        row_text("target_entries_count", 1),
        row_text("target_entries_count", 96),
        "core.target_entries_count 96 must be a power of 2",
    ),
    "tlb not a multiple": (row_text("dtlb_4k_ways", 1), row_text("dtlb_4k_ways", 2), "tlb.dtlb_4k_entries 1 must be"),
    "packages unconnected": (row_text("package_count", 1), row_text("package_count", 2), "core.remote_dirty_line_"),
    "not TOML": ("[core]", "[core", "is not TOML"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_profile_is_one_line_that_names_the_file_and_the_key(case: str, tmp_path: Path) -> None:
    old, new, expected = BROKEN[case]
    assert old in TEXT
    path = write(tmp_path, TEXT.replace(old, new, 1))
    message = message_of(path)
    assert expected in message
    assert path in message


def test_a_table_that_is_a_value_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "name = 'a'\ndescription = 'b'\ncore = 3\n")
    assert "core must be a table" in message_of(path)


@pytest.mark.parametrize("key", [key for key, parameter in PARAMETERS.items() if parameter.is_required])
def test_every_parameter_is_required(key: str, tmp_path: Path) -> None:
    line = re.compile(rf"^{key.partition('.')[2]} = .*\n", re.MULTILINE)
    assert f"{key} is missing" in message_of(write(tmp_path, line.sub("", TEXT)))


def test_an_unknown_name_lists_the_choices() -> None:
    assert DEFAULT_PROFILE in message_of("cray-1")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert "none.toml" in message_of(str(tmp_path / "none.toml"))
    (tmp_path / "folder.toml").mkdir()
    assert "folder.toml" in message_of(str(tmp_path / "folder.toml"))


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"a = " + b"[" * 100_000])
def test_bytes_that_are_no_toml_are_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bytes.toml"
    path.write_bytes(data)
    assert "is not TOML" in message_of(str(path))


# --- overrides --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("core.frequency_hz=2e9", "core.frequency_hz", 2_000_000_000),
        ("core.frequency_hz = 2_000_000_000", "core.frequency_hz", 2_000_000_000),
        ("vmx.has_ept=true", "vmx.has_ept", True),
        ("vmx.has_ept=False", "vmx.has_ept", False),
        ("vmx.exit_cycles_by_reason.HLT=9", "vmx.exit_cycles_by_reason.HLT", 9),
        ("core.package_count=2.56e2", "core.package_count", 256),
    ],
)
def test_an_override_is_a_key_and_a_value(text: str, key: str, value: int | bool) -> None:
    assert parse_override(text) == (key, Row(value, "--set", "guess"))


def test_overrides_change_what_is_loaded_and_the_last_counts() -> None:
    reason = "vmx.exit_cycles_by_reason"
    profile = load_profile(DEFAULT_PROFILE, [f"{reason}.HLT=9", f"{reason}.CPUID=1", f"{reason}.CPUID=8"])
    assert profile.cycles_of(ExitReason.HLT) == 9
    assert profile.cycles_of(ExitReason.CPUID) == 8
    assert profile.rows[f"{reason}.CPUID"].source == "--set"
    assert profile.vmx.entry_cycles == load_profile(DEFAULT_PROFILE).vmx.entry_cycles


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("frequency_hz", "write it as section.key=value"),
        ("core.frequncy_hz=2e9", "did you mean 'core.frequency_hz'?"),
        ("memory.dirty_line_cycles=120", "did you mean 'core.dirty_line_cycles'?"),
        ("core=3", "'core' is a table, not a value"),
        ("zzz=3", "'sidecore profiles parameters' shows what there is"),
        ("core.frequency_hz=", "must be a whole number"),
        ("core.frequency_hz=2.5", "must be a whole number"),
        ("core.frequency_hz=nan", "must be a whole number"),
        ("core.frequency_hz=-inf", "must be a whole number"),
        ("core.frequency_hz=1e999999999", "must be a whole number"),
        ("core.frequency_hz=" + "9" * 5000, "must be a whole number"),
        ("core.package_count=257", "from 1 to 256"),
        ("vmx.has_vpid=1", "must be true or false"),
        ("caches.l2_ways=7", "caches.l2_size_bytes 2097152 must be a multiple of"),
        ("a\nb=3", "unknown key"),
    ],
)
def test_a_wrong_override_is_one_line_that_repeats_it(text: str, expected: str) -> None:
    message = message_of(DEFAULT_PROFILE, text)
    assert expected in message
    assert f"--set {text!r}" in message


@given(st.sampled_from([*PARAMETERS]), st.text(max_size=12))
def test_any_override_is_taken_within_the_range_or_refused(key: str, value: str) -> None:
    parameter = PARAMETERS[key]
    try:
        name, row = parse_override(f"{key}={value}")
    except ConfigError:
        return
    assert name == key
    assert type(row.value) is parameter.kind
    assert parameter.kind is bool or parameter.least <= row.value <= parameter.most


def test_a_file_says_its_values_in_the_order_of_the_table(tmp_path: Path) -> None:
    rows = read_profile_file(Path(write(tmp_path, TEXT))).rows
    assert list(rows) == [key for key in PARAMETERS if key in rows]
