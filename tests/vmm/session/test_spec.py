"""Claims about specs: each field is listed once, says what it means, and is checked when the spec is made."""

from collections import Counter
from pathlib import Path
from typing import Any

import click
import pytest

from emulator.errors import ConfigError
from vmm.cli.main import cli
from vmm.session.option_values import Switch, read_cores, read_switch
from vmm.session.parameters import saved_values
from vmm.session.spec import SPECS, GuestSpec, HostSpec, Limits, all_rows, specs_of


def test_no_name_and_no_option_is_in_two_specs() -> None:
    names = Counter(row.name for _, row in all_rows())
    options = Counter(row.parameter.option for _, row in all_rows() if row.parameter.option)
    assert set(names.values()) == set(options.values()) == {1}


def test_every_field_has_one_sentence() -> None:
    assert all(row.parameter.meaning[-1] in ".;:" for _, row in all_rows() if row.parameter.option)
    assert all(row.parameter.meaning for _, row in all_rows())


def test_the_command_has_every_option_of_the_table_and_no_other() -> None:
    boot = cli.commands["boot"]
    options = {parameter.name: parameter.opts[0] for parameter in boot.params if isinstance(parameter, click.Option)}
    assert options == {row.name: row.parameter.option for _, row in all_rows() if row.parameter.option}
    assert [parameter.name for parameter in boot.params if isinstance(parameter, click.Argument)] == ["image"]


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"paging": "shadwo"}, "no paging mode 'shadwo'; did you mean 'shadow'?"),
        ({"timing": "exact"}, "no timing 'exact'; there are: flat, fast, detailed"),
        ({"poll": "monitor"}, "no way to poll 'monitor'; there are: spin, mwait"),
        ({"protocol": "flat"}, "no boot protocol 'flat'; there are: linux, multiboot, pvh"),
        ({"scheduler": "fair"}, "no scheduler 'fair'; there are: pinned, credit, credit-boost"),
        ({"nic_identifier_bits": 65}, "--nic-identifier-bits 65 is not possible; give a number from 1 to 64"),
        ({"nic_signal": "mwait"}, "no way to signal 'mwait'; there are: auto, interrupt, sidecore, msix, posted"),
        ({"cores": 2}, "--cores 2 is not possible; give a value of type tuple"),
        ({"pcpu_count": 65}, "--pcpus 65 is not possible; give a number from 1 to 64"),
        ({"weight": 0}, "weight 0 is not possible; give a number from 1 to 65535"),
        ({"max_cycles": 0}, "--max-cycles 0 is not possible; give a number above 0"),
        ({"max_seconds": float("nan")}, "--max-seconds nan is not possible; give a number above 0"),
        ({"vcpu_counts": 2}, "no field 'vcpu_counts' of a spec; did you mean 'vcpu_count'?"),
        ({"memory_bytes": "64M"}, "--memory '64M' is not possible; give a value of type int"),
        ({"devices": "edu"}, "--device 'edu' is not possible; give a value of type tuple"),
        ({"max_seconds": "1"}, "--max-seconds '1' is not possible; give a value of type float"),
        ({"kernel": 7}, "--kernel 7 is not possible; give a value of type Path"),
        ({"slice_cycles": 0}, "slice_cycles 0 is not possible; give a number of 1 or more"),
    ],
)
def test_a_wrong_value_is_one_line_when_the_spec_is_made(values: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError) as refused:
        specs_of(values)
    assert str(refused.value) == line


@pytest.mark.parametrize("text", ["", "off", "5", "5:", "x:on", "5:maybe", "-1:on", "²:on"])
def test_a_switch_is_a_cycle_and_on_or_off(text: str) -> None:
    with pytest.raises(ConfigError, match="give CYCLE:on or CYCLE:off"):
        read_switch(text)
    assert read_switch("5:off") == Switch(5, False)


@pytest.mark.parametrize("text", ["", "2,", ",2", "2, 3", "-1", "two", "²"])
def test_cores_are_numbers(text: str) -> None:
    with pytest.raises(ConfigError, match="give numbers of cores, as in 2,3"):
        read_cores(text)
    assert read_cores("2,3") == (2, 3)


def test_specs_are_values() -> None:
    assert HostSpec(paging="ept") == HostSpec(paging="ept") != HostSpec()
    assert len({Limits(), Limits(), Limits(max_cycles=5)}) == 2
    assert all(hash(cls()) == hash(cls()) for cls in SPECS)


def test_a_snapshot_says_of_a_guest_what_its_memory_does_not() -> None:
    assert saved_values(GuestSpec(image="default", append="quiet")) == {
        "memory_bytes": 256 << 20,
        "vcpu_count": 1,
        "devices": (),
        "weight": 256,
        "cores": None,
        "has_vif": False,
        "mac": None,
        "is_manager": False,
        "is_backend": False,
    }
    host = HostSpec(overrides=("core.core_count=3",), sidecore_switches=(Switch(7, True),))
    assert HostSpec.take({**saved_values(host), "overrides": ["core.core_count=3"]}) == host


def test_a_text_names_a_file_and_a_list_is_a_tuple() -> None:
    spec = GuestSpec.take({"kernel": "vmlinux", "devices": ["edu"]})
    assert (spec.kernel, spec.devices) == (Path("vmlinux"), ("edu",))
    assert Limits(max_seconds=1).max_seconds == 1
