"""Claims about the files of a benchmark: refused before anything runs, or written whole."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks.harness.outputs import Outputs
from benchmarks.harness.plotting import plot_bytes
from benchmarks.harness.results import Missing, Result, Row
from emulator.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


ROWS: list[Row] = [
    Result({"profile": "haswell"}, "sum", "cycles", 2.5, about={"of": 3}),
    Missing({"profile": "skylake"}, "sum", "no, it has none"),
]


def draw_line(figure: "Figure") -> None:
    figure.subplots().plot([1, 2], [3, 4], label="a line")


@pytest.mark.parametrize("name", ["plot.pdf", "plot", "plot.png.txt", ".png"])
def test_a_plot_is_png_or_svg(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"^--plot '.*' must end in \.png or \.svg$"):
        Outputs(plot_path=tmp_path / name).check()


@pytest.mark.parametrize("outputs", [Outputs(Path("/nowhere/f.json")), Outputs(None, Path("/nowhere/f.png"))])
def test_a_folder_that_is_not_there_is_refused(outputs: Outputs) -> None:
    with pytest.raises(ConfigError, match=r"^cannot write '/nowhere/f\.(json|png)': "):
        outputs.check()


def test_both_into_one_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--json and --plot both name"):
        Outputs(tmp_path / "a.png", tmp_path / "a.png").check()


def test_a_check_leaves_nothing_behind_and_old_files_alone(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text("old")
    Outputs(tmp_path / "old.json", tmp_path / "new.PNG").check()
    assert [path.name for path in tmp_path.iterdir()] == ["old.json"]
    assert (tmp_path / "old.json").read_text() == "old"


def test_files_are_written(tmp_path: Path) -> None:
    outputs = Outputs(tmp_path / "a.json", tmp_path / "a.PNG", tmp_path / "a.csv")
    outputs.write("sums", ROWS, draw_line)
    assert json.loads((tmp_path / "a.json").read_text()) == {
        "benchmark": "sums",
        "rows": [
            {"spec": {"profile": "haswell"}, "metric": "sum", "unit": "cycles", "value": 2.5, "about": {"of": 3}},
            {"spec": {"profile": "skylake"}, "metric": "sum", "unit": "cycles", "value": None,
             "about": {"unavailable": "no, it has none"}},
        ],
    }  # fmt: skip
    assert (tmp_path / "a.csv").read_text().splitlines() == [
        "spec.profile,metric,unit,value,about.of,about.unavailable",
        "haswell,sum,cycles,2.5,3,",
        'skylake,sum,cycles,,,"no, it has none"',
    ]
    assert (tmp_path / "a.PNG").read_bytes().startswith(b"\x89PNG")


def test_a_plot_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "a.svg").write_text("old")

    def fail(figure: "Figure") -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        Outputs(plot_path=tmp_path / "a.svg").write("sums", ROWS, fail)
    assert (tmp_path / "a.svg").read_text() == "old"


def test_the_same_plot_is_the_same_file() -> None:
    first, second = (plot_bytes(draw_line, ".svg") for _ in range(2))
    assert first == second
    assert b"<svg" in first
