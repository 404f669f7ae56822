"""Event delivery in 32-bit protected mode: 8-byte gates of both sizes, and the stack switch through a TSS."""

from collections.abc import Callable

import pytest

from emulator.vmx.exit_reasons import ExitReason as R
from emulator.vmx.qualifications import TASK_SWITCH_GATE, TaskSwitch, decode_task_switch
from emulator.x86 import RFLAGS_IF, RFLAGS_NT, RFLAGS_RF
from tests.emulator.engine.rig import (
    ABSENT_CODE,
    CODE,
    CODE16_0,
    CODE32_0,
    CODE32_3,
    CODE32_CONFORMING,
    DATA,
    DATA_0,
    DATA_3,
    GDT,
    HANDLERS,
    STACK0,
    STACK3,
    STACK16,
    TSS,
    TSS16,
    TSS_16,
    TSS_32,
    Rig,
    descriptor,
)


def frame_of(rig: Rig, *names: str, size_bytes: int = 4) -> dict[str, int]:
    """What the delivery pushed, by name, from the lowest address."""
    base = rig["ss_base"]
    return dict(zip(names, rig.words(base + rig["rsp"], len(names), size_bytes), strict=True))


def test_on_the_same_level_flags_cs_and_eip_are_pushed() -> None:
    rig = Rig("nop\n int 0x30", bits=32).run()
    assert rig.halted_in == 0x30
    assert rig["rsp"] == STACK0 - 12
    assert frame_of(rig, "eip", "cs", "eflags") == {"eip": CODE + 3, "cs": CODE32_0, "eflags": 2}


def test_a_fault_pushes_its_error_code_and_rf() -> None:
    rig = Rig("mov eax, 0x1234\n mov ds, eax", bits=32).run()
    assert rig.halted_in == 13
    seen = frame_of(rig, "error", "eip", "cs", "eflags")
    assert seen == {"error": 0x1234, "eip": CODE + 5, "cs": CODE32_0, "eflags": 2 | RFLAGS_RF}


def test_into_traps_only_on_overflow() -> None:
    rig = Rig("into\n mov al, 0x7f\n inc al\n into\n nop", bits=32).run()
    assert rig.halted_in == 4
    assert frame_of(rig, "eip")["eip"] == CODE + 6


def test_bound_faults_at_the_instruction() -> None:
    rig = Rig("mov eax, 5\n bound eax, [1f]\n hlt\n 1: .long 0, 4", bits=32).run()
    assert rig.halted_in == 5
    assert frame_of(rig, "eip")["eip"] == CODE + 5


def test_from_ring_3_the_stack_and_its_segment_come_from_the_tss() -> None:
    rig = Rig("int 0x30", bits=32, cpl=3)
    rig.set_gate(0x30, dpl=3)
    rig.run()
    assert rig.halted_in == 0x30
    assert (rig["rsp"], rig["ss_selector"], rig["cs_selector"]) == (STACK0 - 20, DATA_0, CODE32_0)
    assert rig["ss_access_rights"] == 0xC093
    assert frame_of(rig, "eip", "cs", "eflags", "esp", "ss") == {
        "eip": CODE + 2, "cs": CODE32_3, "eflags": 2, "esp": STACK3, "ss": DATA_3,
    }  # fmt: skip


def test_iret_goes_back_to_ring_3() -> None:
    rig = Rig("int 0x30\n mov eax, cs\n int 0x31", bits=32, cpl=3)
    for vector in (0x30, 0x31):
        rig.set_gate(vector, dpl=3)
    rig.put(HANDLERS + 0x300, b"\xcf")
    rig.run()
    assert rig.halted_in == 0x31
    assert rig["rax"] == CODE32_3


def test_a_16_bit_tss_serves_too() -> None:
    rig = Rig("int 0x30", bits=32, cpl=3)
    rig.set_gate(0x30, dpl=3)
    rig.set_segment("tr", TSS_16, 0x83, base=TSS16, limit=0x2B)
    rig.run()
    assert rig.halted_in == 0x30
    assert (rig["rsp"], rig["ss_selector"]) == (STACK16 - 20, DATA_0)


