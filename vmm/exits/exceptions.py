"""Exits that no instruction asks for: exceptions, EPT violations, triple faults."""

from emulator.vmx import fields as f
from emulator.vmx import interruption as i
from emulator.x86 import PAGE_FAULT
from vmm.outcome import STOP, Outcome
from vmm.vcpu import VCpu


def handle_exception(vcpu: VCpu) -> Outcome:
    """An exception of the exception bitmap: only #PF is in it, and only under shadow paging."""
    info = vcpu.read(f.VM_EXIT_INTERRUPTION_INFORMATION)
    assert info & i.VECTOR_MASK == PAGE_FAULT, f"vector {info & i.VECTOR_MASK} exited"
    error_code = vcpu.read(f.VM_EXIT_INTERRUPTION_ERROR_CODE)
    outcome = vcpu.paging.handle_page_fault(vcpu, vcpu.read(f.EXIT_QUALIFICATION), error_code)
    if info & i.NMI_UNBLOCKING:
        vcpu.take_back_iret()
    return outcome


def handle_ept_violation(vcpu: VCpu) -> Outcome:
    """An access the extended page tables do not allow."""
    return vcpu.paging.handle_ept_violation(vcpu)


def handle_triple_fault(vcpu: VCpu) -> Outcome:
    """The guest's processor shut down."""
    vcpu.shut_down()
    return STOP
