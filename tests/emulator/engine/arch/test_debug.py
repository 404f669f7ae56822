"""Debug registers: what they keep, general detect, breakpoints on data, and what RF keeps from a breakpoint."""

import pytest

from emulator.vmx import controls as c
from emulator.vmx import fields as f
from emulator.vmx.exit_reasons import ExitReason as R
from tests.emulator.engine.rig import CODE, DATA, HANDLERS, Rig, assemble, guest

DR6_NOTHING, DR7_NOTHING = 0xFFFF0FF0, 0x400
BD, BS, GD = 1 << 13, 1 << 14, 1 << 13
ON_EXECUTE, ON_WRITE, ON_ACCESS = 0, 1, 3
LENGTH_FIELD = {1: 0, 2: 1, 4: 3, 8: 2}


def dr7(number: int, kind: int, length_bytes: int = 1) -> int:
    return DR7_NOTHING | 1 << 2 * number | (kind | LENGTH_FIELD[length_bytes] << 2) << (16 + 4 * number)


def watching(text: str, kind: int, length_bytes: int, *, at: int = DATA, number: int = 1, **changes: bool) -> Rig:
    """A program with a breakpoint on data; RBX is DATA."""
    rig = Rig(text, **changes)
    rig.shared.dr[number] = at
    rig["dr7"] = dr7(number, kind, length_bytes)
    rig["rbx"] = DATA
    return rig


# --- registers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("register", "value", "reads"),
    [
        ("dr6", 0, DR6_NOTHING),
        ("dr6", 0xFFFFFFFF, 0xFFFFEFFF),
        ("dr7", 0, DR7_NOTHING),
        ("dr7", 0xFFFFFFFF & ~GD, 0xFFFF2BFF & ~GD | DR7_NOTHING),
        ("dr4", 0, DR6_NOTHING),
        ("dr5", 0, DR7_NOTHING),
    ],
)
def test_bits_of_dr6_and_dr7_that_are_fixed_stay(register: str, value: int, reads: int) -> None:
    rig = Rig(f"mov {register}, rax\n mov rbx, {register}\n hlt")
    rig["rax"] = value
    rig.run()
    assert (rig.is_halted, rig["rip"], rig["rbx"]) == (True, CODE + 7, reads)


@pytest.mark.parametrize("register", ["dr6", "dr7"])
def test_the_upper_half_of_dr6_and_dr7_must_be_zero(register: str) -> None:
    rig = Rig(f"mov {register}, rax")
    rig["rax"] = 1 << 32
    assert rig.run().halted_in == 13


@pytest.mark.parametrize("text", ["mov rax, dr4", "mov dr5, rax"])
def test_dr4_and_dr5_are_undefined_with_debugging_extensions(text: str) -> None:
    rig = Rig(text)
    rig["cr4"] = 0x28
    assert rig.run().halted_in == 6


@pytest.mark.parametrize("text", ["mov rax, dr0", "mov dr3, rax", "mov rax, dr6", "mov dr7, rax"])
def test_general_detect_faults_before_the_access_and_its_handler_has_access(text: str) -> None:
    rig = Rig("nop\n " + text)
    rig["dr7"] = DR7_NOTHING | GD
    rig.run()
    assert (rig.halted_in, rig.word(rig["rsp"])) == (1, CODE + 1)
    assert (rig.shared.dr6, rig["dr7"]) == (DR6_NOTHING | BD, DR7_NOTHING)


def test_general_detect_that_exits_leaves_the_registers_to_the_vmm() -> None:
    rig = guest("mov dr0, rax")
    rig["dr7"] = DR7_NOTHING | GD
    rig.vmcs.write(f.EXCEPTION_BITMAP, 2)
    rig.run()
    assert [(seen.reason, seen.qualification, seen.rip) for seen in rig.exits] == [(R.EXCEPTION_NMI, BD, CODE + 1)]
    assert (rig.shared.dr6, rig["dr7"]) == (DR6_NOTHING, DR7_NOTHING | GD)


def test_mov_dr_exiting_comes_before_general_detect_and_dr4() -> None:
    rig = guest("mov dr4, rax")
    rig["dr7"], rig["cr4"] = DR7_NOTHING | GD, 0x28
    rig.set_control(f.PRIMARY_PROCESSOR_BASED_CONTROLS, c.PROC_MOV_DR_EXITING)
    rig.run()
    assert [(seen.reason, seen.qualification) for seen in rig.exits] == [(R.DR_ACCESS, 4)]


# --- breakpoints on data ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("non_root", [False, True])
@pytest.mark.parametrize(
    ("text", "kind", "hits"),
    [
        ("mov [rbx], al", ON_WRITE, True),
        ("mov [rbx], al", ON_ACCESS, True),
        ("mov al, [rbx]", ON_ACCESS, True),
        ("mov al, [rbx]", ON_WRITE, False),
        ("inc byte ptr [rbx]", ON_WRITE, True),
    ],
)
def test_a_breakpoint_on_data_traps_behind_the_instruction(text: str, kind: int, hits: bool, non_root: bool) -> None:
    length = len(assemble(text))
    rig = watching(f"nop\n {text}\n nop\n hlt", kind, 1, non_root=non_root).run()
    assert rig.halted_in == (1 if hits else None)
    assert rig.shared.dr6 == DR6_NOTHING | (2 if hits else 0)
    if hits:
        assert rig.word(rig["rsp"]) == CODE + 1 + length
    else:
        assert rig["rip"] == CODE + 1 + length + 2


