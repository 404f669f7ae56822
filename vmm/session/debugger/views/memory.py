"""Memory, as gdb's `x` shows it, by any of the three kinds of address; and stores of bytes.

    COUNT  FORMAT            SIZE
    1 ..   x u d o t a s i   b h w g            x/8xg: eight words of 8 bytes in hexadecimal

A store goes the way that one of the guest's devices goes: shadow tables follow, a sidecore that shares the page is
told, and code that changes is translated anew by whoever runs it next. TLBs keep what they have, as on hardware.
"""

import re
from dataclasses import dataclass

from emulator.errors import ConfigError
from emulator.x86 import PAGE_BYTES
from vmm.cost.meter import Unpaid
from vmm.session.debugger.views.disassembly import disassemble
from vmm.session.debugger.views.subject import WORD, Space, Subject
from vmm.session.debugger.views.values import Hex, View, lines_text, wrapped
from vmm.session.virtual_guest import VirtualGuest

FORMATS = {
    "x": "hexadecimal", "u": "unsigned", "d": "signed", "o": "octal", "t": "binary", "a": "address", "c": "character",
    "s": "text", "i": "instruction",
}  # fmt: skip
SIZES_BYTES = {"b": 1, "h": 2, "w": 4, "g": 8}
UNITS_MAX = 4096
TEXT_MAX_BYTES = 256
STORE_MAX_BYTES = 1 << 20
UNKNOWN = "?"


@dataclass(frozen=True)
class Format:
    """How memory is shown: `count` units of `size_bytes`, each as `letter` says."""

    count: int = 1
    letter: str = "x"
    size_bytes: int = 8


ONE_WORD = Format()


