"""CPUID and MSRs as a guest sees them: the host's, less what the VMM hides, plus what says that there is one.

Leaves from 0x40000000 are the hypervisor's own, as every VMM has them; the vendor text names this one.
"""

from emulator import cpuid
from emulator.x86 import IA32_APIC_BASE, IA32_MISC_ENABLE, IA32_TSC_DEADLINE
from vmm.sidecore import abi
from vmm.vcpu import VCpu

HYPERVISOR_LEAF = 0x4000_0000
HYPERVISOR_NAME = b"sidecoreVMM\0"
HIDDEN_1_ECX = 1 << cpuid.FEATURES_1_ECX["MONITOR"]  # a core that waits for a store serves nobody else

IA32_TIME_STAMP_COUNTER = 0x10
IA32_EFER = 0xC000_0080
EFER_SCE, EFER_LME, EFER_LMA, EFER_NXE = 1, 1 << 8, 1 << 10, 1 << 11
CR0_PG = 1 << 31

# MSRs that a guest reads and writes without an exit: the processor switches them with the vCPU.
PASSED_THROUGH_MSRS = (
    0x174,  # IA32_SYSENTER_CS
    0x175,  # IA32_SYSENTER_ESP
    0x176,  # IA32_SYSENTER_EIP
    0xC000_0081,  # IA32_STAR
    0xC000_0082,  # IA32_LSTAR
    0xC000_0083,  # IA32_CSTAR
    0xC000_0084,  # IA32_FMASK
    0xC000_0100,  # IA32_FS_BASE
    0xC000_0101,  # IA32_GS_BASE
    0xC000_0102,  # IA32_KERNEL_GS_BASE
)
# MSRs the VMM lets the core answer, after an exit.
CORE_MSRS = frozenset({IA32_TIME_STAMP_COUNTER, 0x277})  # IA32_PAT
# MSRs of the virtual local APIC.
APIC_MSRS = frozenset({IA32_APIC_BASE, IA32_TSC_DEADLINE})


def guest_cpuid(vcpu: VCpu, leaf: int, subleaf: int) -> cpuid.Registers:
    """EAX, EBX, ECX, EDX that the guest gets."""
    if leaf == HYPERVISOR_LEAF:
        name = [int.from_bytes(HYPERVISOR_NAME[i : i + 4], "little") for i in (0, 4, 8)]
        return (abi.CPUID_LEAF, name[0], name[1], name[2])
    if leaf == abi.CPUID_LEAF:
        return (abi.ABI, abi.CPUID_PRESENT if vcpu.domain.sidecores is not None else 0, abi.SLOTS_MAX, 0)
    if leaf == cpuid.MONITOR_LEAF:
        return (0, 0, 0, 0)
    vcpu.execute("cpuid")  # of the core itself: the answer is made from its
    registers = cpuid.look_up(vcpu.pcpu.platform.cpuid_leaves, leaf, subleaf)
    if leaf != 1:
        return registers
    eax, ebx, ecx, edx = cpuid.with_apic(registers, vcpu.number, is_enabled=vcpu.apic.is_enabled)
    return (eax, ebx, ecx & ~HIDDEN_1_ECX | cpuid.HYPERVISOR_PRESENT, edx)


def read_msr(vcpu: VCpu, index: int) -> int | None:
    """RDMSR; None: #GP, the documented answer for an MSR that does not exist."""
    if index == IA32_EFER:
        return vcpu.guest_efer
    if index in CORE_MSRS:
        vcpu.execute("rdmsr")
        vcpu.commit_cycles()
        return vcpu.engine.rdmsr(index)
    if index in APIC_MSRS:
        vcpu.run_devices()
        return vcpu.apic.read_msr(index)
    return vcpu.msrs.get(index)


def write_msr(vcpu: VCpu, index: int, value: int) -> bool:
    """WRMSR; False: #GP."""
    if index == IA32_EFER:
        return _write_efer(vcpu, value)
    if index in CORE_MSRS:
        vcpu.execute("wrmsr")
        vcpu.commit_cycles()
        return vcpu.engine.wrmsr(index, value)
    if index in APIC_MSRS:
        vcpu.run_devices()
        is_valid = vcpu.apic.write_msr(index, value)
        vcpu.arm_timer()
        return is_valid
    if index == IA32_MISC_ENABLE:
        vcpu.msrs[index] = value
    return index in vcpu.msrs


def _write_efer(vcpu: VCpu, value: int) -> bool:
    """SDM 3A 2.2.1: reserved bits and changing LME while paging raise #GP; LMA is the processor's."""
    old = vcpu.guest_efer
    if value & ~(EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE):
        return False
    if (value ^ old) & EFER_LME and vcpu.guest_cr0 & CR0_PG:
        return False
    vcpu.paging.write_efer(vcpu, value & ~EFER_LMA | old & EFER_LMA)
    return True
