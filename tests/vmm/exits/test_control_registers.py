"""Control registers: which writes are #GP, what reaches the paging, and that EFER.LMA follows CR0.PG."""

from collections.abc import Mapping

import pytest

from emulator.vmx import fields as f
from emulator.vmx.qualifications import CLTS, LMSW, MOV_FROM_CR, MOV_TO_CR, CrAccess
from emulator.x86 import (
    CR0_CD,
    CR0_ET,
    CR0_NW,
    CR0_PE,
    CR0_PG,
    CR0_TS,
    CR4_PAE,
    CR4_PGE,
    EFER_LMA,
    EFER_LME,
    GENERAL_PROTECTION,
    RBX,
    RSP,
)
from tests.emulator.vmx.examples import CODE_32, CODE_64
from tests.vmm.fakes import Bench, exception
from vmm.cost import paths
from vmm.exits.control_registers import handle_cr_access
from vmm.outcome import AGAIN, NEXT, Outcome

LONG = EFER_LME | EFER_LMA
CR0_LONG = CR0_PG | CR0_PE | CR0_ET
HIGH = 1 << 32
PDPTES_GPA = 0x2000


def bench_in(*, cr0: int = CR0_LONG, cr4: int = CR4_PAE, efer: int = LONG, code: int = CODE_64) -> Bench:
    bench = Bench()
    bench.set({f.GUEST_CR0: cr0, f.GUEST_CR4: cr4, f.GUEST_CS_ACCESS_RIGHTS: code})
    bench.paging.efer = efer
    return bench


def legacy(*, cr0: int = CR0_PE | CR0_ET, cr4: int = 0, efer: int = 0) -> Bench:
    """32-bit code, with paging off unless `cr0` says otherwise."""
    return bench_in(cr0=cr0, cr4=cr4, efer=efer, code=CODE_32)


def move_to(bench: Bench, cr: int, value: int, gpr: int = RBX) -> Outcome:
    bench.vcpu.write_gpr(gpr, value)
    bench.set({f.EXIT_QUALIFICATION: CrAccess(cr, MOV_TO_CR, gpr).pack()})
    return handle_cr_access(bench.vcpu)


def move_from(bench: Bench, cr: int, gpr: int = RBX) -> int:
    bench.set({f.EXIT_QUALIFICATION: CrAccess(cr, MOV_FROM_CR, gpr).pack()})
    assert handle_cr_access(bench.vcpu) is NEXT
    return bench.vcpu.read_gpr(gpr)


def assert_refused(bench: Bench, outcome: Outcome) -> None:
    assert outcome is AGAIN
    assert bench.injected == exception(GENERAL_PROTECTION, has_error_code=True)
    assert bench.injected_error_code == 0
    assert bench.paging.asked == []
    assert bench.meter.followed == [paths.CR_DECODE, paths.CR_WRITE, paths.INJECT]


# --- CR0


def test_cr0_goes_to_the_paging() -> None:
    bench = bench_in()
    assert move_to(bench, 0, CR0_LONG | CR0_TS) is NEXT
    assert bench.paging.asked == [("write_cr0", CR0_LONG | CR0_TS)]
    assert bench.meter.followed == [paths.CR_DECODE, paths.CR_WRITE]


@pytest.mark.parametrize("value", [CR0_PG, CR0_LONG | CR0_NW, CR0_LONG | HIGH], ids=["PG, no PE", "NW, no CD", "high"])
def test_combinations_that_cr0_cannot_have_are_refused(value: int) -> None:
    bench = bench_in()
    assert_refused(bench, move_to(bench, 0, value))


def test_nw_with_cd_is_allowed() -> None:
    assert move_to(bench_in(), 0, CR0_LONG | CR0_NW | CR0_CD) is NEXT


def test_undefined_bits_of_cr0_are_dropped_and_et_is_always_set() -> None:
    bench = bench_in()
    move_to(bench, 0, (CR0_LONG & ~CR0_ET) | 1 << 7 | 1 << 19)
    assert bench.paging.asked == [("write_cr0", CR0_LONG)]


