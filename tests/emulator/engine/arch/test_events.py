"""Event delivery through a 64-bit IDT: the frame, the stack, the flags, and every check on the way (SDM 3A 6.14)."""

from collections.abc import Callable

import pytest

from emulator.vmx import fields as f
from emulator.x86 import RFLAGS_IF, RFLAGS_NT, RFLAGS_RF
from tests.emulator.engine.rig import (
    ABSENT_CODE,
    CODE,
    CODE32_0,
    CODE64_0,
    CODE64_3,
    CODE64_CONFORMING,
    DATA_0,
    DATA_3,
    GDT,
    HANDLERS,
    IST1,
    STACK0,
    STACK3,
    TSS,
    TSS_64,
    Rig,
    descriptor,
)

INT30 = 0x30 * 8 + 2  # error code: IDT entry 0x30
EXT = 1
NONCANONICAL = 1 << 47


# program, vector, bytes from the program's start to the pushed RIP, error code, pushed flags besides bit 1
EVENTS = {
    "INT n pushes the next RIP": ("int 0x30", 0x30, 2, None, 0),
    "INT3 pushes the next RIP": ("int3", 3, 1, None, 0),
    "ICEBP pushes the next RIP": (".byte 0xf1", 1, 1, None, 0),
    "#UD is a fault with RF": ("ud2", 6, 0, None, RFLAGS_RF),
    "#DE": ("xor ecx, ecx\n div ecx", 0, 2, None, RFLAGS_RF | 0x44),
    "#GP has an error code": ("mov ds, [rip + 1f]\n 1: .word 0x1234", 13, 0, 0x1234, RFLAGS_RF),
    "#PF of a read": ("mov eax, [0x80000000]", 14, 0, 0, RFLAGS_RF),
    "#PF of a write": ("mov [0x80000000], eax", 14, 0, 2, RFLAGS_RF),
    "#PF of a fetch": ("mov eax, 0x80000000\n jmp rax", 14, 0x80000000 - CODE, 0x10, RFLAGS_RF),
    "#GP of an address": ("mov rax, 0x800000000000\n mov eax, [rax]", 13, 10, 0, RFLAGS_RF),
    "#SS of an address": ("mov rbp, 0x800000000000\n mov eax, [rbp]", 12, 10, 0, RFLAGS_RF),
    "#NM": ("fld1", 7, 0, None, RFLAGS_RF),
}


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_pushes_its_frame(name: str) -> None:
    text, vector, rip, error, flags = EVENTS[name]
    rig = Rig(text)
    if vector == 7:
        rig["cr0"] |= 8  # TS
    rig.run()
    assert rig.halted_in == vector
    frame = rig.frame(has_error=error is not None)
    assert frame.get("error") == error
    assert frame["rip"] == CODE + rip
    assert (frame["cs"], frame["ss"]) == (CODE64_0, DATA_0)
    assert frame["rsp"] == STACK0
    assert frame["rflags"] & ~0x894 == (flags | 2) & ~0x894  # DIV leaves some arithmetic flags undefined
    assert rig["rsp"] == STACK0 - 8 * len(frame)


def test_a_page_fault_leaves_its_address_in_cr2() -> None:
    rig = Rig("mov eax, [0x80000123]").run()
    assert rig.shared.cr2 == 0x80000123


@pytest.mark.parametrize("kind", [14, 15])
def test_an_interrupt_gate_clears_if_and_both_clear_tf_and_nt(kind: int) -> None:
    rig = Rig("int 0x30")
    rig.set_gate(0x30, kind=kind)
    rig["rflags"] = 2 | RFLAGS_IF | RFLAGS_NT
    rig.run()
    assert rig["rflags"] == 2 | (RFLAGS_IF if kind == 15 else 0)
    assert rig.frame(has_error=False)["rflags"] == 2 | RFLAGS_IF | RFLAGS_NT


def test_the_stack_is_aligned_to_16_bytes_and_the_old_pointer_pushed_as_it_was() -> None:
    rig = Rig("int 0x30")
    rig["rsp"] = STACK0 - 5
    rig.run()
    assert rig["rsp"] == STACK0 - 16 - 40
    assert rig.frame(has_error=False)["rsp"] == STACK0 - 5


def test_an_ist_stack_is_taken_without_a_change_of_level_and_ss_stays() -> None:
    rig = Rig("int 0x30")
    rig.set_gate(0x30, ist=1)
    rig.run()
    assert rig["rsp"] == IST1 - 40
    assert rig["ss_selector"] == DATA_0
    assert rig.frame(has_error=False)["rsp"] == STACK0


def test_from_ring_3_the_stack_comes_from_the_tss_and_ss_becomes_null() -> None:
    rig = Rig("int 0x30", cpl=3)
    rig.set_gate(0x30, dpl=3)
    rig.run()
    assert rig["rsp"] == STACK0 - 40
    assert (rig["cs_selector"], rig["ss_selector"]) == (CODE64_0, 0)
    assert rig["ss_access_rights"] >> 5 & 3 == 0
    frame = rig.frame(has_error=False)
    assert (frame["cs"], frame["ss"], frame["rsp"]) == (CODE64_3, DATA_3, STACK3)


