"""Instructions, with the symbols of where they are and where they go."""

from collections.abc import Iterator
from dataclasses import dataclass

import capstone

from emulator.errors import ConfigError
from vmm.session.debugger.views.subject import WORD, Space, Subject
from vmm.session.debugger.views.values import COLUMNS, Hex, View, lines_text

INSTRUCTION_MAX_BYTES = 15
COUNT_MAX = 4096
BEFORE_BYTES = 4096  # of a function in front of RIP that are decoded to show what led there
ENCODING_COLUMNS = 24
MODES = {64: capstone.CS_MODE_64, 32: capstone.CS_MODE_32, 16: capstone.CS_MODE_16}


@dataclass(frozen=True)
class Instruction:
    """One instruction; `name` is empty for bytes that are none."""

    address: Hex  # linear
    encoding: bytes
    name: str
    operands: str
    symbol: str  # where it is
    target: str  # the symbol that a jump or call goes to
    is_current: bool

    def text(self) -> str:
        """A line; where it is too long, a target has its symbol only."""
        words = f"{self.name} {self.operands}".strip() or "(no instruction)"
        target = f" <{self.target}>" if self.target else ""
        mark = "=>" if self.is_current else "  "
        encoding = self.encoding[: ENCODING_COLUMNS // 3].hex(" ")
        if len(self.encoding) > ENCODING_COLUMNS // 3:
            encoding = encoding[:-2] + ".."
        head = f"{mark} {self.address:x}: {encoding:<{ENCODING_COLUMNS}} "
        is_too_long = self.target and len(head + words + target) > COLUMNS
        return f"{head}{self.name}{target}" if is_too_long else f"{head}{words}{target}"


@dataclass(frozen=True)
class Disassembly(View):
    """Instructions in order of their addresses; `is_cut` when memory ends behind the last."""

    instructions: tuple[Instruction, ...]
    address: Hex
    is_cut: bool

    def text(self) -> str:
        """A line for each, and one where another function begins."""
        lines: list[str] = []
        function = ""
        for instruction in self.instructions:
            name = instruction.symbol.partition("+")[0]
            if name and name != function:
                lines.append(f"{instruction.symbol}:")
            function = name
            lines.append(instruction.text())
        if self.is_cut:
            end = self.instructions[-1].address + len(self.instructions[-1].encoding) if lines else self.address
            lines.append(f"   {end:x}: no memory is mapped here")
        return lines_text(lines)


def disassemble(subject: Subject, address: int | None = None, count: int = 8, *, before: int = 0) -> Disassembly:
    """`count` instructions from linear `address` on, or from RIP on with up to `before` in front of it.

    What is in front can be told only where the function's begin is known. Raises ConfigError for an impossible count.
    """
    if not 0 < count <= COUNT_MAX:
        raise ConfigError(f"{count} instructions cannot be shown; choose a number from 1 to {COUNT_MAX}")
    rip = subject.linear_rip
    start = rip if address is None else address & WORD
    code = subject.read_available(Space.GVA, start, count * INSTRUCTION_MAX_BYTES)
    found = list(_decode(subject, start, code, count, rip))
    used_bytes = sum(len(instruction.encoding) for instruction in found)
    is_cut = len(found) < count and used_bytes == len(code)
    return Disassembly((*_in_front(subject, start, before, rip), *found), Hex(start), is_cut)


def instruction_at_rip(subject: Subject) -> Instruction | None:
    """The instruction that comes next, or that has exited; None: no memory is mapped there."""
    found = disassemble(subject, count=1).instructions
    return found[0] if found else None


def _decode(subject: Subject, start: int, code: bytes, count: int, rip: int) -> Iterator[Instruction]:
    """Up to `count` instructions; a byte that begins none stands alone."""
    decoder = capstone.Cs(capstone.CS_ARCH_X86, MODES[subject.code_bits])
    symbols, offset = subject.symbols, 0
    while count > 0 and offset < len(code):
        for at, size, name, operands in decoder.disasm_lite(code[offset:], start + offset & WORD, count):
            target = symbols.name_of(_target(operands)) if name.startswith(("j", "call", "loop")) else ""
            yield Instruction(
                Hex(at), code[offset : offset + size], name, operands, symbols.name_of(at), target, at == rip
            )
            offset, count = offset + size, count - 1
        if count > 0 and offset < len(code):
            at = start + offset & WORD
            yield Instruction(Hex(at), code[offset : offset + 1], "", "", symbols.name_of(at), "", at == rip)
            offset, count = offset + 1, count - 1


def _target(operands: str) -> int:
    """Where a jump or call with these operands goes; 0: that depends on registers."""
    try:
        return int(operands, 16)
    except ValueError:
        return 0


def _in_front(subject: Subject, start: int, before: int, rip: int) -> tuple[Instruction, ...]:
    """The last instructions of the function in front of `start`."""
    symbol = subject.symbols.at(start) if before > 0 else None
    if symbol is None or not 0 < start - symbol.address <= BEFORE_BYTES:
        return ()
    begin = symbol.address
    code = subject.read_gva(begin, start - begin)
    if code is None:
        return ()
    found = list(_decode(subject, begin, code, start - begin, rip))
    if not all(instruction.name for instruction in found):
        return ()  # `start` is inside an instruction, or there are no instructions only
    return tuple(found[-before:])
