"""Claims about the profiles that are shipped: whole, true to published round trips, and built of primitives only."""

import pytest

from benchmarks.calibration.published import REFERENCES, Reference, references_of
from emulator.profiles.file import profile_path
from emulator.profiles.profile import DEFAULT_PROFILE, Profile, load_profile, shipped_profiles, shipped_variants
from emulator.timing.allowances import NO_ALLOWANCE
from emulator.vmx.exit_reasons import ExitReason
from vmm.session.plan import plan
from vmm.session.spec import GuestSpec, HostSpec


@pytest.mark.parametrize("name", shipped_profiles())
def test_a_shipped_profile_loads_under_its_own_name(name: str) -> None:
    assert load_profile(name).name == name


def test_the_default_and_the_machines_of_the_paper_are_shipped() -> None:
    assert {DEFAULT_PROFILE, "netburst-2006", "xeon-2.8-ht-2006", "core2-2006"} <= set(shipped_profiles())


def value_in(profile: Profile, reference: Reference) -> int:
    """What `profile` has for a published quantity; a guest measures more, as it needs instructions for it."""
    caches, tlb = profile.caches, profile.tlb
    return {
        "CPUID round trip": profile.entry_cycles + profile.cycles_of(ExitReason.CPUID),
        "VMCALL round trip": profile.entry_cycles + profile.cycles_of(ExitReason.VMCALL),
        "L1 latency": caches.l1d_latency_cycles,
        "L2 latency": caches.l2_latency_cycles,
        "L3 latency": caches.l3_latency_cycles,
        "DRAM latency": profile.memory.dram_latency_cycles,
        "DTLB reach": tlb.dtlb_4k_entries,
        "second-level TLB reach": tlb.stlb_entries,
    }[reference.quantity]


@pytest.mark.parametrize("reference", REFERENCES, ids=lambda row: f"{row.profile}-{row.quantity}".replace(" ", "-"))
def test_a_profile_says_what_was_published_of_its_machine(reference: Reference) -> None:
    assert value_in(load_profile(reference.profile), reference) == reference.value


@pytest.mark.parametrize("name", shipped_profiles())
def test_of_every_machine_a_round_trip_and_two_caches_are_published(name: str) -> None:
    quantities = {row.quantity for row in references_of(name)}
    assert {"CPUID round trip", "L1 latency", "L2 latency", "DTLB reach"} <= quantities


@pytest.mark.parametrize("name", ["netburst-2006", "xeon-2.8-ht-2006"])
def test_a_fault_or_system_call_of_netburst_and_the_way_back_make_the_published_loops(name: str) -> None:
    profile = load_profile(name)
    events, instructions = profile.events, profile.instructions
    assert events.page_fault_entry_cycles + instructions.iret_cycles == 1093
    assert events.exception_entry_cycles + instructions.iret_cycles == 889
    assert instructions.syscall_cycles + instructions.sysret_cycles == 242


@pytest.mark.parametrize("name", shipped_profiles())
def test_what_serialises_takes_longer_than_what_does_not(name: str) -> None:
    row = load_profile(name).instructions
    for serialising in (row.cpuid_cycles, row.wrmsr_cycles, row.mov_to_cr3_cycles, row.iret_cycles, row.int_cycles):
        assert serialising > row.rdtsc_cycles > row.multiply_latency_cycles >= row.alu_latency_cycles
    assert row.divide_64_latency_cycles > row.divide_latency_cycles > row.multiply_latency_cycles


@pytest.mark.parametrize("name", shipped_profiles())
def test_each_level_of_memory_is_slower_than_the_one_before(name: str) -> None:
    profile = load_profile(name)
    caches = profile.caches
    levels = [caches.l1d_latency_cycles, caches.l2_latency_cycles]
    levels += [caches.l3_latency_cycles] if caches.l3_size_bytes else []
    levels += [profile.memory.dram_latency_cycles]
    assert levels == sorted(set(levels))
    assert profile.core.dirty_line_cycles > caches.l2_latency_cycles


@pytest.mark.parametrize("name", shipped_profiles())
def test_what_the_sidecore_paper_says_is_an_input_only_where_it_describes_its_hosts(name: str) -> None:
    described = {"core.frequency_hz", "core.package_count", "core.core_count", "core.thread_count"}
    rows = load_profile(name).rows
    assert {key for key, row in rows.items() if "sidecore" in row.source} <= described


# --- variants ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", shipped_variants())
def test_a_variant_says_only_what_is_different_from_its_machine(name: str) -> None:
    variant = load_profile(name)
    machine = load_profile(variant.machine)
    text = profile_path(name).read_text()
    assert variant.name == name
    assert machine.machine == machine.name
    for key, row in variant.rows.items():
        own = machine.rows.get(key)
        is_said = f"\n{key.rpartition('.')[2]} = {{" in text
        assert is_said == (own is None or own != row), key


def test_a_trap_of_a_paravirtualized_guest_takes_a_thousand_cycles_and_a_hypercall_less() -> None:
    profile = load_profile("xeon-2.8-ht-2006-pv")
    assert profile.exit_cycles + profile.entry_cycles == 1000
    assert 0.2e-6 < (profile.cycles_of(ExitReason.VMCALL) + profile.entry_cycles) / profile.frequency_hz < 0.3e-6
    assert profile.core == load_profile("xeon-2.8-ht-2006").core


def test_a_variant_has_the_memory_of_its_machine() -> None:
    spec = GuestSpec(image="default")
    allowances = {
        plan(HostSpec(profile=name), spec).host.allowance for name in ("xeon-2.8-ht-2006", "xeon-2.8-ht-2006-pv")
    }
    assert len(allowances) == 1
    assert NO_ALLOWANCE not in allowances
