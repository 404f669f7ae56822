"""CR-access exits: the checks MOV to CR makes (SDM 2B, "MOV - Move to/from Control Registers"), then paging decides."""

from emulator.vmx import fields as f
from emulator.vmx.qualifications import CLTS, LMSW, MOV_FROM_CR, MOV_TO_CR, CrAccess, decode_cr_access
from emulator.x86 import (
    AR_L,
    CR0_CD,
    CR0_ET,
    CR0_NW,
    CR0_PE,
    CR0_PG,
    CR0_TS,
    CR4_PAE,
    CR4_PGE,
    CR4_PSE,
    CR4_SMEP,
    EFER_LMA,
    EFER_LME,
    GENERAL_PROTECTION,
)
from vmm.cost import paths
from vmm.outcome import AGAIN, NEXT, Outcome
from vmm.paging.guest_walk import paging_mode, pdptes_are_valid
from vmm.vcpu import VCpu

CR0_DEFINED = 0xE005_003F
CR4_DEFINED = 0x7FC | 1 << 20  # TSD .. OSXMMEXCPT, SMEP: what CPUID offers a guest
CR3_DEFINED_LONG = (1 << 40) - 1
CR8_MAX = 15


def handle_cr_access(vcpu: VCpu) -> Outcome:
    """MOV to and from CR0, CR3, CR4, CR8; CLTS; LMSW."""
    vcpu.meter.follow(paths.CR_DECODE)
    access = decode_cr_access(vcpu.read(f.EXIT_QUALIFICATION))
    if access.access == MOV_FROM_CR:
        vcpu.write_gpr(access.gpr, _read_cr(vcpu, access.cr))
        return NEXT
    vcpu.meter.follow(paths.CR_WRITE)
    if access.access == CLTS:
        valid = write_cr0(vcpu, vcpu.guest_cr0 & ~CR0_TS)
    elif access.access == LMSW:
        old = vcpu.guest_cr0
        valid = write_cr0(vcpu, old & ~0xE | access.lmsw_source & 0xF | old & CR0_PE)
    else:
        assert access.access == MOV_TO_CR
        valid = _move_to_cr(vcpu, access)
    if valid:
        return NEXT
    vcpu.inject_exception(GENERAL_PROTECTION, 0)
    return AGAIN


def _read_cr(vcpu: VCpu, cr: int) -> int:
    match cr:
        case 3:
            return vcpu.paging.guest_cr3(vcpu)
        case 8:
            return vcpu.apic.cr8
        case _:
            raise AssertionError(f"MOV from CR{cr} exited")


def _move_to_cr(vcpu: VCpu, access: CrAccess) -> bool:
    value = vcpu.read_gpr(access.gpr)
    if not _is_64_bit_code(vcpu):
        value &= 0xFFFF_FFFF
    match access.cr:
        case 0:
            return write_cr0(vcpu, value)
        case 3:
            if vcpu.guest_efer & EFER_LMA and value & ~CR3_DEFINED_LONG:
                return False
            if not _can_load_pdptes(vcpu, cr3=value):
                return False
            vcpu.paging.write_cr3(vcpu, value)
            return True
        case 4:
            return write_cr4(vcpu, value)
        case 8:
            if value > CR8_MAX:
                return False
            vcpu.apic.cr8 = value
            return True
        case _:
            raise AssertionError(f"MOV to CR{access.cr} exited")


def _is_64_bit_code(vcpu: VCpu) -> bool:
    return bool(vcpu.guest_efer & EFER_LMA) and bool(vcpu.read(f.GUEST_CS_ACCESS_RIGHTS) & AR_L)


def _can_load_pdptes(vcpu: VCpu, **changes: int) -> bool:
    """Whether MOV to a control register, which changes the paging mode so, finds well-formed PDPTEs or needs none."""
    return pdptes_are_valid(vcpu.domain, paging_mode(vcpu)._replace(**changes))


def write_cr0(vcpu: VCpu, value: int) -> bool:
    """The guest's CR0 becomes `value`, with EFER.LMA following CR0.PG; False: #GP."""
    old = vcpu.guest_cr0
    if value >> 32 or (value & CR0_PG and not value & CR0_PE) or (value & CR0_NW and not value & CR0_CD):
        return False
    efer = old_efer = vcpu.guest_efer
    if value & CR0_PG and not old & CR0_PG and efer & EFER_LME:
        if not vcpu.guest_cr4 & CR4_PAE or vcpu.read(f.GUEST_CS_ACCESS_RIGHTS) & AR_L:
            return False
        efer |= EFER_LMA
    elif old & CR0_PG and not value & CR0_PG:
        if _is_64_bit_code(vcpu):
            return False
        efer &= ~EFER_LMA
    if (value ^ old) & (CR0_PG | CR0_CD | CR0_NW) and not _can_load_pdptes(vcpu, cr0=value, efer=efer):
        return False
    if efer != old_efer:
        vcpu.paging.write_efer(vcpu, efer)
    vcpu.paging.write_cr0(vcpu, value & CR0_DEFINED | CR0_ET)
    return True


def write_cr4(vcpu: VCpu, value: int) -> bool:
    """The guest's CR4 becomes `value`; False: #GP."""
    if value & ~CR4_DEFINED or (vcpu.guest_efer & EFER_LMA and not value & CR4_PAE):
        return False
    if (value ^ vcpu.guest_cr4) & (CR4_PSE | CR4_PAE | CR4_PGE | CR4_SMEP) and not _can_load_pdptes(vcpu, cr4=value):
        return False
    vcpu.paging.write_cr4(vcpu, value)
    return True
