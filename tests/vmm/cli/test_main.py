"""Claims about the command `sidecore`: what goes where, which status, what the other commands show."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pexpect
import pytest

from benchmarks.cli import main
from emulator.errors import choices_text
from emulator.profiles.file import profile_path
from emulator.profiles.profile import shipped_profiles, shipped_variants
from emulator.profiles.sections import BY_REASON, PARAMETERS
from guest_images.images import all_images
from tests import ROOT
from tests.vmm.session import tiny_kernels as tiny

COMMAND = [sys.executable, "-m", "benchmarks.cli"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def boot_tiny(folder: Path, code: bytes, *more: str) -> list[str]:
    kernel = tiny.write_kernel(folder, code)
    return ["boot", "--kernel", str(kernel), "--memory", "16M", "--paging", "native", *more]


def run_main(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert isinstance(exit_.value.code, int)
    return exit_.value.code


def test_stdout_is_exactly_the_guests_output(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_main(boot_tiny(tmp_path, tiny.say(b"no newline") + tiny.debug_exit(0))) == 0
    output, errors = capfd.readouterr()
    assert output == "no newline"
    assert errors.startswith("sidecore: the guest wrote to the debug-exit port: value 0\nCycle ledger")
    assert "workstation seconds" in errors


@pytest.mark.parametrize(
    ("code", "more", "status"),
    [
        (tiny.debug_exit(3), (), 7),
        (tiny.HANG, ("--max-cycles", "1000"), 3),
        (tiny.HANG, ("--max-seconds", "0.01"), 3),
        (tiny.say_for_ever(ord("a")), ("--until", "aaaa"), 0),
        (tiny.RESET, (), 0),
    ],
)
def test_the_status_tells_how_the_run_ended(tmp_path: Path, code: bytes, more: tuple[str, ...], status: int) -> None:
    assert run_main(boot_tiny(tmp_path, code, *more)) == status


def test_the_statistics_file_is_the_same_in_every_run(tmp_path: Path) -> None:
    texts = []
    for name in ("a.json", "b.json"):
        run_main(boot_tiny(tmp_path, tiny.say(b"x") + tiny.debug_exit(0), "--stats", str(tmp_path / name)))
        texts.append(json.loads((tmp_path / name).read_text()))
    assert texts[0].pop("host_seconds") > 0
    assert texts[1].pop("host_seconds") > 0
    assert texts[0] == texts[1]
    assert set(texts[0]) == {"cycles", "instructions", "guest_seconds", "frequency_hz", "exits", "ledger", "accounts"}


def test_ctrl_c_ends_a_run_with_its_summary(tmp_path: Path) -> None:
    arguments = boot_tiny(tmp_path, tiny.say(b"begun\n") + tiny.HANG, "--stats", str(tmp_path / "s.json"))
    pipe = subprocess.PIPE
    with subprocess.Popen([*COMMAND, *arguments], env=ENVIRONMENT, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.startswith("sidecore: stopped by the user: Ctrl-C\n")
    assert "Traceback" not in errors
    assert json.loads((tmp_path / "s.json").read_text())["cycles"] > 0


def test_a_reader_that_leaves_ends_the_run(tmp_path: Path) -> None:
    arguments = boot_tiny(tmp_path, tiny.say_for_ever(ord("\n")))
    pipe = subprocess.PIPE
    with subprocess.Popen([*COMMAND, *arguments], env=ENVIRONMENT, stdout=pipe, stderr=pipe) as process:
        assert process.stdout is not None
        assert process.stdout.read(3) == b"\n\n\n"
        process.stdout.close()
        assert process.stderr is not None
        assert b"nobody reads the output any more" in process.stderr.readline()
        process.stderr.read()
    assert process.returncode == 130


def test_at_a_terminal_ctrl_a_x_ends_the_run(tmp_path: Path) -> None:
    arguments = boot_tiny(tmp_path, tiny.say(b"begun") + tiny.HANG)
    child = pexpect.spawn(COMMAND[0], [*COMMAND[1:], *arguments], env=ENVIRONMENT, timeout=60)
    try:
        child.expect_exact("begun")
        time.sleep(0.1)  # not needed, but nearer to what people do
        child.send("\x03")  # Ctrl-C is the guest's
        child.send("\x01x")
        child.expect_exact("\r\nsidecore: stopped by the user: Ctrl-A X\r\n")  # on a line of its own
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 130
    finally:
        child.close(force=True)


def test_a_status_line_shows_that_a_silent_run_is_alive(tmp_path: Path) -> None:
    arguments = boot_tiny(tmp_path, tiny.HANG, "--max-seconds", "3")
    command = " ".join([*COMMAND, *arguments])
    child = pexpect.spawn("/bin/sh", ["-c", f"{command} >{tmp_path}/out"], env=ENVIRONMENT, timeout=60)
    try:
        child.expect(rb"guest seconds after \d+ s, \d+ MIPS")
        child.expect_exact(b"\r\x1b[Ksidecore: a limit was reached")  # and is wiped away
        child.expect(pexpect.EOF)
    finally:
        child.close(force=True)
    assert (tmp_path / "out").read_bytes() == b""


def test_images_list_shows_every_image(capfd: pytest.CaptureFixture[str]) -> None:
    main(["images", "list"])
    assert [line.split()[0] for line in capfd.readouterr().out.splitlines()] == [entry.name for entry in all_images()]


def test_images_build_prints_where_the_kernel_is(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIDECORE_CACHE", str(tmp_path))
    main(["images", "build", "default"])
    path = Path(capfd.readouterr().out.strip())
    assert path.read_bytes().startswith(b"\x7fELF")
    assert path.is_relative_to(tmp_path)


def test_profiles_are_listed_and_shown_with_their_sources(capfd: pytest.CaptureFixture[str]) -> None:
    main(["profiles", "list"])
    heading, *rows = capfd.readouterr().out.splitlines()
    assert heading.split()[0] == "Profile"
    assert [line.split()[0] for line in rows] == [*shipped_profiles(), *shipped_variants()]
    main(["profiles", "show", "netburst-2006"])
    rows = capfd.readouterr().out.splitlines()
    assert rows[1].split() == ["Parameter", "Value", "Confidence", "Source"]
    cpuid = next(row for row in rows if row.startswith("vmx.exit_cycles_by_reason.CPUID "))
    assert cpuid.split()[1:3] == ["1,599", "recalled"]
    assert cpuid.endswith("table 4.4: Prescott, exit by CPUID")


def test_profiles_diff_shows_only_what_differs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.toml"
    text = profile_path("haswell").read_text()
    path.write_text(text.replace("value = 3_400_000_000", "value = 1_000_000_000").replace("EPT_VIOLATION", "HLT"))
    main(["profiles", "diff", "haswell", str(path)])
    assert [line.split() for line in capfd.readouterr().out.splitlines()] == [
        ["Parameter", "haswell", str(path)],
        ["core.frequency_hz", "3,400,000,000", "1,000,000,000"],
        ["vmx.exit_cycles_by_reason.HLT", "-", "539"],
        ["vmx.exit_cycles_by_reason.EPT_VIOLATION", "539", "-"],
    ]
    main(["profiles", "diff", "haswell", "haswell"])
    assert capfd.readouterr().out == "haswell and haswell do not differ in any value\n"


def test_profiles_parameters_lists_the_whole_table(capfd: pytest.CaptureFixture[str]) -> None:
    main(["profiles", "parameters"])
    names = {line.split()[0] for line in capfd.readouterr().out.splitlines()}
    by_reason = {key for key in PARAMETERS if key.startswith(BY_REASON)}
    assert names == {"Parameter", f"{BY_REASON}.REASON"} | (PARAMETERS.keys() - by_reason)


def test_a_value_that_is_set_times_the_run(tmp_path: Path) -> None:
    def stats(*more: str) -> dict[str, Any]:
        run_main(boot_tiny(tmp_path, tiny.debug_exit(0), "--stats", str(tmp_path / "s.json"), *more))
        return dict(json.loads((tmp_path / "s.json").read_text()))

    before = stats()
    after = stats("--set", "core.port_access_cycles=5", "--set", "core.frequency_hz=1e9")
    assert after["frequency_hz"] == 10**9
    assert before["ledger"]["pcpu0"]["port access"] % 2533 == 0
    assert after["ledger"]["pcpu0"]["port access"] == before["ledger"]["pcpu0"]["port access"] // 2533 * 5 > 0


def test_without_a_command_the_help_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_main([]) == 2
    assert "boot" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("word", "listed_by", "expected"),
    [
        ("shadwo", "", "did you mean 'shadow'?"),
        ("xyz", "", "there are: shadow, ept"),
        ("xyz", "a command", "'a command' shows what there is"),
    ],
)
def test_choices_are_suggested_or_listed(word: str, listed_by: str, expected: str) -> None:
    assert choices_text(word, ["shadow", "ept"], listed_by=listed_by) == expected
