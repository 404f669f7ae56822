"""Non-maskable interrupts: when they are taken, what IRET has to do with them, and the controls that make them exit."""

import pytest

from emulator.vmx import controls as c
from emulator.vmx import fields as f
from emulator.vmx.exit_reasons import ExitReason as R
from tests.emulator.engine.rig import CODE, DATA, HANDLERS, STACK0, Rig, assemble

BLOCKED = 8
NMI_INFORMATION = 0x80000202
UNBLOCKING = 1 << 12
PROC = f.PRIMARY_PROCESSOR_BASED_CONTROLS


def with_nmi(text: str, handler: str = "hlt", *, non_root: bool = False) -> Rig:
    """An NMI is pending from the start; `handler` is at its vector."""
    rig = Rig(text, non_root=non_root)
    rig.put(HANDLERS + 0x20, assemble(handler, origin=HANDLERS + 0x20))
    rig.shared.nmi_pending = 1
    return rig


def with_controls(rig: Rig, *, virtual: bool, window: bool = False) -> Rig:
    rig.set_control(f.PIN_BASED_CONTROLS, c.PIN_NMI_EXITING | (c.PIN_VIRTUAL_NMIS if virtual else 0))
    rig.set_control(PROC, c.PROC_NMI_WINDOW_EXITING if window else 0)
    return rig


# --- delivery ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("non_root", [False, True])
def test_an_nmi_is_delivered_whatever_if_is_and_blocks_further_ones(non_root: bool) -> None:
    rig = with_nmi("nop\n hlt", non_root=non_root).run()
    assert rig.halted_in == 2
    assert rig.frame(has_error=False)["rip"] == CODE
    assert rig["interruptibility_state"] == BLOCKED
    assert rig.shared.nmi_pending == 0
    rig.shared.nmi_pending = 1
    rig["rip"] = CODE
    assert rig.vmcs.write(f.GUEST_ACTIVITY_STATE, 0) is None
    rig.run()
    assert (rig["rip"], rig.shared.nmi_pending) == (CODE + 2, 1)


@pytest.mark.parametrize("non_root", [False, True])
def test_a_second_nmi_waits_for_iret_and_comes_at_its_target(non_root: bool) -> None:
    """The first handler counts, and asks for another NMI by the port write that raises the pin."""
    text = f"nop\n mov rcx, {DATA}\n nop\n hlt"
    handler = f"mov rax, {DATA}\n inc qword ptr [rax]\n cmp qword ptr [rax], 1\n jne 1f"
    handler += "\n out 0x10, al\n nop\n iretq\n 1: hlt"
    rig = with_nmi(text, handler, non_root=non_root)
    rig.platform.on_port = lambda port: setattr(rig.shared, "nmi_pending", 1)
    rig.run()
    assert rig.is_halted
    assert rig.word(DATA) == 2
    assert rig.frame(has_error=False)["rip"] == CODE  # the IRET's target, not the IRET
    assert rig["rsp"] == STACK0 - 40  # the second did not nest


def test_iret_to_the_interrupted_code_unblocks() -> None:
    rig = with_nmi("nop\n nop\n hlt", "iretq").run()
    assert (rig["rip"], rig["interruptibility_state"]) == (CODE + 3, 0)


def test_an_interrupt_in_the_nmi_handler_unblocks_by_its_own_iret() -> None:
    handler = "sti\n nop\n nop\n hlt"
    rig = with_nmi("nop\n hlt", handler)
    rig.put(HANDLERS + 0x400, assemble("iretq"))
    rig.platform.vectors = [0x40]
    rig.platform.on_acknowledge = lambda: setattr(rig.shared, "interrupt_pending", 0)
    rig.shared.interrupt_pending = 1
    rig.run()
    assert rig.halted_in != 2
    assert rig["interruptibility_state"] == 0


def test_an_iret_that_faults_unblocks() -> None:
    rig = with_nmi("nop", "push 0\n push 0\n iretq").run()  # CS 0: #GP
    assert (rig.halted_in, rig["interruptibility_state"]) == (13, 0)


def test_an_nmi_wakes_a_halted_cpu() -> None:
    rig = Rig("hlt").run()
    rig.shared.nmi_pending = 1
    rig.run()
    assert rig.halted_in == 2
    assert rig.frame(has_error=False)["rip"] == CODE + 1


