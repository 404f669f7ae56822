"""Claims about names of addresses: from ELF files, good and damaged, and from the text of a System.map."""

import random
from pathlib import Path

from guest_images.images import build
from vmm.session.symbols import Symbol, Symbols, map_symbols, symbols_of


def test_a_kernels_functions_have_names(tmp_path: Path) -> None:
    symbols = symbols_of(build("default"))
    address = symbols.address_of("guest_main")
    assert address is not None
    assert symbols.name_of(address) == "guest_main"
    assert symbols.name_of(address + 5) == "guest_main+0x5"
    found = symbols.at(address)
    assert found is not None
    assert found.is_code


def test_an_address_outside_has_no_name() -> None:
    symbols = Symbols([Symbol(0x1000, 16, "a", True), Symbol(0x2000, 0, "b", True)])
    assert [symbols.name_of(a) for a in (0xFFF, 0x1000, 0x100F, 0x1010, 0x2FFF, 1 << 40)] == [
        "", "a", "a+0xf", "", "b+0xfff", ""
    ]  # fmt: skip
    assert symbols.address_of("c") is None


def test_no_file_has_no_symbols(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no kernel")
    assert [len(symbols_of(path)) for path in (None, tmp_path / "text", tmp_path / "missing", tmp_path)] == [0] * 4


def test_a_damaged_file_gives_no_error(tmp_path: Path) -> None:
    content = build("default").read_bytes()
    generator = random.Random(5)
    for _ in range(300):
        damaged = bytearray(content)
        for _ in range(8):
            headers = generator.random() < 0.7  # the file's header, or those of sections at its end
            at = generator.randrange(64) if headers else generator.randrange(len(damaged) - 2000, len(damaged))
            damaged[at] = generator.randrange(256)
        (tmp_path / "kernel").write_bytes(damaged)
        symbols_of(tmp_path / "kernel").name_of(0x100000)


def test_a_system_map_gives_names() -> None:
    text = (
        "ffffffff81000000 T _stext\nffffffff81000010 t secondary\nnonsense\n(null) D x\nffffffff82000000 d table [m]\n"
    )
    symbols = Symbols(map_symbols(text))
    assert symbols.name_of(0xFFFFFFFF81000012) == "secondary+0x2"
    assert [(symbol.name, symbol.is_code) for symbol in symbols] == [
        ("_stext", True), ("secondary", True), ("table", False)
    ]  # fmt: skip
