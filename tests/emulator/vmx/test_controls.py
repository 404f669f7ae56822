"""Control bits and the capability MSRs that offer them."""

import re

import pytest

from emulator.vmx import capabilities as cap
from emulator.vmx import controls as c
from emulator.vmx import fields as f
from emulator.vmx.capabilities import AllowedBits, VmxCapabilities, msr_values, with_ept, without_ept
from emulator.vmx.vmcs import REVISION_ID

PROCESSORS = [without_ept(), with_ept()]


@pytest.mark.parametrize(
    ("name", "word", "position"),
    [
        ("PIN_EXTERNAL_INTERRUPT_EXITING", "PIN", 0),
        ("PIN_VIRTUAL_NMIS", "PIN", 5),
        ("PROC_HLT_EXITING", "PROC", 7),
        ("PROC_CR3_LOAD_EXITING", "PROC", 15),
        ("PROC_PAUSE_EXITING", "PROC", 30),
        ("PROC_ACTIVATE_SECONDARY_CONTROLS", "PROC", 31),
        ("PROC2_ENABLE_EPT", "PROC2", 1),
        ("PROC2_UNRESTRICTED_GUEST", "PROC2", 7),
        ("EXIT_HOST_ADDRESS_SPACE_SIZE", "EXIT", 9),
        ("EXIT_LOAD_IA32_EFER", "EXIT", 21),
        ("ENTRY_IA32E_MODE_GUEST", "ENTRY", 9),
        ("ENTRY_LOAD_IA32_EFER", "ENTRY", 15),
    ],
)
def test_control_of_the_manual(name: str, word: str, position: int) -> None:
    bit = next(bit for bit in c.CONTROL_BITS if bit.name == name)
    assert (bit.word, bit.position, bit.mask) == (word, position, getattr(c, name))


def test_each_bit_of_a_word_has_one_name() -> None:
    places = [(bit.word, bit.position) for bit in c.CONTROL_BITS]
    assert len(places) == len(set(places))
    assert {bit.word for bit in c.CONTROL_BITS} == set(c.WORD_FIELD) == set(c.DEFAULT1)
    assert all(bit.mask == 1 << bit.position < 1 << 32 for bit in c.CONTROL_BITS)
    assert all(f.FIELD_BY_ENCODING[field].width == "32" for field in c.WORD_FIELD.values())


def test_c_defines_of_controls() -> None:
    defines = re.findall(r"^#define (\w+) \(1u << (\d+)\)$", c.c_defines(), re.MULTILINE)
    assert {name: 1 << int(position) for name, position in defines} == {bit.name: bit.mask for bit in c.CONTROL_BITS}


def test_names_of_a_control_word() -> None:
    assert c.names("PROC", c.PROC_HLT_EXITING | c.PROC_USE_IO_BITMAPS | 1) == ["HLT_EXITING", "USE_IO_BITMAPS"]


@pytest.mark.parametrize("processor", PROCESSORS)
@pytest.mark.parametrize("word", c.WORD_FIELD)
def test_processors_offer_only_named_controls_and_the_default1_class(processor: VmxCapabilities, word: str) -> None:
    allowed = processor.word(word)
    named = sum(bit.mask for bit in c.CONTROL_BITS if bit.word == word)
    assert not allowed.may_be_one & ~(named | c.DEFAULT1[word])
    assert allowed.allows(allowed.must_be_one)
    assert not allowed.must_be_one & ~c.DEFAULT1[word]
    assert allowed.allows(allowed.adjust(0))
    assert allowed.allows(allowed.adjust(0xFFFF_FFFF))


def test_allowed_bits() -> None:
    allowed = AllowedBits(must_be_one=0b0001, may_be_one=0b0111)
    assert [value for value in range(16) if allowed.allows(value)] == [1, 3, 5, 7]
    assert allowed.adjust(0b1010) == 0b0011


def test_capability_msrs_without_ept() -> None:
    values = msr_values(without_ept())
    assert values[cap.IA32_VMX_PINBASED_CTLS] == 0x0000_003F_0000_0016
    assert values[cap.IA32_VMX_PROCBASED_CTLS] & 0xFFFF_FFFF == 0x0401_E172
    assert values[cap.IA32_VMX_EXIT_CTLS] & 0xFFFF_FFFF == 0x0003_6DFF
    assert values[cap.IA32_VMX_ENTRY_CTLS] & 0xFFFF_FFFF == 0x0000_11FF
    assert values[cap.IA32_VMX_BASIC] & 0x7FFF_FFFF == REVISION_ID
    assert not values[cap.IA32_VMX_BASIC] >> 55 & 1
    assert not values[cap.IA32_VMX_PROCBASED_CTLS] >> 63
    for missing in (cap.IA32_VMX_PROCBASED_CTLS2, cap.IA32_VMX_EPT_VPID_CAP, cap.IA32_VMX_TRUE_PROCBASED_CTLS):
        assert missing not in values
    assert not without_ept().has_ept


def test_capability_msrs_with_ept() -> None:
    values = msr_values(with_ept())
    assert with_ept().has_ept
    assert values[cap.IA32_VMX_BASIC] >> 55 & 1
    assert values[cap.IA32_VMX_PROCBASED_CTLS] & 0xFFFF_FFFF == 0x0401_E172
    assert values[cap.IA32_VMX_TRUE_PROCBASED_CTLS] & 0xFFFF_FFFF == 0x0400_6172
    assert values[cap.IA32_VMX_TRUE_EXIT_CTLS] & 0xFFFF_FFFF == 0x0003_6DFB
    assert values[cap.IA32_VMX_TRUE_ENTRY_CTLS] & 0xFFFF_FFFF == 0x0000_11FB
    assert values[cap.IA32_VMX_PROCBASED_CTLS2] >> 32 & c.PROC2_ENABLE_EPT
    assert values[cap.IA32_VMX_CR0_FIXED0] == 0x8000_0021
    assert values[cap.IA32_VMX_CR4_FIXED0] == 0x2000
    assert values[cap.IA32_VMX_MISC] & 0x1F == 5
    assert values[cap.IA32_VMX_MISC] >> 6 & 7 == 7
    assert values[cap.IA32_VMX_VMCS_ENUM] == 0x52  # index 29H: INJECTED_EVENT_DATA
