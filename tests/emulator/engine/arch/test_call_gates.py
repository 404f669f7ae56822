"""Call gates of 16, 32 and 64 bits: where they lead, what they push, and every check in its order (SDM 3A 5.8)."""

from itertools import product

import pytest

from emulator.x86 import GENERAL_PROTECTION as GP
from emulator.x86 import INVALID_TSS as TS
from emulator.x86 import PAGE_FAULT, RFLAGS_TF
from emulator.x86 import SEGMENT_NOT_PRESENT as NP
from emulator.x86 import STACK_FAULT as SS
from tests.emulator.engine.rig import (
    CODE,
    CODE32_0,
    CODE32_3,
    CODE32_CONFORMING,
    CODE64_0,
    CODE64_3,
    DATA_0,
    DATA_3,
    GDT,
    GDT_LIMIT,
    IST1,
    STACK0,
    STACK3,
    STACK16,
    TSS,
    TSS16,
    TSS_16,
    A,
    P,
    Rig,
    U,
    W,
    assemble,
    descriptor,
)

GATE, SPARE = 0x78, 0x88
INSIDE = 0xB000  # where gates lead: below 64 KiB
CALL, JMP = ".byte 0x9a", ".byte 0xea"


def far(opcode: str, selector: int) -> str:
    """A far CALL or JMP to `selector`; the offset does not count."""
    return f"{opcode}\n .long 0x55555555\n .word {selector}"


def set_call_gate(
    rig: Rig, selector: int, *, kind: int = 12, dpl: int = 3, parameters: int = 0, present: int = 1,
    target: int = INSIDE, upper: int = 0,
) -> None:  # fmt: skip
    low = target & 0xFFFF | selector << 16 | parameters << 32 | (kind | dpl << 5 | present << 7) << 40
    rig.put_word(GDT + GATE, low | (target >> 16 & 0xFFFF) << 48)
    rig.put_word(GDT + GATE + 8, target >> 32 | upper << 40)


def rig_of(text: str, *, bits: int = 32, cpl: int = 3, inside: str = "hlt", non_root: bool = False) -> Rig:
    """A program before a gate; `inside` is what the gate leads to."""
    rig = Rig(text, bits=bits, cpl=cpl, non_root=non_root)
    rig["gdtr_limit"] = GDT_LIMIT + 0x18
    rig.put(INSIDE, assemble(inside, bits, INSIDE))
    for vector in (0x30, 0x31):
        rig.set_gate(vector, dpl=3)
    set_call_gate(rig, CODE64_0 if bits == 64 else CODE32_0)
    return rig


def is_inside(rig: Rig) -> bool:
    return rig.is_halted and rig["rip"] == INSIDE + 1


# --- 32 bits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "count", "non_root"), [*product((4, 12), (0, 1, 2, 31), (False,)), (12, 2, True)])
def test_parameters_are_copied_to_the_stack_of_the_inner_ring(kind: int, count: int, non_root: bool) -> None:
    words = [0x11110000 + i for i in range(count)]
    pushes = "".join(f"{'push' if kind == 12 else '.byte 0x66, 0x68'} {word:#x}\n" for word in words[::-1])
    if kind == 4:
        pushes = "".join(f".byte 0x66, 0x68\n .word {word & 0xFFFF}\n" for word in words[::-1])
    rig = rig_of(pushes + far(CALL, GATE | 3), non_root=non_root)
    set_call_gate(rig, CODE32_0 | 3, kind=kind, parameters=count)
    rig.run()
    width = 4 if kind == 12 else 2
    next_rip = CODE + len(assemble(pushes, 32)) + 7 if count else CODE + 7
    frame = [next_rip, CODE32_3, *words, STACK3 - width * count, DATA_3]
    assert is_inside(rig)
    assert (rig["cs_selector"], rig["ss_selector"], rig["rsp"]) == (CODE32_0, DATA_0, STACK0 - width * (4 + count))
    assert rig.words(rig["rsp"], len(frame), width) == [word & ((1 << 8 * width) - 1) for word in frame]


def test_a_far_return_takes_the_parameters_off_both_stacks() -> None:
    rig = rig_of(f"push 0x2222\n push 0x1111\n {far(CALL, GATE)}\n int 0x31", inside="mov eax, [esp + 8]\n retf 8")
    set_call_gate(rig, CODE32_0, parameters=2)
    rig.run()
    assert rig.halted_in == 0x31
    assert rig["rax"] == 0x1111
    assert rig.words(rig["rsp"], 5, 4)[1:] == [CODE32_3, 2, STACK3, DATA_3]


