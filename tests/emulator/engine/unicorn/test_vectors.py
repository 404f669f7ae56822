"""x87, MMX and SSE state where stock Unicorn has it wrong: emulator/unicorn_build/edits_of_vectors.py."""

import pytest

from tests.emulator.engine.rig import DATA, Rig

UD, NM, GP, PF = 6, 7, 13, 14
FXSR, TS, EM = 0x620, 8, 4
ABSENT = 0x80000
IE, ZE, OE, UE, PE = 1, 4, 8, 16, 32


def rig_of(text: str, **registers: int) -> Rig:
    rig = Rig(f"{text}\n hlt")
    rig["cr4"] = FXSR
    rig.set_page(ABSENT, 0)
    for name, value in registers.items():
        rig[name] = value
    return rig


def x87(rig: Rig) -> tuple[int, int, int]:
    """TOP, abridged tags and the upper 16 bits of the physical register 3, from an FXSAVE at DATA."""
    top = rig.word(DATA + 2, 2) >> 11 & 7
    return top, rig.word(DATA + 4, 1), rig.word(DATA + 32 + 16 * ((3 - top) & 7) + 8, 2)


@pytest.mark.parametrize(
    "text", ["movq mm3, mm1", "movd mm3, eax", "paddb mm3, mm1", "psllw mm3, 1", "pinsrw mm3, eax, 1",
    "movdq2q mm3, xmm1",
             "cvttps2pi mm3, xmm1", "pshufb mm3, mm1", "palignr mm3, mm1, 1", "punpcklbw mm3, mm1"]
)  # fmt: skip
def test_what_an_mmx_instruction_writes_has_ones_above(text: str) -> None:
    rig = rig_of(f"fninit\n fld1\n {text}\n fxsave [{DATA}]").run()
    assert rig.is_halted
    assert x87(rig) == (0, 0xFF, 0xFFFF)


@pytest.mark.parametrize("text", ["movd eax, mm3", "movq rax, mm3", f"movq [{DATA + 1024}], mm3", "pmovmskb eax, mm3"])
def test_what_it_reads_has_what_it_had(text: str) -> None:
    rig = rig_of(f"fninit\n {text}\n fxsave [{DATA}]").run()
    assert x87(rig) == (0, 0xFF, 0)


@pytest.mark.parametrize("text", ["paddb mm3, [{}]", "movq mm3, [{}]", "movq [{}], mm3", "cvtps2pi mm3, [{}]"])
def test_an_mmx_instruction_whose_operand_faults_leaves_x87_state_alone(text: str) -> None:
    rig = rig_of(f"fninit\n fld1\n {text.format(ABSENT)}")
    rig.set_gate(PF, target=0x10000 + 0x100)
    rig.put(0x10100, bytes.fromhex("0fae0425") + DATA.to_bytes(4, "little") + b"\xf4")
    rig.run()
    assert rig.is_halted
    assert x87(rig)[:2] == (7, 0x80)


def test_emms_empties_the_stack_and_sets_top_to_0() -> None:
    rig = rig_of(f"fninit\n fld1\n emms\n fxsave [{DATA}]").run()
    assert x87(rig)[:2] == (0, 0)


ALIGNED = ["movaps xmm1, {}", "movaps {}, xmm1", "movdqa xmm1, {}", "movntdq {}, xmm1", "paddb xmm1, {}",
           "addps xmm1, {}",
           "pshufd xmm1, {}, 1", "pshufb xmm1, {}", "movntdqa xmm1, {}", "dpps xmm1, {}, 1",
    "cvtpd2pi mm1, {}"]  # fmt: skip
ANY = ["movups xmm1, {}", "movups {}, xmm1", "movdqu xmm1, {}", "movdqu {}, xmm1", "lddqu xmm1, {}", "movupd xmm1, {}",
       "pcmpistri xmm1, {}, 0", "addss xmm1, {}", "addsd xmm1, {}", "movq xmm1, {}", "cvtps2pd xmm1, {}",
       "pmovsxbw xmm1, {}", "cvtdq2pd xmm1, {}", "roundss xmm1, {}, 0", "cvtps2pi mm1, {}",
    "movlps xmm1, {}"]  # fmt: skip


@pytest.mark.parametrize("text", ALIGNED)
def test_an_operand_of_16_bytes_that_is_not_aligned_is_a_general_protection_fault(text: str) -> None:
    assert rig_of(text.format(f"[{DATA}]")).run().halted_in is None
    for place in (DATA + 8, ABSENT + 1):
        rig = rig_of(text.format(f"[{place}]")).run()
        assert (rig.halted_in, rig.frame(has_error=True)["error"]) == (GP, 0)


@pytest.mark.parametrize("text", ANY)
def test_others_need_no_alignment(text: str) -> None:
    rig = rig_of(text.format(f"[{DATA + 1}]")).run()
    assert (rig.is_halted, rig.halted_in) == (True, None)


@pytest.mark.parametrize(
    ("text", "size_bytes"), [("punpcklbw mm1, [{}]", 4), ("cvtps2pi mm1, [{}]", 8), ("cvtps2pd xmm1, [{}]", 8),
                             ("cvtdq2pd xmm1, [{}]", 8), ("roundss xmm1, [{}], 0", 4), ("roundsd xmm1, [{}], 0", 8)]
)  # fmt: skip
def test_an_operand_may_end_where_its_page_does(text: str, size_bytes: int) -> None:
    assert rig_of(text.format(ABSENT - size_bytes)).run().halted_in is None
    assert rig_of(text.format(ABSENT - size_bytes + 1)).run().halted_in == PF


