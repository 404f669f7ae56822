"""VMREAD and VMWRITE of the shared array: widths, high halves, failures, launch state."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.vmx import fields as f
from emulator.vmx.instruction_errors import MESSAGES, VmFailure
from emulator.vmx.vmcs import Vmcs

UNKNOWN_ENCODINGS = [0x2046, 0x2047, 0x681F, 0x4001, 0x7000, 1, 0xFFFF_FFFF, -2, 1 << 70]


@given(field=st.sampled_from(f.FIELDS), value=st.integers(-(1 << 70), 1 << 70))
def test_a_written_value_reads_back_cut_to_the_width(field: f.Field, value: int) -> None:
    vmcs = Vmcs()
    if field.is_read_only:
        assert vmcs.write(field.encoding, value) == VmFailure(13)
        assert vmcs.read(f.VM_INSTRUCTION_ERROR) == 13
    else:
        assert vmcs.write(field.encoding, value) is None
        assert vmcs.read(field.encoding) == value & field.mask == vmcs.try_read(field.encoding)
        assert vmcs.dump() == {**Vmcs().dump(), field.name: value & field.mask}


@given(
    field=st.sampled_from([field for field in f.FIELDS if field.width == "64" and not field.is_read_only]),
    old=st.integers(0, (1 << 64) - 1),
    high=st.integers(0, (1 << 64) - 1),
)
def test_high_access_reaches_bits_63_to_32(field: f.Field, old: int, high: int) -> None:
    vmcs = Vmcs()
    vmcs.write(field.encoding, old)
    assert vmcs.read(field.encoding | f.HIGH) == old >> 32
    assert vmcs.write(field.encoding | f.HIGH, high) is None
    assert vmcs.read(field.encoding) == (high & 0xFFFF_FFFF) << 32 | old & 0xFFFF_FFFF


def test_high_half_of_a_read_only_field_is_read_only() -> None:
    vmcs = Vmcs()
    vmcs.save(f.GUEST_PHYSICAL_ADDRESS, 0x1_2345_6789)
    assert vmcs.read(f.GUEST_PHYSICAL_ADDRESS | f.HIGH) == 1
    assert vmcs.write(f.GUEST_PHYSICAL_ADDRESS | f.HIGH, 0) == VmFailure(13)


@pytest.mark.parametrize("encoding", UNKNOWN_ENCODINGS)
def test_unknown_components_fail_with_error_12(encoding: int) -> None:
    vmcs = Vmcs()
    assert vmcs.try_read(encoding) == VmFailure(12)
    assert vmcs.write(encoding, 0) == VmFailure(12)
    assert vmcs.read(f.VM_INSTRUCTION_ERROR) == 12
    with pytest.raises(KeyError):
        vmcs.read(encoding)


def test_storage_is_shared_both_ways() -> None:
    storage = memoryview(bytearray(8 * (f.SLOT_COUNT + 1))).cast("Q")
    vmcs = Vmcs(storage)
    vmcs.write(f.GUEST_RIP, 0x1234)
    assert storage[f.SLOT[f.GUEST_RIP]] == 0x1234
    storage[f.SLOT[f.EXIT_REASON]] = 10
    assert vmcs.read(f.EXIT_REASON) == 10


@pytest.mark.parametrize(
    "storage",
    [
        memoryview(bytearray(8 * f.SLOT_COUNT)),
        memoryview(bytearray(8 * (f.SLOT_COUNT - 1))).cast("Q"),
        memoryview(bytes(8 * f.SLOT_COUNT)).cast("Q"),
    ],
    ids=["bytes", "short", "read-only"],
)
def test_storage_of_another_shape_is_refused(storage: memoryview) -> None:
    with pytest.raises(ValueError, match="writable words"):
        Vmcs(storage)


def test_what_hardware_saves_needs_no_check() -> None:
    vmcs = Vmcs()
    vmcs.dirty = 0
    vmcs.save(f.GUEST_CR3, 0x5000)
    assert (vmcs.read(f.GUEST_CR3), vmcs.dirty) == (0x5000, 0)
    vmcs.write(f.GUEST_CR3, 0x5000)
    assert vmcs.dirty == 0
    vmcs.write(f.GUEST_CR3, 0x6000)
    assert vmcs.dirty == 1 << f.SLOT[f.GUEST_CR3]


def test_vmclear_forgets_the_launch_and_that_anything_was_checked() -> None:
    vmcs = Vmcs()
    vmcs.is_launched = True
    vmcs.dirty = 0
    vmcs.clear()
    assert not vmcs.is_launched
    assert vmcs.dirty == (1 << f.SLOT_COUNT) - 1


def test_a_failure_tells_its_number_and_meaning() -> None:
    assert str(VmFailure(7)) == f"VM-instruction error 7: {MESSAGES[7]}"
    assert set(MESSAGES) == set(range(1, 29)) - {14, 21, 27}
