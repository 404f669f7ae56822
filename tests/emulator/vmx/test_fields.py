"""The VMCS field table against the encoding format and rows copied from the SDM's appendix B."""

import re
import subprocess
import sys

import pytest

from emulator.vmx import fields as f
from emulator.vmx.fields import FIELDS, SLOT, Field

# Appendix B rows, independent of the constants: encoding, name, width, kind.
KNOWN_ROWS = [
    (0x0000, "VIRTUAL_PROCESSOR_IDENTIFIER", "16", "control"),
    (0x080E, "GUEST_TR_SELECTOR", "16", "guest"),
    (0x0C0C, "HOST_TR_SELECTOR", "16", "host"),
    (0x2000, "IO_BITMAP_A_ADDRESS", "64", "control"),
    (0x2010, "TSC_OFFSET", "64", "control"),
    (0x201A, "EPT_POINTER", "64", "control"),
    (0x2400, "GUEST_PHYSICAL_ADDRESS", "64", "exit information"),
    (0x2800, "VMCS_LINK_POINTER", "64", "guest"),
    (0x2806, "GUEST_IA32_EFER", "64", "guest"),
    (0x2C02, "HOST_IA32_EFER", "64", "host"),
    (0x4002, "PRIMARY_PROCESSOR_BASED_CONTROLS", "32", "control"),
    (0x4016, "VM_ENTRY_INTERRUPTION_INFORMATION", "32", "control"),
    (0x401E, "SECONDARY_PROCESSOR_BASED_CONTROLS", "32", "control"),
    (0x4402, "EXIT_REASON", "32", "exit information"),
    (0x440C, "VM_EXIT_INSTRUCTION_LENGTH", "32", "exit information"),
    (0x4826, "GUEST_ACTIVITY_STATE", "32", "guest"),
    (0x482E, "VMX_PREEMPTION_TIMER_VALUE", "32", "guest"),
    (0x4C00, "HOST_IA32_SYSENTER_CS", "32", "host"),
    (0x600E, "CR3_TARGET_VALUE_3", "natural", "control"),
    (0x6400, "EXIT_QUALIFICATION", "natural", "exit information"),
    (0x640A, "GUEST_LINEAR_ADDRESS", "natural", "exit information"),
    (0x681E, "GUEST_RIP", "natural", "guest"),
    (0x6826, "GUEST_IA32_SYSENTER_EIP", "natural", "guest"),
    (0x6C16, "HOST_RIP", "natural", "host"),
]
# 24.11.2: fields per (width, kind) group, counted in appendix B of the SDM; indexes without a field are listed.
GAPS = {
    ("64", "control"): {0x2046, 0x2048, 0x204E, 0x2050},
    ("64", "exit information"): {0x2402},
    ("32", "guest"): {0x482C},
}


@pytest.mark.parametrize(("encoding", "name", "width", "kind"), KNOWN_ROWS)
def test_row_of_the_manual(encoding: int, name: str, width: str, kind: str) -> None:
    field = f.FIELD_BY_ENCODING[encoding]
    assert (field.name, field.width, field.kind) == (name, width, kind)
    assert getattr(f, name) == encoding
    assert f.FIELD_BY_NAME[name] is field


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_encoding_has_the_layout_of_24_11_2(field: Field) -> None:
    rebuilt = f.WIDTHS.index(field.width) << 13 | f.KINDS.index(field.kind) << 10 | field.index << 1
    assert rebuilt == field.encoding  # so bits 31:15, 12 and the access type are 0


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_name_agrees_with_the_decoded_kind_and_width(field: Field) -> None:
    if field.name.startswith("HOST_"):
        assert field.kind == "host"
    elif re.match(r"GUEST_(?!PHYSICAL|LINEAR)", field.name):
        assert field.kind == "guest"
    else:
        assert field.kind != "host"
    expected_width = {"SELECTOR": "16", "LIMIT": "32", "RIGHTS": "32", "BASE": "natural"}
    suffix = field.name.rpartition("_")[2]
    assert field.width == expected_width.get(suffix, field.width)


def test_groups_are_dense_except_for_the_manuals_gaps() -> None:
    for width in f.WIDTHS:
        for kind in f.KINDS:
            group = [field for field in FIELDS if (field.width, field.kind) == (width, kind)]
            gaps = GAPS.get((width, kind), set())
            expected = [group[0].encoding + 2 * n for n in range(len(group) + len(gaps))] if group else []
            assert [field.encoding for field in group] == [code for code in expected if code not in gaps]


def test_slots_are_dense_in_table_order() -> None:
    assert list(SLOT.values()) == list(range(f.SLOT_COUNT))
    assert list(SLOT) == [field.encoding for field in FIELDS]
    assert len({field.name for field in FIELDS}) == f.SLOT_COUNT == len(SLOT)


def test_c_defines_name_every_slot_once() -> None:
    defines = dict(re.findall(r"^#define VMCS_(\w+) (\d+)$", f.c_defines(), re.MULTILINE))
    assert int(defines.pop("SLOT_COUNT")) == f.SLOT_COUNT
    assert {name: int(slot) for name, slot in defines.items()} == {field.name: SLOT[field.encoding] for field in FIELDS}
    assert f.c_defines().endswith("\n")


def test_module_imports_nothing_of_the_project_but_its_package() -> None:
    script = "import sys, emulator.vmx.fields; print(sorted(m for m in sys.modules if m.startswith('emulator')))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "['emulator', 'emulator.vmx', 'emulator.vmx.fields']"
