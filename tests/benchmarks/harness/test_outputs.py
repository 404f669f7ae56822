"""Claims about the files of a benchmark: refused before anything runs, or written whole."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks.harness.outputs import Outputs
from benchmarks.harness.plotting import plot_bytes
from emulator.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
    outputs = Outputs(tmp_path / "a.json", tmp_path / "a.PNG")
    outputs.write({"b": 1, "a": [2.5]}, draw_line)
    assert (tmp_path / "a.json").read_text() == '{\n  "a": [\n    2.5\n  ],\n  "b": 1\n}\n'
    assert (tmp_path / "a.PNG").read_bytes().startswith(b"\x89PNG")


def test_a_plot_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "a.svg").write_text("old")

    def fail(figure: "Figure") -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        Outputs(plot_path=tmp_path / "a.svg").write({}, fail)
    assert (tmp_path / "a.svg").read_text() == "old"


def test_the_same_plot_is_the_same_file() -> None:
    first, second = (plot_bytes(draw_line, ".svg") for _ in range(2))
    assert first == second
    assert b"<svg" in first