def test_an_nmi_waits_for_the_instruction_behind_mov_ss() -> None:
    rig = Rig("nop\n nop\n hlt")
    assert rig.vmcs.write(f.GUEST_INTERRUPTIBILITY_STATE, 2) is None
    rig.shared.nmi_pending = 1
    rig.run()
    assert rig.frame(has_error=False)["rip"] == CODE + 1


def test_an_nmi_comes_before_an_interrupt() -> None:
    rig = with_nmi("nop\n hlt")
    rig["rflags"] = 0x202
    rig.platform.vectors = [0x40]
    rig.shared.interrupt_pending = 1
    rig.run()
    assert rig.halted_in == 2


# --- VMX --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("virtual", [False, True])
def test_nmi_exiting_makes_it_exit(virtual: bool) -> None:
    rig = with_controls(with_nmi("nop\n vmcall", non_root=True), virtual=virtual).run()
    assert [(seen.reason, seen.information, seen.rip) for seen in rig.exits] == [
        (R.EXCEPTION_NMI, NMI_INFORMATION, CODE)
    ]
    assert rig["interruptibility_state"] == 0


def test_without_virtual_nmis_blocking_holds_an_nmi_and_iret_does_not_end_it() -> None:
    text = "push 0x10\n push rsp\n pushfq\n push 8\n push 0x10020\n iretq"
    rig = with_controls(with_nmi(text, non_root=True), virtual=False)
    assert rig.vmcs.write(f.GUEST_INTERRUPTIBILITY_STATE, BLOCKED) is None
    rig.run()
    assert rig.exits == []
    assert rig["interruptibility_state"] == BLOCKED


def test_virtual_nmi_blocking_does_not_hold_a_real_nmi() -> None:
    rig = with_controls(with_nmi("nop\n vmcall", non_root=True), virtual=True)
    assert rig.vmcs.write(f.GUEST_INTERRUPTIBILITY_STATE, BLOCKED) is None
    rig.run()
    assert [seen.information for seen in rig.exits] == [NMI_INFORMATION]
    assert rig["interruptibility_state"] == BLOCKED


def test_the_nmi_window_opens_at_once_without_blocking() -> None:
    rig = with_controls(Rig("nop\n vmcall", non_root=True), virtual=True, window=True).run()
    assert [(seen.reason, seen.rip) for seen in rig.exits] == [(R.NMI_WINDOW, CODE)]


def test_the_nmi_window_opens_behind_iret() -> None:
    """The VMM has injected an NMI; its handler's IRET ends virtual-NMI blocking."""
    rig = with_controls(Rig("nop\n vmcall", non_root=True), virtual=True, window=True)
    rig.put(HANDLERS + 0x20, assemble("nop\n nop\n iretq"))
    rig.vmcs.write(f.VM_ENTRY_INTERRUPTION_INFORMATION, NMI_INFORMATION)
    rig.run()
    assert [(seen.reason, seen.rip) for seen in rig.exits] == [(R.NMI_WINDOW, CODE)]
    assert rig["interruptibility_state"] == 0


@pytest.mark.parametrize("virtual", [False, True])
def test_an_iret_that_faults_tells_the_vmm_that_it_unblocked(virtual: bool) -> None:
    rig = with_controls(Rig("push 0\n push 0\n iretq", non_root=True), virtual=virtual)
    rig.vmcs.write(f.EXCEPTION_BITMAP, 1 << 13)
    assert rig.vmcs.write(f.GUEST_INTERRUPTIBILITY_STATE, BLOCKED) is None
    rig.run()
    assert [seen.information for seen in rig.exits] == [0x80000B0D | (UNBLOCKING if virtual else 0)]
    assert rig["interruptibility_state"] == (0 if virtual else BLOCKED)


@pytest.mark.parametrize("slice_cycles", [1, 2, 3])
def test_slices_of_a_few_cycles_change_nothing(slice_cycles: int) -> None:
    rig = with_nmi("nop\n nop\n hlt", "nop\n iretq")
    while not rig.is_halted:
        rig.run(slice_cycles)
    assert (rig["rip"], rig["interruptibility_state"]) == (CODE + 3, 0)
