"""Claims about timing profiles: shipped ones are whole, and a bad file is one clear line that names file and key."""

from pathlib import Path

import pytest

from emulator.errors import ConfigError
from emulator.profile import DEFAULT_PROFILE, load_profile, shipped_profiles
from emulator.vmx.exit_reasons import ExitReason

ROW = '{ value = 7, source = "test", confidence = "guess" }'
TEXT = f"""
name = "small"
description = "for tests"
[core]
frequency_hz = {ROW}
instruction_cycles = {ROW}
port_access_cycles = {ROW}
[vmx]
exit_cycles = {{ value = 100, source = "test", confidence = "guess" }}
entry_cycles = {ROW}
vmread_cycles = {ROW}
vmwrite_cycles = {ROW}
[vmx.exit_cycles_by_reason]
CPUID = {{ value = 55, source = "test", confidence = "exact" }}
"""


def write(folder: Path, text: str) -> str:
    path = folder / "small.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", shipped_profiles())
def test_a_shipped_profile_loads_under_its_own_name(name: str) -> None:
    assert load_profile(name).name == name


def test_the_default_is_shipped() -> None:
    assert DEFAULT_PROFILE in shipped_profiles()


def test_a_profile_can_be_a_file_and_a_reason_without_a_row_costs_the_common_value(tmp_path: Path) -> None:
    profile = load_profile(write(tmp_path, TEXT))
    assert profile.name == "small"
    assert profile.frequency_hz == 7
    assert profile.cycles_of(ExitReason.CPUID) == 55
    assert profile.cycles_of(ExitReason.HLT) == 100


# what to replace, by what, and what the one line of the error must name
BROKEN = {
    "unknown top-level key": ('name = "small"', 'name = "small"\ncolour = 1', "unknown key colour"),
    "unknown key": ("entry_cycles", "entry_cylces", "vmx.entry_cylces"),
    "missing key": (f"instruction_cycles = {ROW}", "", "core.instruction_cycles is missing"),
    "missing table": ("[core]", "[kore]", "unknown key kore"),
    "name not a text": ('name = "small"', "name = 3", "name must be a text"),
    "a bare number": (f"frequency_hz = {ROW}", "frequency_hz = 7", "core.frequency_hz must be {"),
    "a fraction": ("value = 55", "value = 5.5", "CPUID.value must be a whole number"),
    "a truth": ("value = 55", "value = true", "CPUID.value must be a whole number"),
    "zero": ("value = 55", "value = 0", "CPUID.value must be a whole number above 0"),
    "no source": ("value = 55, source", "value = 55, sauce", "unknown key vmx.exit_cycles_by_reason.CPUID.sauce"),
    "empty source": ('55, source = "test"', '55, source = ""', "CPUID.source must say"),
    "odd confidence": ('"exact"', '"certain"', "CPUID.confidence must be one of"),
    "unknown exit reason": ("CPUID =", "CUPID =", "unknown key vmx.exit_cycles_by_reason.CUPID"),
    "core is no table": ("[core]", "core = 3\n[odd]", "unknown key odd"),
    "not TOML": ("[core]", "[core", "is not TOML"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_profile_is_one_line_that_names_the_file_and_the_key(case: str, tmp_path: Path) -> None:
    old, new, expected = BROKEN[case]
    assert old in TEXT
    path = write(tmp_path, TEXT.replace(old, new, 1))
    with pytest.raises(ConfigError) as raised:
        load_profile(path)
    message = str(raised.value)
    assert expected in message
    assert path in message
    assert "\n" not in message


def test_a_table_that_is_a_value_is_refused(tmp_path: Path) -> None:
    text = 'name = "a"\ndescription = "b"\ncore = 3\nvmx = 4\n'
    with pytest.raises(ConfigError, match="core must be a table"):
        load_profile(write(tmp_path, text))


def test_an_unknown_name_lists_the_choices() -> None:
    with pytest.raises(ConfigError, match=DEFAULT_PROFILE):
        load_profile("cray-1")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml"):
        load_profile(str(tmp_path / "none.toml"))
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(ConfigError, match=r"folder\.toml"):
        load_profile(str(tmp_path / "folder.toml"))


def test_bytes_that_are_not_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bytes.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not TOML"):
        load_profile(str(path))
