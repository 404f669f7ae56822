"""Claims about `sidecore diff`: equal says so, the first difference is named, what cannot be compared is one line."""

import json
from pathlib import Path

import pytest

import sidecore
from benchmarks.cli import main
from tests.vmm.session import tiny_kernels as tiny
from vmm.session.diff.snapshots import differences
from vmm.session.snapshot import read_snapshot


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main([*arguments])
    return int(ended.value.code or 0)


def boot(*arguments: str) -> None:
    run("boot", "default", "--memory", "32M", "--no-input", *arguments)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("one", "other"), [("a.jsonl", "b.jsonl"), ("a.jsonl", "b.csv"), ("a.json", "b.json")])
def test_equal_traces_are_equal(here: Path, capfd: pytest.CaptureFixture[str], one: str, other: str) -> None:
    for name in (one, other):
        boot("--trace", name, "--trace-last", "300")
    capfd.readouterr()
    assert run("diff", one, other) == 0
    assert capfd.readouterr().out.startswith("no difference in ")


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "json"])
def test_the_first_exit_at_which_traces_part_is_named(
    here: Path, capfd: pytest.CaptureFixture[str], suffix: str
) -> None:
    boot("--trace", f"a.{suffix}", "--max-cycles", "1000000")
    boot("--trace", f"b.{suffix}", "--max-cycles", "1000000", "--set", "instructions.cpuid_cycles=1000")
    capfd.readouterr()
    assert run("diff", f"a.{suffix}", f"b.{suffix}") == 1
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].startswith("they part at ")
    assert "CPUID" in lines[-1]
    if suffix != "json":
        assert [line.split(":")[0].strip() for line in lines[2:-2]] == ["cycles"]
        assert run("diff", "--ignore", "cycle", "--ignore", "cycles", f"a.{suffix}", f"b.{suffix}") in (0, 1)


def test_a_trace_that_goes_on_is_longer(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    boot("--trace", "long.csv")
    lines = (here / "long.csv").read_text().splitlines(keepends=True)
    (here / "short.csv").write_text("".join(lines[:101]))
    capfd.readouterr()
    assert run("diff", "short.csv", "long.csv") == 1
    assert capfd.readouterr().out.startswith("short.csv ends behind exit 100; long.csv goes on with\ncycle=")


def test_equal_snapshots_are_equal(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        boot("--save", name, "--save-at-cycle", "2000000")
    capfd.readouterr()
    assert run("diff", "a", "b") == 0
    assert capfd.readouterr().out == "no difference\n"


def test_what_differs_between_snapshots_is_named(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    boot("--save", "a", "--save-at-exit", "IO_INSTRUCTION:30")
    boot("--save", "b", "--save-at-exit", "IO_INSTRUCTION:31")
    capfd.readouterr()
    assert run("diff", "--all", "a", "b") == 1
    places = [line.split(":  ")[0] for line in capfd.readouterr().out.splitlines()]
    assert "cpu 0: clock_cycles" in places
    assert "cpu 0: rdx" in places or "cpu 0: rax" in places or "cpu 0: GUEST_RIP" in places
    assert any(place.startswith("guest.") for place in places)
    assert run("diff", "a", "b") == 1
    assert len(capfd.readouterr().out.splitlines()) <= 41


def world_of(folder: Path) -> sidecore.World:
    world = sidecore.World()
    kernel = tiny.write_kernel(folder, tiny.HANG)
    world.add_host(sidecore.HostSpec(paging="ept")).add_guest(sidecore.GuestSpec(kernel=kernel, memory_bytes=16 << 20))
    world.run(sidecore.Limits(max_cycles=100_000))
    return world


def test_one_byte_of_memory_is_found(here: Path) -> None:
    world = world_of(here)
    world.snapshot().write("a")
    world.hosts[0].built.machine.memory.write(0x40_0123, b"\x5a")
    world.snapshot().write("b")
    found = list(differences(read_snapshot(here / "a"), read_snapshot(here / "b")))
    assert [(difference.place, difference.second[:2]) for difference in found] == [("memory 0: 0x400123", "5a")]


def test_one_attribute_of_a_device_is_found(here: Path) -> None:
    world = world_of(here)
    world.snapshot().write("a")
    world.hosts[0].guests[0].built.board.rtc.index ^= 1
    world.snapshot().write("b")
    found = list(differences(read_snapshot(here / "a"), read_snapshot(here / "b")))
    assert len(found) == 1
    assert found[0].place.endswith("rtc.index")


@pytest.mark.parametrize(
    ("one", "other", "line"),
    [
        ("t.csv", "missing", "cannot read 'missing': No such file or directory"),
        ("t.csv", "text", "'text' is no trace; compare two traces, or two snapshots"),
        ("text", "text", "'text' is no snapshot"),
        ("t.csv", "t.json", "cannot be compared: one is of exits, one of events"),
        ("t.jsonl", "cut.jsonl", "the trace 'cut.jsonl' is damaged"),
        ("t.json", "cut.json", "the trace 'cut.json' is damaged"),
        ("--ignore x text", "text", "--ignore is for traces"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    here: Path, capfd: pytest.CaptureFixture[str], one: str, other: str, line: str
) -> None:
    (here / "text").write_text("text")
    for suffix in ("csv", "jsonl", "json"):
        boot("--trace", f"t.{suffix}", "--trace-last", "3")
        text = (here / f"t.{suffix}").read_text()
        (here / f"cut.{suffix}").write_text(text[: len(text) * 2 // 3])
    capfd.readouterr()
    assert run("diff", *one.split(), other) == 2
    captured = capfd.readouterr()
    assert line in captured.err
    assert captured.err.count("\n") == 1


def test_a_trace_whose_values_are_nonsense_is_no_traceback(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    head = json.dumps({"trace": "sidecore"})
    for number, body in enumerate(("[1]\n", "5\n", '"exit"\n', "null\n")):
        (here / f"{number}.jsonl").write_text(f"{head}\n{body}")
        assert run("diff", f"{number}.jsonl", f"{number}.jsonl") in (0, 2)
        assert "Traceback" not in capfd.readouterr().err
