"""The entry checks: all that fail, with their sections, on a VMCS as it is, edited, or from a file."""

import json
from pathlib import Path

import pytest

from emulator.errors import ConfigError
from emulator.vmx.capabilities import with_ept
from emulator.vmx.entry_checks import check_entry
from emulator.vmx.vmcs import Vmcs
from tests.vmm.session.debugger.views.rig import stopped
from vmm.session.debugger.views.check import capabilities_of, check, check_file
from vmm.session.debugger.views.subject import Subject


@pytest.fixture(scope="module")
def subject() -> Subject:
    return stopped("default", "ept", 1_000_000)


def test_a_guest_that_runs_passes_all(subject: Subject) -> None:
    for paging in ("ept", "shadow"):
        found = check(stopped("default", paging, 1_000_000))
        assert found.failures == ()
        assert found.text() == f"all {found.check_count} checks pass: VM entry succeeds"


def test_an_edit_is_tried_and_not_made(subject: Subject) -> None:
    before = subject.words()
    found = check(subject, {"rip": 1 << 63, "host_cr0": 0})
    assert subject.words() == before
    assert [(row.result, row.section) for row in found.failures] == [
        ("VMfail 8", "26.2.2"),
        ("VM exit 33, invalid guest state", "26.3.1.4"),
    ]
    assert found.edits == {"GUEST_RIP": 1 << 63, "HOST_CR0": 0}
    assert found.text().splitlines() == [
        "with GUEST_RIP = 0x8000000000000000, HOST_CR0 = 0x0",
        "VMfail 8: host CR0 must have the bits fixed in VMX operation [SDM 3C 26.2.2]",
        "    HOST_CR0 0x0",
        "and then: guest RIP must fit the guest's address width [SDM 3C 26.3.1.4]",
        "    VM_ENTRY_CONTROLS 0x93fb GUEST_CS_ACCESS_RIGHTS 0xa09b",
        "    GUEST_RIP 0x8000000000000000",
    ]


def test_an_edit_is_cut_to_the_width_of_its_field(subject: Subject) -> None:
    assert check(subject, {"GUEST_TR_SELECTOR": 0x10040}).failures == ()


def test_a_file_has_a_vmcs_whose_other_fields_are_0(subject: Subject, tmp_path: Path) -> None:
    path = tmp_path / "vmcs.json"
    path.write_text(json.dumps({name: hex(value) for name, value in subject.vmcs.dump().items() if value}))
    assert check_file(path, capabilities_of(subject)).failures == ()
    path.write_text('{"guest_cr0": 33}')
    found = check_file(path, with_ept())
    vmcs = Vmcs()
    vmcs.write(0x6800, 33)
    first = check_entry(vmcs, with_ept())
    assert first is not None
    assert found.failures[0].name == first.check_name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no VMCS: write"),
        ("[1]", "is no VMCS: write"),
        ("[" * 100_000, "is no VMCS: write"),
        ('{"GUEST_RAX": 1}', "no VMCS field 'GUEST_RAX'"),
        ('{"GUEST_RIP": "x"}', "GUEST_RIP is 'x'; write a number"),
        ('{"GUEST_RIP": true}', "GUEST_RIP is 'True'; write a number"),
        ('{"GUEST_RIP": null}', "GUEST_RIP is 'None'"),
        ('{"GUEST_RIP": "' + "9" * 5000 + '"}', "GUEST_RIP is '9999"),
    ],
    ids=range(8),
)
def test_a_file_that_is_none_is_a_mistake_of_one_line(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "vmcs.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        check_file(path, with_ept())
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="cannot read the VMCS"):
        check_file(tmp_path / "none", with_ept())


def test_natively_there_is_no_entry() -> None:
    with pytest.raises(ConfigError, match="a native guest has no VM entries"):
        check(stopped("default", "native", 1_000))
