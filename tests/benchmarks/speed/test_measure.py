"""Claims about the speed benchmark's own arithmetic, and that it runs."""

import json
import os
import sys
from pathlib import Path

import pytest

from benchmarks.cli import main
from benchmarks.speed import measure as speed
from benchmarks.speed.exit_cost import ExitCost, Stopwatch, costs_of
from benchmarks.speed.measure import Contender, boot_rows, exit_rows, run_once, seconds_until, table_text
from emulator.errors import ConfigError


def test_rows_compare_medians_with_qemu() -> None:
    ours = Contender("sidecore ept", [], seconds=[9.0, 4.0, 5.0], instructions=1_000_000_000, guest_seconds=0.5)
    peer = Contender("qemu tcg", [], seconds=[2.0, 3.0])
    _, first, second = boot_rows([ours, peer])
    assert first == ("sidecore ept", "5.00", "3", "0.500", "1,000,000,000", "200", "2.00")
    assert second == ("qemu tcg", "2.50", "2", "-", "-", "-", "1.00")


def test_without_qemu_there_is_nothing_to_compare_with() -> None:
    assert boot_rows([Contender("sidecore ept", [], seconds=[1.0])])[1][-1] == "-"


def test_columns_are_aligned() -> None:
    assert table_text([("name", "n"), ("a", "100")]) == "name    n\na     100"


def test_an_exit_is_timed_between_the_lines_of_the_guest() -> None:
    lines = [
        (b"~ CPUID 1000 begin\n", 1.0, 2.0),
        (b"~ CPUID 4821 end\n", 2.5, 3.0),
        (b"PASS CPUID\n", 3.0, 3.1),
        (b"~ VMCALL 1000 begin\n", 4.0, 5.0),
        (b"~ VMCALL 5029 end\n", 6.0, 7.0),
    ]
    costs = costs_of(lines, "ept")
    assert costs == [ExitCost("CPUID", "ept", 500.0, 4821), ExitCost("VMCALL", "ept", 1000.0, 5029)]
    assert exit_rows(costs)[1] == ("CPUID, ept", "500.00", "4,821")


def test_the_stopwatch_reads_the_clock_at_both_ends_of_a_line() -> None:
    stopwatch = Stopwatch()
    for byte in b"ab\nc\n":
        stopwatch.transmit(byte)
    (first, began, ended), (second, later, last) = stopwatch.lines
    assert (first, second) == (b"ab\n", b"c\n")
    assert began <= ended <= later <= last


def test_the_text_is_found_across_reads_and_its_absence_noticed() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"xxre")
    assert seconds_until(b"ready", reader, 0.01) is None
    os.write(writer, b"xxready")
    assert seconds_until(b"ready", reader, 10) is not None
    os.close(writer)
    assert seconds_until(b"ready", reader, 10) is None
    os.close(reader)


def test_a_contender_that_fails_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^nothing did not reach its shell: "):
        run_once(Contender("nothing", [sys.executable, "-c", "pass"]))


@pytest.mark.slow
def test_the_benchmark_runs(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    every_contender = speed.sidecore_contenders
    monkeypatch.setattr(speed, "sidecore_contenders", lambda scratch: every_contender(scratch)[:1])
    main(["bench", "speed", "--json", str(tmp_path / "speed.json")])
    output = capfd.readouterr().out
    assert output.startswith("Linux to its shell")
    figures = json.loads((tmp_path / "speed.json").read_text())
    assert figures["linux_boot"]["sidecore native, fast"]["instructions"] > 10**9
    assert set(figures["exit_cost"]) == {"CPUID ept", "VMCALL ept", "CPUID shadow", "VMCALL shadow"}
