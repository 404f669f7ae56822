"""RDMSR and WRMSR: who answers for which MSR, and #GP for what does not exist or is not allowed."""

import pytest

from emulator.vmx import fields as f
from emulator.x86 import (
    CR0_PE,
    EFER_LMA,
    EFER_LME,
    EFER_NXE,
    EFER_SCE,
    GENERAL_PROTECTION,
    IA32_APIC_BASE,
    IA32_EFER,
    IA32_MISC_ENABLE,
    IA32_TIME_STAMP_COUNTER,
    IA32_TSC_DEADLINE,
    RAX,
    RCX,
    RDX,
)
from tests.vmm.fakes import Bench, exception
from vmm.cost import paths
from vmm.exits.msrs import CORE_MSRS, handle_rdmsr, handle_wrmsr
from vmm.outcome import AGAIN, NEXT, Outcome

PAT, UNKNOWN, KNOWN = 0x277, 0x1234, 0x17
HIGH = 0xABCD << 32


def read(bench: Bench, index: int) -> int:
    bench.gpr[RCX] = HIGH | index
    assert handle_rdmsr(bench.vcpu) is NEXT
    assert bench.injected is None
    return bench.gpr[RDX] << 32 | bench.gpr[RAX]


def write(bench: Bench, index: int, value: int) -> Outcome:
    bench.gpr[RCX], bench.gpr[RDX], bench.gpr[RAX] = HIGH | index, HIGH | value >> 32, HIGH | value & 0xFFFF_FFFF
    return handle_wrmsr(bench.vcpu)


def assert_general_protection(bench: Bench, outcome: Outcome) -> None:
    assert outcome is AGAIN
    assert bench.injected == exception(GENERAL_PROTECTION, has_error_code=True)
    assert bench.injected_error_code == 0


def test_an_unknown_msr_is_general_protection_and_changes_no_register() -> None:
    bench = Bench()
    bench.gpr[RAX], bench.gpr[RCX], bench.gpr[RDX] = 2, UNKNOWN, 3
    assert_general_protection(bench, handle_rdmsr(bench.vcpu))
    assert (bench.gpr[RAX], bench.gpr[RDX]) == (2, 3)
    assert bench.meter.followed == [paths.READ_MSR, paths.INJECT]


def test_a_write_to_an_unknown_msr_is_general_protection() -> None:
    bench = Bench()
    assert_general_protection(bench, write(bench, UNKNOWN, 1))
    assert bench.meter.followed == [paths.WRITE_MSR, paths.INJECT]


def test_a_read_has_its_halves_in_edx_and_eax() -> None:
    bench = Bench()
    bench.vcpu.msrs[KNOWN] = 0x1234_5678_9ABC_DEF0
    assert read(bench, KNOWN) == 0x1234_5678_9ABC_DEF0
    assert bench.gpr[RAX] == 0x9ABC_DEF0
    assert bench.meter.followed == [paths.READ_MSR]
    assert bench.meter.executed == []


def test_a_write_to_an_msr_that_only_reads_is_dropped() -> None:
    bench = Bench()
    bench.vcpu.msrs[KNOWN] = 5
    assert write(bench, KNOWN, 9) is NEXT
    assert read(bench, KNOWN) == 5


def test_ia32_misc_enable_keeps_what_is_written() -> None:
    bench = Bench()
    assert write(bench, IA32_MISC_ENABLE, 1 << 40 | 9) is NEXT
    assert read(bench, IA32_MISC_ENABLE) == 1 << 40 | 9


@pytest.mark.parametrize("index", [PAT, IA32_TIME_STAMP_COUNTER])
def test_the_core_answers_for_its_own_msrs_and_its_instruction_is_paid(index: int) -> None:
    bench = Bench()
    assert index in CORE_MSRS
    assert write(bench, index, 7 << 32 | 13) is NEXT
    assert bench.engine.msrs == {index: 7 << 32 | 13}
    assert read(bench, index) == 7 << 32 | 13
    assert bench.meter.executed == ["wrmsr", "rdmsr"]


def test_what_was_charged_is_on_the_clock_before_the_time_stamp_counter_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()
    seen: list[int] = []

    def rdmsr(_index: int) -> int:
        seen.append(bench.engine.shared.clock_cycles)
        return 0

    monkeypatch.setattr(bench.engine, "rdmsr", rdmsr)
    read(bench, IA32_TIME_STAMP_COUNTER)
    assert seen == [paths.READ_MSR.instructions + bench.core.pcpu.profile.instructions.rdmsr_cycles]


def test_what_the_core_refuses_is_general_protection() -> None:
    bench = Bench()
    bench.engine.refused_msrs.add(PAT)
    assert_general_protection(bench, write(bench, PAT, 2))


def test_the_virtual_apic_answers_for_its_own_msrs() -> None:
    bench = Bench()
    assert read(bench, IA32_APIC_BASE) == bench.vcpu.apic.base
    assert write(bench, IA32_APIC_BASE, 0xFEE0_0100) is NEXT
    assert bench.vcpu.apic.base == 0xFEE0_0100


def test_a_base_that_the_apic_cannot_have_is_general_protection() -> None:
    bench = Bench()
    assert_general_protection(bench, write(bench, IA32_APIC_BASE, 0xFEF0_0900))


def test_after_a_write_to_the_apic_the_core_serves_its_timer() -> None:
    bench = Bench()
    read(bench, IA32_TSC_DEADLINE)
    assert bench.core.asked == []
    write(bench, IA32_TSC_DEADLINE, 0)
    assert bench.core.asked == ["serve"]


def test_efer_is_read_from_the_paging() -> None:
    bench = Bench()
    bench.paging.efer = EFER_LMA | EFER_LME | EFER_SCE
    assert read(bench, IA32_EFER) == EFER_LMA | EFER_LME | EFER_SCE


def test_a_write_to_efer_goes_to_the_paging() -> None:
    bench = Bench()
    assert write(bench, IA32_EFER, EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE) is NEXT
    assert bench.paging.asked == [("write_efer", EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE)]


@pytest.mark.parametrize("bit", [1 << 1, 1 << 7, 1 << 9, 1 << 12, 1 << 63])
def test_reserved_bits_of_efer_are_general_protection(bit: int) -> None:
    bench = Bench()
    assert_general_protection(bench, write(bench, IA32_EFER, EFER_LME | EFER_LMA | bit))
    assert bench.paging.asked == []


def test_lme_cannot_change_while_paging_is_on() -> None:
    bench = Bench()
    assert_general_protection(bench, write(bench, IA32_EFER, EFER_SCE))
    assert bench.paging.asked == []


def test_lme_can_change_while_paging_is_off() -> None:
    bench = Bench()
    bench.set({f.GUEST_CR0: CR0_PE})
    bench.paging.efer = 0
    assert write(bench, IA32_EFER, EFER_LME) is NEXT
    assert bench.paging.asked == [("write_efer", EFER_LME)]


@pytest.mark.parametrize("old", [EFER_LME, EFER_LME | EFER_LMA])
def test_lma_is_the_processors_whatever_is_written(old: int) -> None:
    bench = Bench()
    bench.paging.efer = old
    assert write(bench, IA32_EFER, EFER_LME | (~old & EFER_LMA)) is NEXT
    assert bench.paging.asked == [("write_efer", old)]
