"""Claims about what `sidecore bench mem` measures: what the guest's rings and streams cost."""

from functools import cache

import pytest

from benchmarks.harness.curves import latency_curve, page_curve, strides, translation_curve
from benchmarks.harness.guest_runs import run_guest
from benchmarks.harness.results import Results, Run
from benchmarks.mem.measure import STREAMS, bandwidth_curve, run_names
from emulator.profiles.profile import load_profile
from emulator.timing.fidelity import Fidelity
from tests.benchmarks.mem.made import made_results
from vmm.session.spec import Paging

SIZES = [1024 * half * 2**power // 2 for power in range(17) for half in (2, 3)]  # 1 KiB .. 96 MiB
PAGES = [count for power in range(4, 13) for count in (2**power, 2**power * 3 // 2)]
PROFILE = "netburst-2006"
STREAM_SIZES = [4096 << power for power in range(12)]


def test_bandwidth_is_in_bytes_per_cycle() -> None:
    assert [bandwidth_curve(made_results(), stream)[4096] for stream in STREAMS] == [0.5, 0.25, 0.125]


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
    for stream in STREAMS:
        assert list(bandwidth_curve(results, stream)) == STREAM_SIZES


def test_flat_timing_gives_flat_curves() -> None:
    for name in ("load_latency", "page_latency"):
        for row in guest_results("flat").named(name):
            assert (
                row.value * row.spread.operations == row.spread.operations / 32 * (32 + 2) + 4
            )  # 32 loads, DEC, JNZ; around it 4


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