def test_outside_64_bit_code_only_the_lower_half_of_the_register_counts() -> None:
    bench = legacy()
    assert move_to(bench, 0, HIGH | CR0_PE) is NEXT
    assert bench.paging.asked == [("write_cr0", CR0_PE | CR0_ET)]


def test_lma_is_set_when_paging_is_turned_on_with_lme() -> None:
    bench = legacy(cr4=CR4_PAE, efer=EFER_LME)
    assert move_to(bench, 0, CR0_LONG) is NEXT
    assert bench.paging.asked == [("write_efer", LONG), ("write_cr0", CR0_LONG)]


def test_lma_is_cleared_when_paging_is_turned_off() -> None:
    bench = legacy(cr0=CR0_LONG, cr4=CR4_PAE, efer=LONG)
    assert move_to(bench, 0, CR0_PE) is NEXT
    assert bench.paging.asked == [("write_efer", EFER_LME), ("write_cr0", CR0_PE | CR0_ET)]


def test_without_lme_efer_does_not_change_with_paging() -> None:
    bench = legacy()
    assert move_to(bench, 0, CR0_LONG) is NEXT
    assert bench.paging.asked == [("write_cr0", CR0_LONG)]


def test_ia_32e_mode_without_pae_is_refused() -> None:
    bench = legacy(efer=EFER_LME)
    assert_refused(bench, move_to(bench, 0, CR0_LONG))


def test_ia_32e_mode_cannot_begin_in_a_segment_of_64_bit_code() -> None:
    bench = bench_in(cr0=CR0_PE | CR0_ET, efer=EFER_LME, code=CODE_64)
    assert_refused(bench, move_to(bench, 0, CR0_LONG))


def test_64_bit_code_cannot_turn_paging_off() -> None:
    bench = bench_in()
    assert_refused(bench, move_to(bench, 0, CR0_PE))


def test_clts_clears_ts_alone() -> None:
    bench = bench_in(cr0=CR0_LONG | CR0_TS)
    bench.set({f.EXIT_QUALIFICATION: CrAccess(0, CLTS).pack()})
    assert handle_cr_access(bench.vcpu) is NEXT
    assert bench.paging.asked == [("write_cr0", CR0_LONG)]


@pytest.mark.parametrize(
    ("old", "source", "new"),
    [
        (CR0_PE | CR0_ET, 0b1110, CR0_PE | CR0_ET | 0b1110),
        (CR0_PE | CR0_ET | 0b1110, 0b0000, CR0_PE | CR0_ET),
        (CR0_ET, 0b0001, CR0_PE | CR0_ET),
        (CR0_ET, 0xFFF0, CR0_ET),
    ],
    ids=["sets MP, EM, TS", "clears them and not PE", "sets PE", "sees bits 3 to 0"],
)
def test_lmsw(old: int, source: int, new: int) -> None:
    bench = legacy(cr0=old)
    bench.set({f.EXIT_QUALIFICATION: CrAccess(0, LMSW, lmsw_source=source).pack()})
    assert handle_cr_access(bench.vcpu) is NEXT
    assert bench.paging.asked == [("write_cr0", new)]


def test_cr0_as_the_guest_knows_it_is_what_counts() -> None:
    """Shadow paging has CR0.PG set in the VMCS while the guest believes it is off."""
    bench = bench_in(efer=EFER_LME, code=CODE_32)
    bench.set({f.CR0_GUEST_HOST_MASK: CR0_PG, f.CR0_READ_SHADOW: 0})
    assert move_to(bench, 0, CR0_LONG) is NEXT
    assert bench.paging.asked == [("write_efer", LONG), ("write_cr0", CR0_LONG)]


# --- CR3


def test_cr3_goes_to_the_paging() -> None:
    bench = bench_in()
    assert move_to(bench, 3, 0x5018) is NEXT
    assert bench.paging.asked == [("write_cr3", 0x5018)]


