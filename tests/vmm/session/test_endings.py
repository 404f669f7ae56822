"""The table of ENDINGS.md, row by row: how a run ends, with which status, what is said and shown of it."""

import os
import re
import signal
import subprocess
from pathlib import Path
from typing import NamedTuple

import pexpect
import pytest

import vmm.session.ending
from benchmarks.cli import main
from tests.vmm.cli.test_main import COMMAND, ENVIRONMENT
from tests.vmm.session import tiny_kernels as tiny

DOCUMENT = Path(vmm.session.ending.__file__).with_name("ENDINGS.md")
HELLO = tiny.say(b"hello\n")
GUESTS = {
    "writes 0 to the debug exit": tiny.debug_exit(0),
    "writes 3 to the debug exit": tiny.debug_exit(3),
    "writes 128 to the debug exit": tiny.debug_exit(128),
    "powers off": tiny.POWER_OFF,
    "resets by port 0x64": tiny.RESET,
    "resets by port 0xcf9": bytes.fromhex("66baf90c b006 ee ebfe"),
    "says hello": HELLO + tiny.debug_exit(0),
    "says hello and hangs": HELLO + tiny.HANG,
    "says hello for ever": tiny.say_for_ever(ord("\n")),
    "has no IDT and faults": tiny.TRIPLE_FAULT,
    "halts with interrupts off": tiny.HALT,
    "halts with interrupts on": tiny.SLEEP,
    "hangs": tiny.HANG,
    "does what is not modelled": bytes.fromhex("bef000e0fe 0f6e06"),
}
pytestmark = pytest.mark.timeout(60)  # a run that does not end must not stop the whole suite
SIGNALS = {"Ctrl-C": signal.SIGINT, "SIGTERM": signal.SIGTERM, "SIGHUP": signal.SIGHUP}
STATE = re.compile(r"^cpu \d at 0x200[0-9a-f]{3}, ring 0, 64 bits, cycle [\d,]+$", re.MULTILINE)


class Row(NamedTuple):
    nr: str
    guest: str
    options: str
    by: str
    status: str
    text: str
    state: str


def rows() -> list[Row]:
    lines = [line for line in DOCUMENT.read_text().splitlines() if re.match(r"\| \d", line)]
    return [Row(*(cell.strip().strip("`") for cell in line.strip("|").split("|"))) for line in lines]


def arguments_of(row: Row) -> list[str]:
    tiny.write_kernel(Path(), GUESTS[row.guest])
    return ["boot", "--kernel", "kernel.elf", "--memory", "16M", *row.options.split()]


def check(row: Row, status: int | None, errors: str) -> None:
    assert status == int(row.status)
    lines = errors.splitlines()
    assert any(line.startswith(f"sidecore: {row.text}") for line in lines), errors
    assert bool(STATE.search(errors)) == (row.state == "yes"), errors
    assert "Traceback" not in errors
    assert ("workstation seconds" in errors) == (row.status != "2")


def test_the_table_has_thirty_rows_and_more_in_order() -> None:
    numbers = [int(row.nr) for row in rows()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 30


@pytest.mark.parametrize("row", [row for row in rows() if not row.by], ids=lambda row: row.nr)
def test_a_run_ends_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], row: Row
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_:
        main([*arguments_of(row), "--no-input"])
    assert isinstance(exit_.value.code, int)
    check(row, exit_.value.code, capfd.readouterr().err)
    assert (tmp_path / "F").exists() == row.text.startswith("the state was saved")


def default_signals() -> None:
    """Whatever the tests were started with, as by nohup."""
    for number in SIGNALS.values():
        signal.signal(number, signal.SIG_DFL if number != signal.SIGINT else signal.default_int_handler)


@pytest.mark.parametrize("row", [row for row in rows() if row.by and row.by != "Ctrl-A X"], ids=lambda row: row.nr)
def test_a_run_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: Row) -> None:
    monkeypatch.chdir(tmp_path)
    pipe = subprocess.PIPE
    command = [*COMMAND, *arguments_of(row), "--stats", "s.json", "--trace", "t.jsonl"]
    with subprocess.Popen(
        command, env=ENVIRONMENT, stdout=pipe, stderr=pipe, text=True, preexec_fn=default_signals
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(1)  # it runs
        if row.by in SIGNALS:
            process.send_signal(SIGNALS[row.by])
        else:
            process.stdout.close()
        assert process.stderr is not None
        errors = process.stderr.read()
    check(row, process.returncode, errors)
    assert (tmp_path / "s.json").exists()
    assert '"records": ' in (tmp_path / "t.jsonl").read_text().splitlines()[-1]


@pytest.mark.parametrize("row", [row for row in rows() if row.by == "Ctrl-A X"], ids=lambda row: row.nr)
def test_a_run_is_ended_at_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: Row) -> None:
    monkeypatch.chdir(tmp_path)
    child = pexpect.spawn(COMMAND[0], [*COMMAND[1:], *arguments_of(row)], env=dict(ENVIRONMENT), timeout=60)
    try:
        child.expect_exact("hello")
        child.send("\x01x")
        child.expect(pexpect.EOF)
        child.close()
        check(row, child.exitstatus, child.before.decode().replace(os.linesep, "\n").replace("\r\n", "\n"))
    finally:
        child.close(force=True)
