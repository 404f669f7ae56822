"""CPUID: the host's answers, less what is hidden, and the hypervisor's own leaves."""

import pytest

from emulator import cpuid
from emulator.x86 import IA32_APIC_BASE, RAX, RBX, RCX, RDX
from tests.vmm.fakes import Bench
from vmm.cost import paths
from vmm.exits.cpuid import HYPERVISOR_LEAF, HYPERVISOR_NAME, handle_cpuid
from vmm.outcome import NEXT

HIGH = 0xABCD << 32  # what bits 63:32 of RAX and RCX hold does not matter
MONITOR, APIC = 1 << cpuid.FEATURES_1_ECX["MONITOR"], 1 << cpuid.FEATURES_1_EDX["APIC"]


def ask(bench: Bench, leaf: int, subleaf: int = 0) -> cpuid.Registers:
    bench.gpr[RAX], bench.gpr[RCX] = leaf, subleaf
    assert handle_cpuid(bench.vcpu) is NEXT
    return bench.gpr[RAX], bench.gpr[RBX], bench.gpr[RCX], bench.gpr[RDX]


@pytest.mark.parametrize("leaf", [0x0, 0x6, 0x7, 0x8000_0001, 0x8000_0008])
def test_most_leaves_are_the_hosts(leaf: int) -> None:
    bench = Bench()
    assert ask(bench, leaf) == bench.domain.machine.cpuid_leaves[leaf, 0]
    assert bench.meter.followed == [paths.CPUID]
    assert bench.meter.executed == ["cpuid"]


def test_only_the_lower_halves_of_rax_and_rcx_are_looked_at() -> None:
    bench = Bench()
    assert ask(bench, HIGH | 7, HIGH) == bench.domain.machine.cpuid_leaves[7, 0]


def test_leaf_1_hides_monitor_and_says_that_a_hypervisor_is_present() -> None:
    bench = Bench()
    host = bench.domain.machine.cpuid_leaves[1, 0]
    assert host[2] & MONITOR
    assert ask(bench, 1) == (host[0], host[1], host[2] & ~MONITOR | cpuid.HYPERVISOR_PRESENT, host[3])


def test_leaf_1_has_the_number_of_the_vcpu_as_apic_id() -> None:
    assert ask(Bench(number=3), 1)[1] >> 24 == 3


def test_leaf_1_has_no_apic_after_the_guest_has_turned_it_off() -> None:
    bench = Bench()
    assert ask(bench, 1)[3] & APIC
    bench.vcpu.apic.write_msr(IA32_APIC_BASE, 0xFEE0_0000)
    assert not ask(bench, 1)[3] & APIC


def test_the_leaf_of_monitor_is_empty_and_the_core_is_not_asked() -> None:
    bench = Bench()
    assert ask(bench, cpuid.MONITOR_LEAF) == (0, 0, 0, 0)
    assert bench.meter.executed == []


def test_the_hypervisors_leaf_has_its_name_and_last_leaf_and_the_core_is_not_asked() -> None:
    bench = Bench()
    eax, *name = ask(bench, HYPERVISOR_LEAF)
    assert eax == HYPERVISOR_LEAF
    assert b"".join(word.to_bytes(4, "little") for word in name) == HYPERVISOR_NAME
    bench.extensions.cpuid_leaves[HYPERVISOR_LEAF + 2] = (2, 3, 5, 7)
    assert ask(bench, HYPERVISOR_LEAF)[0] == HYPERVISOR_LEAF + 2
    assert bench.meter.executed == []


def test_leaves_of_an_extension_answer_for_themselves() -> None:
    bench = Bench()
    bench.extensions.cpuid_leaves[HYPERVISOR_LEAF + 1] = (2, 3, 5, 7)
    assert ask(bench, HYPERVISOR_LEAF + 1) == (2, 3, 5, 7)
    assert bench.meter.executed == []


def test_an_unknown_leaf_is_zeros() -> None:
    assert ask(Bench(), HYPERVISOR_LEAF + 9) == (0, 0, 0, 0)
