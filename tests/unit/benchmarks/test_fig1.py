"""Figure 1: what it claims on the paper's machine, and that its accounts are whole."""

import json
from pathlib import Path

import pytest

from benchmarks.cli import main
from benchmarks.fig1 import BARS, account_of, figures, improvement, measurement, parts, served_parts
from benchmarks.guest_runs import Results, Run, run_guest


@pytest.fixture(scope="module")
def shadow() -> Results:
    return run_guest(Run("fig1", "netburst-2006", "shadow", "fast", has_sidecore=True))


def test_a_sidecall_beats_the_exit_in_every_bar(shadow: Results) -> None:
    assert all(improvement(shadow, exit_name, call_name) > 0.3 for exit_name, call_name, _ in BARS)


def test_a_new_entry_gains_about_what_the_paper_says(shadow: Results) -> None:
    assert 0.30 < improvement(shadow, "pte_exit", "pte") < 0.55


def test_a_new_entry_takes_two_exits_or_one(shadow: Results) -> None:
    assert account_of(shadow, "pte_exit").exits == {"EXCEPTION_NMI": 2}
    assert account_of(shadow, "pte").exits == {"EXCEPTION_NMI": 1}
    assert account_of(shadow, "null").exits == account_of(shadow, "cpuid").exits == {}


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
    assert set(run["bars"]) == {"null", "cpuid", "pte", "pte_change"}
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
