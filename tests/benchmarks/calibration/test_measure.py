"""Claims about `sidecore profiles check`: what it takes from measurements, and how far that is off."""

from pathlib import Path

import pytest

from benchmarks.calibration.measure import Finding, find, latency_cycles, measure, reach
from benchmarks.calibration.published import Quantity, Reference
from benchmarks.harness.accounts import Account
from benchmarks.harness.measurements import Measurement
from benchmarks.harness.results import Results, Run, row_of
from emulator.errors import ConfigError
from emulator.profiles.profile import load_profile
from tests import ROOT

KIB = 1024
TLB_CURVE = {16: 0.0, 32: 0.6, 64: 0.1, 128: 7.0, 256: 7.3, 512: 7.0, 1024: 20.0, 2048: 45.0}


def reference(quantity: Quantity, value: int) -> Reference:
    return Reference("haswell", quantity, value, "a book", "exact")


def measurement(name: str, parameters: tuple[int, ...], cycles: int) -> Measurement:
    return Measurement(name, parameters, operations=10, empty_cycles=(50,), cycles=(50 + 10 * cycles,))


def results_of(*rows: Measurement, account: Account = Account({}, {})) -> Results:
    run = Run("vmexit", "haswell", "ept", "detailed")
    return Results(run, 1_000_000_000, tuple(row_of({}, row, account) for row in rows))


# --- what is taken from the measurements ------------------------------------------------------------------------------


def test_a_round_trip_is_what_the_guest_measured_without_the_software_of_the_vmm() -> None:
    booked = {"guest": 3, "exit hardware": 100, "entry hardware": 200, "page walks": 40, "vmcs access": 7}
    software = {"VMM paths": 50, "VMM memory": 11, "coherence": 2}
    exits = results_of(measurement("cpuid", (), 413), account=Account(booked | software, {"CPUID": 1}))
    found = find(reference("CPUID round trip", 350), load_profile("haswell"), exits, results_of())
    assert (found.low, found.high, found.software_cycles) == (343, 343, 70)
    assert found.error_percent == pytest.approx(-2)


def test_a_latency_is_that_of_a_ring_over_half_of_the_level_and_that_of_dram_the_last() -> None:
    profile = load_profile("haswell")  # 32 KiB, 256 KiB, 8 MiB
    sizes = [2**n * KIB for n in range(15)]
    curve = {size: float(number) for number, size in enumerate(sizes)}
    assert latency_cycles(curve, profile, "L1 latency") == curve[16 * KIB]
    assert latency_cycles(curve, profile, "L2 latency") == curve[128 * KIB]
    assert latency_cycles(curve, profile, "L3 latency") == curve[4096 * KIB]
    assert latency_cycles(curve, profile, "DRAM latency") == curve[16384 * KIB]


def test_a_ring_that_a_cache_may_hold_in_part_does_not_count_as_dram() -> None:
    with pytest.raises(ConfigError, match="too small to measure memory on haswell"):
        latency_cycles({8192 * KIB: 5.0}, load_profile("haswell"), "DRAM latency")


def test_the_reach_of_a_tlb_lies_where_pages_begin_to_take_longer_than_lines() -> None:
    assert reach(TLB_CURVE, is_second=False) == (64, 128)
    assert reach(TLB_CURVE, is_second=True) == (512, 1024)


def test_a_walk_that_takes_less_than_the_second_level_ends_its_reach_too() -> None:
    assert reach({16: 0.0, 32: 7.0, 64: 7.0, 128: 5.0}, is_second=True) == (64, 128)


def test_a_tlb_that_holds_more_pages_than_were_tried_is_not_taken_for_larger() -> None:
    assert reach({16: 0.0, 32: 0.0}, is_second=False) == (32, 33)


def test_a_reach_is_found_in_the_rings_over_pages_and_over_lines() -> None:
    lines = [measurement("load_latency", (pages * 64, 64), 4) for pages in (16, 64, 96)]
    pages = [measurement("page_latency", (pages,), cycles) for pages, cycles in ((16, 4), (64, 4), (96, 11))]
    found = find(reference("DTLB reach", 64), load_profile("haswell"), results_of(), results_of(*lines, *pages))
    assert (found.low, found.high) == (64, 95)
    assert found.error_percent == 0


# --- what is said of them ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quantity", "measured", "is_within"),
    [
        ("CPUID round trip", 1050, True),
        ("CPUID round trip", 1051, False),
        ("CPUID round trip", 950, True),
        ("CPUID round trip", 949, False),
        ("DRAM latency", 1100, True),
        ("DRAM latency", 1101, False),
        ("DTLB reach", 900, True),
        ("DTLB reach", 899, False),
    ],
)
def test_a_round_trip_may_be_off_by_5_percent_and_the_others_by_10(
    quantity: Quantity, measured: int, is_within: bool
) -> None:
    assert Finding(reference(quantity, 1000), measured, measured).is_within is is_within


@pytest.mark.parametrize(("value", "percent"), [(50, 28), (64, 0), (80, 0), (95, 0), (100, -5)])
def test_the_error_of_a_range_is_how_far_its_nearest_end_is_away(value: int, percent: int) -> None:
    assert Finding(reference("DTLB reach", value), 64, 95).error_percent == pytest.approx(percent)


def test_a_profile_of_which_nothing_is_published_is_a_mistake_of_the_user(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    text = (ROOT / "emulator/profiles/haswell.toml").read_text()
    path.write_text(text.replace('name = "haswell"', 'name = "mine"'))
    with pytest.raises(ConfigError, match=r"mine\.toml"):
        measure([str(path)], ())
