"""Claims about the table of instruction classes: complete, unambiguous, and its cycles are the profile's."""

from collections import Counter
from dataclasses import fields

import capstone
import capstone.x86_const as x86
import pytest

from emulator.profiles.profile import DEFAULT_PROFILE, load_profile
from emulator.profiles.sections import PARAMETERS, Instructions
from emulator.timing.instruction_classes import (
    CLASS_OF,
    CLASSES,
    Cost,
    InstructionClass,
    c_defines,
    costs,
    is_vector_extension,
)

IDS = {key[8:].lower(): number for key, number in vars(x86).items() if key.startswith("X86_INS_")}
LISTED = Counter(name for row in CLASSES.values() for name in row.mnemonics.split())
BY_OPERAND = {"DIVIDE_64", "LOCKED", "MOV_TO_CR3", "MOV_DR"}
REPEATED = {"rep_start_cycles", "rep_line_cycles", "rep_scan_cycles"}  # of an instruction with REP, not of a class


def class_of(code: str) -> InstructionClass:
    decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    (instruction,) = decoder.disasm(bytes.fromhex(code), 0)
    return InstructionClass(CLASS_OF[instruction.id])


def test_every_instruction_capstone_knows_is_listed_once_or_a_vector_extension_by_its_spelling() -> None:
    assert len(CLASS_OF) == x86.X86_INS_ENDING
    for name in IDS.keys() - {"ending"}:
        assert LISTED[name] == (0 if is_vector_extension(name) else 1), name
    assert LISTED.keys() <= IDS.keys()


def test_a_vector_extension_is_what_starts_with_v_or_k_and_no_older_instruction_does() -> None:
    assert is_vector_extension("vaddps")
    assert is_vector_extension("kandb")
    for name in ("verr", "vmcall", "vmread", "add"):
        assert not is_vector_extension(name)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("4889c3", "MOVE"),  # mov rbx, rax
        ("4801c3", "ALU"),  # add rbx, rax
        ("4811c3", "CARRY"),  # adc rbx, rax
        ("480f44c3", "CONDITIONAL"),  # cmove rax, rbx
        ("0f94c0", "CONDITIONAL"),  # sete al
        ("48c1e003", "SHIFT"),  # shl rax, 3
        ("480fafc3", "MULTIPLY"),  # imul rax, rbx
        ("48f7f3", "DIVIDE"),  # div rbx; the operand makes it DIVIDE_64
        ("ebfe", "BRANCH"),  # jmp $
        ("e800000000", "CALL"),
        ("c3", "RETURN"),
        ("50", "STACK"),  # push rax
        ("f20f58c1", "FP_ADD"),  # addsd xmm0, xmm1
        ("660fefc1", "SIMD"),  # pxor xmm0, xmm1
        ("d9fe", "X87_MICROCODE"),  # fsin
        ("48a5", "STRING"),  # movsq
        ("f348ab", "STRING"),  # rep stosq
        ("48af", "STRING_SCAN"),  # scasq
        ("f390", "PAUSE"),
        ("90", "NOP"),
        ("0fa2", "CPUID"),
        ("0f01f9", "RDTSC"),  # rdtscp
        ("0f0138", "INVLPG"),
        ("0f05", "SYSCALL"),
        ("48cf", "IRET"),
        ("cc", "INT"),
        ("fa", "CLI_STI"),
        ("ee", "IO"),  # out dx, al
        ("0f01c1", "LEAVES"),  # vmcall
        ("0f0b", "LEAVES"),  # ud2
        ("c5f458c1", "LEAVES"),  # vaddps ymm0, ymm1, ymm1
        ("c8100000", "OTHER"),  # enter
    ],
)
def test_the_class_is_that_of_the_manual(code: str, expected: str) -> None:
    assert class_of(code).name == expected


def test_what_no_class_lists_is_told_by_operand_or_prefix() -> None:
    assert {number.name for number, row in CLASSES.items() if not row.mnemonics} == BY_OPERAND


def test_every_class_has_one_row_and_every_parameter_of_instructions_a_reader() -> None:
    assert list(CLASSES) == list(InstructionClass)
    read = {row.parameter for row in CLASSES.values() if row.parameter is not None}
    assert read <= PARAMETERS.keys()
    assert {f"instructions.{field.name}" for field in fields(Instructions) if field.name not in REPEATED} <= read


def test_costs_are_the_values_of_the_profile() -> None:
    settings = ["instructions.alu_latency_cycles=7", "instructions.cpuid_cycles=301", "core.pause_cycles=13"]
    table = costs(load_profile(DEFAULT_PROFILE, settings))
    assert table[InstructionClass.ALU] == Cost(latency_cycles=7, occupancy_cycles=0, uops=1)
    assert table[InstructionClass.CPUID] == Cost(latency_cycles=0, occupancy_cycles=301, uops=1)
    assert table[InstructionClass.PAUSE] == Cost(latency_cycles=0, occupancy_cycles=13, uops=1)
    assert table[InstructionClass.IO] == Cost(latency_cycles=1, occupancy_cycles=0, uops=1)
    assert len(table) == len(InstructionClass)


def test_c_knows_every_class_by_its_number() -> None:
    lines = c_defines().splitlines()
    assert lines[:2] == ["#define CLASS_MOVE 0", "#define CLASS_ALU 1"]
    assert lines[-1] == f"#define CLASS_COUNT {len(InstructionClass)}"
    assert len(lines) == len(InstructionClass) + 1
