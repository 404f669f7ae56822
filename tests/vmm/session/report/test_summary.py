"""Claims about the end-of-run summary and the statistics file."""

import json
import os
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from emulator.errors import ConfigError
from vmm.session.output_file import check_writable
from vmm.session.report.summary import print_summary, stats_json, total_lines, write_stats
from vmm.session.stats import ExitStats, RunStats


def exit_stats(count: int, cycles: int, least: int, most: int) -> ExitStats:
    """Of one reason; percentiles that a wrong column would show."""
    return {
        "count": count, "cycles": cycles, "min_cycles": least, "max_cycles": most,
        "avg_cycles": cycles / count if count else 0.0,
        "p50_cycles": least + 3, "p90_cycles": least + 7, "p99_cycles": most,
    }  # fmt: skip


HZ = 2_000_000_000  # 2,000 cycles are 1 us


def make_stats(**changes: object) -> RunStats:
    stats: RunStats = {
        "cycles": 4_000_000_000,
        "instructions": 90_000_000,
        "guest_seconds": 2.0,
        "host_seconds": 1.5,
        "frequency_hz": HZ,
        "exits": {
            "CPUID": exit_stats(3, 7_000, 1_000, 4_000),
            "HLT": exit_stats(1, 3_000_000_000, 3_000_000_000, 3_000_000_000),
            "CR_ACCESS": exit_stats(4, 40_000, 10_000, 10_000),
        },
        "ledger": {
            "pcpu10": {"guest": 5},
            "pcpu2": {"idle": 3, "guest": 1},
        },
        "accounts": {},
    }
    stats.update(changes)  # type: ignore[typeddict-item]
    return stats