@pytest.mark.parametrize(("kind", "width"), [(4, 2), (12, 4)])
@pytest.mark.parametrize("cpl", [0, 3])
def test_on_the_same_ring_cs_and_ip_alone_are_pushed(kind: int, width: int, cpl: int) -> None:
    rig = rig_of(far(CALL, GATE), cpl=cpl)
    selector, stack = (CODE32_CONFORMING, STACK3) if cpl else (CODE32_0, STACK0)
    set_call_gate(rig, selector, kind=kind, parameters=3)
    if cpl:
        rig.put(INSIDE, b"\xcd\x30")
    rig.run()
    assert rig.halted_in == 0x30 if cpl else is_inside(rig)
    assert rig.words(stack - 2 * width, 2, width) == [(CODE + 7) & ((1 << 8 * width) - 1), rig_cs(cpl)]
    if cpl:
        assert rig.words(rig["rsp"], 4, 4) == [INSIDE + 2, CODE32_CONFORMING | 3, 2, STACK3 - 2 * width]


def rig_cs(cpl: int) -> int:
    return CODE32_3 if cpl else CODE32_0


def test_a_jump_through_a_gate_pushes_nothing() -> None:
    rig = rig_of(far(JMP, GATE), cpl=0).run()
    assert is_inside(rig)
    assert rig["rsp"] == STACK0


def test_a_16_bit_tss_gives_the_stack_too() -> None:
    rig = rig_of(far(CALL, GATE))
    rig.set_segment("tr", TSS_16, 0x83, base=TSS16, limit=0x2B)
    rig.run()
    assert is_inside(rig)
    assert (rig["rsp"], rig["ss_selector"]) == (STACK16 - 16, DATA_0)


def test_the_segments_it_loads_are_marked_accessed() -> None:
    rig = rig_of(far(CALL, GATE))
    for selector, rights in ((CODE32_0, 0xC09A), (DATA_0, 0xC092)):
        rig.put_word(GDT + selector, descriptor(rights))
    rig.run()
    assert is_inside(rig)
    assert [rig.word(GDT + selector + 5, 1) for selector in (CODE32_0, DATA_0)] == [0x9B, 0x93]
    assert (rig["cs_access_rights"], rig["ss_access_rights"]) == (0xC09B, 0xC093)


def test_a_single_step_comes_behind_the_transfer() -> None:
    rig = rig_of(far(CALL, GATE), cpl=0)
    rig["rflags"] = 2 | RFLAGS_TF
    rig.run()
    assert rig.halted_in == 1
    assert rig.word(rig["rsp"], 4) == INSIDE


FAULTS_32: dict[str, tuple[dict[str, int], int, int, int]] = {
    "the gate's level, to CPL": ({"dpl": 0}, GATE, GP, GATE),
    "the gate's level, to RPL": ({"dpl": 2}, GATE | 3, GP, GATE),
    "not present": ({"present": 0}, GATE | 3, NP, GATE),
    "its level comes before its presence": ({"dpl": 0, "present": 0}, GATE, GP, GATE),
    "no type of a gate": ({"kind": 13}, GATE, GP, GATE),
    "beyond the GDT": ({}, 0xA0, GP, 0xA0),
    "no LDT": ({}, GATE | 4, GP, GATE | 4),
    "a null code segment": ({"selector": 3}, GATE, GP, 0),
    "code beyond the GDT": ({"selector": 0xA0}, GATE, GP, 0xA0),
    "code that is data": ({"selector": DATA_0}, GATE, GP, DATA_0),
    "beyond the limit of the code": ({"selector": SPARE}, GATE, GP, 0),
}


@pytest.mark.parametrize("name", FAULTS_32)
def test_a_32_bit_gate_faults_for(name: str) -> None:
    changes, selector, vector, error = FAULTS_32[name]
    rig = rig_of(f"nop\n {far(CALL, selector)}")
    rig.put_word(GDT + SPARE, descriptor(0x409B, limit=INSIDE - 1))
    set_call_gate(rig, **{"selector": CODE32_0} | changes)
    rig.run()
    assert (rig.halted_in, rig.word(rig["rsp"], 4), rig.word(rig["rsp"] + 4, 4)) == (vector, error, CODE + 1)
    assert rig.words(rig["rsp"] + 8, 4, 4)[2:] == [STACK3, DATA_3]


