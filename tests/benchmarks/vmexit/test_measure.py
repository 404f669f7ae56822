"""Claims about `sidecore bench vmexit`: what a guest measures is what the ledger booked, and how it is shown."""

import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cli import main
from benchmarks.harness.guest_runs import run_all, run_guest
from benchmarks.harness.measurements import Unavailable
from benchmarks.harness.results import Results, Run
from benchmarks.harness.text import cycles_text
from benchmarks.vmexit import measure as vmexit
from benchmarks.vmexit.measure import OPERATIONS
from emulator.errors import ConfigError
from emulator.profiles.profile import load_profile
from emulator.timing.core_timing import Fidelity
from vmm.session.run import Paging

PROFILE = "netburst-2006"
PAGINGS: tuple[Paging, ...] = ("native", "shadow", "ept")
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


@cache
def results_of(paging: Paging, timing: Fidelity = "flat") -> Results:
    return run_guest(Run("vmexit", PROFILE, paging, timing))


@pytest.mark.parametrize("paging", PAGINGS)
def test_the_guest_measures_every_operation_once(paging: Paging) -> None:
    names = [row.name if isinstance(row, Unavailable) else row.measurement.name for row in results_of(paging).rows]
    assert sorted(names) == sorted(OPERATIONS)
    unavailable = [row for row in results_of(paging).rows if isinstance(row, Unavailable)]
    assert unavailable == ([Unavailable("vmcall", "no hypervisor")] if paging == "native" else [])


@pytest.mark.parametrize("paging", PAGINGS)
def test_the_ledger_booked_what_the_guest_measured(paging: Paging) -> None:
    for row in results_of(paging).measured:
        booked_cycles = sum(row.account.cycles.values())
        assert booked_cycles == pytest.approx(row.measurement.median, abs=1e-9), row.measurement.name


@pytest.mark.parametrize("timing", ["fast", pytest.param("detailed", marks=pytest.mark.slow)])
@pytest.mark.parametrize("paging", PAGINGS)
def test_with_the_model_of_the_core_too_but_for_the_fractions_of_a_cycle(paging: Paging, timing: Fidelity) -> None:
    for row in results_of(paging, timing).measured:
        measurement = row.measurement
        rest_cycles = (sum(row.account.cycles.values()) - measurement.median) * measurement.operations
        assert abs(rest_cycles) < 4, measurement.name  # two rounds of two ends, each off by less than a cycle


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


def test_runs_in_several_processes_give_the_same_in_the_same_order() -> None:
    runs = [Run("vmexit", PROFILE, paging, "flat") for paging in ("native", "shadow")]
    assert run_all(runs, process_count=2) == [results_of(run.paging) for run in runs]


def test_an_override_changes_what_is_measured() -> None:
    run = Run("vmexit", PROFILE, "ept", "flat", ("vmx.entry_cycles=1",))
    entry_cycles = load_profile(PROFILE).entry_cycles
    dear, cheap = (results.by_name()["cpuid"].measurement for results in (results_of("ept"), run_guest(run)))
    assert dear.median - cheap.median == entry_cycles - 1


def test_a_guest_that_fails_is_one_line() -> None:
    with pytest.raises(
        ConfigError,
        match=r"^triple_fault on netburst-2006, native, flat timing: the guest .* 'PASS: all 2 checks' last$",
    ):
        run_guest(Run("triple_fault", PROFILE, "native", "flat"))


# --- what is shown ------------------------------------------------------------------------------------------------


