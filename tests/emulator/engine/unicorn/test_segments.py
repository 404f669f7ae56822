"""Segment registers and descriptor tables where stock Unicorn has them wrong: unicorn_build/edits_of_segments.py."""

import pytest

from tests.emulator.engine.rig import (
    CODE,
    CODE32_0,
    CODE32_3,
    CODE64_0,
    CODE64_3,
    DATA,
    DATA_0,
    DATA_3,
    GDT,
    STACK3,
    TSS_64,
    Rig,
    descriptor,
)  # fmt: skip

GP, SS, ACCESSED = 13, 12, 1 << 40
SPARE = 0x70  # a selector of the bench that tests may overwrite
RETF = "push {selector}\n lea rax, [rip + there]\n push rax\n retfq\n there:"
IRET = "push 0x10\n push rsp\n pushfq\n push {selector}\n lea rax, [rip + there]\n push rax\n iretq\n there:"
POINTER = f"lea rax, [rip + there]\n mov [{DATA}], eax\n mov word ptr [{DATA + 4}], {{selector}}\n"
JUMP = POINTER + f".byte 0xff, 0x2c, 0x25\n .long {DATA}\n there:"
CALL = POINTER + f".byte 0xff, 0x1c, 0x25\n .long {DATA}\n there:"
TO_RING_3 = (
    f"push {DATA_3}\n push {STACK3}\n pushfq\n push {CODE64_3}\n lea rax, [rip + there]\n push rax\n iretq\n there:"
)


@pytest.mark.parametrize("text", [RETF, IRET, JUMP, CALL], ids=["retf", "iret", "jmp", "call"])
def test_a_far_transfer_sets_the_accessed_bit_of_its_code_segment(text: str) -> None:
    rig = Rig(text.format(selector=SPARE) + "\n hlt")
    rig.put_word(GDT + SPARE, descriptor(0xA09A))
    rig.run()
    assert (rig.is_halted, rig.halted_in, rig["cs_selector"]) == (True, None, SPARE)
    assert rig.word(GDT + SPARE) & ACCESSED
    assert rig["cs_access_rights"] & 1


def test_a_return_to_an_outer_ring_does_for_both_and_a_gate_for_its_own() -> None:
    rig = Rig(TO_RING_3 + "\n ud2")
    for selector in (CODE64_0, CODE64_3 & ~3, DATA_3 & ~3):
        rig.put_word(GDT + selector, rig.word(GDT + selector) & ~ACCESSED)
    rig.run()
    assert rig.halted_in == 6
    for selector in (CODE64_0, CODE64_3 & ~3, DATA_3 & ~3):
        assert rig.word(GDT + selector) & ACCESSED


def test_a_gate_of_32_bits_marks_the_stack_segment_too() -> None:
    rig = Rig("ud2", bits=32, cpl=3)
    for selector in (CODE32_0, DATA_0):
        rig.put_word(GDT + selector, rig.word(GDT + selector) & ~ACCESSED)
    assert rig.run().halted_in == 6
    assert rig.word(GDT + CODE32_0) & rig.word(GDT + DATA_0) & ACCESSED


def test_a_return_to_an_outer_ring_nulls_selectors_of_the_inner_and_leaves_bases() -> None:
    rig = Rig(TO_RING_3 + "\n mov rbx, gs:[0]\n mov ecx, gs\n mov edx, fs\n ud2")
    rig.set_segment("gs", DATA_0, 0xC093, base=DATA)
    rig.set_segment("fs", DATA_3, 0xC0F3, base=DATA + 8)
    rig.put_word(DATA, 0x1234)
    rig.run()
    assert rig.halted_in == 6
    assert (rig["rbx"], rig["rcx"], rig["rdx"]) == (0x1234, 0, DATA_3)


def test_a_stack_segment_that_is_absent_is_a_stack_fault_at_iret() -> None:
    rig = Rig(TO_RING_3)
    rig.put_word(GDT + (DATA_3 & ~3), descriptor(0xC073))
    rig.run()
    assert (rig.halted_in, rig.frame(has_error=True)["error"]) == (SS, DATA_3 & ~3)


