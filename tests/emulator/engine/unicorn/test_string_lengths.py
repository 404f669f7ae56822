"""PCMPESTRI and PCMPESTRM with the most negative length, of which Unicorn reads outside of its registers."""

import pytest

from tests.emulator.engine.rig import CODE, Rig

UD = 6
MOST_NEGATIVE = {"edx": 1 << 31, "eax": 1 << 31, "rdx": 1 << 63, "rax": 1 << 63}
FORMS = {"PCMPESTRI": "660f3a61c10c", "PCMPESTRM": "660f3a60c10c", "VPCMPESTRI": "c4e37961c10c"}


def rig_of(code: str, rax: int, rdx: int, *, before: str = "90") -> Rig:
    rig = Rig(bytes.fromhex(before) + bytes.fromhex(code) + b"\x90\xf4")
    rig["cr4"] = 0x620
    rig["rax"], rig["rdx"] = rax, rdx
    return rig.run()


@pytest.mark.parametrize("register", MOST_NEGATIVE)
@pytest.mark.parametrize("form", FORMS)
def test_the_most_negative_length_is_an_undefined_opcode(form: str, register: str) -> None:
    is_wide, value = register[0] == "r", MOST_NEGATIVE[register]
    code = FORMS[form]
    if is_wide:
        code = code.replace("660f", "66480f").replace("c4e379", "c4e3f9")
    rig = rig_of(code, *((value, 4) if register[1:] == "ax" else (4, value)))
    assert rig.halted_in == UD
    assert rig.word(rig["rsp"], 8) == CODE + 1


@pytest.mark.parametrize(
    ("rax", "rdx", "equal"), [(4, 4, 4), (0xFFFF_FFFC, 4, 4), (0x7FFF_FFFF, 0x8000_0001, 16), (1 << 63 | 9, 9, 9)]
)
def test_other_lengths_run_and_so_does_what_is_around_them(rax: int, rdx: int, equal: int) -> None:
    """Equal each, masked negative polarity: RCX is the length of the strings, which are equal."""
    rig = rig_of("660f3a61c938" + "48ffc3" * 3, rax, rdx)
    assert rig.halted_in is None
    assert rig.is_halted
    assert (rig["rbx"], rig["rcx"]) == (3, equal)


def test_the_bytes_inside_another_instruction_are_not_meant() -> None:
    rig = rig_of("48b8660f3a61c10c0000", 1 << 31, 1 << 31)  # MOV RAX, imm64
    assert rig.halted_in is None
    assert rig["rax"] == 0x0CC1_613A_0F66
