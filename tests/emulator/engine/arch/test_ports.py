"""Port instructions where nothing exits: widths, privilege by IOPL and the TSS's bitmap, and strings of them."""

import pytest

from emulator.x86 import RFLAGS_DF
from tests.emulator.engine.rig import CODE, CODE32_3, DATA, TSS, P, Rig, W  # fmt: skip


@pytest.mark.parametrize(
    ("text", "size", "rax"),
    [
        ("in al, 0x71", 1, 0xAAAAAAAABBBBBB44),
        ("in ax, 0x71", 2, 0xAAAAAAAABBBB3344),
        ("in eax, 0x71", 4, 0x11223344),
        ("in eax, dx", 4, 0x11223344),
    ],
)
def test_in_writes_as_much_of_rax_as_it_is_wide(text: str, size: int, rax: int) -> None:
    rig = Rig(text + "\n hlt")
    rig["rax"], rig["rdx"] = 0xAAAAAAAABBBBBBBB, 0x71
    rig.platform.inputs[0x71] = 0x5566778811223344 & (1 << 8 * size) - 1
    rig.run()
    assert rig["rax"] == rax
    assert rig.platform.port_reads == [(0x71, size)]


@pytest.mark.parametrize(("text", "size"), [("out 0x71, al", 1), ("out 0x71, ax", 2), ("out dx, eax", 4)])
def test_out_writes_what_it_is_wide(text: str, size: int) -> None:
    rig = Rig(text + "\n hlt")
    rig["rax"], rig["rdx"] = 0xAAAAAAAA11223344, 0xFFFF0071
    rig.run()
    assert rig.platform.port_writes == [(0x71, size, 0x11223344 & (1 << 8 * size) - 1)]


INSTRUCTIONS = ("in al, dx", "out dx, eax", "insb", "outsd", "rep insw", "rep outsb")


def user(text: str, *, iopl: int = 0, bits: int = 64, port: int = 0x3F8) -> Rig:
    """A ring 3 program over port `port` and a string of two at DATA; UD2 ends it."""
    rig = Rig(text + "\n ud2", bits=bits, cpl=3)
    rig["rflags"] = 2 | iopl << 12
    rig["rdx"], rig["rcx"], rig["rdi"], rig["rsi"] = port, 2, DATA, DATA
    return rig


def accesses(rig: Rig) -> int:
    return len(rig.platform.port_reads) + len(rig.platform.port_writes)


@pytest.mark.parametrize("text", INSTRUCTIONS)
@pytest.mark.parametrize("iopl", range(4))
def test_ring_3_needs_iopl_3(text: str, iopl: int) -> None:
    rig = user(text, iopl=iopl).run()
    assert rig.halted_in == (6 if iopl == 3 else 13)
    assert (accesses(rig) > 0) == (iopl == 3)
    if iopl != 3:
        assert rig.words(rig["rsp"], 2) == [0, CODE]
        assert (rig["rcx"], rig["rdi"]) == (2, DATA)


@pytest.mark.parametrize("text", INSTRUCTIONS)
def test_ring_0_needs_nothing(text: str) -> None:
    rig = Rig(text + "\n hlt")
    rig["rdx"], rig["rcx"], rig["rdi"], rig["rsi"] = 0x3F8, 2, DATA, DATA
    rig.run()
    assert (rig.halted_in, rig.is_halted) == (None, True)
    assert accesses(rig) == (2 if "rep" in text else 1)


MAP = 0x68


