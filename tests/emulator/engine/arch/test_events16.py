"""Event delivery from real mode through its vector table, and from virtual-8086 mode through the IDT (SDM 3A 21)."""

from emulator.x86 import RFLAGS_AC, RFLAGS_IF, RFLAGS_IOPL, RFLAGS_RF, RFLAGS_TF, RFLAGS_VM
from tests.emulator.engine.rig import CODE, CODE32_0, CODE32_3, DATA_0, GDT, HANDLERS, STACK0, UNUSABLE, Rig, descriptor

VECTORS, SEGMENT, STACK = 0, CODE >> 4, 0x800
DATA_SEGMENTS = {"es": 0x1111, "ds": 0x2222, "fs": 0x3333, "gs": 0x4444}


def real_mode(text: str, *, limit: int = 0x3FF) -> Rig:
    """A program in real mode; each vector leads to its HLT by a segment of its own."""
    rig = Rig(text, bits=16)
    rig["cr0"], rig["rip"], rig["rsp"] = 0x30, 0, STACK
    rig.set_segment("cs", SEGMENT, 0x9B, base=CODE, limit=0xFFFF)
    for name in ("ss", "ds", "es"):
        rig.set_segment(name, 0x3000, 0x93, base=0x30000, limit=0xFFFF)
    rig["idtr_base"], rig["idtr_limit"] = VECTORS, limit
    for vector in range(256):
        rig.put_word(VECTORS + 4 * vector, vector | (HANDLERS + 15 * vector) >> 4 << 16, 4)
        rig.put(((HANDLERS + 15 * vector) >> 4 << 4) + vector, b"\xf4")
    return rig


def virtual_8086(text: str, *, iopl: int = 3) -> Rig:
    """A program in virtual-8086 mode under a 32-bit IDT and TSS."""
    rig = Rig(text, bits=32)
    rig.put(CODE, Rig(text, bits=16).memory.read(CODE, 256))
    for name, selector in {"cs": SEGMENT, "ss": 0x3000, **DATA_SEGMENTS}.items():
        rig.set_segment(name, selector, 0xF3, base=selector << 4, limit=0xFFFF)
    rig["rip"], rig["rsp"], rig["rflags"] = 0, STACK, RFLAGS_VM | 2 | iopl << 12
    for vector in range(256):
        rig.set_gate(vector, dpl=3)
    return rig


def pushed(rig: Rig, count: int, size_bytes: int) -> list[int]:
    return rig.words(rig["ss_base"] + rig["rsp"], count, size_bytes)


def test_real_mode_pushes_three_words_and_loads_the_segment_times_16() -> None:
    rig = real_mode("nop\n int 0x30").run()
    assert (rig["rip"], rig["cs_selector"]) == (0x31, (HANDLERS + 15 * 0x30) >> 4)
    assert rig["cs_base"] == rig["cs_selector"] << 4
    assert rig["rsp"] == STACK - 6
    assert pushed(rig, 3, 2) == [3, SEGMENT, 2]


def test_real_mode_keeps_the_upper_half_of_esp_and_pushes_no_error_code() -> None:
    rig = real_mode("nop\n ud2")
    rig["rsp"] = 0x1234_0800
    rig.run()
    assert (rig["rip"], rig["rsp"]) == (7, 0x1234_07FA)
    assert rig.words(0x30000 + 0x7FA, 3, 2) == [1, SEGMENT, 2]


def test_real_mode_clears_if_and_tf_and_ac() -> None:
    rig = real_mode("int 0x30")
    rig["rflags"] = 2 | RFLAGS_IF | RFLAGS_AC
    rig.run()
    assert rig["rflags"] & (RFLAGS_IF | RFLAGS_TF | RFLAGS_AC) == 0
    assert pushed(rig, 3, 2)[2] == 2 | RFLAGS_IF