@pytest.mark.parametrize("kind", [6, 7])
def test_a_16_bit_gate_pushes_16_bit_words_and_jumps_below_64_kib(kind: int) -> None:
    rig = Rig("int 0x30", bits=32)
    rig["rflags"] = 2 | RFLAGS_IF | RFLAGS_NT
    rig.set_gate(0x30, kind=kind, target=0xB000)
    rig.put_word(0x7000 + 0x30 * 8 + 6, 0xFFFF, 2)  # the high half of the offset does not count
    rig.put(0xB000, b"\xf4")
    rig.run()
    assert (rig.is_halted, rig["rip"], rig["rsp"]) == (True, 0xB001, STACK0 - 6)
    seen = frame_of(rig, "ip", "cs", "flags", size_bytes=2)
    assert seen == {"ip": (CODE + 2) & 0xFFFF, "cs": CODE32_0, "flags": 2 | RFLAGS_IF | RFLAGS_NT}
    assert bool(rig["rflags"] & RFLAGS_IF) == (kind == 7)


def test_a_16_bit_stack_segment_keeps_the_upper_half_of_esp_and_wraps() -> None:
    rig = Rig("int 0x30", bits=32)
    rig.set_segment("ss", DATA_0, 0x0093, base=0x80000, limit=0xFFFF)
    rig["rsp"] = 0x12340004
    rig.run()
    assert rig.halted_in == 0x30
    assert rig["rsp"] == 0x1234FFF8
    assert rig.words(0x80000, 1, 4) + rig.words(0x8FFF8, 2, 4) == [2, CODE + 2, CODE32_0]


def test_a_handler_in_a_16_bit_segment_runs_there() -> None:
    rig = Rig("int 0x30", bits=32)
    rig.set_gate(0x30, selector=CODE16_0, target=0xB000)
    rig.put_word(GDT + CODE16_0, descriptor(0x009B, limit=0xFFFF))
    rig.put(0xB000, bytes.fromhex("b83412f4"))  # MOV AX, 1234h; HLT
    rig["rax"] = 0xAAAA0000
    rig.run()
    assert (rig.is_halted, rig["rax"]) == (True, 0xAAAA1234)


def test_a_conforming_handler_runs_on_the_callers_level_and_stack() -> None:
    rig = Rig("int 0x30", bits=32, cpl=3)
    rig.set_gate(0x30, dpl=3, selector=CODE32_CONFORMING)
    rig.put(HANDLERS + 0x300, b"\x8c\xc8\xeb\xfe")
    rig.run(20)
    assert rig["rax"] == CODE32_CONFORMING | 3
    assert rig["rsp"] == STACK3 - 12


def tss(offset: int, value: int, size_bytes: int = 4) -> Callable[[Rig], None]:
    return lambda rig: rig.put_word(TSS + offset, value, size_bytes)


def gdt(selector: int, value: int) -> Callable[[Rig], None]:
    return lambda rig: rig.put_word(GDT + (selector & ~7), value)


def gate(**changes: object) -> Callable[[Rig], None]:
    return lambda rig: rig.set_gate(0x30, **{"dpl": 3, **changes})  # type: ignore[arg-type]


