"""`sidecore boot --save` and `--restore`: two runs that are one."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cli import main

MEMORY = ("--memory", "32M", "--no-input")


def boot(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["boot", *arguments])
    return int(ended.value.code or 0)


def said(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The line of a mistake."""
    assert boot(*arguments) == 2
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def stats(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    del found["host_seconds"]
    return found


def trace_records(path: Path) -> list[str]:
    return path.read_text().splitlines()[1:-1] if path.exists() else []


@pytest.mark.parametrize(
    ("paging", "at"),
    [
        ("native", ("--save-at-text", "SSE")),
        ("native", ("--save-at-cycle", "2000000")),
        ("shadow", ("--save-at-text", "SSE")),
        ("shadow", ("--save-at-exit", "IO_INSTRUCTION:300")),
        ("ept", ("--save-at-cycle", "3000000")),
        ("ept", ("--save-at-exit", "io_instruction:100")),
    ],
)
def test_output_statistics_and_trace_of_both_runs_are_those_of_one(
    paging: str, at: tuple[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def files(name: str) -> tuple[str, ...]:
        trace = () if paging == "native" else ("--trace", str(tmp_path / f"{name}.jsonl"))  # no VM exits to trace
        return "--stats", str(tmp_path / f"{name}.json"), *trace

    saved = str(tmp_path / "saved")
    assert boot("fpu_sse", "--paging", paging, *MEMORY, *files("whole")) == 0
    whole = capfd.readouterr().out
    assert boot("fpu_sse", "--paging", paging, *MEMORY, *files("first"), "--save", saved, *at) == 0
    first = capfd.readouterr()
    assert "the state was saved" in first.err
    assert 0 < len(first.out) < len(whole)
    assert boot("--restore", saved, *files("second"), "--no-input") == 0
    assert first.out + capfd.readouterr().out == whole
    assert stats(tmp_path / "second.json") == stats(tmp_path / "whole.json")
    records = [record for name in ("first", "second") for record in trace_records(tmp_path / f"{name}.jsonl")]
    assert records == trace_records(tmp_path / "whole.jsonl")


def test_an_awaited_text_may_begin_before_the_snapshot(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    saved = str(tmp_path / "saved")
    assert boot("default", "--paging", "native", *MEMORY) == 0
    line = re.findall(r"PASS[^\n]*", capfd.readouterr().out)[0]
    assert (
        boot("default", "--paging", "native", *MEMORY, "--save", saved, "--save-at-text", line[: len(line) // 2]) == 0
    )
    assert boot("--restore", saved, "--until", line, "--no-input") == 0
    assert "the awaited text was seen" in capfd.readouterr().err


def test_a_run_that_ends_before_its_place_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    saved = tmp_path / "saved"
    assert boot("fpu_sse", "--paging", "native", *MEMORY, "--save", str(saved), "--save-at-text", "no such text") == 12
    assert "before it came to where it is saved" in capfd.readouterr().err
    assert not saved.exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--save", "F"), "--save needs one of --save-at-text"),
        (("--save", "F", "--save-at-text", "x", "--save-at-cycle", "1"), "--save needs one of"),
        (("--save-at-text", "x"), "need --save; name the file"),
        (("--save", "F", "--save-at-text", ""), "a text that is not empty"),
        (("--save", "F", "--save-at-cycle", "0"), "give a number above 0"),
        (("--save", "F", "--save-at-exit", "CPUIDX"), "--save-at-exit: no exit reason"),
        (("--save", "F", "--save-at-exit", "CPUID", "--paging", "native"), "--paging native has no VM exits"),
        (("--save", "F", "--save-at-cycle", "1", "--explain", "CPUID"), "--explain goes with neither"),
        (("--save", "/no/such/folder/F", "--save-at-cycle", "1"), "/no/such/folder"),
        (("--restore", "F"), "cannot read the snapshot"),
        (("--restore", "F", "--memory", "64M"), "--restore has --memory from the snapshot"),
        (("default", "--restore", "F"), "--restore has the guest's name from the snapshot"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: tuple[str, ...], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert line in said(capfd, *arguments)