def test_iretq_returns_to_ring_3() -> None:
    rig = Rig("int 0x30\n mov eax, cs\n int 0x31", cpl=3)
    for vector in (0x30, 0x31):
        rig.set_gate(vector, dpl=3)
    rig.put(HANDLERS + 0x300, b"\x48\xcf")
    rig.run()
    assert rig.halted_in == 0x31
    assert rig["rax"] == CODE64_3
    assert rig.frame(has_error=False)["ss"] == DATA_3


def test_a_conforming_handler_keeps_the_level_and_the_stack() -> None:
    rig = Rig("int 0x30", cpl=3)
    rig.set_gate(0x30, dpl=3, selector=CODE64_CONFORMING)
    rig.put(HANDLERS + 0x300, b"\x8c\xc8\xeb\xfe")  # MOV EAX, CS; loop
    rig.run(20)
    assert rig["rax"] == CODE64_CONFORMING | 3
    assert rig["rsp"] == STACK3 - 40
    assert rig.frame(has_error=False)["cs"] == CODE64_3


def gate(**changes: object) -> Callable[[Rig], None]:
    return lambda rig: rig.set_gate(0x30, **changes)  # type: ignore[arg-type]


def user_gate(change: Callable[[Rig], None]) -> Callable[[Rig], None]:
    def apply(rig: Rig) -> None:
        rig.set_gate(0x30, dpl=3)
        change(rig)

    return apply


def set_register(name: str, value: int) -> Callable[[Rig], None]:
    return lambda rig: rig.__setitem__(name, value)