@pytest.mark.parametrize("length_bytes", [1, 2, 4, 8])
def test_an_access_hits_if_one_byte_of_it_is_watched(length_bytes: int) -> None:
    for size_bytes, register in ((1, "al"), (2, "ax"), (4, "eax"), (8, "rax")):
        for offset in (-size_bytes, 1 - size_bytes, 0, length_bytes - 1, length_bytes):
            rig = watching(
                f"mov [rbx + {0x40 + offset}], {register}\n hlt", ON_WRITE, length_bytes, at=DATA + 0x40
            ).run()
            is_hit = -size_bytes < offset < length_bytes
            assert (rig.halted_in == 1) == is_hit, (size_bytes, offset)


def test_the_address_is_aligned_to_the_length() -> None:
    assert watching("mov [rbx], al\n hlt", ON_WRITE, 4, at=DATA + 3).run().halted_in == 1
    assert watching("mov [rbx + 4], al\n hlt", ON_WRITE, 4, at=DATA + 3).run().halted_in is None


def test_a_breakpoint_on_data_exits_with_its_number() -> None:
    rig = watching("nop\n mov [rbx], al\n nop", ON_WRITE, 1, number=2, non_root=True)
    rig.vmcs.write(f.EXCEPTION_BITMAP, 2)
    rig.run()
    assert [(seen.information, seen.qualification, seen.rip) for seen in rig.exits] == [(0x80000301, 4, CODE + 3)]
    assert rig.shared.dr6 == DR6_NOTHING


def test_an_instruction_that_faults_does_not_trap_too() -> None:
    rig = watching("movsb", ON_ACCESS, 1)
    rig["rsi"], rig["rdi"] = DATA, 0x40000000
    rig.run()
    assert (rig.halted_in, rig.shared.dr6) == (14, DR6_NOTHING)


def test_a_single_step_over_a_watched_store_is_one_trap() -> None:
    rig = watching("nop\n mov [rbx], al\n nop", ON_WRITE, 1)
    rig.put(HANDLERS + 0x10, assemble("inc ecx\n cmp ecx, 2\n je 1f\n iretq\n 1: hlt"))
    rig["rflags"] = 0x102
    rig.run()
    assert (rig.word(rig["rsp"]), rig.shared.dr6) == (CODE + 3, DR6_NOTHING | BS | 2)


def test_a_repeated_store_traps_behind_the_iteration() -> None:
    rig = watching("nop\n rep stosb\n hlt", ON_WRITE, 1, at=DATA + 2)
    rig["rdi"], rig["rcx"] = DATA, 8
    rig.run()
    assert (rig.halted_in, rig["rcx"], rig["rdi"], rig.word(rig["rsp"])) == (1, 5, DATA + 3, CODE + 1)


def test_a_breakpoint_that_is_set_and_cleared_by_the_guest() -> None:
    text = "mov dr1, rbx\n mov dr7, rax\n mov [rbx], al\n mov dr7, rcx\n mov [rbx], al\n hlt"
    rig = Rig(text)
    rig.put(HANDLERS + 0x10, assemble("inc edx\n iretq"))
    rig["rbx"], rig["rax"], rig["rcx"] = DATA, dr7(1, ON_WRITE), DR7_NOTHING
    rig.run()
    assert (rig.is_halted, rig.halted_in, rig["rdx"]) == (True, None, 1)


# --- RF ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("non_root", [False, True])
def test_rf_keeps_one_instruction_from_its_breakpoint_not_the_next(non_root: bool) -> None:
    rig = Rig("nop\n nop\n nop\n hlt", non_root=non_root)
    rig.put(HANDLERS + 0x10, assemble("inc ecx\n or dword ptr [rsp + 16], 0x10000\n iretq"))
    rig.shared.dr[0], rig.shared.dr[1] = CODE + 1, CODE + 2
    rig["dr7"] = dr7(0, ON_EXECUTE) | dr7(1, ON_EXECUTE)
    rig.run()
    assert (rig["rip"], rig["rcx"], rig.shared.dr6) == (CODE + 4, 2, DR6_NOTHING | 2)


def test_an_address_that_changes_while_its_breakpoint_is_enabled_counts_at_once() -> None:
    rig = Rig("mov dr0, rax\n nop\n nop\n nop\n hlt")
    rig.shared.dr[0] = CODE + 4
    rig["dr7"], rig["rax"] = dr7(0, ON_EXECUTE), CODE + 5
    rig.run()
    assert (rig.halted_in, rig.word(rig["rsp"])) == (1, CODE + 5)
