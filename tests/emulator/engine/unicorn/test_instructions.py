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
