"""Claims about `sidecore bench fig1`: what it shows, writes and refuses."""

import json
from pathlib import Path

import pytest

from benchmarks.cli import main


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
    found = json.loads(file.read_text())["rows"]
    evens = [(row["spec"]["profile"], row["about"]["sidecall"]) for row in found if row["metric"] == "break_even_line"]
    assert evens == [(name, key) for name in ("core2-2006", "netburst-2006") for key in ("null", "cpuid", "pte")]
    assert {row["spec"]["guests"] for row in found if row["metric"].startswith("wait_")} == {1}
    printed = capsys.readouterr().out
    assert [printed.index(title) for title in ("Figure 1:", "Break-even:", "under load")] == sorted(
        printed.index(title) for title in ("Figure 1:", "Break-even:", "under load")
    )
