"""Figure 1: what it claims on the paper's machine, and that its accounts are whole."""

import json
from pathlib import Path

import pytest

from benchmarks.cli import main
from benchmarks.fig1.break_even import STEP_CYCLES, break_even_table, break_evens, slower_run
from benchmarks.fig1.measure import BARS, FIGURE, account_of, figures, improvement, measurement
from benchmarks.harness.guest_runs import run_guest
from benchmarks.harness.parts import parts, served_parts
from benchmarks.harness.results import Results, Run


@pytest.fixture(scope="module")
def shadow() -> Results:
    return run_guest(Run("fig1", "netburst-2006", "shadow", "fast", has_sidecore=True))


def test_a_sidecall_beats_the_exit_in_every_bar(shadow: Results) -> None:
    assert all(improvement(shadow, exit_name, call_name) > 0.3 for exit_name, call_name, _ in FIGURE)


def test_a_new_entry_gains_about_what_the_paper_says(shadow: Results) -> None:
    assert 0.30 < improvement(shadow, "pte_exit", "pte") < 0.55


def test_a_new_entry_takes_two_exits_or_one(shadow: Results) -> None:
    assert account_of(shadow, "pte_exit").exits == {"EXCEPTION_NMI": 2}
    assert account_of(shadow, "pte").exits == {"EXCEPTION_NMI": 1}
    assert account_of(shadow, "null").exits == account_of(shadow, "cpuid").exits == {}


def test_a_changed_entry_gains_nothing_as_its_flush_takes_an_exit_too(shadow: Results) -> None:
    """Like for like: where VM exits flush the TLB (no VPID) the store's exit has done so; the sidecall's IPI exits."""
    assert account_of(shadow, "pte_change_exit").exits == {"EXCEPTION_NMI": 1}
    assert account_of(shadow, "pte_change").exits == {"EXTERNAL_INTERRUPT": 1}
    assert -0.3 < improvement(shadow, "pte_change_exit", "pte_change") < 0
    assert improvement(shadow, "pte_clear_exit", "pte_change") < -5  # a table's end takes two exits and a flush in all


def test_only_the_second_exit_of_an_unmodified_kernel_is_saved(shadow: Results) -> None:
    """It does not know that the VMM has flushed, and adds INVLPG, which exits."""
    assert account_of(shadow, "pte_flush_exit").exits == {"EXCEPTION_NMI": 1, "INVLPG": 1}
    invlpg_cycles = measurement(shadow, "pte_flush_exit").median - measurement(shadow, "pte_change_exit").median
    saved_cycles = measurement(shadow, "pte_flush_exit").median - measurement(shadow, "pte_change").median
    assert 0 < saved_cycles < invlpg_cycles


def test_with_the_hardware_flush_a_changed_entry_gains_what_a_call_does(shadow: Results) -> None:
    run = Run(
        "fig1", "netburst-2006", "shadow", "fast", ("vmx.remote_tlb_flush_cycles=400",), has_sidecore=True
    )  # as long as a line takes
    asked_for = run_guest(run)
    assert account_of(asked_for, "pte_change").exits == {}
    assert improvement(asked_for, "pte_change_exit", "pte_change") > 0.6
    assert measurement(asked_for, "pte_change_exit").median == measurement(shadow, "pte_change_exit").median


def test_at_the_break_even_a_sidecall_takes_as_long_as_the_exit(shadow: Results) -> None:
    found = break_evens(shadow, run_guest(slower_run(shadow.run, STEP_CYCLES)))
    assert set(found) == {"null", "cpuid", "pte"}
    null = found["null"]
    assert 4 <= null.slope < 4.5  # the request's line and the answer's, each taken away and brought
    at_cycles = round(null.cycles) - null.transfer_cycles
    results = run_guest(slower_run(shadow.run, at_cycles))
    assert abs(improvement(results, "null_exit", "null")) < 0.01
    title, table = break_even_table([shadow], [found])
    assert "Break-even" in title
    assert table.row_count == 1


def test_the_account_of_a_bar_is_the_bar(shadow: Results) -> None:
    for name in (name for bar in BARS for name in bar[:2]):
        assert sum(parts(account_of(shadow, name)).values()) == pytest.approx(measurement(shadow, name).median, abs=1.5)


def test_what_the_sidecore_does_fits_into_the_waiting(shadow: Results) -> None:
    for _, name, _ in BARS:
        account = account_of(shadow, name)
        served = sum(served_parts(account).values())
        assert 0 < served < parts(account)["waiting"] + parts(account)["line transfers"]


def test_a_sidecore_that_sleeps_answers_later_by_its_wake_latency(shadow: Results) -> None:
    asleep = run_guest(Run("fig1", "netburst-2006", "shadow", "fast", has_sidecore=True, poll="mwait"))
    later = measurement(asleep, "null").median - measurement(shadow, "null").median
    assert later == pytest.approx(6000, abs=60)  # events.mwait_wake_ns at 3 GHz, less the polls it saves
    assert measurement(asleep, "null_exit").median == measurement(shadow, "null_exit").median


def test_figures_are_whole(shadow: Results) -> None:
    run = json.loads(json.dumps(figures([shadow])))["runs"][0]
    assert set(run["bars"]) == {"null", "cpuid", "pte", "pte_change", "pte_flush", "pte_clear"}
    assert run["bars"]["pte"]["exit"]["median_cycles"] > run["bars"]["pte"]["sidecall"]["median_cycles"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--paging", "native"], "--paging: Figure 1 is of one way of paging, shadow or ept"),
        (["--poll", "nap"], "no way to poll 'nap'"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["bench", "fig1", *arguments])
    assert end.value.code == 2
    assert line in capsys.readouterr().err


def test_the_command_prints_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plot = tmp_path / "fig1.svg"
    main(["bench", "fig1", "--paging", "ept", "--profile", "core2-2006", "--plot", str(plot)])
    assert "new page-table entry" in capsys.readouterr().out
    assert plot.read_text().count("<svg") == 1


def test_the_file_has_break_evens_and_loads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "fig1.json"
    profiles = ["--profile", "core2-2006", "--profile", "netburst-2006"]
    main(["bench", "fig1", *profiles, "--guests", "1", "--json", str(file)])
    found = json.loads(file.read_text())
    assert all(set(run["break_even_line_cycles"]) == {"null", "cpuid", "pte"} for run in found["runs"])
    assert [load["guests"] for load in found["loads"]] == [1]
    printed = capsys.readouterr().out
    assert [printed.index(title) for title in ("Figure 1:", "Break-even:", "under load")] == sorted(
        printed.index(title) for title in ("Figure 1:", "Break-even:", "under load")
    )
