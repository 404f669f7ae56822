"""Exits for single instructions that ask for no more than a line: HLT, INVLPG, INVD, and those that CPUID hides."""

from emulator.vmx import fields as f
from emulator.x86 import INVALID_OPCODE
from vmm.cost import paths
from vmm.outcome import AGAIN, NEXT, WAIT, Outcome
from vmm.vcpu import VCpu


def handle_hlt(_vcpu: VCpu) -> Outcome:
    """HLT."""
    return WAIT


def handle_invlpg(vcpu: VCpu) -> Outcome:
    """INVLPG; the qualification is the linear address."""
    vcpu.meter.follow(paths.INVLPG)
    vcpu.paging.invlpg(vcpu, vcpu.read(f.EXIT_QUALIFICATION))
    return NEXT


def handle_nothing_to_do(_vcpu: VCpu) -> Outcome:
    """INVD, WBINVD: caches hold nothing that memory has not."""
    return NEXT


def handle_hidden_instruction(vcpu: VCpu) -> Outcome:
    """An instruction that CPUID hides from the guest (VMX, MONITOR and MWAIT): it is undefined there."""
    vcpu.inject_exception(INVALID_OPCODE)
    return AGAIN
