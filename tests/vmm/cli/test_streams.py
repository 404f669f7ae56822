"""Claims about stdin, stdout and stderr: closed, without a reader, full, or taken by figures."""

import json
import os
import subprocess
import threading
from pathlib import Path

import pytest

from tests.vmm.cli.test_main import COMMAND, ENVIRONMENT
from tests.vmm.session import tiny_kernels as tiny

SAYS = tiny.say(b"hello\n") + tiny.debug_exit(0)


def shell(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    """`command`, in which $BOOT boots a guest that says hello, and $SIDECORE is the command alone."""
    kernel = tiny.write_kernel(folder, SAYS)
    words = " ".join(COMMAND)
    boot = f"{words} boot --kernel {kernel} --memory 16M --no-input"
    environment = {**ENVIRONMENT, "BOOT": boot, "SIDECORE": words}
    return subprocess.run(
        ["bash", "-c", command], env=environment, capture_output=True, text=True, check=False, cwd=folder
    )


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_lead_nowhere(tmp_path: Path, closed: str) -> None:
    done = shell(tmp_path, f"$BOOT --trace t.jsonl --stats s.json {closed}")
    assert done.returncode == 0
    assert done.stdout == ("" if " >&-" in f" {closed}" else "hello\n")
    assert "Traceback" not in done.stderr
    assert bool(done.stderr) == ("2>&-" not in closed)
    assert "hello" not in (tmp_path / "t.jsonl").read_text()
    assert json.loads((tmp_path / "s.json").read_text())["cycles"] > 0


def test_a_reader_of_stderr_that_leaves_changes_nothing(tmp_path: Path) -> None:
    done = shell(tmp_path, "$BOOT 2> >(exec <&-; sleep 1); echo status $?")
    assert done.stdout == "hello\nstatus 0\n"
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("command", "status"),
    [("$SIDECORE images list >/dev/full", 2), ("$BOOT >/dev/full", 2), ("$BOOT 2>/dev/full", 0)],
)
def test_a_full_disk_is_one_line(tmp_path: Path, command: str, status: int) -> None:
    done = shell(tmp_path, command)
    assert done.returncode == status
    assert "Traceback" not in done.stderr
    if status:
        assert done.stderr.count("\n") == 1
        assert done.stderr.endswith("No space left on device\n")


def test_figures_on_stdout_have_it_for_themselves(tmp_path: Path) -> None:
    done = shell(tmp_path, "$BOOT --stats -")
    assert json.loads(done.stdout)["cycles"] > 0
    assert "hello\n" in done.stderr
    done = shell(tmp_path, "$BOOT --trace -")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert records[0]["trace"] == "sidecore"
    assert records[-1] == {"records": len(records) - 2, "dropped": 0}
    done = shell(tmp_path, "$BOOT --stats - --trace -")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "sidecore: --stats and --trace both name '-'; give each its own file\n"


@pytest.mark.parametrize("option", ["--stats", "--trace"])
def test_figures_go_into_a_pipe_with_a_name(tmp_path: Path, option: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    received: list[str] = []
    reader = threading.Thread(target=lambda: received.append((tmp_path / "fifo").read_text()))
    reader.start()
    assert shell(tmp_path, f"$BOOT {option} fifo").returncode == 0
    reader.join(timeout=60)
    assert (tmp_path / "fifo").is_fifo()
    if option == "--stats":
        assert json.loads(received[0])["cycles"] > 0
    else:
        assert json.loads(received[0].splitlines()[-1])["records"] > 0


def test_a_snapshot_needs_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    done = shell(tmp_path, "$BOOT --save fifo --save-at-cycle 9")
    assert done.returncode == 2
    assert "it is not a regular file" in done.stderr
