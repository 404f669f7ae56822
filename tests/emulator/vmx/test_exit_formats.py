"""Exit reasons, qualifications and interruption information against values worked out from the SDM by hand."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.vmx import exit_reasons, interruption
from emulator.vmx import qualifications as q
from emulator.vmx.exit_reasons import NAMES, ExitReason
from emulator.vmx.interruption import Interruption

# Appendix C: numbers up to 85 that the SDM gives no meaning.
UNUSED_REASONS = {35, 38, 42, 71, 82, 83}


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "EXCEPTION_NMI"),
        (1, "EXTERNAL_INTERRUPT"),
        (10, "CPUID"),
        (12, "HLT"),
        (18, "VMCALL"),
        (28, "CR_ACCESS"),
        (30, "IO_INSTRUCTION"),
        (33, "INVALID_STATE"),
        (40, "PAUSE_INSTRUCTION"),
        (48, "EPT_VIOLATION"),
        (52, "PREEMPTION_TIMER"),
        (55, "XSETBV"),
        (62, "PML_FULL"),
        (77, "TDCALL"),
    ],
)
def test_reason_of_the_manual(number: int, text: str) -> None:
    assert getattr(ExitReason, text) == number
    assert exit_reasons.name(number) == text
    assert exit_reasons.name(number | exit_reasons.ENTRY_FAILURE) == text


def test_every_number_has_one_name_or_none() -> None:
    assert set(NAMES) == set(range(86)) - UNUSED_REASONS
    assert list(NAMES) == sorted(NAMES)
    assert exit_reasons.name(35) == "REASON_35"


def test_c_defines_of_exit_reasons() -> None:
    defines = re.findall(r"^#define EXIT_REASON_(\w+) (\d+)$", exit_reasons.c_defines(), re.MULTILINE)
    assert {int(number): text for text, number in defines} == NAMES


@pytest.mark.parametrize(
    ("qualification", "decoded"),
    [
        (0x003, q.CrAccess(cr=3, access=q.MOV_TO_CR)),  # mov cr3, rax
        (0x918, q.CrAccess(cr=8, access=q.MOV_FROM_CR, gpr=9)),  # mov r9, cr8
        (0x0_0020, q.CrAccess(cr=0, access=q.CLTS)),
        (0xABCD_0070, q.CrAccess(cr=0, access=q.LMSW, lmsw_is_memory=True, lmsw_source=0xABCD)),
    ],
)
def test_cr_access(qualification: int, decoded: q.CrAccess) -> None:
    assert q.decode_cr_access(qualification) == decoded
    assert decoded.pack() == qualification


@pytest.mark.parametrize(
    ("qualification", "decoded"),
    [
        (0x0071_0048, q.IoAccess(0x71, 1, is_in=True, is_immediate=True)),  # in al, 71h
        (0x0CF8_0003, q.IoAccess(0xCF8, 4, is_in=False)),  # out dx, eax
        (0x01F0_0039, q.IoAccess(0x1F0, 2, is_in=True, is_string=True, is_rep=True)),  # rep insw
    ],
)
def test_io(qualification: int, decoded: q.IoAccess) -> None:
    assert q.decode_io(qualification) == decoded
    assert decoded.pack() == qualification


@pytest.mark.parametrize(
    ("qualification", "decoded"),
    [
        (0x181, q.EptViolation(is_read=True, is_write=False, is_fetch=False)),
        (0x19A, q.EptViolation(False, True, False, readable=True, writable=True)),
        (0x0AA, q.EptViolation(False, True, False, readable=True, executable=True, is_final=False)),
        (0x004, q.EptViolation(False, False, True, has_linear_address=False, is_final=False)),
        (0x1184, q.EptViolation(False, False, True, is_nmi_unblocking=True)),
    ],
)
def test_ept_violation(qualification: int, decoded: q.EptViolation) -> None:
    assert q.decode_ept_violation(qualification) == decoded
    assert decoded.pack() == qualification


def test_other_qualifications() -> None:
    assert q.decode_dr_access(0x317) == q.DrAccess(dr=7, is_read=True, gpr=3)
    assert q.DrAccess(7, True, 3).pack() == 0x317
    assert q.decode_task_switch(0xC000_0028) == q.TaskSwitch(0x28, q.TASK_SWITCH_GATE)
    assert q.TaskSwitch(0x28, q.TASK_SWITCH_GATE).pack() == 0xC000_0028
    assert q.decode_debug_exception(0x4001) == q.DebugException(1, is_single_step=True)
    assert q.DebugException(0, is_access=True, is_enabled=True).pack() == 0x3000


def test_a_final_ept_access_needs_a_linear_address() -> None:
    assert q.EptViolation(True, False, False, has_linear_address=False, is_final=True).pack() == 1


@given(st.integers(0, (1 << 64) - 1))
def test_decoding_any_qualification_ignores_reserved_bits(value: int) -> None:
    # packing what was decoded keeps exactly the defined bits
    assert q.decode_cr_access(value).pack() == value & 0xFFFF_0F7F
    assert q.decode_dr_access(value).pack() == value & 0xF17
    assert q.decode_io(value).pack() == value & 0xFFFF_007F
    assert q.decode_task_switch(value).pack() == value & 0xC000_FFFF
    assert q.decode_debug_exception(value).pack() == value & 0x700F
    final = 0x100 if value & 0x80 else 0
    assert q.decode_ept_violation(value).pack() == value & (0x10BF | final)


@pytest.mark.parametrize(
    ("information", "event"),
    [
        (0x8000_0020, Interruption(0x20, interruption.EXTERNAL_INTERRUPT)),
        (0x8000_0B0E, Interruption(14, interruption.HARDWARE_EXCEPTION, has_error_code=True)),
        (0x8000_0202, Interruption(2, interruption.NMI)),
        (0x8000_1603, Interruption(3, interruption.SOFTWARE_EXCEPTION, is_nmi_unblocking=True)),
        (0, Interruption(0, 0, is_valid=False)),
    ],
)
def test_interruption_information(information: int, event: Interruption) -> None:
    assert interruption.unpack(information) == event
    assert event.pack() == information


@given(st.integers(0, (1 << 32) - 1))
def test_unpacking_ignores_reserved_bits(information: int) -> None:
    assert interruption.unpack(information).pack() == information & 0x8000_1FFF
