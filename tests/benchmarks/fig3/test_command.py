"""Claims about `sidecore bench pagefault`, `ctx` and `fig3`: what they refuse."""

from pathlib import Path

import pytest

from benchmarks.cli import main


@pytest.mark.parametrize("command", ["pagefault", "ctx", "fig3"])
def test_mistakes_are_one_line(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, line in (
        (["--paging", "native"], "--paging: Figure 3 is of one way of paging, shadow or ept"),
        (["--plot", str(tmp_path / "f.gif")], "must end in .png or .svg"),
    ):
        with pytest.raises(SystemExit) as end:
            main(["bench", command, *arguments])
        assert end.value.code == 2
        assert line in capsys.readouterr().err
