"""A hook on every access to memory, for detailed timing or a breakpoint on data, changes nothing a program does."""

from collections.abc import Callable
from functools import cache

import pytest

from emulator.machine import Machine
from emulator.profiles.profile import load_profile
from tests.emulator.engine.arch.test_events16 import SEGMENT, STACK, pushed, real_mode, virtual_8086
from tests.emulator.engine.rig import CODE, CODE16_0, CODE32_0, GDT, Rig, descriptor

WORD_BYTES = {"real mode": 2, "virtual-8086 mode": 4}  # of what an event pushes
MODES: dict[str, Callable[[str], Rig]] = {"real mode": real_mode, "virtual-8086 mode": virtual_8086}
UNUSED = 0x3F0000
WRITES_AND_READS_OF_ITS_BYTE = 0x400 | 1 | 3 << 16

# Control transfers to `1:`, which both CS 0x1000 (the program's) and 0x0fff reach, and what CS is there.
END = "\n hlt\n 1: mov bx, cs\n hlt"
NEAR, FAR = f"offset 1f - {CODE}", f"offset 1f - {CODE - 16}"
TRANSFERS_16 = {
    "near return": (f"push {NEAR}\n ret", 0x1000),
    "near return that frees arguments": (f"push 1\n push 2\n push {NEAR}\n ret 4", 0x1000),
    "near jump through memory": (f"mov word ptr [0x10], {NEAR}\n jmp word ptr [0x10]", 0x1000),
    "near call through memory": (f"mov word ptr [0x10], {NEAR}\n call word ptr [0x10]", 0x1000),
    "far return": (f"push 0xfff\n push {FAR}\n retf", 0xFFF),
    "far return behind other accesses": (f"push 0xfff\n push {FAR}\n mov ax, [0x10]\n xor [0x12], ax\n retf", 0xFFF),
    "far return that frees arguments": (f"push 1\n push 2\n push 0xfff\n push {FAR}\n retf 4", 0xFFF),
    "far return of 32 bits": (f"push 0\n push 0xfff\n push 0\n push {FAR}\n .byte 0x66\n retf", 0xFFF),
    "far return over a page's end": (f"mov sp, 0x1003\n push 0xfff\n push {FAR}\n retf", 0xFFF),
    "far return below ESP's upper half": (f"or esp, 0x20000\n push 0xfff\n push {FAR}\n retf", 0xFFF),
    "far jump": (f".byte 0xea\n .word {FAR}, 0xfff", 0xFFF),
    "far jump through memory": (
        f"mov word ptr [0x10], {FAR}\n mov word ptr [0x12], 0xfff\n jmp dword ptr [0x10]",
        0xFFF,
    ),
    "far call": (f".byte 0x9a\n .word {FAR}, 0xfff", 0xFFF),
    "far call and return": (f".byte 0x9a\n .word offset 2f - {CODE - 16}, 0xfff\n jmp 1f\n 2: retf", 0x1000),
    "interrupt return": (f"pushf\n push 0xfff\n push {FAR}\n iret", 0xFFF),
}  # fmt: skip
PROTECTED_MODE = {16: (NEAR, CODE16_0), 32: ("offset 1f", CODE32_0)}  # the target's offset and segment


@cache
def detailed_machine() -> Machine:
    return Machine(load_profile("netburst-2006"), memory_bytes=1 << 20, timing="detailed")


def simulate_every_access(rig: Rig) -> None:
    rig.engine.set_timing(detailed_machine().timing.at("detailed"), 0)


def break_on_data(rig: Rig) -> None:
    rig.shared.dr[0], rig["dr7"] = UNUSED, WRITES_AND_READS_OF_ITS_BYTE


HOOKS = {"detailed timing": simulate_every_access, "a breakpoint on data": break_on_data}


def outcome(rig: Rig, hook: Callable[[Rig], None]) -> tuple[object, ...]:
    """Where a program came to, with the registers and the memory it left."""
    hook(rig)
    rig.run(100_000)
    assert rig.is_halted
    registers = ("rip", "rflags", "rsp", "cs_selector", "cs_base", "ss_selector", "ds_selector")
    return *(rig[name] for name in registers), bytes(rig.engine.gpr), rig.memory.read(0x10000, 0x30000)


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("transfer", TRANSFERS_16)
@pytest.mark.parametrize("mode", MODES)
def test_control_transfers_of_16_bit_code_end_where_they_do_without(mode: str, transfer: str, hook: str) -> None:
    text, cs = TRANSFERS_16[transfer]
    plain = MODES[mode](text + END)
    expected = outcome(plain, lambda rig: None)
    assert plain["rbx"] == cs
    assert outcome(MODES[mode](text + END), HOOKS[hook]) == expected


def protected_mode(text: str, bits: int) -> Rig:
    rig = Rig(text, bits=bits)
    if bits == 16:
        rig.put_word(GDT + CODE16_0, descriptor(0x9B, base=CODE, limit=0xFFFF))
        rig["cs_base"], rig["rip"] = CODE, 0
    return rig


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("bits", PROTECTED_MODE)
def test_far_returns_in_protected_mode_end_where_they_do_without(bits: int, hook: str) -> None:
    offset, cs = PROTECTED_MODE[bits]
    text = f"push {cs}\n push {offset}\n retf {END}"
    plain = protected_mode(text, bits)
    expected = outcome(plain, lambda rig: None)
    assert plain["rbx"] == cs
    assert outcome(protected_mode(text, bits), HOOKS[hook]) == expected


@pytest.mark.parametrize("mode", MODES)
def test_a_push_stores_where_sp_points_whatever_is_above_it(mode: str) -> None:
    machine = Machine(load_profile("netburst-2006"), memory_bytes=1 << 20, timing="detailed")
    rig = MODES[mode]("push ax\n hlt")
    rig["rsp"] = 0x1234_0000 + STACK
    rig.engine.set_timing(machine.timing.at("detailed"), 0)
    rig.run()
    assert rig.word(rig["ss_base"] + STACK - 2, 2) == rig["rax"] & 0xFFFF


@pytest.mark.parametrize("mode", MODES)
def test_a_breakpoint_on_what_a_far_return_pops_traps_at_its_target(mode: str) -> None:
    rig = MODES[mode]("retf")
    stack, target = rig["ss_base"] + STACK, 0x1234
    rig.put_word(stack, target, 2)
    rig.put_word(stack + 2, 0xFFF, 2)
    rig.shared.dr[0], rig["dr7"] = stack, WRITES_AND_READS_OF_ITS_BYTE
    assert rig.run().shared.dr6 & 15 == 1
    assert pushed(rig, 2, WORD_BYTES[mode]) == [target, 0xFFF]


@pytest.mark.parametrize("mode", MODES)
def test_breakpoints_on_data_work_in_16_bit_code(mode: str) -> None:
    rig = MODES[mode]("nop\n mov [0x10], ax\n inc cx\n hlt")
    rig.shared.dr[0], rig["dr7"] = rig["ds_base"] + 0x10, WRITES_AND_READS_OF_ITS_BYTE
    assert rig.run().shared.dr6 & 15 == 1
    assert rig["rcx"] == 0
    assert pushed(rig, 2, WORD_BYTES[mode]) == [4, SEGMENT]
