"""Instructions that stock Unicorn has wrong and ours has right: emulator/unicorn_build/edits_of_instructions.py."""

import pytest

from tests.emulator.engine.rig import CODE, DATA, Rig

CF, PF, AF, ZF, SF, OF = 1, 4, 16, 64, 128, 2048
ARITHMETIC = CF | PF | AF | ZF | SF | OF
# what sets the flags before, and which
BEFORE = {
    "cmp": ("mov edi, 1\n cmp edi, 2", CF | PF | AF | SF),
    "xor": ("xor edi, edi", PF | ZF),
    "add": ("mov edi, 0x7fffffff\n add edi, 1", PF | AF | SF | OF),
    "inc behind a carry": ("stc\n mov edi, 0x7fffffff\n inc edi", CF | PF | AF | SF | OF),
}


@pytest.mark.parametrize("equal", [True, False])
@pytest.mark.parametrize("form", ["cmpxchg8b qword", "lock cmpxchg8b qword", "cmpxchg16b xmmword"])
@pytest.mark.parametrize("before", BEFORE)
def test_cmpxchg8b_changes_zf_alone(before: str, form: str, equal: bool) -> None:
    text, flags = BEFORE[before]
    value = 0 if equal else 5
    rig = Rig(f"mov eax, {value}\n mov edx, 0\n {text}\n {form} ptr [{DATA}]\n pushfq\n pop rsi\n hlt").run()
    assert rig.is_halted
    assert rig["rsi"] & ARITHMETIC == (flags & ~ZF | (ZF if equal else 0))


@pytest.mark.parametrize("count", [8, 0x7FF8, 0x8000, 0xFFF8])
def test_a_return_takes_an_unsigned_number_of_bytes(count: int) -> None:
    rig = Rig(f"mov rsi, rsp\n lea rax, [rip + 1f]\n push rax\n ret {count}\n 1: hlt").run()
    assert rig.is_halted
    assert rig["rsp"] == rig["rsi"] + count


@pytest.mark.parametrize("count", [8, 0x8000])
def test_a_far_return_does_too(count: int) -> None:
    rig = Rig(f"mov rsi, rsp\n mov rax, cs\n push rax\n lea rax, [rip + 1f]\n push rax\n retfq {count}\n 1: hlt").run()
    assert rig.is_halted
    assert rig["rsp"] == rig["rsi"] + count
    assert rig["rip"] > CODE


@pytest.mark.parametrize("name", ["loope", "loopne"])
def test_a_loop_with_a_count_of_1_keeps_flags_that_nobody_looked_at(name: str) -> None:
    rig = Rig(f"mov ecx, 1\n mov eax, 0x80\n add al, al\n {name} 1f\n 1: pushfq\n pop rsi\n hlt").run()
    assert rig["rsi"] & ARITHMETIC == CF | PF | ZF | OF


HIGH = 0xABCD_0000_0000_0000


@pytest.mark.parametrize("text", ["cmpxchg ebx, ecx", f"cmpxchg [{DATA}], ecx", f"lock cmpxchg [{DATA}], ecx"])
@pytest.mark.parametrize("equal", [True, False])
def test_cmpxchg_writes_either_its_accumulator_or_its_destination(text: str, equal: bool) -> None:
    rig = Rig(f"{text}\n hlt")
    rig["rax"], rig["rbx"], rig["rcx"] = HIGH | (5 if equal else 6), HIGH | 5, 7
    rig.put_word(DATA, HIGH | 5)
    rig.run()
    assert rig["rax"] == (HIGH | 5 if equal else 5)
    in_register = "ebx" in text
    assert rig["rbx"] == (7 if equal and in_register else HIGH | 5)
    assert rig.word(DATA) == (HIGH | 7 if equal and not in_register else HIGH | 5)


