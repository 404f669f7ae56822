"""Port I/O exits by the bitmaps or by the control that stands in for them, and string I/O tells its operand."""

import pytest

from emulator.vmx import controls as c
from emulator.vmx import fields as f
from emulator.vmx.exit_reasons import ExitReason as R
from tests.emulator.engine.rig import DATA, IO_BITMAP_A, IO_BITMAP_B, exits_of, guest

PIN, PROC, PROC2 = f.PIN_BASED_CONTROLS, f.PRIMARY_PROCESSOR_BASED_CONTROLS, f.SECONDARY_PROCESSOR_BASED_CONTROLS

# instruction, qualification without the port
IO = {
    "in al, dx": 0 | 8, "in ax, dx": 1 | 8, "in eax, dx": 3 | 8, "out dx, al": 0, "out dx, ax": 1, "out dx, eax": 3,
}  # fmt: skip


@pytest.mark.parametrize("text", IO)
@pytest.mark.parametrize("port", [0, 0x7F, 0x7FFC, 0x8000, 0xFFFC])
def test_the_io_bitmaps_have_a_bit_for_each_port(text: str, port: int) -> None:
    for i in range(4):
        rig = guest(text)
        rig["rdx"] = 0xABCD0000 | port
        at = port + i
        rig.put((IO_BITMAP_A if at < 0x8000 else IO_BITMAP_B) + (at & 0x7FFF) // 8, bytes([1 << (at & 7)]))
        size = (IO[text] & 7) + 1
        seen = exits_of(rig)
        expected = [(R.IO_INSTRUCTION, IO[text] | port << 16)] if i < size else []
        assert [(e.reason, e.qualification) for e in seen] == expected
        assert bool(rig.platform.port_reads or rig.platform.port_writes) == (i >= size)


def test_an_access_that_wraps_around_the_ports_exits() -> None:
    rig = guest("in ax, dx\n in al, dx")
    rig["rdx"] = 0xFFFF
    assert [seen.qualification for seen in exits_of(rig)] == [1 | 8 | 0xFFFF << 16]


def test_a_word_across_both_bitmaps_looks_at_both() -> None:
    rig = guest("in ax, dx")
    rig["rdx"] = 0x7FFF
    rig.put(IO_BITMAP_B, b"\1")
    assert len(exits_of(rig)) == 1


@pytest.mark.parametrize(
    ("text", "qualification", "length"),
    [("in al, 0x71", 8 | 0x40 | 0x71 << 16, 2), ("out 0x71, eax", 3 | 0x40 | 0x71 << 16, 2)],
)
def test_unconditional_io_exiting_counts_only_without_bitmaps(text: str, qualification: int, length: int) -> None:
    rig = guest(text)
    rig.set_control(PROC, c.PROC_UNCONDITIONAL_IO_EXITING)
    assert exits_of(rig) == []
    rig = guest(text)
    rig.set_control(PROC, c.PROC_UNCONDITIONAL_IO_EXITING)
    rig.clear_control(PROC, c.PROC_USE_IO_BITMAPS)
    (seen,) = exits_of(rig)
    assert (seen.qualification, seen.instruction_bytes) == (qualification, length)
    rig = guest(text)
    rig.clear_control(PROC, c.PROC_USE_IO_BITMAPS)
    assert exits_of(rig) == []


# instruction, bits, qualification, linear address, instruction information (address size, segment)
STRINGS = {
    "insb": (64, 0x18, DATA, 2 << 7),
    "rep insw": (64, 0x39, DATA, 2 << 7),
    "outsd": (64, 0x13, DATA + 0x100, 2 << 7 | 3 << 15),
    "rep outsb": (64, 0x30, DATA + 0x100, 2 << 7 | 3 << 15),
    "outs dx, byte ptr fs:[rsi]": (64, 0x10, DATA + 0x1100, 2 << 7 | 4 << 15),
    "outs dx, byte ptr [esi]": (64, 0x10, DATA + 0x100, 1 << 7 | 3 << 15),
    "ins byte ptr [di], dx": (32, 0x18, DATA & 0xFFFF, 0),
    "outs dx, byte ptr es:[esi]": (32, 0x10, DATA + 0x100, 1 << 7 | 0 << 15),
}


@pytest.mark.parametrize("name", STRINGS)
def test_string_io_tells_its_operand(name: str) -> None:
    bits, qualification, linear, information = STRINGS[name]
    rig = guest(name, bits=bits)
    rig["rdx"], rig["rcx"], rig["rdi"], rig["rsi"] = 0x3F8, 2, DATA, DATA + 0x100
    rig["fs_base"] = 0x1000
    rig.put(IO_BITMAP_A + 0x3F8 // 8, b"\xff\xff")
    (seen,) = exits_of(rig)
    assert (seen.reason, seen.qualification) == (R.IO_INSTRUCTION, qualification | 0x3F8 << 16)
    assert seen.linear == linear
    mask = 7 << 7 if qualification & 8 else 7 << 7 | 7 << 15  # the segment is undefined for INS
    assert seen.instruction_information & mask == information & mask


def test_rep_io_with_nothing_to_do_does_not_exit() -> None:
    rig = guest("rep outsb\n rep insb")
    rig["rdi"] = rig["rsi"] = DATA
    rig.put(IO_BITMAP_A, b"\xff" * 8192)
    assert exits_of(rig) == []