def test_a_load_across_pages_that_faults_leaves_its_register_alone() -> None:
    rig = rig_of(f"movq xmm1, rax\n movups xmm1, [{ABSENT - 8}]", rax=0x1122)
    rig.set_gate(PF, target=0x10100)
    rig.put(0x10100, bytes.fromhex("66480f7ecbf4"))  # movq rbx, xmm1
    assert rig.run()["rbx"] == 0x1122


@pytest.mark.parametrize("cr0", [TS, TS | EM])
@pytest.mark.parametrize("code", ["0fff", "0f5000", "d9d1", "0f0f00", "660f3a0000", "dbe5", "dfe1"])
def test_no_instruction_is_an_undefined_opcode_whatever_cr0_says(cr0: int, code: str) -> None:
    rig = Rig(bytes.fromhex(code))
    rig["cr0"], rig["cr4"] = rig["cr0"] | cr0, FXSR
    assert rig.run().halted_in == UD


@pytest.mark.parametrize(
    "text", ["addps xmm1, xmm2", "paddb mm1, mm2", "fld1", "emms", "fcmovb st, st(1)", "ptest xmm1, xmm2"]
)
def test_an_instruction_is_no_device_with_cr0_ts_and_changes_nothing(text: str) -> None:
    rig = rig_of(f"stc\n {text}", rax=5)
    rig["cr0"] |= TS
    rig.run()
    assert rig.halted_in == NM
    assert rig.frame(has_error=False)["rflags"] & 1


def test_crc32_is_no_vector_instruction() -> None:
    rig = rig_of("crc32 eax, ebx", rax=1, rbx=2)
    rig["cr0"], rig["cr4"] = rig["cr0"] | TS | EM, 0x20
    rig.run()
    assert (rig.is_halted, rig.halted_in) == (True, None)


ONE, TWO, THREE, HUGE, TINY = 0x3F800000, 0x40000000, 0x40400000, 0x7F000000, 0x00800000


@pytest.mark.parametrize(
    ("text", "a", "b", "flags"), [("addss", ONE, TWO, 0), ("divss", ONE, THREE, PE), ("divss", ONE, 0, ZE),
                                  ("mulss", HUGE, HUGE, OE | PE), ("mulss", TINY, TINY, UE | PE), ("divss", 0, 0, IE),
                                  ("rcpss", 0, 0, 0), ("rsqrtss", THREE, THREE, 0)]
)  # fmt: skip
def test_mxcsr_has_the_flags_of_masked_exceptions(text: str, a: int, b: int, flags: int) -> None:
    reset = f"mov dword ptr [{DATA + 8}], 0x1f80\n ldmxcsr [{DATA + 8}]\n"
    program = f"movd xmm1, eax\n movd xmm2, ebx\n {text} xmm1, xmm2\n stmxcsr [{DATA}]\n fxsave [{DATA + 64}]\n"
    rig = rig_of(f"{reset} {program} {reset} stmxcsr [{DATA + 8}]")
    rig["rax"], rig["rbx"] = a, b
    rig.run()
    assert rig.word(DATA, 4) == rig.word(DATA + 64 + 24, 4) == 0x1F80 | flags
    assert rig.word(DATA + 8, 4) == 0x1F80


def test_flags_that_were_loaded_stay_and_reserved_bits_fault() -> None:
    rig = rig_of(f"mov dword ptr [{DATA}], 0x1f84\n ldmxcsr [{DATA}]\n stmxcsr [{DATA}]").run()
    assert rig.word(DATA, 4) == 0x1F84
    assert rig_of(f"mov dword ptr [{DATA}], 0x11f80\n ldmxcsr [{DATA}]").run().halted_in == GP
    assert rig_of(f"fxsave [{DATA}]\n mov dword ptr [{DATA + 24}], 0x11f80\n fxrstor [{DATA}]").run().halted_in == GP


def test_flush_to_zero_is_sse_s() -> None:
    before = f"mov dword ptr [{DATA}], 0x9f80\n ldmxcsr [{DATA}]\n movd xmm1, eax\n"
    rig = rig_of(f"{before} mulss xmm1, xmm1\n movd ebx, xmm1")
    rig["rax"] = 0x1F800000  # 2 ** -64: the square is denormal
    rig.run()
    assert rig["rbx"] == 0


def test_predicates_of_comparisons_have_three_bits() -> None:
    rig = rig_of(".byte 0x0f, 0xc2, 0xc9, 0xf8\n movd ebx, xmm1").run()
    assert (rig.halted_in, rig["rbx"]) == (None, 0xFFFFFFFF)


@pytest.mark.parametrize(("loaded", "stored"), [(0, 0x40), (0xFFFF, 0x1F7F), (0x37F, 0x37F), (0x27F, 0x27F)])
def test_reserved_bits_of_the_x87_control_word_have_their_values(loaded: int, stored: int) -> None:
    rig = rig_of(f"mov word ptr [{DATA}], {loaded}\n fldcw [{DATA}]\n fnstcw [{DATA + 8}]").run()
    assert rig.word(DATA + 8, 2) == stored
