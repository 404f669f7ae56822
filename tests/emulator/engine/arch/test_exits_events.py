"""Exceptions, interrupts and the interrupt window exit as the bitmap and the controls say."""

import pytest

from emulator.engine import LEAVE, RESUME
from emulator.vmx import controls as c
from emulator.vmx import fields as f
from emulator.vmx.exit_reasons import ExitReason as R
from emulator.x86 import RFLAGS_IF
from tests.emulator.engine.rig import CODE, Rig, exits_of, guest

PIN, PROC, PROC2 = f.PIN_BASED_CONTROLS, f.PRIMARY_PROCESSOR_BASED_CONTROLS, f.SECONDARY_PROCESSOR_BASED_CONTROLS

# --- exceptions -------------------------------------------------------------------------------------------------------

# program, vector, information, error code, length, qualification, offset of RIP
EXCEPTIONS: dict[str, tuple[str, int, int, int, int, int, int]] = {
    "#DE": ("div cl", 0, 0x80000300, 0, 0, 0, 1),
    "ICEBP": (".byte 0xf1", 1, 0x80000501, 0, 1, 0, 1),
    "INT3": ("int3", 3, 0x80000603, 0, 1, 0, 1),
    "#UD": ("ud2", 6, 0x80000306, 0, 0, 0, 1),
    "#GP": ("mov ds, bx", 13, 0x80000B0D, 0x0, 0, 0, 1),
    "#PF read": ("mov eax, [0x80000123]", 14, 0x80000B0E, 0, 0, 0x80000123, 1),
    "#PF write": ("mov [0x80000123], eax", 14, 0x80000B0E, 2, 0, 0x80000123, 1),
}


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_an_exception_exits_by_its_bit_of_the_bitmap_alone(name: str) -> None:
    text, vector, information, error, length, qualification, rip = EXCEPTIONS[name]
    rig = guest(text)
    rig.vmcs.write(f.EXCEPTION_BITMAP, 1 << vector)
    rig.shared.cr2 = 0x77
    rig["rbx"] = 0x200 if name == "#GP" else 0
    error = 0x200 if name == "#GP" else error
    rig.run()
    (seen,) = rig.exits
    assert (seen.reason, seen.information, seen.error_code) == (R.EXCEPTION_NMI, information, error)
    assert (seen.instruction_bytes, seen.qualification, seen.rip) == (length, qualification, CODE + rip)
    assert rig.shared.cr2 == 0x77  # an exit leaves it alone
    other = guest(text)
    other["rbx"] = rig["rbx"]
    other.vmcs.write(f.EXCEPTION_BITMAP, 0xFFFFFFFF ^ 1 << vector)
    other.run()
    assert (other.exits, other.halted_in) == ([], vector)


def test_into_exits_as_a_software_exception() -> None:
    rig = Rig("mov al, 0x7f\n inc al\n into", bits=32, non_root=True)
    rig.vmcs.write(f.EXCEPTION_BITMAP, 1 << 4)
    rig.run()
    assert [(e.information, e.instruction_bytes) for e in rig.exits] == [(0x80000604, 1)]


def test_int_n_does_not_look_at_the_exception_bitmap() -> None:
    rig = Rig("int 3\n .byte 0xcd, 0x0d", non_root=True)  # CD 03 would be INT3 for some assemblers
    rig.put(CODE, b"\xcd\x0d")
    rig.vmcs.write(f.EXCEPTION_BITMAP, 0xFFFFFFFF)
    rig.run()
    assert (rig.exits, rig.halted_in) == ([], 13)


# error code of the access, mask, match, bit of the bitmap, exits?
@pytest.mark.parametrize("bit", [0, 1])
@pytest.mark.parametrize(
    ("write", "mask", "match", "matches"),
    [
        (0, 0, 0, True),
        (1, 0, 0, True),
        (0, 0, 1, False),
        (1, 2, 2, True),
        (0, 2, 2, False),
        (0, 2, 0, True),
        (1, 7, 2, True),
        (1, 7, 3, False),
    ],
)
def test_the_page_fault_mask_and_match_turn_the_bit_around(
    bit: int, write: int, mask: int, match: int, matches: bool
) -> None:
    rig = guest("mov [0x80000000], eax" if write else "mov eax, [0x80000000]")
    rig.vmcs.write(f.EXCEPTION_BITMAP, bit << 14)
    rig.vmcs.write(f.PAGE_FAULT_ERROR_CODE_MASK, mask)
    rig.vmcs.write(f.PAGE_FAULT_ERROR_CODE_MATCH, match)
    rig.run()
    exits = matches == bool(bit)
    assert len(rig.exits) == exits
    assert rig.halted_in == (None if exits else 14)


def test_a_single_step_exits_with_its_cause() -> None:
    rig = guest("push 0x102\n popfq\n nop")
    rig.vmcs.write(f.EXCEPTION_BITMAP, 2)
    rig.run()
    (seen,) = rig.exits
    assert (seen.information, seen.qualification, seen.rip) == (0x80000301, 0x4000, CODE + 8)


