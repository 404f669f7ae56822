"""CPUID exits: the host's leaves, less what the VMM hides, and the hypervisor's own from 0x40000000 on."""

from emulator import cpuid
from emulator.x86 import RAX, RBX, RCX, RDX
from vmm.cost import paths
from vmm.cost.meter import Meter
from vmm.outcome import NEXT, Outcome
from vmm.vcpu import VCpu

HYPERVISOR_LEAF = 0x4000_0000  # the last leaf of its own, and who it is
HYPERVISOR_NAME = b"sidecoreVMM\0"
HIDDEN_1_ECX = 1 << cpuid.FEATURES_1_ECX["MONITOR"]  # a core that waits for a store serves nobody else


def handle_cpuid(vcpu: VCpu) -> Outcome:
    """CPUID."""
    vcpu.meter.follow(paths.CPUID)
    gpr = vcpu.gpr
    leaf, subleaf = gpr[RAX] & 0xFFFF_FFFF, gpr[RCX] & 0xFFFF_FFFF
    gpr[RAX], gpr[RBX], gpr[RCX], gpr[RDX] = guest_cpuid(vcpu, leaf, subleaf, vcpu.meter)
    return NEXT


def guest_cpuid(vcpu: VCpu, leaf: int, subleaf: int, meter: Meter) -> cpuid.Registers:
    """EAX, EBX, ECX, EDX that the guest gets, from whoever `meter` is of."""
    if leaf >= HYPERVISOR_LEAF:
        own_leaves = vcpu.extensions.cpuid_leaves
        if leaf == HYPERVISOR_LEAF:
            name = [int.from_bytes(HYPERVISOR_NAME[i : i + 4], "little") for i in (0, 4, 8)]
            return (max(own_leaves, default=HYPERVISOR_LEAF), name[0], name[1], name[2])
        if leaf in own_leaves:
            return own_leaves[leaf]
    if leaf == cpuid.MONITOR_LEAF:
        return (0, 0, 0, 0)
    meter.execute("cpuid")  # of the core itself: the answer is made from its
    registers = cpuid.look_up(meter.pcpu.platform.cpuid_leaves, leaf, subleaf)
    if leaf != 1:
        return registers
    eax, ebx, ecx, edx = cpuid.with_apic(registers, vcpu.number, is_enabled=vcpu.apic.is_enabled)
    return (eax, ebx, ecx & ~HIDDEN_1_ECX | cpuid.HYPERVISOR_PRESENT, edx)