def test_cr3_reads_what_the_paging_says_and_no_check_is_charged() -> None:
    bench = bench_in()
    bench.paging.cr3 = 0x7000
    assert move_from(bench, 3) == 0x7000
    assert bench.meter.followed == [paths.CR_DECODE]


def test_rsp_is_a_register_like_others() -> None:
    bench = bench_in()
    bench.paging.cr3 = 0x7000
    assert move_from(bench, 3, RSP) == bench.vcpu.vmcs.read(f.GUEST_RSP) == 0x7000
    assert move_to(bench, 3, 0x9000, RSP) is NEXT
    assert bench.paging.asked == [("write_cr3", 0x9000)]


def test_cr3_beyond_the_physical_address_is_refused_in_ia_32e_mode() -> None:
    bench = bench_in()
    assert_refused(bench, move_to(bench, 3, 1 << 40))


# --- CR4


def test_cr4_goes_to_the_paging() -> None:
    bench = bench_in()
    assert move_to(bench, 4, CR4_PAE | CR4_PGE) is NEXT
    assert bench.paging.asked == [("write_cr4", CR4_PAE | CR4_PGE)]


@pytest.mark.parametrize("bit", [0, 1, 13, 14, 16, 18, 21, 32])
def test_bits_of_cr4_that_cpuid_does_not_offer_are_refused(bit: int) -> None:
    bench = bench_in()
    assert_refused(bench, move_to(bench, 4, CR4_PAE | 1 << bit))


def test_pae_cannot_be_cleared_in_ia_32e_mode() -> None:
    bench = bench_in()
    assert_refused(bench, move_to(bench, 4, 0))


def test_pae_can_be_cleared_outside_it() -> None:
    assert move_to(legacy(cr4=CR4_PAE), 4, 0) is NEXT


# --- PDPTEs


@pytest.mark.parametrize(
    ("cr", "value", "before"),
    [
        (0, CR0_LONG, {"cr4": CR4_PAE}),
        (3, PDPTES_GPA, {"cr0": CR0_LONG, "cr4": CR4_PAE}),
        (4, CR4_PAE, {"cr0": CR0_LONG}),
    ],
    ids=["CR0", "CR3", "CR4"],
)
@pytest.mark.parametrize("is_valid", [True, False])
def test_pae_paging_cannot_begin_with_malformed_pdptes(
    cr: int, value: int, before: Mapping[str, int], is_valid: bool
) -> None:
    bench = legacy(**before)
    bench.paging.cr3 = PDPTES_GPA
    bench.domain.write(PDPTES_GPA, (0x3001 if is_valid else 0x3003).to_bytes(8, "little"))
    outcome = move_to(bench, cr, value)
    if is_valid:
        assert outcome is NEXT
        assert bench.paging.asked == [(f"write_cr{cr}", value)]
    else:
        assert_refused(bench, outcome)


# --- CR8


def test_cr8_is_the_apics_task_priority() -> None:
    bench = bench_in()
    assert move_to(bench, 8, 9) is NEXT
    assert bench.vcpu.apic.cr8 == 9
    assert move_from(bench, 8) == 9
    assert bench.paging.asked == []


def test_cr8_has_four_bits() -> None:
    bench = bench_in()
    assert move_to(bench, 8, 15) is NEXT
    bench.meter.followed.clear()
    assert_refused(bench, move_to(bench, 8, 16))
    assert bench.vcpu.apic.cr8 == 15


@pytest.mark.parametrize("access", [MOV_TO_CR, MOV_FROM_CR])
def test_a_register_that_cannot_exit_is_a_mistake_of_the_vmm(access: int) -> None:
    bench = bench_in()
    bench.set({f.EXIT_QUALIFICATION: CrAccess(2, access).pack()})
    with pytest.raises(AssertionError, match="CR2 exited"):
        handle_cr_access(bench.vcpu)
