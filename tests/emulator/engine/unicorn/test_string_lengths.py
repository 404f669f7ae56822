"""PCMPESTRI with lengths of which stock Unicorn reads outside of its registers, or that it truncates."""

import pytest

from tests.emulator.engine.rig import Rig


def rig_of(code: str, rax: int, rdx: int, *, before: str = "90") -> Rig:
    rig = Rig(bytes.fromhex(before) + bytes.fromhex(code) + b"\x90\xf4")
    rig["cr4"] = 0x620
    rig["rax"], rig["rdx"] = rax, rdx
    return rig.run()


# Equal each, masked negative polarity: RCX is where the first string ends, if the second does not; else 16.
NARROW, WIDE = "660f3a61c938", "66480f3a61c938"


@pytest.mark.parametrize(("code", "length"), [(NARROW, 1 << 31), (WIDE, 1 << 63)])
def test_the_most_negative_length_counts_as_the_greatest(code: str, length: int) -> None:
    assert rig_of(code, 4, length)["rcx"] == 4
    assert rig_of(code, length, 16)["rcx"] == 16


@pytest.mark.parametrize("length", [17, 1 << 20, 0x7FFF_FFFF, 1 << 32, 1 << 62, -17 & (1 << 64) - 1])
def test_a_wide_length_counts_as_16_at_most(length: int) -> None:
    assert rig_of(WIDE, 4, length)["rcx"] == 4
    assert rig_of(WIDE, length, 16)["rcx"] == 16


@pytest.mark.parametrize(
    ("rax", "rdx", "equal"), [(4, 4, 4), (0xFFFF_FFFC, 4, 4), (0x7FFF_FFFF, 0x8000_0001, 16), (1 << 63 | 9, 9, 9)]
)
def test_other_lengths_run_and_so_does_what_is_around_them(rax: int, rdx: int, equal: int) -> None:
    """Equal each, masked negative polarity: RCX is the length of the strings, which are equal."""
    rig = rig_of("660f3a61c938" + "48ffc3" * 3, rax, rdx)
    assert rig.halted_in is None
    assert rig.is_halted
    assert (rig["rbx"], rig["rcx"]) == (3, equal)