def with_bitmap(text: str, port: int, *, denied: tuple[int, ...], limit: int = 0x2068, bits: int = 64) -> Rig:
    """The TSS moved where there is room for the whole bitmap; the ports in `denied` have their bit set."""
    rig = user(text, port=port, bits=bits)
    base = 0x98000
    rig.put(base, rig.memory.read(TSS, 0x68))
    rig.put_word(base + 0x66, MAP, 2)
    for at in denied:
        rig.put(base + MAP + at // 8, bytes([rig.word(base + MAP + at // 8, 1) | 1 << (at & 7)]))
    rig["tr_base"], rig["tr_limit"] = base, limit
    return rig


# instruction, how many ports it touches
WIDTHS = {
    "in al, dx": 1,
    "out dx, al": 1,
    "in ax, dx": 2,
    "out dx, ax": 2,
    "in eax, dx": 4,
    "out dx, eax": 4,
    "insd": 4,
}


@pytest.mark.parametrize("text", WIDTHS)
@pytest.mark.parametrize("port", [0, 7, 0x3FD, 0x7FFE, 0xFFFC])
def test_the_bitmap_of_the_tss_opens_ports(text: str, port: int) -> None:
    assert with_bitmap(text, port, denied=()).run().halted_in == 6
    for i in range(-1, 5):
        if not 0 <= port + i <= 0xFFFF:
            continue
        rig = with_bitmap(text, port, denied=(port + i,)).run()
        assert rig.halted_in == (13 if 0 <= i < WIDTHS[text] else 6)


@pytest.mark.parametrize(("limit", "allowed"), [(0x67, False), (MAP, False), (MAP + 1, True), (MAP + 2, True)])
def test_a_port_beyond_the_tss_is_shut(limit: int, allowed: bool) -> None:
    """Two bytes of the bitmap are always read (SDM 1 19.5.2)."""
    rig = with_bitmap("in al, dx", 3, denied=(), limit=limit).run()
    assert rig.halted_in == (6 if allowed else 13)


def test_the_bitmap_works_in_compatibility_mode_too() -> None:
    rig = with_bitmap("in al, dx", 3, denied=())
    rig.set_segment("cs", CODE32_3, 0xC0FB)
    assert rig.run().halted_in == 6


def test_in_32_bit_mode_too() -> None:
    assert with_bitmap("in al, dx", 3, denied=(), bits=32).run().halted_in == 6
    assert with_bitmap("in al, dx", 3, denied=(3,), bits=32).run().halted_in == 13


# --- strings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, 5, 300])
@pytest.mark.parametrize(("suffix", "size"), [("b", 1), ("w", 2), ("d", 4)])
@pytest.mark.parametrize("down", [False, True])
def test_rep_outs_and_rep_ins_move_rcx_elements(count: int, suffix: str, size: int, down: bool) -> None:
    step = -size if down else size
    rig = Rig(f"rep outs{suffix}\n mov rcx, r8\n rep ins{suffix}\n hlt")
    rig["rflags"] = 2 | (RFLAGS_DF if down else 0)
    rig["rdx"], rig["rcx"], rig["r8"], rig["rsi"], rig["rdi"] = 0x80, count, count, DATA, DATA + 0x4000
    values = [0x81828384 + i & (1 << 8 * size) - 1 for i in range(count)]
    for i, value in enumerate(values):
        rig.put_word(DATA + i * step, value, size)
    replies = iter(values)
    rig.platform.on_port = lambda port: rig.platform.inputs.__setitem__(
        port, next(replies) if rig["rcx"] and reading() else 0
    )

    def reading() -> bool:
        return bool(rig.platform.port_reads)

    rig.run(100_000)
    assert rig.is_halted
    assert rig.platform.port_writes == [(0x80, size, value) for value in values]
    assert (rig["rcx"], rig["rsi"], rig["rdi"]) == (0, DATA + count * step, DATA + 0x4000 + count * step)
    assert [rig.word(DATA + 0x4000 + i * step, size) for i in range(count)] == values


def test_without_rep_the_count_stays() -> None:
    rig = Rig("outsb\n insb\n hlt")
    rig["rcx"], rig["rsi"], rig["rdi"], rig["rdx"] = 9, DATA, DATA + 8, 0x80
    rig.run()
    assert (rig["rcx"], rig["rsi"], rig["rdi"]) == (9, DATA + 1, DATA + 9)


def test_32_bit_addresses_wrap_and_clear_the_upper_halves() -> None:
    rig = Rig("addr32 rep outsb\n hlt")
    rig["rcx"], rig["rsi"], rig["rdx"] = 0xFFFFFFFF_00000002, 0xFFFFFFFF_00000000 | DATA, 0x80
    rig.put(DATA, b"ab")
    rig.run()
    assert [value for _, _, value in rig.platform.port_writes] == [0x61, 0x62]
    assert (rig["rcx"], rig["rsi"]) == (0, DATA + 2)


def test_16_bit_addresses_keep_the_upper_parts() -> None:
    rig = Rig("addr16 rep outsb\n hlt", bits=32)
    rig["rcx"], rig["rsi"], rig["rdx"] = 0x55550002, 0x7777FFFF, 0x80
    rig.set_segment("ds", 0x10, 0xC093, base=0x20000)
    rig.put(0x2FFFF, b"x")
    rig.put(0x20000, b"y")
    rig.run()
    assert [value for _, _, value in rig.platform.port_writes] == [ord("x"), ord("y")]
    assert (rig["rcx"], rig["rsi"]) == (0x55550000, 0x77770001)


def test_a_segment_override_counts_for_outs_and_not_for_ins() -> None:
    rig = Rig("outs dx, byte ptr fs:[rsi]\n hlt")
    rig["rsi"], rig["fs_base"], rig["rdx"] = 0x100, DATA, 0x80
    rig.put(DATA + 0x100, b"!")
    rig.run()
    assert rig.platform.port_writes == [(0x80, 1, ord("!"))]


@pytest.mark.parametrize("text", ["rep outsb", "rep insb"])
def test_a_fault_in_the_middle_keeps_what_is_done(text: str) -> None:
    rig = Rig(f"{text}\n hlt")
    end = DATA + 0x1000
    rig.set_page(end, 0)
    rig["rcx"], rig["rsi"], rig["rdi"], rig["rdx"] = 10, end - 4, end - 4, 0x80
    rig.run()
    assert rig.halted_in == 14
    assert (rig["rcx"], rig["rsi" if "out" in text else "rdi"], rig.shared.cr2) == (6, end, end)
    assert accesses(rig) == 4
    assert rig.words(rig["rsp"], 2) == [2 if "in" in text.split()[1] else 0, CODE]


def test_a_fault_in_ring_3_has_the_user_bit() -> None:
    rig = user("insb", iopl=3)
    rig.set_page(DATA, DATA | P | W)
    rig.run()
    assert rig.halted_in == 14
    assert rig.word(rig["rsp"]) == 7
    assert accesses(rig) == 0


def test_an_element_across_two_pages_is_whole_or_not_at_all() -> None:
    rig = Rig("insd\n hlt")
    end = DATA + 0x1000
    rig.set_page(end, 0)
    rig.put(end - 2, b"ab")
    rig["rdi"], rig["rdx"] = end - 2, 0x80
    rig.run()
    assert (rig.halted_in, rig.shared.cr2) == (14, end)
    assert rig.memory.read(end - 2, 2) == b"ab"
    assert accesses(rig) == 0


@pytest.mark.parametrize("text", ["insb", "outsb"])
def test_an_address_that_is_not_canonical_is_a_general_protection_fault(text: str) -> None:
    rig = Rig(text)
    rig["rsi"] = rig["rdi"] = 1 << 47
    rig.run()
    assert rig.halted_in == 13
    assert accesses(rig) == 0


def test_an_interrupt_comes_between_the_iterations() -> None:
    rig = Rig("rep outsb\n hlt")
    rig["rflags"] = 0x202
    rig["rcx"], rig["rsi"], rig["rdx"] = 5, DATA, 0x80
    rig.platform.vectors = [0x40]
    rig.platform.on_acknowledge = lambda: setattr(rig.shared, "interrupt_pending", 0)
    rig.platform.on_port = lambda port: setattr(rig.shared, "interrupt_pending", len(rig.platform.port_writes) == 3)
    rig.put(0x20400, b"\x48\xcf")
    rig.run()
    assert len(rig.platform.port_writes) == 5
    assert rig.word(rig["rsp"] - 40) == CODE, "it interrupted the string instruction"
    assert (rig["rcx"], rig["rip"]) == (0, CODE + 3)
