"""Instructions are counted exactly, whatever ends a block; and the clock is their number times their cost."""

import pytest

from emulator.profiles.profile import DEFAULT_PROFILE, load_profile
from emulator.timing.allowances import NO_ALLOWANCE
from emulator.timing.core_timing import MachineTiming
from emulator.timing.fidelity import Fidelity
from tests.emulator.engine.rig import CODE, DATA, HANDLERS, Rig

IRETQ = b"\x48\xcf"


def counted(rig: Rig, deliveries: int = 0) -> int:
    """Instructions that were counted; the clock says the same, with the time of the faults and interrupts delivered.

    An INT is an instruction, but its time is that of a delivery.
    """
    shared = rig.shared
    assert shared.guest_cycles + shared.event_cycles == shared.instructions + deliveries
    assert shared.clock_cycles == shared.guest_cycles + shared.event_cycles
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
    "code changed in its own block": (
        "nop\n lea rdi, [rip + 2f + 1]\n add byte ptr [rdi], 3\n 2: mov al, 1\n nop\n hlt",
        6,
    ),
    "REP OUTSB": (f"mov esi, {DATA}\n mov ecx, 5\n mov edx, 0x80\n rep outsb\n nop\n hlt", 3 + 6 + 2),
    "OUTSB": (f"mov esi, {DATA}\n mov edx, 0x80\n outsb\n nop\n hlt", 5),
    "INT and IRET": ("int 0x30\n nop\n hlt", 1 + 1 + 1 + 1),
    "INT3 and IRET": ("int3\n nop\n hlt", 4),
    "a page crossed": (f"jmp {CODE + 0xFFA}\n .org 0xffa\n mov eax, 1\n mov ebx, 2\n hlt", 4),
    "SYSCALL": ("syscall\n hlt", 1 + 1),
}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("fidelity", ["flat", "fast"])
def test_every_instruction_is_counted_once(name: str, fidelity: Fidelity) -> None:
    text, expected = PROGRAMS[name]
    rig = Rig(text)
    for vector in (3, 0x30):
        rig.put(HANDLERS + vector * 16, IRETQ)
    rig.engine.wrmsr(0xC0000082, HANDLERS)
    rig.engine.wrmsr(0xC0000081, 8 << 32)
    rig.engine.set_timing(MachineTiming(load_profile(DEFAULT_PROFILE), 1, NO_ALLOWANCE).at(fidelity), 0)
    rig.run()
    assert rig.is_halted
    assert rig.shared.instructions == expected
    if fidelity == "flat":
        assert counted(rig) == expected


def test_code_is_counted_in_the_mode_that_a_far_return_brought() -> None:
    """40h is INC in the 32-bit segment, where nothing traps on the way, and a prefix in 64-bit code."""
    rig = Rig("lea rax, [rip + 1f]\n push 0x40\n push rax\n rex.w retf\n 1: .byte 0x40, 0x40, 0x40, 0x90\n hlt")
    rig.run()
    assert (rig.is_halted, rig["cs_selector"]) == (True, 0x40)
    assert counted(rig) == 4 + 5


# program, vector it faults with, instructions retired before
FAULTS = {
    "UD2": ("nop\n nop\n ud2\n nop", 6, 2),
    "DIV by zero": ("xor ecx, ecx\n nop\n div ecx\n nop", 0, 2),
    "page fault": ("nop\n mov rax, [0x80000000]\n nop", 14, 1),
    "page fault of a fetch": ("nop\n mov eax, 0x80000000\n jmp rax", 14, 3),
    "INT with too low a gate": ("nop\n int 0x31", 11, 1),
    "WRMSR of nothing": ("mov ecx, 0x12345\n nop\n wrmsr\n nop", 13, 2),
    "SYSCALL that is off": ("nop\n syscall", 6, 1),
    "SYSENTER without a segment": ("nop\n sysenter", 13, 1),
    "MOV to CR4 of a reserved bit": ("mov eax, 0x80000020\n mov cr4, rax", 13, 1),
}


@pytest.mark.parametrize("name", FAULTS)
def test_an_instruction_that_faults_is_not_counted(name: str) -> None:
    text, vector, before = FAULTS[name]
    rig = Rig(text)
    rig["efer"] = 0xD00
    rig.set_gate(0x31, present=False)
    rig.run()
    assert rig.halted_in == vector
    assert counted(rig, deliveries=2 if "gate" in name else 1) == before + 1


def test_an_instruction_that_exits_is_not_counted_and_those_before_and_behind_it_are() -> None:
    rig = Rig("nop\n cpuid\n nop\n nop\n cpuid\n nop\n hlt", non_root=True)
    rig.on_exit = rig.step_over
    rig.run()
    assert rig.is_halted
    assert [seen.instructions for seen in rig.exits] == [1, 3]
    assert counted(rig) == 5


def test_a_handler_that_faults_at_once_for_ever_meets_the_deadline() -> None:
    rig = Rig("ud2")
    rig.set_gate(6, ist=1)
    rig.put(HANDLERS + 6 * 16, b"\x0f\x0b")  # UD2
    rig.run(1000)
    assert rig.shared.clock_cycles == 1000
    assert rig["rip"] == HANDLERS + 6 * 16


def test_a_string_of_outputs_without_end_meets_the_deadline() -> None:
    rig = Rig(f"mov esi, {DATA}\n mov rcx, -1\n mov edx, 0x80\n rep outsb")
    rig.run(500)
    assert rig.shared.clock_cycles == 500
    assert len(rig.platform.port_writes) == 497
