"""Exits that no instruction asks for: faults go to the paging, a triple fault ends the guest."""

import pytest

from emulator.vmx import fields as f
from emulator.vmx.guest_state import BLOCKING_BY_NMI
from emulator.vmx.interruption import HARDWARE_EXCEPTION, Interruption
from emulator.x86 import PAGE_FAULT
from tests.vmm.fakes import Bench
from vmm.exits.exceptions import handle_ept_violation, handle_exception, handle_triple_fault
from vmm.outcome import AGAIN, NEXT, STOP, EndKind, Outcome

GVA, ERROR_CODE = 0xFFFF_8000_0000_1000, 0b10


def page_fault(*, is_nmi_unblocking: bool = False) -> Bench:
    bench = Bench()
    event = Interruption(PAGE_FAULT, HARDWARE_EXCEPTION, has_error_code=True, is_nmi_unblocking=is_nmi_unblocking)
    bench.set({
        f.VM_EXIT_INTERRUPTION_INFORMATION: event.pack(),
        f.VM_EXIT_INTERRUPTION_ERROR_CODE: ERROR_CODE,
        f.EXIT_QUALIFICATION: GVA,
    })  # fmt: skip
    return bench


@pytest.mark.parametrize("outcome", [AGAIN, NEXT])
def test_a_page_fault_goes_to_the_paging_with_address_and_error_code(outcome: Outcome) -> None:
    bench = page_fault()
    bench.paging.outcome = outcome
    assert handle_exception(bench.vcpu) is outcome
    assert bench.paging.asked == [("handle_page_fault", GVA, ERROR_CODE)]


@pytest.mark.parametrize("is_nmi_unblocking", [False, True])
def test_an_iret_that_faulted_blocks_nmis_again(is_nmi_unblocking: bool) -> None:
    bench = page_fault(is_nmi_unblocking=is_nmi_unblocking)
    handle_exception(bench.vcpu)
    blocking = bench.vcpu.vmcs.read(f.GUEST_INTERRUPTIBILITY_STATE)
    assert blocking == (BLOCKING_BY_NMI if is_nmi_unblocking else 0)


def test_another_exception_is_a_mistake_of_the_vmm() -> None:
    bench = Bench()
    bench.set({f.VM_EXIT_INTERRUPTION_INFORMATION: Interruption(3, HARDWARE_EXCEPTION).pack()})
    with pytest.raises(AssertionError, match="vector 3 exited"):
        handle_exception(bench.vcpu)


def test_an_ept_violation_goes_to_the_paging() -> None:
    bench = Bench()
    assert handle_ept_violation(bench.vcpu) is AGAIN
    assert bench.paging.asked == [("handle_ept_violation",)]


def test_a_triple_fault_ends_the_domain() -> None:
    bench = Bench()
    assert handle_triple_fault(bench.vcpu) is STOP
    assert bench.domain.end is not None
    assert (bench.domain.end.kind, bench.domain.end.detail) == (EndKind.TRIPLE_FAULT, "triple fault")