@pytest.mark.parametrize("name", ["bsf", "bsr"])
def test_a_bit_scan_of_0_leaves_its_destination_alone(name: str) -> None:
    rig = Rig(f"{name} eax, ebx\n {name} ecx, edx\n hlt")
    rig["rax"], rig["rbx"], rig["rcx"], rig["rdx"] = HIGH | 5, HIGH, HIGH | 6, HIGH | 8
    rig.run()
    assert (rig["rax"], rig["rcx"]) == (HIGH | 5, 3)


def test_lock_neg_has_the_flags_of_its_result() -> None:
    rig = Rig(f"lock neg dword ptr [{DATA}]\n pushfq\n pop rsi\n hlt")
    rig.put_word(DATA, 1)
    rig.run()
    assert rig.word(DATA, 4) == 0xFFFFFFFF
    assert rig["rsi"] & ARITHMETIC == CF | PF | AF | SF


@pytest.mark.parametrize(
    ("name", "result"), [("phaddw", 0x0007_0003_0007_0003), ("phaddd", 0x0006_0004_0006_0004),
                         ("phsubw", 0xFFFF_FFFF_FFFF_FFFF), ("phsubd", 0xFFFD_FFFE_FFFD_FFFE)]
)  # fmt: skip
def test_a_horizontal_sum_of_a_register_with_itself_uses_what_it_had(name: str, result: int) -> None:
    rig = Rig(f"movq mm1, rax\n {name} mm1, mm1\n movq rbx, mm1\n hlt")
    rig["rax"], rig["cr4"] = 0x0004_0003_0002_0001, 0x620
    assert rig.run()["rbx"] == result


@pytest.mark.parametrize(
    ("text", "register", "value"),
    [("popcnt ax, bx", "rax", 0x5555_0010), ("crc32 eax, bx", "rax", None)],
)
def test_operands_of_16_bit_code_have_16_bits(text: str, register: str, value: int | None) -> None:
    """CRC32 takes two bytes: the same as of one byte twice."""
    rig = Rig(f"{text}\n hlt", bits=16)
    rig["rax"], rig["rbx"], rig["cr4"] = 0x5555_0000, 0x1234_FFFF, 0x600
    rig.run()
    assert (rig.is_halted, rig.halted_in) == (True, None)
    if value is None:
        twice = Rig("crc32 eax, bl\n crc32 eax, bl\n hlt")
        twice["rax"], twice["rbx"], twice["cr4"] = 0x5555_0000, 0xFF, 0x620
        value = twice.run()["rax"]
    assert rig[register] == value


def test_rip_relative_addresses_count_from_behind_the_immediate_of_shld() -> None:
    rig = Rig("shld dword ptr [rip + there], eax, 8\n hlt\n there: .long 0x11223344")
    rig["rax"] = 0x55667788
    rig.run()
    assert rig.is_halted
    assert rig.memory.read(CODE + 9, 4) == (0x22334455).to_bytes(4, "little")


def test_lahf_and_sahf_use_ah_with_a_rex_prefix() -> None:
    rig = Rig(bytes.fromhex("419e 419f f4"))
    rig["rax"], rsp = 0xD500, rig["rsp"]
    rig.run()
    assert (rig["rax"], rig["rsp"]) == (0xD700, rsp)


def test_a_far_pointer_has_an_offset_of_64_bits() -> None:
    rig = Rig(bytes.fromhex("480fb504 25") + DATA.to_bytes(4, "little") + b"\xf4")  # lgs rax
    rig.put_word(DATA, 0x1122_3344_5566_7788)
    rig.put_word(DATA + 8, 0x10, 2)
    rig.run()
    assert rig.is_halted
    assert (rig["rax"], rig["gs_selector"]) == (0x1122_3344_5566_7788, 0x10)


def test_pushf_pushes_rf_clear() -> None:
    rig = Rig("pushfq\n pop rsi\n hlt")
    rig["rflags"] = 0x10202
    assert rig.run()["rsi"] == 0x202