@pytest.mark.parametrize(("selector", "vector"), [(0, None), (1, GP), (3, GP)])
def test_a_null_stack_segment_has_the_rpl_of_the_cpl(selector: int, vector: int | None) -> None:
    assert Rig(f"mov eax, {selector}\n mov ss, eax\n nop\n hlt").run().halted_in == vector


def test_ltr_takes_no_null_selector() -> None:
    rig = Rig("xor eax, eax\n ltr ax\n hlt").run()
    assert (rig.halted_in, rig.frame(has_error=True)["error"], rig["tr_selector"]) == (GP, 0, TSS_64)


@pytest.mark.parametrize("name", ["lgdt", "lidt"])
def test_a_descriptor_table_has_a_canonical_base(name: str) -> None:
    rig = Rig(f"{name} [{DATA}]\n hlt")
    rig.put_word(DATA + 2, 1 << 47)
    base = rig[f"{name[1]}dtr_base"]
    rig.run()
    assert (rig.halted_in, rig.frame(has_error=True)["error"], rig[f"{name[1]}dtr_base"]) == (GP, 0, base)


@pytest.mark.parametrize(("name", "kind"), [("lldt", 0x82), ("ltr", 0x89)])
def test_so_have_the_local_table_and_the_task(name: str, kind: int) -> None:
    rig = Rig(f"mov eax, {SPARE}\n {name} ax\n hlt")
    rig["gdtr_limit"] = SPARE + 15
    rig.put_word(GDT + SPARE, descriptor(kind, base=0, limit=0x67))
    rig.put_word(GDT + SPARE + 8, 0x8000)
    rig.run()
    assert (rig.halted_in, rig.frame(has_error=True)["error"]) == (GP, SPARE)


def test_an_iret_of_32_bits_uses_all_of_rsp_in_64_bit_mode() -> None:
    program = f"mov rsp, rbx\n mov dword ptr [rsp], {CODE + 0x80}\n mov dword ptr [rsp + 4], {CODE64_0}\n"
    rig = Rig(f"{program} mov dword ptr [rsp + 8], 2\n mov dword ptr [rsp + 12], {STACK3}\n"
              f" mov dword ptr [rsp + 16], {DATA_0}\n iretd\n hlt")  # fmt: skip
    rig["rbx"] = (1 << 39) + DATA
    rig.put_word(0x1008, rig.word(0x1000))  # the same memory again, 512 GiB up
    rig.put(CODE + 0x80, b"\xf4")
    rig.run()
    assert (rig.is_halted, rig.halted_in, rig["rip"], rig["rsp"]) == (True, None, CODE + 0x81, STACK3)


@pytest.mark.parametrize("bits", [32, 64])
def test_an_iret_of_ring_3_or_in_ia_32e_mode_enters_no_virtual_8086_mode(bits: int) -> None:
    """It takes the frame for what it is: here to an address that halts, which ring 3 cannot."""
    selector = CODE32_3 if bits == 32 else CODE64_0
    size = "" if bits == 32 else "q"
    at = CODE + 0x80
    pushes = f"push {DATA_0}\n push {STACK3}\n" if bits == 64 else ""
    rig = Rig(f"{pushes} push 0x20002\n push {selector}\n push {at}\n iret{size or 'd'}\n hlt", bits=bits,
              cpl=3 if bits == 32 else 0)  # fmt: skip
    rig.put(at, b"\x90\xf4")
    rig.run()
    assert rig["rflags"] & 1 << 17 == 0
    if bits == 64:
        assert rig["rip"] == at + 2
    else:
        assert (rig.halted_in, rig.word(rig["rsp"] + 4, 4)) == (GP, at + 1)


@pytest.mark.parametrize("text", ["retfq", "iretq", "lcall [rbx]"])
def test_a_far_transfer_of_ring_3_uses_the_stack_with_its_rights(text: str) -> None:
    rig = Rig(text if text != "lcall [rbx]" else b"\xff\x1b", cpl=3)
    rig.set_page(DATA, DATA | 3)  # the kernel's own
    rig.put_word(DATA - 0x1000, CODE64_3 << 32 | CODE + 0x80)
    rig["rbx"], rig["rsp"] = DATA - 0x1000, DATA + 0x100
    rig.run()
    assert (rig.halted_in, rig.frame(has_error=True)["error"] & 5) == (14, 5)