STACK_SELECTOR = 0x78  # a descriptor for the tests to spoil
# what is wrong with the delivery of INT 30h from ring 3; the vector and the error code that come of it
REFUSED: dict[str, tuple[Callable[[Rig], None], int, int]] = {
    "the TSS is too short": (lambda rig: rig.__setitem__("tr_limit", 8), 10, TSS_32),
    "SS0 is null": (tss(8, 0), 10, 0),
    "SS0 lies beyond the GDT": (tss(8, 0x80), 10, 0x80),
    "SS0 has another RPL": (tss(8, DATA_0 | 1), 10, DATA_0),
    "SS0 has another DPL": (tss(8, DATA_3 & ~3), 10, DATA_3 & ~3),
    "SS0 is code": (tss(8, CODE32_0), 10, CODE32_0),
    "SS0 is read-only": (gdt(STACK_SELECTOR, descriptor(0xC091)), 10, STACK_SELECTOR),
    "SS0 is a system segment": (gdt(STACK_SELECTOR, descriptor(0xC083)), 10, STACK_SELECTOR),
    "SS0 is not present": (gdt(STACK_SELECTOR, descriptor(0xC013)), 12, STACK_SELECTOR),
    "SS0 has no room": (gdt(STACK_SELECTOR, descriptor(0x4093, limit=STACK0 - 0x1000)), 12, STACK_SELECTOR),
    "SS0 grows down and has no room": (gdt(STACK_SELECTOR, descriptor(0xC097, limit=STACK0 >> 12)), 12, STACK_SELECTOR),
    "the target lies beyond CS": (gdt(CODE32_0, descriptor(0x409B, limit=CODE)), 13, 0),
    "CS is null": (gate(selector=0), 13, 0),
    "CS is absent": (gate(selector=ABSENT_CODE), 11, ABSENT_CODE),
    "CS is data": (gate(selector=DATA_0), 13, DATA_0),
    "the gate is absent": (gate(present=False), 11, 0x182),
    "the gate is for ring 2": (gate(dpl=2), 13, 0x182),
    "the gate is a call gate": (gate(kind=12), 13, 0x182),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_check_that_fails_raises_its_fault(name: str) -> None:
    """The fault's own handler is conforming: it needs no stack of the TSS."""
    spoil, vector, error = REFUSED[name]
    rig = Rig("nop\n int 0x30", bits=32, cpl=3)
    rig.put_word(GDT + STACK_SELECTOR, descriptor(0xC093))
    rig.put_word(TSS + 8, STACK_SELECTOR, 4)
    rig.set_gate(0x30, dpl=3)
    for fault in (10, 11, 12, 13):
        rig.set_gate(fault, selector=CODE32_CONFORMING)
        rig.put(HANDLERS + fault * 16, b"\xeb\xfe")
    spoil(rig)
    rig.run(30)
    assert rig["rip"] == HANDLERS + vector * 16
    seen = frame_of(rig, "error", "eip", "cs")
    assert seen == {"error": error, "eip": CODE + 1, "cs": CODE32_3}


def test_a_stack_that_is_full_on_the_same_level_raises_ss_0_and_that_a_double_fault() -> None:
    rig = Rig("int 0x30", bits=32, non_root=True)
    rig.set_segment("ss", DATA_0, 0x4093, limit=0xFFF)
    rig["rsp"] = 0x1008
    rig.run()
    assert [seen.reason for seen in rig.exits] == [2]  # #SS, #DF and the triple fault use the same stack


# --- task gates -------------------------------------------------------------------------------------------------------

SPARE = 0x78


def with_task_gate(tss_rights: int, selector: int = SPARE) -> Rig:
    """INT 30h leads to a task gate; `tss_rights` are those of what it selects."""
    rig = Rig("nop\n int 0x30", bits=32, non_root=True)
    rig.put_word(GDT + SPARE, descriptor(tss_rights, base=DATA, limit=0x67))
    rig.set_gate(0x30, kind=5, selector=selector)
    return rig


@pytest.mark.parametrize("tss_rights", [0x81, 0x89])
def test_a_task_gate_exits_in_non_root_operation(tss_rights: int) -> None:
    (seen,) = with_task_gate(tss_rights).run().exits
    assert (seen.reason, seen.rip, seen.instruction_bytes) == (R.TASK_SWITCH, CODE + 1, 2)
    assert decode_task_switch(seen.qualification) == TaskSwitch(SPARE, TASK_SWITCH_GATE)
    assert seen.vectoring == 0x80000430


@pytest.mark.parametrize(
    ("tss_rights", "selector", "vector", "error"),
    [
        (0x8B, SPARE, 13, SPARE),  # busy
        (0xC093, SPARE, 13, SPARE),  # data
        (0x09, SPARE, 11, SPARE),  # not present
        (0x89, SPARE | 4, 13, SPARE | 4),  # in the LDT
        (0x89, 0x80, 13, 0x80),  # beyond the GDT
    ],
)
def test_a_task_gate_to_what_is_no_free_tss_faults(tss_rights: int, selector: int, vector: int, error: int) -> None:
    rig = with_task_gate(tss_rights, selector).run()
    assert (rig.halted_in, rig.exits) == (vector, [])
    assert rig.word(rig["rsp"], 4) == error