@pytest.mark.parametrize(
    ("rights", "vector", "error"),
    [
        (0xC0FB, GP, SPARE),  # of an outer ring
        (0xC01B, NP, SPARE),
        (0xC09B, None, 0),
    ],
)
@pytest.mark.parametrize("opcode", [CALL, JMP])
def test_the_code_has_to_be_of_the_ring(opcode: str, rights: int, vector: int | None, error: int) -> None:
    rig = rig_of(far(opcode, GATE), cpl=0)
    rig.put_word(GDT + SPARE, descriptor(rights))
    set_call_gate(rig, SPARE)
    rig.run()
    assert rig.halted_in == vector
    assert vector is None or rig.word(rig["rsp"], 4) == error


def test_a_jump_does_not_go_to_an_inner_ring() -> None:
    rig = rig_of(far(JMP, GATE)).run()
    assert (rig.halted_in, rig.word(rig["rsp"], 4)) == (GP, CODE32_0)


@pytest.mark.parametrize(
    ("stack", "vector", "error"),
    [
        (0, TS, 0),  # null
        (0xA0, TS, 0xA0),  # beyond the GDT
        (DATA_3, TS, DATA_3 & ~3),  # of an outer ring
        (DATA_0 | 1, TS, DATA_0),  # its RPL
        (CODE32_0, TS, CODE32_0),  # code
        (SPARE, SS, SPARE),  # not present
        (SPARE + 8, SS, SPARE + 8),  # too small
    ],
)
def test_the_stack_of_the_inner_ring_is_checked(stack: int, vector: int, error: int) -> None:
    """Ring 1 calls ring 0: the fault goes to a conforming handler, on the stack of ring 1."""
    rig = rig_of(far(CALL, GATE), cpl=3)
    rig["gdtr_limit"] = 0x9F
    rig.put_word(GDT + SPARE, descriptor(0x4013))
    rig.put_word(GDT + SPARE + 8, descriptor(0x4093, limit=STACK0 - 12))
    rig.put_word(TSS + 8, stack, 4)
    rig.set_gate(vector, selector=CODE32_CONFORMING | 3, target=INSIDE)
    rig.put(INSIDE, b"\xcd\x30")
    rig.run()
    assert rig.words(STACK3 - 16, 3, 4) == [error, CODE, CODE32_3]


def test_a_tss_without_the_stack_is_an_invalid_one() -> None:
    rig = rig_of(far(CALL, GATE))
    rig["tr_limit"] = 8
    rig.set_gate(TS, selector=CODE32_CONFORMING | 3, target=INSIDE)
    rig.put(INSIDE, b"\xcd\x30")
    rig.run()
    assert rig.words(STACK3 - 16, 2, 4) == [rig["tr_selector"], CODE]


def test_parameters_beyond_the_limit_of_the_old_stack_are_a_stack_fault() -> None:
    rig = rig_of(far(CALL, GATE))
    rig["ss_limit"] = STACK3 + 3
    set_call_gate(rig, CODE32_0, parameters=2)
    rig.run()
    assert (rig.halted_in, rig.words(rig["rsp"], 2, 4)) == (SS, [0, CODE])


# --- 64 bits ----------------------------------------------------------------------------------------------------------

FAR_64 = "call fword ptr [rip + pointer]\n hlt\n pointer: .long 0x55555555\n .word "


def test_a_64_bit_gate_pushes_four_words_and_no_parameter() -> None:
    rig = rig_of(f"{FAR_64}{GATE}", bits=64)
    set_call_gate(rig, CODE64_0, parameters=5)
    rig.run()
    assert is_inside(rig)
    assert (rig["cs_selector"], rig["ss_selector"], rig["rsp"]) == (CODE64_0, 0, STACK0 - 32)
    assert rig.words(STACK0 - 32, 4) == [CODE + 6, CODE64_3, STACK3, DATA_3]


def test_a_64_bit_far_return_goes_back() -> None:
    rig = rig_of(f"{FAR_64}{GATE}", bits=64, inside="retfq")
    rig.put(CODE + 6, b"\xcd\x31")
    rig.run()
    assert rig.halted_in == 0x31
    assert rig.frame(has_error=False) == {
        "rip": CODE + 8, "cs": CODE64_3, "rflags": 2, "rsp": STACK3, "ss": DATA_3,
    }  # fmt: skip


