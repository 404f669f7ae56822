"""Claims about what `sidecore bench vmexit` measures: it is what the ledger booked, and takes the exits it must."""

import pytest

from benchmarks.harness.guest_runs import run_guest
from benchmarks.harness.results import Missing, Run
from benchmarks.vmexit.measure import OPERATIONS
from emulator.profiles.profile import load_profile
from emulator.timing.fidelity import Fidelity
from tests.benchmarks.vmexit.guest import PAGINGS, PROFILE, results_of
from vmm.session.spec import Paging

SHADOW_ONLY = {
    "mov_from_cr3": {"CR_ACCESS": 1},
    "mov_to_cr3": {"CR_ACCESS": 1},
    "page_fault_reflected": {"EXCEPTION_NMI": 1},
    "page_fault_fixed": {"EXCEPTION_NMI": 1},
    "pte_write": {"EXCEPTION_NMI": 1},
    "pte_write_access": {"EXCEPTION_NMI": 2},  # the store, and the first access: as the paper says
    "invlpg": {"INVLPG": 1},
    "ipi": {"EXCEPTION_NMI": 2, "INTERRUPT_WINDOW": 1},  # the command and the EOI; STI
}
EPT_ONLY = {"ipi": {"EPT_VIOLATION": 2, "INTERRUPT_WINDOW": 1}}
ALWAYS = {
    "cpuid": {"CPUID": 1},
    "vmcall": {"VMCALL": 1},
    "inl": {"IO_INSTRUCTION": 1},
    "outl": {"IO_INSTRUCTION": 1},
    "rdmsr": {"MSR_READ": 1},
    "wrmsr": {"MSR_WRITE": 1},
    "mov_from_cr8": {"CR_ACCESS": 1},
    "mov_to_cr8": {"CR_ACCESS": 1},
    "hlt_interrupt": {"HLT": 1, "IO_INSTRUCTION": 1},
}


@pytest.mark.parametrize("paging", PAGINGS)
def test_the_guest_measures_every_operation_once(paging: Paging) -> None:
    names = [row.metric for row in results_of(paging).rows]
    assert sorted(names) == sorted(OPERATIONS)
    missing = [(row.metric, row.reason) for row in results_of(paging).rows if isinstance(row, Missing)]
    assert missing == ([("vmcall", "no hypervisor")] if paging == "native" else [])


@pytest.mark.parametrize("paging", PAGINGS)
def test_the_ledger_booked_what_the_guest_measured(paging: Paging) -> None:
    for row in results_of(paging).measured:
        booked_cycles = sum(row.account.cycles.values())
        assert booked_cycles == pytest.approx(row.value, abs=1e-9), row.metric


@pytest.mark.parametrize("timing", ["fast", pytest.param("detailed", marks=pytest.mark.slow)])
@pytest.mark.parametrize("paging", PAGINGS)
def test_with_the_model_of_the_core_too_but_for_the_fractions_of_a_cycle(paging: Paging, timing: Fidelity) -> None:
    for row in results_of(paging, timing).measured:
        rest_cycles = (sum(row.account.cycles.values()) - row.value) * row.spread.operations
        assert abs(rest_cycles) < 4, row.metric  # two rounds of two ends, each off by less than a cycle


@pytest.mark.slow
def test_a_flushed_tlb_shows_in_the_detailed_account_of_an_exit() -> None:
    """The profile has no VPID: after an entry, the loop's code and stack are looked up again."""
    for paging, least in (("shadow", 1), ("ept", 100)):
        cycles = results_of(paging, "detailed").by_name()["cpuid"].account.cycles
        assert cycles["page walks"] > least
    assert "page walks" not in results_of("native", "detailed").by_name()["cpuid"].account.cycles


@pytest.mark.parametrize("paging", PAGINGS)
def test_each_operation_takes_the_exits_it_must_and_no_other(paging: Paging) -> None:
    rows = results_of(paging).by_name().items()
    exits = {name: dict(row.account.exits) for name, row in rows if row.account.exits}
    expected: dict[str, dict[str, int]] = {} if paging == "native" else dict(ALWAYS)
    if paging != "native":
        expected |= SHADOW_ONLY if paging == "shadow" else EPT_ONLY
    assert exits == expected


@pytest.mark.parametrize("paging", ["shadow", "ept"])
def test_a_cpuid_pays_for_one_exit_and_one_entry(paging: Paging) -> None:
    profile, cycles = load_profile(PROFILE), results_of(paging).by_name()["cpuid"].account.cycles
    assert cycles["exit hardware"] == profile.vmx.exit_cycles_by_reason[10]
    assert cycles["entry hardware"] == profile.entry_cycles
    assert cycles["vmcs access"] >= profile.vmread_cycles


def test_an_override_changes_what_is_measured() -> None:
    run = Run("vmexit", PROFILE, "ept", "flat", ("vmx.entry_cycles=1",))
    entry_cycles = load_profile(PROFILE).entry_cycles
    dear, cheap = (results.by_name()["cpuid"] for results in (results_of("ept"), run_guest(run)))
    assert dear.value - cheap.value == entry_cycles - 1