def test_iret_in_real_mode_goes_back() -> None:
    rig = real_mode("int 0x30\n hlt")
    handler = rig.word(VECTORS + 4 * 0x30, 4)
    rig.put((handler >> 16 << 4) + (handler & 0xFFFF), b"\xcf")
    rig.run()
    assert (rig["rip"], rig["cs_selector"], rig["rsp"]) == (3, SEGMENT, STACK)


def test_an_external_interrupt_in_real_mode_goes_by_the_table() -> None:
    rig = real_mode("sti\n nop\n 1: jmp 1b")
    rig.platform.vectors, rig.shared.interrupt_pending = [8], 1
    rig.platform.on_acknowledge = lambda: setattr(rig.shared, "interrupt_pending", 0)
    rig.run()
    assert rig["rip"] == 9
    assert pushed(rig, 3, 2) == [2, SEGMENT, 2 | RFLAGS_IF]


def test_a_vector_beyond_the_table_is_gp_and_then_shutdown() -> None:
    rig = real_mode("int 0x30", limit=0xBF).run()
    assert rig["rip"] == 14
    rig = real_mode("int 0x30", limit=0x1F).run()
    assert rig.shared.shutdown


def test_a_stack_that_ends_is_a_shutdown() -> None:
    rig = real_mode("int 0x30")
    rig["rsp"] = 1
    assert rig.run().shared.shutdown


def test_virtual_8086_mode_pushes_all_segments_and_leaves_them_null() -> None:
    rig = virtual_8086("int 0x30").run()
    assert rig.halted_in == 0x30
    assert (rig["cs_selector"], rig["ss_selector"], rig["rsp"]) == (CODE32_0, DATA_0, STACK0 - 36)
    eip, cs, eflags, esp, ss, es, ds, fs, gs = pushed(rig, 9, 4)
    assert (eip, cs, esp, ss) == (2, SEGMENT, STACK, 0x3000)
    assert eflags == RFLAGS_VM | RFLAGS_IOPL | 2
    assert {"es": es, "ds": ds, "fs": fs, "gs": gs} == DATA_SEGMENTS
    assert not rig["rflags"] & RFLAGS_VM
    assert all(rig[f"{name}_access_rights"] & UNUSABLE and not rig[f"{name}_selector"] for name in DATA_SEGMENTS)


def test_a_fault_in_virtual_8086_mode_has_its_error_code() -> None:
    rig = virtual_8086("mov eax, cr0").run()
    assert rig.halted_in == 13
    error, eip, _cs, eflags = pushed(rig, 4, 4)
    assert (error, eip, eflags) == (0, 0, RFLAGS_VM | RFLAGS_IOPL | RFLAGS_RF | 2)


def test_int_n_and_other_iopl_sensitive_instructions_fault_below_iopl_3() -> None:
    for text in ("int 0x30", "cli", "sti", "pushf", "popf", "iret"):
        rig = virtual_8086(text, iopl=0).run()
        assert rig.halted_in == 13, text
        assert pushed(rig, 2, 4) == [0, 0], text
    assert virtual_8086("int3", iopl=0).run().halted_in == 3


def test_iret_goes_back_to_virtual_8086_mode() -> None:
    rig = virtual_8086("int 0x30\n mov ax, ds\n int 0x31")
    rig.put(HANDLERS + 0x30 * 16, b"\xcf")
    rig.run()
    assert rig.halted_in == 0x31
    assert rig["rax"] == DATA_SEGMENTS["ds"]
    assert pushed(rig, 1, 4) == [6]


def test_a_handler_that_is_not_in_ring_0_is_gp() -> None:
    rig = virtual_8086("int 0x30")
    rig.put_word(GDT + CODE32_3 // 8 * 8, descriptor(0xC0FB))
    rig.set_gate(0x30, selector=CODE32_3, dpl=3)
    rig.run()
    assert rig.halted_in == 13
    assert pushed(rig, 1, 4) == [CODE32_3 & ~3]