def test_compatibility_mode_calls_64_bit_code() -> None:
    rig = rig_of("nop", bits=64)
    rig.set_segment("cs", CODE32_3, 0xC0FB)
    rig.put(CODE, assemble(far(CALL, GATE), 32))
    rig.run()
    assert is_inside(rig)
    assert rig["cs_access_rights"] == 0xA09B
    assert rig.words(STACK0 - 32, 4) == [CODE + 7, CODE32_3, STACK3, DATA_3]


@pytest.mark.parametrize("opcode", ["call", "jmp"])
def test_within_64_bit_ring_0(opcode: str) -> None:
    rig = rig_of(f"{FAR_64}{GATE}".replace("call", opcode), bits=64, cpl=0).run()
    assert is_inside(rig)
    assert rig["ss_selector"] == DATA_0
    assert rig["rsp"] == (STACK0 - 16 if opcode == "call" else STACK0)
    assert opcode == "jmp" or rig.words(STACK0 - 16, 2) == [CODE + 6, CODE64_0]


FAULTS_64: dict[str, tuple[dict[str, int], int, int, int]] = {
    "a type in its upper half": ({"upper": 1}, GATE, GP, GATE),
    "an upper half beyond the GDT": ({}, SPARE + 8, GP, SPARE + 8),
    "32-bit code": ({"selector": CODE32_0}, GATE, GP, CODE32_0),
    "code of 32 and 64 bits": ({"selector": SPARE + 8}, GATE, GP, SPARE + 8),
    "a 16-bit gate": ({"kind": 4}, GATE, GP, GATE),
    "a TSS": ({"kind": 9}, GATE, GP, GATE),
    "a task gate": ({"kind": 5}, GATE, GP, GATE),
    "no canonical target": ({"target": 1 << 47}, GATE, GP, 0),
    "its level": ({"dpl": 0}, GATE, GP, GATE),
    "not present": ({"present": 0}, GATE, NP, GATE),
}


@pytest.mark.parametrize("name", FAULTS_64)
def test_a_64_bit_gate_faults_for(name: str) -> None:
    changes, selector, vector, error = FAULTS_64[name]
    rig = rig_of(f"nop\n {FAR_64}{selector}", bits=64)
    set_call_gate(rig, **{"selector": CODE64_0} | changes)
    rig.put_word(GDT + SPARE + 8, descriptor(0xE09B) if selector == GATE else 0xEC << 40)
    rig.run()
    assert rig.halted_in == vector
    frame = rig.frame(has_error=True)
    assert (frame["error"], frame["rip"], frame["rsp"]) == (error, CODE + 1, STACK3)


def test_a_stack_that_is_not_canonical_is_a_stack_fault() -> None:
    rig = rig_of(f"{FAR_64}{GATE}", bits=64)
    rig.put_word(TSS + 4, 1 << 47 | 8)
    rig.set_gate(SS, ist=1)
    rig.run()
    assert rig.halted_in == SS
    assert rig.frame(has_error=True)["error"] == 0


def test_a_stack_that_is_not_there_is_a_page_fault_and_nothing_has_changed() -> None:
    rig = rig_of(f"{FAR_64}{GATE}", bits=64)
    rig.set_page(STACK0 - 0x1000, 0)
    rig.set_gate(PAGE_FAULT, ist=1)
    rig.run()
    assert rig.halted_in == PAGE_FAULT
    assert rig["rsp"] == IST1 - 48
    frame = rig.frame(has_error=True)
    assert (frame["error"], frame["rip"], frame["cs"], frame["rsp"]) == (W, CODE, CODE64_3, STACK3)
    assert rig.shared.cr2 == STACK0 - 8


def test_what_the_outer_ring_may_not_read_is_no_parameter() -> None:
    """Parameters are read with the caller's rights."""
    rig = Rig(far(CALL, GATE), bits=32, cpl=3)
    rig["gdtr_limit"] = GDT_LIMIT + 8
    rig["cr4"], rig["cr3"], rig["cr0"] = 0x10, 0xA000, 0x80000031
    rig.put_word(0xA000, 0xB000 | P | W | U | A, 4)
    for page in range(1024):
        rig.put_word(0xB000 + 4 * page, page << 12 | P | W | (0 if page << 12 == STACK3 else U), 4)
    set_call_gate(rig, CODE32_0, parameters=1, target=0xC000)
    rig.run()
    assert (rig.halted_in, rig.word(rig["rsp"], 4), rig.shared.cr2) == (PAGE_FAULT, P | U, STACK3)
