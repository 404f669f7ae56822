"""Claims about `sidecore bench vmexit`: what it shows, writes and refuses."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cli import main
from benchmarks.harness.results import Results, Run
from benchmarks.harness.text import cycles_text
from benchmarks.vmexit import command
from benchmarks.vmexit.measure import OPERATIONS
from tests.benchmarks.vmexit.guest import results_of


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

    monkeypatch.setattr(command, "measure", run_finished)


def test_one_profile_shows_medians_and_accounts(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_finished_runs(monkeypatch)
    status, output, errors = run_bench([], capfd)
    assert (status, errors) == (0, "")
    assert re.search(r"^Operation +native +IQR +shadow +IQR +ept +IQR$", output, re.MULTILINE)
    median = cycles_text(results_of("shadow").by_name()["pte_write"].value)
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
    files = [
        "--json",
        str(tmp_path / "f.json"),
        "--csv",
        str(tmp_path / "f.csv"),
        "--plot",
        str(tmp_path / f"f.{suffix}"),
    ]
    assert run_bench([*arguments, *files], capfd)[0] == 0
    assert (tmp_path / f"f.{suffix}").stat().st_size > 10_000
    document = json.loads((tmp_path / "f.json").read_text())
    assert document["benchmark"] == "vmexit"
    assert len((tmp_path / "f.csv").read_text().splitlines()) == 1 + len(document["rows"])
    pagings = list(dict.fromkeys(row["spec"]["paging"] for row in document["rows"]))
    if len(arguments) > 1:
        assert pagings == ["native", "shadow"]
    for paging in pagings:
        rows = [row for row in document["rows"] if row["spec"]["paging"] == paging]
        assert {row["metric"] for row in rows} == set(OPERATIONS)
        for row in rows:
            check_row(row)


def check_row(row: dict[str, Any]) -> None:
    if row["value"] is None:
        assert (row["spec"]["paging"], row["metric"]) == ("native", "vmcall")
        return
    spread = row["spread"]
    assert len(spread["samples"]) == 11
    assert spread["min"] <= spread["q1"] <= row["value"] <= spread["q3"] <= spread["max"]
    assert sum(row["account"]["cycles"].values()) == pytest.approx(row["value"], abs=1e-9)


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
    monkeypatch.setattr(command, "measure", lambda runs: pytest.fail("ran"))
    status, output, errors = run_bench(arguments, capfd)
    assert (status, output) == (2, "")
    assert errors.startswith(f"sidecore: {line}")
    assert errors.count("\n") == 1
