"""The loop: which events the guest enters with: interrupted ones, NMIs, interrupts, windows."""

import pytest

from emulator.engine.abi import RESUME
from emulator.vmx import controls as c
from emulator.vmx import fields as f
from emulator.vmx import interruption as i
from emulator.vmx.exit_reasons import ExitReason as R
from emulator.vmx.guest_state import BLOCKING_BY_MOV_SS, BLOCKING_BY_NMI, BLOCKING_BY_STI
from emulator.x86 import GENERAL_PROTECTION, NMI_VECTOR, RFLAGS_IF
from tests.vmm.exits.running_guest import LENGTH_BYTES, VECTOR, Running
from tests.vmm.fakes import Bench, exception
from vmm.cost import paths
from vmm.outcome import AGAIN, NEXT, Outcome
from vmm.vcpu import VCpu

WINDOWS = c.PROC_INTERRUPT_WINDOW_EXITING | c.PROC_NMI_WINDOW_EXITING


# --- what the exit interrupted


@pytest.mark.parametrize(
    "event",
    [
        i.Interruption(VECTOR, i.EXTERNAL_INTERRUPT),
        i.Interruption(GENERAL_PROTECTION, i.HARDWARE_EXCEPTION, has_error_code=True),
        i.Interruption(0x80, i.SOFTWARE_INTERRUPT),
    ],
    ids=["interrupt", "exception", "INT n"],
)
def test_again_delivers_what_the_exit_interrupted(event: i.Interruption) -> None:
    guest = Running(AGAIN)
    guest.set({f.IDT_VECTORING_INFORMATION: event.pack(), f.IDT_VECTORING_ERROR_CODE: 0x50})
    guest.exits.on_exit()
    assert guest.injected == event
    if event.has_error_code:
        assert guest.injected_error_code == 0x50
    if event.type == i.SOFTWARE_INTERRUPT:
        assert guest.read(f.VM_ENTRY_INSTRUCTION_LENGTH) == LENGTH_BYTES
    assert guest.meter.followed == [paths.EXIT, paths.REINJECT, paths.INJECT, paths.CHECK_EVENTS, paths.ENTRY]


def test_an_nmi_that_is_delivered_again_is_not_blocked_by_itself() -> None:
    guest = Running(AGAIN)
    event = i.Interruption(NMI_VECTOR, i.NMI)
    guest.set({f.IDT_VECTORING_INFORMATION: event.pack(), f.GUEST_INTERRUPTIBILITY_STATE: BLOCKING_BY_NMI})
    guest.exits.on_exit()
    assert guest.injected == event
    assert guest.read(f.GUEST_INTERRUPTIBILITY_STATE) == 0


def test_what_a_handler_injects_comes_instead_of_what_the_exit_interrupted() -> None:
    guest = Bench()

    def handler(vcpu: VCpu) -> Outcome:
        vcpu.inject_exception(GENERAL_PROTECTION, 0)
        return AGAIN

    loop = guest.loop({R.CPUID: handler})
    guest.set({f.EXIT_REASON: R.CPUID})
    guest.set({f.IDT_VECTORING_INFORMATION: i.Interruption(VECTOR, i.EXTERNAL_INTERRUPT).pack()})
    assert loop.on_exit() is RESUME
    assert guest.injected == exception(GENERAL_PROTECTION, has_error_code=True)
    assert paths.REINJECT not in guest.meter.followed


# --- what waits for the entry


def test_an_interrupt_is_acknowledged_and_injected_at_the_entry() -> None:
    guest = Running(NEXT)
    guest.request_interrupt()
    guest.exits.on_exit()
    assert guest.injected == i.Interruption(VECTOR, i.EXTERNAL_INTERRUPT)
    assert guest.core.asked == ["serve"]
    followed = [paths.EXIT, paths.ADVANCE_RIP, paths.CHECK_EVENTS, paths.INTERRUPT, paths.INJECT, paths.ENTRY]
    assert guest.meter.followed == followed


@pytest.mark.parametrize(
    ("rflags", "blocking"), [(2, 0), (2 | RFLAGS_IF, BLOCKING_BY_STI), (2 | RFLAGS_IF, BLOCKING_BY_MOV_SS)]
)
def test_an_interrupt_that_cannot_be_taken_asks_for_a_window_and_no_more_once_it_is_open(
    rflags: int, blocking: int
) -> None:
    guest = Running(AGAIN)
    guest.request_interrupt()
    guest.set({f.GUEST_RFLAGS: rflags, f.GUEST_INTERRUPTIBILITY_STATE: blocking})
    guest.exits.on_exit()
    assert guest.injected is None
    assert guest.read(f.PRIMARY_PROCESSOR_BASED_CONTROLS) & WINDOWS == c.PROC_INTERRUPT_WINDOW_EXITING
    guest.set({f.GUEST_RFLAGS: 2 | RFLAGS_IF, f.GUEST_INTERRUPTIBILITY_STATE: 0})
    guest.exits.on_exit()
    assert guest.injected == i.Interruption(VECTOR, i.EXTERNAL_INTERRUPT)
    guest.vcpu.interrupt_request = False
    guest.set({f.VM_ENTRY_INTERRUPTION_INFORMATION: 0})
    guest.exits.on_exit()
    assert guest.read(f.PRIMARY_PROCESSOR_BASED_CONTROLS) & WINDOWS == 0


def test_an_nmi_comes_before_an_interrupt_which_then_waits_for_its_window() -> None:
    guest = Running(NEXT)
    guest.request_interrupt()
    guest.vcpu.nmi_request = True
    guest.exits.on_exit()
    assert guest.injected == i.Interruption(NMI_VECTOR, i.NMI)
    assert not guest.vcpu.nmi_request
    assert guest.vcpu.windows == c.PROC_INTERRUPT_WINDOW_EXITING


def test_an_nmi_that_is_blocked_asks_for_its_window() -> None:
    guest = Running(NEXT)
    guest.set({f.GUEST_INTERRUPTIBILITY_STATE: BLOCKING_BY_NMI})
    guest.vcpu.nmi_request = True
    guest.exits.on_exit()
    assert guest.injected is None
    assert guest.vcpu.nmi_request
    assert guest.read(f.PRIMARY_PROCESSOR_BASED_CONTROLS) & WINDOWS == c.PROC_NMI_WINDOW_EXITING
