"""Instructions are counted exactly, whatever ends a block; and the clock is their number times their cost."""

import pytest

from tests.unit.engine_rig import CODE, DATA, HANDLERS, Rig


def counted(rig: Rig) -> int:
    """Instructions that were counted; the clock says the same."""
    shared = rig.shared
    assert shared.guest_cycles == shared.instructions * shared.cycles_per_instruction
    assert shared.clock_cycles == shared.guest_cycles
    return int(shared.instructions)


# program, instructions it retires (the final HLT included)
PROGRAMS = {
    "straight": ("mov eax, 1\n add eax, 2\n nop\n hlt", 4),
    "jump": ("jmp 1f\n nop\n 1: hlt", 2),
    "loop": ("mov ecx, 100\n 1: add eax, 1\n dec ecx\n jnz 1b\n hlt", 1 + 300 + 1),
    "jump into own block": ("mov ecx, 3\n nop\n 1: nop\n dec ecx\n jnz 1b\n hlt", 2 + 9 + 1),
    "call and ret": ("call 1f\n hlt\n 1: nop\n ret", 4),
    "CPUID in the middle": ("nop\n cpuid\n nop\n cpuid\n nop\n hlt", 6),
    "IN and OUT in the middle": ("nop\n in al, 0x10\n nop\n out 0x10, al\n nop\n hlt", 6),
    "MOV CR3 in the middle": ("nop\n mov rax, cr3\n mov cr3, rax\n nop\n hlt", 5),
    "RDTSC": ("nop\n rdtsc\n rdtscp\n nop\n hlt", 5),
    "WRMSR": ("mov ecx, 0xc0000102\n xor eax, eax\n xor edx, edx\n wrmsr\n rdmsr\n hlt", 6),
    "STI shadow": ("sti\n nop\n nop\n cli\n hlt", 5),
    "MOV SS shadow": ("mov eax, ss\n mov ss, eax\n nop\n nop\n hlt", 5),
    "PUSHF and POPF": ("pushfq\n popfq\n nop\n hlt", 4),
    "REP STOSB": (f"mov edi, {DATA}\n mov ecx, 5\n nop\n rep stosb\n nop\n hlt", 3 + 6 + 2),
    "REP with nothing to do": (f"mov edi, {DATA}\n xor ecx, ecx\n rep stosb\n hlt", 4),
    "a page crossed": (f"jmp {CODE + 0xFFA}\n .org 0xffa\n mov eax, 1\n mov ebx, 2\n hlt", 4),
    "SYSCALL": ("syscall\n hlt", 1 + 1),
}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("cycles_per_instruction", [1, 7])
def test_every_instruction_is_counted_once(name: str, cycles_per_instruction: int) -> None:
    text, expected = PROGRAMS[name]
    rig = Rig(text)
    rig.put(HANDLERS + 0x300, b"\x48\xcf")  # IRETQ
    rig.engine.wrmsr(0xC0000082, HANDLERS)
    rig.engine.wrmsr(0xC0000081, 8 << 32)
    rig.shared.cycles_per_instruction = cycles_per_instruction
    rig.run()
    assert rig.is_halted
    assert counted(rig) == expected
