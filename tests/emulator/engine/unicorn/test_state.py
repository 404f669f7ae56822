"""What an instruction does not change survives it: flags, SSE and x87 state, through traps, exits and stops."""

from functools import cache

import pytest

from emulator.engine import Next
from emulator.vmx import fields as f
from emulator.x86 import RFLAGS_RF
from tests.emulator.engine.rig import DATA, HANDLERS, Exit, Rig

IRETQ = b"\x48\xcf"
TRAPS = {
    "CPUID": "cpuid",
    "IN": "in al, 0x10",
    "OUT": "out 0x10, al",
    "INS": "insb",
    "MOV CR0": "mov rax, cr0\n mov cr0, rax",
    "MOV CR3": "mov rax, cr3\n mov cr3, rax",
    "MOV DR7": "mov rax, dr7\n mov dr7, rax",
    "RDTSC": "rdtsc",
    "WRMSR": "mov ecx, 0xc0000084\n wrmsr",
    "INVLPG": "invlpg [rdi]",
    "PAUSE": "pause",
    "INT": "int 0x30",
    "#PF": "mov eax, [rsi]",
}
# sets the flags without anything that fixes them in the register: the engine computes them only when asked
FLAGS = {
    "carry": "mov eax, 0xffffffff\n add eax, 1",
    "overflow": "mov eax, 0x7fffffff\n inc eax",
    "none": "or eax, 1\n test eax, eax",
}


def program(flags: str, trap: str) -> str:
    return f"""
        mov rax, 0x1122334455667788
        movq xmm3, rax
        movq xmm12, rax
        punpcklqdq xmm12, xmm12
        fldpi
        fld1
        mov edx, 0xffff
        and edx, 0
        {flags}
        {trap}
        pushfq
        pop r15
        movdqu [{DATA + 0x100}], xmm3
        movdqu [{DATA + 0x110}], xmm12
        fstp qword ptr [{DATA + 0x120}]
        fstp qword ptr [{DATA + 0x128}]
        hlt
    """


@cache
def final(flags: str, trap: str, *, non_root: bool, step: int) -> tuple[object, ...]:
    rig = Rig(program(flags, trap), non_root=non_root)
    rig["cr4"] |= 0x600 | (1 << 13 if non_root else 0)
    rig["rdi"], rig["rsi"] = DATA, 0x80000000
    rig.put(HANDLERS + 0x300, IRETQ)
    skip = HANDLERS + 0x2000
    rig.set_gate(14, target=skip)
    rig.put(skip, b"\x48\x83\xc4\x08\x48\x83\x04\x24\x02\x48\xcf")  # ADD RSP, 8; ADD QWORD [RSP], 2; IRETQ
    if non_root:
        rig.vmcs.write(f.PRIMARY_PROCESSOR_BASED_CONTROLS, 0x7F9F97FA & ~(1 << 7))  # all exits but HLT's
        rig.on_exit = rig.step_over
    for _ in range(1000):
        rig.run(step)
        if rig.is_halted:
            break
    return rig["r15"] & ~RFLAGS_RF, rig.memory.read(DATA + 0x100, 0x30)


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("trap", TRAPS)
@pytest.mark.parametrize("non_root", [False, True])
def test_flags_and_vector_registers_survive_a_trap(flags: str, trap: str, non_root: bool) -> None:
    expected = final(FLAGS[flags], "nop", non_root=False, step=10_000)
    assert final(FLAGS[flags], TRAPS[trap], non_root=non_root, step=10_000) == expected
    assert final(FLAGS[flags], TRAPS[trap], non_root=non_root, step=1) == expected


def test_the_reference_has_the_values_that_were_put_in() -> None:
    flags, memory = final(FLAGS["carry"], "nop", non_root=False, step=10_000)
    assert isinstance(memory, bytes)
    assert flags == 0x57  # ZF, AF, PF, CF and the bit that is always 1
    word = bytes.fromhex("8877665544332211")
    assert memory[:8] + memory[16:32] == word * 3
    assert memory[32:48] == bytes.fromhex("000000000000f03f182d4454fb210940")


def test_flags_that_a_handler_sets_are_the_guests() -> None:
    """What a VMM writes into guest RFLAGS holds, even where the engine had them pending."""
    rig = Rig("mov eax, 0xffffffff\n add eax, 1\n cpuid\n pushfq\n pop r15\n hlt", non_root=True)

    def clear(seen: Exit) -> Next:
        rig["rflags"] = 2 | 0x800
        return rig.step_over(seen)

    rig.on_exit = clear
    rig.run()
    assert rig["r15"] == 2 | 0x800