def printed(stats: RunStats, *, width: int = 200, terminal: bool = False) -> list[str]:
    console = Console(file=StringIO(), width=width, force_terminal=terminal, color_system=None, legacy_windows=False)
    print_summary(stats, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return [line.rstrip() for line in text.splitlines()]


def row(lines: list[str], name: str) -> list[str]:
    (line,) = [line for line in lines if line.split()[:1] == [name] and len(line.split()) > 3]
    return line.split()


def test_the_exit_table_has_the_columns_of_perf_kvm_stat_and_cycles() -> None:
    lines = printed(make_stats())
    assert lines[1].replace("Min Time", "MinTime").replace("Max Time", "MaxTime").replace("Avg ", "Avg").split() == [
        "VM-EXIT", "Samples", "Samples%", "Time%", "MinTime", "MaxTime", "Avgtime", "Cycles", "Avgcycles",
        "p50", "p90", "p99",
    ]  # fmt: skip


def test_rows_are_sorted_by_time_and_figures_are_exact() -> None:
    lines = printed(make_stats())
    assert [line.split()[0] for line in lines[2:6]] == ["HLT", "CR_ACCESS", "CPUID", "Total"]
    assert row(lines, "CR_ACCESS") == [
        "CR_ACCESS", "4", "50.00%", "0.00%", "5.00us", "5.00us", "5.00us", "40,000", "10000.0",
        "10,003", "10,007", "10,000",
    ]  # fmt: skip
    # 7000 / 3 = 2333.33 cycles = 1.1667 us
    assert row(lines, "CPUID")[4:] == ["0.50us", "2.00us", "1.17us", "7,000", "2333.3", "1,003", "1,007", "4,000"]
    assert row(lines, "HLT")[3:7] == ["100.00%", "1500000us", "1500000us", "1500000us"]


def test_rows_of_equal_time_are_sorted_by_name() -> None:
    one = exit_stats(1, 10, 10, 10)
    lines = printed(make_stats(exits={"B": one, "C": one, "A": one}))
    assert [line.split()[0] for line in lines[2:5]] == ["A", "B", "C"]
    assert [row(lines, name)[2:4] for name in "ABC"] == [["33.33%", "33.33%"]] * 3


def test_the_ledger_has_a_column_per_pcpu_in_natural_order_and_sums() -> None:
    lines = printed(make_stats())
    start = lines.index("Cycle ledger")
    assert lines[start + 1].split() == ["Category", "Cycles%", "pcpu2", "pcpu10"]
    assert lines[start + 2].split() == ["guest", "66.67%", "1", "5"]
    assert lines[start + 3].split() == ["idle", "33.33%", "3", "0"]
    assert lines[start + 4].split() == ["Total", "100.00%", "4", "5"]


def test_totals_follow_the_tables() -> None:
    lines = printed(make_stats())
    assert [line.strip() for line in lines[-5:]] == [
        "4,000,000,000  cycles (2,000 MHz)",
        "90,000,000  instructions",
        "2.000000  guest seconds",
        "1.50  workstation seconds",
        "60.0  MIPS",
    ]


def test_a_run_without_exits_has_only_totals() -> None:
    lines = printed(make_stats(exits={}, ledger={}, cycles=0, instructions=0, guest_seconds=0.0, host_seconds=0.0))
    assert len(lines) == 5
    assert lines[-1].split() == ["-", "MIPS"]  # no speed after no time, and no division by zero


def test_exits_that_took_no_time_do_not_divide_by_zero() -> None:
    nothing = exit_stats(0, 0, 0, 0)
    lines = printed(make_stats(exits={"CPUID": nothing}, ledger={"pcpu0": {"guest": 0}}))
    assert row(lines, "CPUID") == ["CPUID", "0", "-", "-", "0.00us", "0.00us", "-", "0", "-", "3", "7", "0"]


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("width", [20, 80, 200])
def test_no_figure_is_ever_cut_by_a_narrow_terminal(width: int, terminal: bool) -> None:
    text = "\n".join(printed(make_stats(), width=width, terminal=terminal))
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert "CR_ACCESS" in text
    assert "1500000us" in text
    assert "workstation seconds" in text
    assert ("Avg cycles" in text) == (width == 200 or not terminal)


def test_perf_columns_fit_80_columns_of_terminal() -> None:
    wide = exit_stats(99_999, 10**12, 1_000, HZ)
    lines = printed(make_stats(exits={"EXTERNAL_INTERRUPT": wide}, ledger={}), width=80, terminal=True)
    assert max(map(len, lines)) <= 80


def test_names_are_not_taken_for_markup() -> None:
    assert any("io[3f8]" in line for line in printed(make_stats(ledger={"pcpu0": {"io[3f8]": 1}})))


def test_percentages_round_half_up_whatever_the_size() -> None:
    big = exit_stats(1, 10**30 // 3, 0, 0)
    rest = exit_stats(799, 10**30 - 10**30 // 3, 0, 0)
    lines = printed(make_stats(exits={"A": big, "B": rest}))
    assert row(lines, "A")[2:4] == ["0.13%", "33.33%"]  # 1 / 800 = 0.125 %
    assert row(lines, "B")[2:4] == ["99.88%", "66.67%"]  # 99.875 %


def test_total_lines_do_not_depend_on_the_tables() -> None:
    assert total_lines(make_stats())[1] == ("90,000,000", "instructions")


def test_the_speed_is_that_of_this_run() -> None:
    stats = make_stats()
    speeds = [total_lines(stats, before)[-1][0] for before in (0, 45_000_000, 90_000_000)]
    mips = 90 / stats["host_seconds"]
    assert speeds == [f"{mips:.1f}", f"{mips / 2:.1f}", "0.0"]


def test_the_file_is_the_same_for_the_same_stats_in_any_order(tmp_path: Path) -> None:
    stats = make_stats()
    reverse = make_stats(exits=dict(reversed(list(stats["exits"].items()))))
    assert stats_json(stats) == stats_json(reverse)
    write_stats(tmp_path / "out.json", stats)
    text = (tmp_path / "out.json").read_bytes()
    assert text.endswith(b"}\n")
    assert json.loads(text) == stats
    assert text == stats_json(reverse).encode()


def test_writing_replaces_the_old_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_text("old")
    path.chmod(0o640)
    check_writable(path)
    assert path.read_text() == "old"
    write_stats(path, make_stats())
    assert json.loads(path.read_text())["frequency_hz"] == HZ
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["out.json"]


def test_a_new_file_has_the_permissions_of_the_umask(tmp_path: Path) -> None:
    old_mask = os.umask(0o027)
    try:
        write_stats(tmp_path / "out.json", make_stats())
    finally:
        os.umask(old_mask)
    assert (tmp_path / "out.json").stat().st_mode & 0o777 == 0o640


def test_a_symbolic_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_stats(tmp_path / "link", make_stats())
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").is_file()


def test_the_old_file_survives_a_failed_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.json"
    path.write_text("old")

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ConfigError, match=r"^cannot write '.*out\.json': No space left on device$"):
        write_stats(path, make_stats())
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["out.json"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (".", "it is a directory"),
        ("missing/out.json", "there is no directory"),
        ("file/out.json", "there is no directory|Not a directory"),
        ("n" * 300, "File name too long"),
        ("zero\0byte", "null byte"),
    ],
)
def test_a_path_that_cannot_be_written_is_one_line_before_the_run(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "file").write_text("x")
    before = sorted(os.listdir(tmp_path))
    for attempt in (check_writable, lambda path: write_stats(path, make_stats())):
        with pytest.raises(ConfigError, match=reason) as caught:
            attempt(tmp_path / name)
        assert "\n" not in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == before


def test_a_pipe_is_no_place_for_a_file_that_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigError, match="not a regular file"):
        check_writable(tmp_path / "fifo")


def test_a_folder_that_refuses_new_files_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^cannot write '/proc/out.json': "):
        check_writable(Path("/proc/out.json"))


def test_check_writable_leaves_nothing_behind(tmp_path: Path) -> None:
    check_writable(tmp_path / "out.json")
    assert os.listdir(tmp_path) == []


def test_a_value_json_cannot_hold_is_our_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        write_stats(tmp_path / "out.json", make_stats(guest_seconds=float("nan")))