def run_bench(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    status = 0
    try:
        main(["bench", "vmexit", *arguments])
    except SystemExit as ending:
        status = int(str(ending.code))
    output, errors = capfd.readouterr()
    return status, output, errors


def use_finished_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_finished(runs: list[Run]) -> list[Results]:
        return [replace(results_of(run.paging), run=run) for run in runs]

    monkeypatch.setattr(vmexit, "run_all", run_finished)


def test_one_profile_shows_medians_and_accounts(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_finished_runs(monkeypatch)
    status, output, errors = run_bench([], capfd)
    assert (status, errors) == (0, "")
    assert re.search(r"^Operation +native +IQR +shadow +IQR +ept +IQR$", output, re.MULTILINE)
    median = cycles_text(results_of("shadow").by_name()["pte_write"].measurement.median)
    assert re.search(rf"^PTE write: .* {median} +\d.*$", output, re.MULTILINE)
    assert re.search(r"^VMCALL, unknown number +- +- +\d", output, re.MULTILINE)
    assert "\n- VMCALL, unknown number: no hypervisor (native)\n" in output
    assert re.search(r"^new PTE, then a load of its page .* EXCEPTION_NMI x 2$", output, re.MULTILINE)


def test_many_profiles_stand_beside_each_other(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_finished_runs(monkeypatch)
    status, output, _ = run_bench(["--all-profiles", "--paging", "shadow"], capfd)
    assert status == 0
    assert re.search(r"^Operation +netburst-2006 .* cascadelake$", output, re.MULTILINE)
    assert "Cycles of one operation, shadow, fast timing: medians" in output
    assert "native" not in output


@pytest.mark.parametrize("arguments", [["--paging", "shadow", "--paging", "native"], ["--all-profiles"]])
@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_files_have_all_of_it(
    tmp_path: Path, arguments: list[str], suffix: str, capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    use_finished_runs(monkeypatch)
    files = ["--json", str(tmp_path / "f.json"), "--plot", str(tmp_path / f"f.{suffix}")]
    assert run_bench([*arguments, *files], capfd)[0] == 0
    assert (tmp_path / f"f.{suffix}").stat().st_size > 10_000
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["benchmark"] == "vmexit"
    for run in figures["runs"]:
        check_run(run)
    if len(arguments) > 1:
        assert [run["paging"] for run in figures["runs"]] == ["native", "shadow"]


def check_run(run: dict[str, Any]) -> None:
    assert set(run) == {"profile", "overrides", "paging", "timing", "frequency_hz", "operations"}
    assert set(run["operations"]) == set(OPERATIONS)
    for name, row in run["operations"].items():
        if "unavailable" in row:
            assert (run["paging"], name) == ("native", "vmcall")
            continue
        assert len(row["samples_cycles"]) == 11
        assert row["min_cycles"] <= row["q1_cycles"] <= row["median_cycles"] <= row["q3_cycles"] <= row["max_cycles"]
        assert row["median_ns"] == round(row["median_cycles"] * 1e9 / run["frequency_hz"], 3)
        assert sum(row["ledger_cycles"].values()) == pytest.approx(row["median_cycles"], abs=1e-9)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--paging", "shadw"], "no paging mode 'shadw'; did you mean 'shadow'?"),
        (["--timing", "slow"], "no timing 'slow'; there are: flat, fast, detailed"),
        (["--profile", "netburst"], "no profile 'netburst' "),
        (["--profile", "haswell", "--all-profiles"], "both --profile and --all-profiles were given; leave one out"),
        (["--set", "core.frequency_hz"], "--set 'core.frequency_hz': write it as section.key=value"),
        (["--plot", "plot.gif"], "--plot 'plot.gif' must end in .png or .svg"),
        (["--json", "/nowhere/f.json"], "cannot write '/nowhere/f.json': "),
    ],
)
def test_mistakes_are_one_line_and_status_2_before_anything_runs(
    arguments: list[str], line: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vmexit, "run_all", lambda runs: pytest.fail("ran"))
    status, output, errors = run_bench(arguments, capfd)
    assert (status, output) == (2, "")
    assert errors.startswith(f"sidecore: {line}")
    assert errors.count("\n") == 1


def test_cycles_are_shown_to_what_matters() -> None:
    texts = {4819.0: "4,819", 1.0: "1", 0.52: "0.5", 12.34: "12.3", 1234.56: "1,235", -0.04: "0", -3.2: "-3.2"}
    assert {cycles: cycles_text(cycles) for cycles in texts} == texts