# privilege, what is wrong, vector, error code for INT 30h
REFUSED = {
    "beyond the IDT's limit": (0, set_register("idtr_limit", 0x30F - 1), 13, INT30),
    "not a gate": (0, gate(kind=12), 13, INT30),
    "a 16-bit gate": (0, gate(kind=6), 13, INT30),
    "a task gate": (0, gate(kind=5), 13, INT30),
    "not present": (0, gate(present=False), 11, INT30),
    "DPL below CPL": (3, gate(dpl=2), 13, INT30),
    "DPL below CPL and not present": (3, gate(dpl=0, present=False), 13, INT30),
    "a null selector": (0, gate(selector=3), 13, 0),
    "a selector beyond the GDT": (0, gate(selector=0x80), 13, 0x80),
    "a selector in no LDT": (0, gate(selector=0x0C), 13, 0x0C),
    "a data segment": (0, gate(selector=DATA_0), 13, DATA_0),
    "the RPL is not in the error code": (0, gate(selector=DATA_0 | 3), 13, DATA_0),
    "a 32-bit code segment": (0, gate(selector=CODE32_0), 13, CODE32_0),
    "a less privileged code segment": (0, gate(selector=CODE64_3), 13, CODE64_3 & ~3),
    "an absent code segment": (0, gate(selector=ABSENT_CODE), 11, ABSENT_CODE),
    "a target that is not canonical": (0, gate(target=NONCANONICAL), 13, 0),
    "a TSS too short for the IST": (0, gate(ist=7), 10, TSS_64),
    "an RSP0 that is not canonical": (3, user_gate(lambda rig: rig.put_word(TSS + 4, NONCANONICAL)), 12, 0),
    "an RSP that is not canonical": (0, set_register("rsp", NONCANONICAL + 0x100), 12, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_check_that_fails_raises_its_fault_at_the_int_instruction(name: str) -> None:
    cpl, spoil, vector, error = REFUSED[name]
    rig = Rig("nop\n int 0x30", cpl=cpl)
    for fault in (10, 11, 12, 13):
        rig.set_gate(fault, ist=1)
    rig["tr_limit"] = 0x5A  # up to IST 6
    spoil(rig)
    rig.run()
    assert rig.halted_in == vector
    frame = rig.frame(has_error=True)
    assert frame["error"] == error
    assert frame["rip"] == CODE + 1
    assert frame["cs"] == (CODE64_3 if cpl else CODE64_0)


def test_a_tss_too_short_for_rsp0_raises_ts_with_its_selector() -> None:
    rig = Rig("int 0x30", cpl=3, non_root=True)
    rig.set_gate(0x30, dpl=3)
    rig["tr_limit"] = 10
    rig.vmcs.write(f.EXCEPTION_BITMAP, 1 << 10)
    rig.run()
    assert [(seen.information, seen.error_code) for seen in rig.exits] == [(0x80000B0A, TSS_64)]


def test_a_selector_in_the_ldt_is_found_there() -> None:
    rig = Rig("int 0x30")
    rig.set_segment("ldtr", 0x18, 0x82, base=GDT + 0x800, limit=0xF)
    rig.put_word(GDT + 0x808, descriptor(0xA09B))
    rig.set_gate(0x30, selector=0x0C)
    rig.run()
    assert rig.halted_in == 0x30
    assert rig["cs_selector"] == 0x0C


@pytest.mark.parametrize("name", ["not present", "a null selector", "a data segment", "a target that is not canonical"])
def test_the_ext_bit_tells_that_it_was_no_int_instruction(name: str) -> None:
    _, spoil, vector, error = REFUSED[name]
    rig = Rig("1: jmp 1b")
    rig["rflags"] = 2 | RFLAGS_IF
    rig.platform.vectors = [0x30]
    rig.platform.on_acknowledge = lambda: setattr(rig.shared, "interrupt_pending", 0)
    rig.shared.interrupt_pending = 1
    spoil(rig)
    rig.run()
    assert rig.halted_in == vector
    assert rig.frame(has_error=True)["error"] == error | EXT


def test_a_page_fault_while_the_frame_is_pushed_has_the_stacks_address_and_no_user_bit() -> None:
    rig = Rig("int 0x30", cpl=3)
    rig.set_gate(0x30, dpl=3)
    rig.set_gate(14, ist=1)
    rig.set_page(STACK0 - 8, 0)
    rig.run()
    assert rig.halted_in == 14
    assert rig.shared.cr2 == STACK0 - 8
    assert rig.frame(has_error=True)["error"] == 2


def test_a_frame_that_does_not_fit_leaves_memory_and_registers_alone() -> None:
    rig = Rig("int 0x30")
    rig.set_gate(14, ist=1)
    rig["rsp"] = STACK0 + 16
    rig.put_word(STACK0, 0x1111)
    rig.put_word(STACK0 + 8, 0x2222)
    rig.set_page(STACK0 - 8, 0)
    rig.run()
    assert rig.halted_in == 14
    assert rig.words(STACK0, 2) == [0x1111, 0x2222]
    assert rig.frame(has_error=True)["rsp"] == STACK0 + 16


# --- second faults (SDM 3A table 6-5) ---------------------------------------------------------------------------------

CONTRIBUTORY = (0, 10, 11, 12, 13)
WITH_ERROR = (8, 10, 11, 12, 13, 14, 17)
EXCEPTIONS = (0, 1, 5, 6, 7, 10, 11, 12, 13, 14, 16, 17, 18, 19)


def inject(rig: Rig, vector: int, type_: int, *, error: int | None = None, instruction_bytes: int = 0) -> None:
    info = 1 << 31 | type_ << 8 | vector | (0x800 if error is not None else 0)
    rig.vmcs.write(f.VM_ENTRY_EXCEPTION_ERROR_CODE, error or 0)
    rig.vmcs.write(f.VM_ENTRY_INSTRUCTION_LENGTH, instruction_bytes)
    rig.vmcs.write(f.VM_ENTRY_INTERRUPTION_INFORMATION, info)


def with_second_fault(first: int, second: str) -> Rig:
    """Deliver `first`, whose delivery meets an absent gate (#NP) or an absent stack page (#PF)."""
    rig = Rig("nop", non_root=True)
    rig.set_page(0x35000, 0)
    rig.put_word(TSS + 0x2C, 0x35800)  # IST 2
    for vector in (8, 11, 14):
        rig.set_gate(vector, ist=1)
    rig.set_gate(first, present=second != "#NP", ist=2 if second == "#PF" else 1)
    inject(rig, first, 3, error=0x5A if first in WITH_ERROR else None)
    return rig


@pytest.mark.parametrize("second", ["#NP", "#PF"])
@pytest.mark.parametrize("first", EXCEPTIONS)
def test_two_exceptions_make_a_double_fault_where_the_table_says_so(first: int, second: str) -> None:
    double = (first in CONTRIBUTORY and second == "#NP") or first == 14
    rig = with_second_fault(first, second)
    rig.run()
    if first == 14 and second == "#PF":  # the #PF's own stack is the absent one
        assert rig.halted_in == 8
    elif first == 11 and second == "#PF":
        assert rig.halted_in == 14
    else:
        assert rig.halted_in == (8 if double else 11 if second == "#NP" else 14)
    assert rig.frame(has_error=True)["error"] == (0 if double else first * 8 + 3 if second == "#NP" else 2)


@pytest.mark.parametrize("type_", [0, 4])
@pytest.mark.parametrize("second", ["#NP", "#PF"])
def test_an_interrupt_that_faults_is_no_double_fault(type_: int, second: str) -> None:
    rig = with_second_fault(13, second)
    inject(rig, 13, type_, instruction_bytes=2)
    rig.run()
    assert rig.halted_in == (11 if second == "#NP" else 14)


@pytest.mark.parametrize("second", ["#NP", "#PF"])
def test_a_fault_of_the_double_fault_is_a_triple_fault_exit(second: str) -> None:
    rig = with_second_fault(8, second)
    rig.run()
    assert [seen.reason for seen in rig.exits] == [2]


def test_a_triple_fault_without_a_vmm_is_a_shutdown() -> None:
    rig = Rig("ud2")
    rig["idtr_limit"] = 0
    rig.run()
    assert rig.shared.shutdown
    assert rig["rip"] == CODE
    assert not rig.is_halted


def test_a_shut_down_cpu_does_not_run_on() -> None:
    rig = Rig("ud2")
    rig["idtr_limit"] = 0
    rig.run()
    before = int(rig.shared.instructions)
    rig.run()
    assert rig.shared.instructions == before