@dataclass(frozen=True)
class Memory(View):
    """Units of memory from `address` on; None where there is no RAM."""

    space: Space
    address: Hex
    format: Format
    units: tuple[Hex | None, ...]
    words: tuple[str, ...]  # the units as the format says
    symbols: dict[str, str]  # by address, where a line begins

    def text(self) -> str:
        """As many units in a line as fit; texts have one each."""
        if self.format.letter == "s":
            return lines_text(f"{unit:x}: {word}" for unit, word in zip(self.units, self.words, strict=True))
        width = max(map(len, self.words), default=1)
        count = 1 if self.format.letter == "a" else max(1, min(16 // self.format.size_bytes, 58 // (width + 1)))
        lines = []
        for number in range(0, len(self.words), count):
            address = self.address + number * self.format.size_bytes & WORD
            symbol = self.symbols.get(f"{address:#x}", "")
            head = f"{address:x}{f' <{symbol}>' if symbol else ''}:"
            lines += wrapped(head, [word.rjust(width) for word in self.words[number : number + count]], indent=4)
        return lines_text(lines)


def read_format(text: str) -> Format:
    """`8xg`, in any order behind the number, what is left out as in `Format`. Raises ConfigError."""
    match = re.fullmatch(r"([0-9]{0,5})([a-z]{0,2})", text)
    letters = "" if match is None else match[2]
    formats = [letter for letter in letters if letter in FORMATS]
    sizes = [letter for letter in letters if letter in SIZES_BYTES]
    if match is None or len(formats) > 1 or len(sizes) > 1 or len(formats) + len(sizes) < len(letters):
        raise ConfigError(
            f"'/{text}' is no format: a count, one of {' '.join(FORMATS)}, and a size, one of {' '.join(SIZES_BYTES)}"
        )
    count = int(match[1] or 1)
    if not 0 < count <= UNITS_MAX:
        raise ConfigError(f"{count} units cannot be shown; choose a count from 1 to {UNITS_MAX}")
    letter = formats[0] if formats else "x"
    size_bytes = SIZES_BYTES[sizes[0]] if sizes else 1 if letter in "cs" else 8
    return Format(count, letter, 8 if letter == "a" else size_bytes)


def examine(subject: Subject, space: Space, address: int, format: Format = ONE_WORD) -> View:
    """Memory at an address of `space`. Raises ConfigError when the format cannot be shown so."""
    if not 0 <= address <= WORD:
        raise ConfigError(f"{address:#x} is no address: they have 64 bits")
    if format.letter == "i":
        if space is not Space.GVA:
            raise ConfigError("instructions are shown by linear address only")
        return disassemble(subject, address, format.count)
    if format.letter == "s":
        return _text(subject, space, address, format)
    units = []
    for number in range(format.count):
        data = _read(subject, space, address + number * format.size_bytes & WORD, format.size_bytes)
        units.append(None if data is None else Hex(int.from_bytes(data, "little")))
    words = tuple(UNKNOWN if unit is None else _word(subject, unit, format) for unit in units)
    return Memory(space, Hex(address), format, tuple(units), words, _symbols(subject, space, address, format))


def _read(subject: Subject, space: Space, address: int, length_bytes: int) -> bytes | None:
    data = subject.read_available(space, address, length_bytes)
    return data if len(data) == length_bytes else None


def _word(subject: Subject, unit: int, format: Format) -> str:
    bits = 8 * format.size_bytes
    match format.letter:
        case "u":
            return str(int(unit))
        case "d":
            return str(unit - (1 << bits) if unit >> bits - 1 else int(unit))
        case "o":
            return f"{unit:#o}"
        case "t":
            return f"{unit:0{bits}b}"
        case "c":
            return repr(chr(unit)) if 32 <= unit < 127 else f"{unit:#04x}"
        case "a":
            symbol = subject.symbols.name_of(unit)
            return f"{unit:#018x}" + (f" <{symbol}>" if symbol else "")
        case _:
            return f"{unit:0{bits // 4}x}"


def _symbols(subject: Subject, space: Space, address: int, format: Format) -> dict[str, str]:
    if space is not Space.GVA:
        return {}
    places = (address + number * format.size_bytes & WORD for number in range(format.count))
    return {f"{place:#x}": symbol for place in places if (symbol := subject.symbols.name_of(place))}


def _text(subject: Subject, space: Space, address: int, format: Format) -> Memory:
    """Texts that end with a zero byte, one behind the other; the units are their addresses."""
    data = subject.read_available(space, address, format.count * TEXT_MAX_BYTES)
    begin = 0
    words: list[str] = []
    units: list[Hex | None] = []
    while len(words) < format.count and begin < len(data):
        end = data.find(b"\0", begin, begin + TEXT_MAX_BYTES)
        text = data[begin : end if end >= 0 else begin + TEXT_MAX_BYTES]
        words.append(ascii(text.decode("latin-1")))
        units.append(Hex(address + begin & WORD))
        begin += len(text) + (end >= 0)
    if not words:
        units, words = [Hex(address)], [UNKNOWN]
    return Memory(space, Hex(address), Format(len(words), "s", 1), tuple(units), tuple(words), {})


# --- stores ----------------------------------------------------------------------------------------------------------


def store(subject: Subject, space: Space, address: int, data: bytes) -> None:
    """Store `data` at an address of `space`: all of it, or nothing. Raises ConfigError where there is no RAM.

    Not while the guest runs, nor inside what the VMM does with its own tables. Nobody pays, but a core that sends
    another an interrupt, to flush what its TLB must not have any more.
    """
    if not 0 < len(data) <= STORE_MAX_BYTES:
        raise ConfigError(f"{len(data)} bytes cannot be stored; give 1 to {STORE_MAX_BYTES}")
    pieces = []
    for at, piece in _pages(address, data):
        hpa = subject.place(space, at)
        if hpa is None or not subject.host_memory.is_ram(hpa, len(piece)):
            raise ConfigError(f"nothing can be stored at {space.value} {at:#x}: there is no memory")
        pieces.append((hpa, piece))
    for hpa, piece in pieces:
        _store_piece(subject, hpa, piece)


def _pages(address: int, data: bytes) -> list[tuple[int, bytes]]:
    """The parts of `data` that lie in one page each."""
    parts, at = [], 0
    while at < len(data):
        length = min(len(data) - at, PAGE_BYTES - (address + at) % PAGE_BYTES)
        parts.append((address + at & WORD, data[at : at + length]))
        at += length
    return parts


def _store_piece(subject: Subject, hpa: int, piece: bytes) -> None:
    subject.host_memory.write(hpa, piece)
    domain, vcpu, guest = subject.domain, subject.vcpu, subject.guest
    gpa = None if domain is None else domain.memory.gpa_of(hpa)
    if gpa is None or vcpu is None or not isinstance(guest, VirtualGuest):
        return  # the VMM's own memory, or there is no VMM
    vcpu.paging.guest_memory_written(Unpaid(vcpu.pcpu), gpa, len(piece))
    guest.hypervisor.guest_memory_written(vcpu, gpa, len(piece))
