"""The symbols that a Linux has of itself: tables as its build makes them, good, damaged, and real."""

import random
import struct
from collections.abc import Callable

import pytest

from guest_images.images import resolve
from vmm.session.kallsyms import DIGITS, Row, kallsyms
from vmm.session.symbols import linux_symbols, symbols_of

BASE = 0xFFFF_FFFF_8100_0000
Layout = Callable[..., bytes]


def rows_of(count: int, seed: int = 1) -> list[Row]:
    """Symbols as a kernel could have them, in order of address; one has a name of more than 127 tokens."""
    rng = random.Random(seed)
    rows, address = [(0, "A", "fixed_percpu_data"), (0x1000, "A", "cpu_tss")], BASE
    for number in range(count - len(rows)):
        name = f"{rng.choice(('do', 'sys', '__x64', 'acpi'))}_{'x' * rng.randrange(12)}{number}"
        rows.append((address, rng.choice("tTdDbBrR"), name + "q" * (200 if number == 7 else 0)))
        address += rng.randrange(200)
    return rows


def tokens() -> list[bytes]:
    """A token for each byte: the characters, and some longer ones where no character is."""
    longer = iter((b"sys_", b"acpi", b"__x64_", b"xx"))
    table = [bytes([n]) if 32 < n < 127 else next(longer, b"~") for n in range(1, 256)]
    return [b"Tdo_", *table]


def packed_name(text: str, table: list[bytes]) -> bytes:
    """Its length, and the numbers of its tokens."""
    data, numbers = text.encode(), []
    while data:
        number = max((n for n, token in enumerate(table) if data.startswith(token)), key=lambda n: len(table[n]))
        numbers.append(number)
        data = data[len(table[number]) :]
    length = len(numbers)
    head = bytes([length]) if length < 128 else bytes([length & 127 | 128, length >> 7])
    return head + bytes(numbers)


def aligned(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)


def parts_of(rows: list[Row], *, is_split: bool) -> dict[str, bytes]:
    table, names, markers = tokens(), b"", []
    for number, (_, kind, name) in enumerate(rows):
        if number % 256 == 0:
            markers.append(len(names))
        names += packed_name(kind + name, table)
    offsets = [
        address if address < BASE else BASE - 1 - address if is_split else address - BASE for address, _, _ in rows
    ]
    strings = b"".join(token + b"\0" for token in table)
    index = [sum(len(token) + 1 for token in table[:n]) for n in range(256)]
    return {
        "offsets": aligned(struct.pack(f"<{len(rows)}i", *offsets)),
        "base": struct.pack("<Q", BASE),
        "count": struct.pack("<Q", len(rows)),
        "names": aligned(names),
        "markers": aligned(struct.pack(f"<{len(markers)}I", *markers)),
        "tokens": aligned(strings),
        "index": aligned(struct.pack("<256H", *index)),
        "sequence": aligned(bytes(range(256)) * 3),
    }


OLDER = ("offsets", "base", "count", "names", "markers", "sequence", "tokens", "index")
NEWER = ("count", "names", "markers", "tokens", "index", "offsets", "base", "sequence")


def image_of(rows: list[Row], order: tuple[str, ...], *, is_split: bool, seed: int = 3) -> bytes:
    """The tables among bytes that are none, with tables of characters as kernels have them, too."""
    rng = random.Random(seed)
    parts = parts_of(rows, is_split=is_split)
    characters = b"".join(bytes([n]) + b"\0" for n in range(1, 256))
    noise = rng.randbytes(40_000)
    return noise + characters + bytes(8) + DIGITS + noise[: 8 * rng.randrange(9)] + b"".join(
        parts[name] for name in order
    ) + noise  # fmt: skip


@pytest.mark.parametrize("skew", [0, 1, 4, 7])
@pytest.mark.parametrize("order", [OLDER, NEWER])
@pytest.mark.parametrize("count", [256, 257, 1000])
def test_tables_of_both_layouts_give_every_symbol(count: int, order: tuple[str, ...], skew: int) -> None:
    rows = rows_of(count)
    assert kallsyms(bytes(skew) + image_of(rows, order, is_split=True)) == rows
    kernel = [row for row in rows if row[0] >= BASE] + [(BASE + (1 << 20), "T", "_end")] * 2
    assert kallsyms(bytes(skew) + image_of(kernel, order, is_split=False)) == kernel


@pytest.mark.parametrize("size", [0, 1, 7, 8, 20, 100, 5000])
def test_what_has_no_tables_has_no_symbols(size: int) -> None:
    for data in (bytes(size), DIGITS * (size // len(DIGITS) + 1), random.Random(size).randbytes(size)):
        assert kallsyms(data) == []
        assert linux_symbols(data) == []


def test_damaged_tables_give_no_error() -> None:
    image, rng = image_of(rows_of(600), OLDER, is_split=True), random.Random(11)
    for _ in range(400):
        damaged = bytearray(image)
        for _ in range(rng.choice((1, 3, 200))):
            damaged[rng.randrange(39_000, len(damaged))] = rng.choice((0, 255, rng.randrange(256)))
        for address, kind, name in kallsyms(bytes(damaged[: rng.choice((len(damaged), rng.randrange(len(damaged))))])):
            assert 0 <= address < 1 << 64
            assert len(kind) == 1
            assert name


@pytest.mark.slow
@pytest.mark.parametrize("name", ["linux", "linux-generic"])
def test_debians_kernels_say_their_symbols(name: str) -> None:
    folder = resolve(name).kernel.parent
    symbols, same = symbols_of(folder / "bzImage"), symbols_of(folder / "vmlinux")
    assert len(symbols) > 50_000
    start = symbols.address_of("start_kernel")
    assert start is not None
    assert symbols.name_of(start + 4) == "start_kernel+0x4"
    assert symbols.address_of("_text") == BASE
    assert list(same) == list(symbols)
