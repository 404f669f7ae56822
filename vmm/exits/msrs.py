"""RDMSR and WRMSR exits: MSRs as a guest sees them. One that does not exist is #GP."""

from emulator.x86 import (
    CR0_PG,
    EFER_LMA,
    EFER_LME,
    EFER_NXE,
    EFER_SCE,
    GENERAL_PROTECTION,
    IA32_APIC_BASE,
    IA32_EFER,
    IA32_MISC_ENABLE,
    IA32_TIME_STAMP_COUNTER,
    IA32_TSC_DEADLINE,
    RAX,
    RCX,
    RDX,
)
from vmm.cost import paths
from vmm.outcome import AGAIN, NEXT, Outcome
from vmm.vcpu import VCpu

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


def handle_rdmsr(vcpu: VCpu) -> Outcome:
    """RDMSR of an MSR that is not passed through."""
    vcpu.meter.follow(paths.READ_MSR)
    value = read_msr(vcpu, vcpu.gpr[RCX] & 0xFFFF_FFFF)
    if value is None:
        vcpu.inject_exception(GENERAL_PROTECTION, 0)
        return AGAIN
    vcpu.gpr[RAX], vcpu.gpr[RDX] = value & 0xFFFF_FFFF, value >> 32
    return NEXT


def handle_wrmsr(vcpu: VCpu) -> Outcome:
    """WRMSR of an MSR that is not passed through."""
    vcpu.meter.follow(paths.WRITE_MSR)
    gpr = vcpu.gpr
    if write_msr(vcpu, gpr[RCX] & 0xFFFF_FFFF, (gpr[RDX] & 0xFFFF_FFFF) << 32 | gpr[RAX] & 0xFFFF_FFFF):
        return NEXT
    vcpu.inject_exception(GENERAL_PROTECTION, 0)
    return AGAIN


def read_msr(vcpu: VCpu, index: int) -> int | None:
    """RDMSR; None: #GP, the documented answer for an MSR that does not exist."""
    if index == IA32_EFER:
        return vcpu.guest_efer
    if index in CORE_MSRS:
        vcpu.meter.execute("rdmsr")
        vcpu.meter.commit()
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
        vcpu.meter.execute("wrmsr")
        vcpu.meter.commit()
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
