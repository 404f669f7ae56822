"""Names of addresses in a guest's kernel: of its ELF file's symbol table, of a System.map, or of a Linux itself.

    ELF .symtab, .strtab    --elf_symbols----.
    System.map, kallsyms    --map_symbols----+--> Symbols: name_of(address) "start_kernel+0x12", address_of(name)
    bzImage, vmlinux        --linux_symbols--'    moved(slide): of a kernel that lies elsewhere (KASLR)

A file is whoever's: what is damaged in it gives no names, and never an error.
"""

import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, NamedTuple

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from emulator.errors import ConfigError
from guest_images.bzimage import BOOT_MAGIC, ELF_MAGIC, extract_vmlinux
from vmm.session.kallsyms import kallsyms

MAP_MAX_BYTES = 64 << 20
NAME_MAX_BYTES = 512  # as in Linux's kallsyms
SYMBOLS_MAX = 1 << 20  # a Linux with all its modules has 200,000
REACH_BYTES = 1 << 20  # of a symbol without a size that none follows
ENTRIES = {32: struct.Struct("<IIIBBH"), 64: struct.Struct("<IBBHQQ")}  # Elf32_Sym, Elf64_Sym
NO_TYPE, OBJECT, FUNCTION = 0, 1, 2  # st_info & 15
TYPE_MASK = 15
UNDEFINED, ABSOLUTE = 0, 0xFFF1  # st_shndx
CODE_KINDS, NUMBER_KINDS = "TtWw", "Aa"  # letters of nm
BOOT_MAGIC_AT = 0x202
ERRORS = (ELFError, OSError, ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError, struct.error)


class Symbol(NamedTuple):
    """A name; `size_bytes` 0: not known."""

    address: int
    size_bytes: int
    name: str
    is_code: bool


class Symbols:
    """Symbols by address and by name. Of several at one address the last counts, of several of one name the first.

    They are read when somebody first asks: those of a Linux take a while.
    """

    def __init__(self, symbols: Iterable[Symbol] = ()) -> None:
        self._unread = symbols

    def __len__(self) -> int:
        return len(self._symbols)

    def __iter__(self) -> Iterator[Symbol]:
        return iter(self._symbols)

    def at(self, address: int) -> Symbol | None:
        """The symbol that `address` lies in."""
        number = bisect_right(self._addresses, address) - 1
        if number < 0:
            return None
        symbol = self._symbols[number]
        is_in = address - symbol.address < (symbol.size_bytes or REACH_BYTES)
        return symbol if is_in else None

    def name_of(self, address: int) -> str:
        """`name+0x12`, or `name`; "": none."""
        symbol = self.at(address)
        if symbol is None:
            return ""
        offset = address - symbol.address
        return f"{symbol.name}+{offset:#x}" if offset else symbol.name

    def address_of(self, name: str) -> int | None:
        """Where `name` is; None: no such name."""
        return self._by_name.get(name)

    def moved(self, slide: int) -> "Symbols":
        """The same of a kernel that lies `slide` bytes further up than it was linked for."""
        return Symbols(symbol._replace(address=symbol.address + slide & (1 << 64) - 1) for symbol in self._symbols)

    @cached_property
    def _symbols(self) -> list[Symbol]:
        by_address = {symbol.address: symbol for symbol in self._unread}
        self._unread = ()
        return [by_address[address] for address in sorted(by_address)]

    @cached_property
    def _addresses(self) -> list[int]:
        return [symbol.address for symbol in self._symbols]

    @cached_property
    def _by_name(self) -> dict[str, int]:
        return {symbol.name: symbol.address for symbol in reversed(self._symbols)}


def symbols_of(path: Path | None) -> Symbols:
    """Of a kernel file its symbol table, or what a Linux has of itself; of a System.map its lines. Else none."""
    return Symbols() if path is None else Symbols(_read(path))


def _read(path: Path) -> Iterator[Symbol]:
    """Nothing is read before the first is asked for."""
    found = []
    with suppress(*ERRORS), path.open("rb") as file:
        found = elf_symbols(file)
    if not found:
        with suppress(ConfigError, *ERRORS):
            data = path.read_bytes()
            found = linux_symbols(data) or map_symbols(data[:MAP_MAX_BYTES].decode("latin-1"))
    yield from found


def linux_symbols(kernel: bytes) -> list[Symbol]:
    """Those that a Linux, bzImage or vmlinux, has of itself. Raises ConfigError for a bzImage that is damaged."""
    if kernel[BOOT_MAGIC_AT : BOOT_MAGIC_AT + len(BOOT_MAGIC)] == BOOT_MAGIC:
        kernel = extract_vmlinux(kernel)
    if not kernel.startswith(ELF_MAGIC):
        return []
    rows = kallsyms(kernel)
    return [Symbol(address, 0, name, kind in CODE_KINDS) for address, kind, name in rows if kind not in NUMBER_KINDS]


def elf_symbols(file: BinaryIO) -> list[Symbol]:
    """Functions, objects and labels of an ELF file. Raises one of ERRORS."""
    elf = ELFFile(file)
    table = elf.get_section_by_name(".symtab")
    if not isinstance(table, SymbolTableSection):
        return []
    names, entry = table.stringtable.data(), ENTRIES[elf.elfclass]
    data = table.data()[: SYMBOLS_MAX * entry.size]
    found = []
    for fields in entry.iter_unpack(data[: len(data) // entry.size * entry.size]):
        if elf.elfclass == 64:
            name_at, info, _, section, address, size_bytes = fields
        else:
            name_at, address, size_bytes, info, _, section = fields
        end = names.find(b"\0", name_at, name_at + NAME_MAX_BYTES)
        kind = info & TYPE_MASK
        if kind > FUNCTION or section in (UNDEFINED, ABSOLUTE) or end <= name_at:
            continue
        name = names[name_at:end].decode("ascii", "replace")
        found.append(Symbol(address, size_bytes, name, kind != OBJECT))
    return found


def map_symbols(text: str) -> list[Symbol]:
    """Those of a System.map, or of /proc/kallsyms: `ffffffff81000000 T _stext` in each line; others do not count."""
    found = []
    for line in text.splitlines()[:SYMBOLS_MAX]:
        parts = line.split()
        if len(parts) < 3 or len(parts[1]) != 1:
            continue
        with suppress(ValueError):
            found.append(Symbol(int(parts[0], 16), 0, parts[2][:NAME_MAX_BYTES], parts[1] in CODE_KINDS))
    return found