def test_a_single_step_over_an_emulated_instruction_exits_too() -> None:
    rig = guest("push 0x102\n popfq\n mov rax, cr3\n mov cr3, rax")
    rig.vmcs.write(f.EXCEPTION_BITMAP, 2)
    rig.on_exit = lambda seen: LEAVE if len(rig.exits) == 2 else RESUME
    rig.run()
    assert [(seen.qualification, seen.rip) for seen in rig.exits] == [(0x4000, CODE + 10), (0x4000, CODE + 13)]


# --- interrupts and their window --------------------------------------------------------------------------------------


def pending(text: str, *, rflags: int = 2 | RFLAGS_IF) -> Rig:
    rig = guest(text)
    rig["rflags"] = rflags
    rig.shared.interrupt_pending = 1
    rig.platform.vectors = [0x55]
    rig.platform.on_acknowledge = lambda: setattr(rig.shared, "interrupt_pending", 0)
    return rig


@pytest.mark.parametrize("rflags", [2, 2 | RFLAGS_IF])
def test_an_external_interrupt_exits_whatever_if_says(rflags: int) -> None:
    rig = pending("nop", rflags=rflags)
    rig.set_control(PIN, c.PIN_EXTERNAL_INTERRUPT_EXITING)
    rig.run()
    (seen,) = rig.exits
    assert (seen.reason, seen.information, seen.rip, seen.instruction_bytes) == (R.EXTERNAL_INTERRUPT, 0, CODE, 0)
    assert rig.platform.vectors == [0x55]  # not acknowledged


def test_acknowledge_on_exit_tells_the_vector() -> None:
    rig = pending("nop")
    rig.set_control(PIN, c.PIN_EXTERNAL_INTERRUPT_EXITING)
    rig.vmcs.write(f.VM_EXIT_CONTROLS, c.EXIT_ACKNOWLEDGE_INTERRUPT)
    rig.run()
    assert [(seen.reason, seen.information) for seen in rig.exits] == [(R.EXTERNAL_INTERRUPT, 0x80000055)]
    assert rig.platform.vectors == []


def test_without_the_control_the_guests_idt_gets_the_interrupt() -> None:
    rig = pending("nop")
    rig.run()
    assert (rig.exits, rig.halted_in) == ([], 0x55)


def test_an_interrupt_that_comes_while_the_guest_is_halted_exits_and_leaves_it_halted() -> None:
    rig = pending("hlt")
    rig.shared.interrupt_pending = 0
    rig.set_control(PIN, c.PIN_EXTERNAL_INTERRUPT_EXITING)
    rig.run()
    assert rig.is_halted
    rig.shared.interrupt_pending = 1
    rig.run()
    assert [seen.reason for seen in rig.exits] == [R.EXTERNAL_INTERRUPT]
    assert rig.is_halted


# program, RFLAGS at the start, offset at which the window opens
WINDOWS = {
    "open from the start": ("nop", 2 | RFLAGS_IF, 0),
    "behind the instruction after STI": ("sti\n nop\n nop", 2, 3),
    "behind the instruction after MOV SS": (
        "mov eax, ss\n push 0x202\n mov ss, eax\n popfq\n nop",
        2,
        1 + 2 + 5 + 2 + 1,
    ),
    "behind POPF": ("push 0x202\n popfq\n nop", 2, 7),
    "behind STI and CPUID": ("sti\n mov rax, cr3\n mov cr3, rax\n nop", 2, 1 + 1 + 3),
}


@pytest.mark.parametrize("name", WINDOWS)
def test_the_interrupt_window_exits_when_it_opens(name: str) -> None:
    text, rflags, offset = WINDOWS[name]
    rig = guest(text)
    rig["rflags"] = rflags
    rig.set_control(PROC, c.PROC_INTERRUPT_WINDOW_EXITING)
    rig.run()
    assert [(seen.reason, seen.rip) for seen in rig.exits] == [(R.INTERRUPT_WINDOW, CODE + offset)]


def test_a_window_that_stays_shut_never_exits() -> None:
    rig = guest("sti\n cli\n nop")
    rig.set_control(PROC, c.PROC_INTERRUPT_WINDOW_EXITING)
    assert exits_of(rig) == []


def test_a_halted_guest_exits_for_its_window() -> None:
    rig = guest("sti\n hlt")
    rig.set_control(PROC, c.PROC_INTERRUPT_WINDOW_EXITING)
    rig.run()
    assert [(seen.reason, seen.rip) for seen in rig.exits] == [(R.INTERRUPT_WINDOW, CODE + 3)]


@pytest.mark.parametrize(
    ("text", "rflags", "blocking"),
    [("sti\n cpuid", 2, 1), ("mov eax, ss\n mov ss, eax\n cpuid", 2, 2), ("nop\n cpuid", 2 | RFLAGS_IF, 0)],
)
def test_an_exit_in_a_shadow_tells_a_state_that_can_be_entered_again(text: str, rflags: int, blocking: int) -> None:
    """Blocking by STI with IF clear is a state that no VM entry accepts (SDM 3C 27.3.1.5)."""
    rig = guest(text)
    rig["rflags"] = rflags
    rig.run()
    assert rig.exits[0].reason == R.CPUID
    assert rig["interruptibility_state"] == blocking
