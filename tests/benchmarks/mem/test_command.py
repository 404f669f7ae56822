"""Claims about `sidecore bench mem`: what it shows, writes and refuses."""

import json
import re
from pathlib import Path

import pytest

from benchmarks.cli import main
from benchmarks.harness.results import Results
from benchmarks.mem import command
from tests.benchmarks.mem.made import made_results
from vmm.session.spec import Paging


def run_bench(all_results: list[Results], arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "measure", lambda runs: all_results)
    main(["bench", "mem", *arguments])


def test_one_run_shows_nanoseconds_too(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    run_bench([made_results()], ["--paging", "native"], monkeypatch)
    output = capfd.readouterr().out
    assert "Latency, haswell, native, detailed timing: cycles of a load" in output
    assert re.search(r"^ +Size +native +ns$\n^1 KiB +3\.0 +1\.5$\n^2 KiB +7\.0 +3\.5$", output, re.MULTILINE)
    assert re.search(r"^Pages +native +native beyond$\n^ +16 +3\.0 +0\.0$\n^ +32 +27\.0 +20\.0$", output, re.MULTILINE)
    assert re.search(r"^4 KiB +0\.50 +0\.25 +0\.12$", output, re.MULTILINE)


def test_runs_stand_beside_each_other(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    run_bench([made_results(), made_results("ept", scale=2)], [], monkeypatch)
    output = capfd.readouterr().out
    assert re.search(r"^ +Size +native +ept$\n^1 KiB +3\.0 +6\.0$", output, re.MULTILINE)
    assert re.search(r"^ +32 +27\.0 +20\.0 +54\.0 +40\.0$", output, re.MULTILINE)


@pytest.mark.parametrize("suffix", ["png", "svg"])
@pytest.mark.parametrize("other", [("ept", "haswell"), ("native", "nehalem")])
def test_files_have_all_of_it(
    tmp_path: Path, suffix: str, other: tuple[Paging, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = ["--json", str(tmp_path / "f.json"), "--plot", str(tmp_path / f"f.{suffix}")]
    run_bench([made_results(), made_results(*other)], files, monkeypatch)
    assert (tmp_path / f"f.{suffix}").stat().st_size > 10_000
    document = json.loads((tmp_path / "f.json").read_text())
    assert document["benchmark"] == "mem"
    rows = document["rows"]
    first, second = rows[0]["spec"], rows[-1]["spec"]
    assert (first["profile"], first["paging"], first["frequency_hz"]) == ("haswell", "native", 2_000_000_000)
    assert (second["paging"], second["profile"]) == other
    values = {
        (row["metric"], row["unit"], *row["about"].values()): row["value"] for row in rows if row["spec"] == first
    }
    assert values["load_latency", "cycles", 2048, 64] == 7
    assert values["page_latency", "cycles", 32] == 27
    assert values["beyond_a_line", "cycles", 32] == 20
    assert values["copy_bandwidth", "bytes_per_cycle", 4096] == 0.125


def test_a_wrong_plot_is_refused_before_anything_runs(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "measure", lambda runs: pytest.fail("ran"))
    with pytest.raises(SystemExit) as ending:
        main(["bench", "mem", "--plot", "plot.jpg"])
    assert ending.value.code == 2
    assert capfd.readouterr().err == "sidecore: --plot 'plot.jpg' must end in .png or .svg\n"
