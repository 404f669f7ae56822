"""Claims about the profiles that are shipped: whole, true to published round trips, and built of primitives only."""

import pytest

from emulator.profile import DEFAULT_PROFILE, Profile, load_profile, shipped_profiles
from emulator.vmx.exit_reasons import ExitReason


@pytest.mark.parametrize("name", shipped_profiles())
def test_a_shipped_profile_loads_under_its_own_name(name: str) -> None:
    assert load_profile(name).name == name


def test_the_default_and_the_machines_of_the_paper_are_shipped() -> None:
    assert {DEFAULT_PROFILE, "netburst-2006", "xeon-2.8-ht-2006", "core2-2006"} <= set(shipped_profiles())


def cpuid_round_trip_cycles(profile: Profile) -> int:
    return profile.cycles_of(ExitReason.CPUID) + profile.entry_cycles


VMLATENCY_CYCLES = {
    "core2-2006": 1681,
    "nehalem": 933,
    "sandybridge": 785,
    "haswell": 530,
    "skylake": 608,
    "cascadelake": 439,
}


@pytest.mark.parametrize(("name", "cycles"), VMLATENCY_CYCLES.items())
def test_exit_and_entry_make_the_cpuid_round_trip_that_vmlatency_measures(name: str, cycles: int) -> None:
    assert cpuid_round_trip_cycles(load_profile(name)) == cycles


@pytest.mark.parametrize(
    ("name", "cycles"), [("netburst-2006", 3963), ("core2-2006", 1579), ("nehalem", 1009), ("sandybridge", 784)]
)
def test_the_common_exit_and_entry_make_the_round_trip_of_usenix_atc_2012(name: str, cycles: int) -> None:
    profile = load_profile(name)
    assert profile.exit_cycles + profile.entry_cycles == cycles


@pytest.mark.parametrize("name", shipped_profiles())
def test_each_level_of_memory_is_slower_than_the_one_before(name: str) -> None:
    profile = load_profile(name)
    caches = profile.caches
    levels = [caches.l1d_latency_cycles, caches.l2_latency_cycles]
    levels += [caches.l3_latency_cycles] if caches.l3_size_bytes else []
    levels += [profile.memory.dram_latency_cycles]
    assert levels == sorted(set(levels))
    assert profile.memory.dirty_line_cycles > caches.l2_latency_cycles


@pytest.mark.parametrize("name", shipped_profiles())
def test_what_the_sidecore_paper_says_is_an_input_only_where_it_describes_its_hosts(name: str) -> None:
    described = {"core.frequency_hz", "core.package_count", "core.core_count", "core.thread_count"}
    rows = load_profile(name).rows
    assert {key for key, row in rows.items() if "sidecore" in row.source} <= described
