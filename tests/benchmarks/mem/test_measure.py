"""Claims about `sidecore bench mem`: what the guest's rings and streams cost, and how it is shown."""

import json
import re
from functools import cache
from pathlib import Path

import pytest

from benchmarks.cli import main
from benchmarks.harness.accounts import Account
from benchmarks.harness.curves import latency_curve, page_curve, strides, translation_curve
from benchmarks.harness.guest_runs import run_guest
from benchmarks.harness.measurements import Measurement
from benchmarks.harness.results import Measured, Results, Run
from benchmarks.mem import measure as mem
from benchmarks.mem.measure import bandwidth_curve, run_names
from benchmarks.mem.plot import power_text
from emulator.profiles.profile import load_profile
from emulator.timing.core_timing import Fidelity
from vmm.session.run import Paging

SIZES = [1024 * half * 2**power // 2 for power in range(17) for half in (2, 3)]  # 1 KiB .. 96 MiB
PAGES = [count for power in range(4, 13) for count in (2**power, 2**power * 3 // 2)]
STREAM_SIZES = [4096 << power for power in range(12)]


def row(name: str, parameters: tuple[int, ...], cycles_per_operation: int) -> Measured:
    measurement = Measurement(name, parameters, 10, (0,), (10 * cycles_per_operation,))
    return Measured(measurement, Account({}, {}))


def made_results(paging: Paging = "native", profile: str = "haswell", scale: int = 1) -> Results:
    """A machine whose loads take 3, 7 and 40 cycles, and whose TLB holds 16 pages."""
    rows = [
        row("load_latency", (1024, 64), 3 * scale),
        row("load_latency", (2048, 64), 7 * scale),
        row("load_latency", (1024, 256), 40 * scale),
        row("page_latency", (16,), 3 * scale),
        row("page_latency", (32,), 27 * scale),
        row("read_bandwidth", (4096,), 2),
        row("write_bandwidth", (4096,), 4),
        row("copy_bandwidth", (4096,), 8),
    ]
    return Results(Run("mem", profile, paging, "detailed"), 2_000_000_000, tuple(rows))


def test_curves_are_of_one_stride() -> None:
    results = made_results()
    assert strides(results) == [64, 256]
    assert latency_curve(results) == {1024: 3, 2048: 7}
    assert latency_curve(results, 256) == {1024: 40}


def test_a_page_costs_what_it_takes_beyond_as_many_lines_side_by_side() -> None:
    assert page_curve(made_results()) == {16: 3, 32: 27}
    assert translation_curve(made_results()) == {16: 0, 32: 20}


def test_bandwidth_is_in_bytes_per_cycle() -> None:
    assert [bandwidth_curve(made_results(), stream)[4096] for stream in mem.STREAMS] == [0.5, 0.25, 0.125]


@pytest.mark.parametrize(
    ("runs", "names"),
    [
        ((("a", "native"), ("a", "ept")), ["native", "ept"]),
        ((("a", "ept"), ("b", "ept")), ["a", "b"]),
        ((("a", "native"), ("a", "ept"), ("b", "ept")), ["a native", "a ept", "b ept"]),
    ],
)
def test_runs_are_told_apart_by_what_differs(runs: tuple[tuple[str, Paging], ...], names: list[str]) -> None:
    assert run_names([made_results(paging, profile) for profile, paging in runs]) == names


def test_sizes_on_the_axis() -> None:
    assert [power_text(value) for value in (16, 1024, 65536, 1 << 20)] == ["16", "1K", "64K", "1M"]


# --- the guest ----------------------------------------------------------------------------------------------------


PROFILE = "netburst-2006"


@cache
def guest_results(timing: Fidelity, paging: Paging = "native") -> Results:
    return run_guest(Run("mem", PROFILE, paging, timing))


def test_the_guest_measures_every_point() -> None:
    results = guest_results("flat")
    assert strides(results) == [16, 64, 256]
    assert list(latency_curve(results, 16)) == [size for size in SIZES if size <= 4 << 20]
    for stride in (64, 256):
        assert list(latency_curve(results, stride)) == [size for size in SIZES if size <= 64 << 20]
    assert list(page_curve(results)) == [count for count in PAGES if count <= 4096]
    for stream in mem.STREAMS:
        assert list(bandwidth_curve(results, stream)) == STREAM_SIZES


def test_flat_timing_gives_flat_curves() -> None:
    for name in ("load_latency", "page_latency"):
        for row in guest_results("flat").named(name):
            assert row.median * row.operations == row.operations / 32 * (32 + 2) + 4  # 32 loads, DEC, JNZ; around it 4


@pytest.mark.slow
def test_detailed_timing_shows_the_latencies_of_the_profile() -> None:
    profile, curve = load_profile(PROFILE), latency_curve(guest_results("detailed"))
    for size_bytes, latency_cycles in (
        (profile.caches.l1d_size_bytes // 2, profile.caches.l1d_latency_cycles),
        (profile.caches.l2_size_bytes // 2, profile.caches.l2_latency_cycles),
        (profile.caches.l2_size_bytes * 4, profile.memory.dram_latency_cycles),
    ):
        assert curve[size_bytes] == pytest.approx(latency_cycles, rel=0.02)


@pytest.mark.slow
def test_detailed_timing_shows_the_reach_of_the_tlb_and_dearer_walks_under_ept() -> None:
    entries = load_profile(PROFILE).tlb.dtlb_4k_entries
    native, ept = (translation_curve(guest_results("detailed", paging)) for paging in ("native", "ept"))
    assert native[entries // 2] < 0.1
    assert native[entries * 2] > 10
    assert ept[entries * 2] > 2 * native[entries * 2]


# --- what is shown ------------------------------------------------------------------------------------------------


def run_bench(all_results: list[Results], arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mem, "run_all", lambda runs: all_results)
    main(["bench", "mem", *arguments])


def test_one_run_shows_nanoseconds_too(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    run_bench([made_results()], ["--paging", "native"], monkeypatch)
    output = capfd.readouterr().out
    assert "Latency, haswell, native, detailed timing: cycles of a load" in output
    assert re.search(r"^ +Size +native +ns$\n^1 KiB +3\.0 +1\.5$\n^2 KiB +7\.0 +3\.5$", output, re.MULTILINE)
    assert re.search(r"^Pages +native +native beyond$\n^ +16 +3\.0 +0\.0$\n^ +32 +27\.0 +20\.0$", output, re.MULTILINE)
    assert re.search(r"^4 KiB +0\.50 +0\.25 +0\.12$", output, re.MULTILINE)


def test_runs_stand_beside_each_other(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    run_bench([made_results(), made_results("ept", scale=2)], [], monkeypatch)
    output = capfd.readouterr().out
    assert re.search(r"^ +Size +native +ept$\n^1 KiB +3\.0 +6\.0$", output, re.MULTILINE)
    assert re.search(r"^ +32 +27\.0 +20\.0 +54\.0 +40\.0$", output, re.MULTILINE)


@pytest.mark.parametrize("suffix", ["png", "svg"])
@pytest.mark.parametrize("other", [("ept", "haswell"), ("native", "nehalem")])
def test_files_have_all_of_it(
    tmp_path: Path, suffix: str, other: tuple[Paging, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = ["--json", str(tmp_path / "f.json"), "--plot", str(tmp_path / f"f.{suffix}")]
    run_bench([made_results(), made_results(*other)], files, monkeypatch)
    assert (tmp_path / f"f.{suffix}").stat().st_size > 10_000
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["benchmark"] == "mem"
    first, second = figures["runs"]
    assert (first["profile"], first["paging"], first["frequency_hz"]) == ("haswell", "native", 2_000_000_000)
    assert (second["paging"], second["profile"]) == other
    latency, pages, bandwidth = first["load_latency"][1], first["page_latency"][1], first["bandwidth"][2]
    assert (latency["size_bytes"], latency["stride_bytes"], latency["median_ns"]) == (2048, 64, 3.5)
    assert (pages["pages"], pages["median_cycles"], pages["beyond_a_line_cycles"]) == (32, 27, 20)
    rate = {"stream": "copy", "size_bytes": 4096, "bytes_per_cycle": 0.125, "bytes_per_second": 250_000_000}
    assert bandwidth == rate


def test_a_wrong_plot_is_refused_before_anything_runs(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mem, "run_all", lambda runs: pytest.fail("ran"))
    with pytest.raises(SystemExit) as ending:
        main(["bench", "mem", "--plot", "plot.jpg"])
    assert ending.value.code == 2
    assert capfd.readouterr().err == "sidecore: --plot 'plot.jpg' must end in .png or .svg\n"
