"""Where there is no memory nobody answers: reads are all ones, writes are dropped, and ones are no instruction."""

import pytest

from emulator.vmx import fields as f
from tests.emulator.engine.rig import CODE, DATA, MEMORY_BYTES, P, Rig, W

HOLES = (MEMORY_BYTES, 0x8000_0000, 0xFFFF_F000, 1 << 32, (1 << 38) - 0x1000, 1 << 39, (1 << 40) - 0x1000)


@pytest.mark.parametrize("hpa", HOLES)
def test_a_load_reads_ones_and_a_store_is_dropped(hpa: int) -> None:
    rig = Rig(
        f"mov [{DATA}], rbx\n mov rax, [{DATA}]\n movzx ecx, byte ptr [{DATA + 3}]\n lock inc dword ptr [{DATA}]\n hlt"
    )
    rig.set_page(DATA, hpa | P | W)
    rig.run()
    assert (rig.is_halted, rig["rax"], rig["rcx"]) == (True, (1 << 64) - 1, 0xFF)
    assert rig.shared.instructions == 5


@pytest.mark.parametrize("hpa", HOLES)
def test_a_fetch_is_an_undefined_instruction_there(hpa: int) -> None:
    rig = Rig(f"mov eax, {DATA}\n call rax")
    rig.set_page(DATA, hpa | P | W)
    rig.run()
    assert rig.halted_in == 6
    assert rig.word(rig["rsp"]) == DATA
    assert rig.shared.instructions == 3


def test_a_fetch_there_exits_where_ud_does() -> None:
    rig = Rig(f"mov eax, {DATA}\n jmp rax", non_root=True)
    rig.set_page(DATA, MEMORY_BYTES | P | W)
    rig.vmcs.write(f.EXCEPTION_BITMAP, 1 << 6)
    rig.run()
    assert [(seen.reason, seen.information, seen.rip) for seen in rig.exits] == [(0, 0x80000306, DATA)]


def test_page_tables_there_are_all_ones() -> None:
    """Ones have reserved bits set."""
    rig = Rig("mov eax, [0x80000000]")
    rig.put_word(0x2010, MEMORY_BYTES | P | W)
    rig.run()
    assert rig.halted_in == 14
    assert rig.word(rig["rsp"]) == 9


def test_string_input_and_output_meet_the_hole_too() -> None:
    rig = Rig(f"mov edi, {DATA}\n mov esi, edi\n mov edx, 0x80\n insb\n outsb\n hlt")
    rig.set_page(DATA, MEMORY_BYTES | P | W)
    rig.platform.inputs[0x80] = 0x12
    rig.run()
    assert rig.platform.port_reads == [(0x80, 1)]
    assert rig.platform.port_writes == [(0x80, 1, 0xFF)]


def test_an_interrupt_whose_stack_lies_there_is_lost_in_it() -> None:
    rig = Rig("int 0x30")
    rig.set_page(DATA, MEMORY_BYTES | P | W)
    rig["rsp"] = DATA + 0x800
    rig.run()
    assert rig.halted_in == 0x30
    assert rig["rsp"] == DATA + 0x800 - 40


def test_code_that_runs_into_the_hole_stops_at_its_edge() -> None:
    rig = Rig(b"")
    end = CODE + 0x1000
    rig.set_page(end, MEMORY_BYTES | P | W)
    rig.put(end - 3, b"\x90\x90\x90")
    rig["rip"] = end - 3
    rig.run()
    assert rig.halted_in == 6
    assert rig.word(rig["rsp"]) == end
    assert rig.shared.instructions == 4
