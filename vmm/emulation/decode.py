"""One instruction as the emulator sees it: capstone's answer in a few plain values. Only this file knows capstone."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import capstone
from capstone import x86

from emulator.x86 import RBP, RSP
from vmm.emulation.state import Unhandled

MAX_INSTRUCTION_BYTES = 15  # SDM 2A 2.3.11
RIP = 16  # as the base of a memory operand
SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs")
ES, CS, SS, DS, FS, GS = range(6)

_MODES = {16: capstone.CS_MODE_16, 32: capstone.CS_MODE_32, 64: capstone.CS_MODE_64}
_OPERAND_SIZE, _LOCK, _REPNE, _REP = 0x66, 0xF0, 0xF2, 0xF3
_LEGACY_PREFIXES = frozenset(b"\x26\x2e\x36\x3e\x64\x65\x66\x67\xf0\xf2\xf3")  # SDM 2A 2.1.1
_REPEATABLE_OPCODES = frozenset(b"\xa4\xa5\xaa\xab\xac\xad")  # MOVS STOS LODS


@dataclass(frozen=True, slots=True)
class Register:
    """`size_bytes` of general register `index`, from bit `shift` (8 for AH CH DH BH)."""

    index: int
    size_bytes: int
    shift: int = 0


@dataclass(frozen=True, slots=True)
class Memory:
    """[segment: base + index * scale + displacement], modulo the address size."""

    size_bytes: int
    address_bits: int
    segment: int
    base: int | None = None
    index: int | None = None
    scale: int = 1
    displacement: int = 0


@dataclass(frozen=True, slots=True)
class Immediate:
    """A constant, sign-extended to the operand size and kept modulo it."""

    value: int
    size_bytes: int


Operand = Register | Memory | Immediate


@dataclass(frozen=True, slots=True)
class Decoded:
    """An instruction of `bits`-bit code; `operands` in Intel's order, destination first."""

    mnemonic: str
    length_bytes: int
    fetch_count: int  # see Emulated
    bits: int
    operands: tuple[Operand, ...]
    is_locked: bool
    is_repeated: bool


# fmt: off
_GENERAL = (  # 64, 32, 16 and 8 bits
    ("rax", "eax", "ax", "al"), ("rcx", "ecx", "cx", "cl"), ("rdx", "edx", "dx", "dl"), ("rbx", "ebx", "bx", "bl"),
    ("rsp", "esp", "sp", "spl"), ("rbp", "ebp", "bp", "bpl"), ("rsi", "esi", "si", "sil"), ("rdi", "edi", "di", "dil"),
    *((f"r{n}", f"r{n}d", f"r{n}w", f"r{n}b") for n in range(8, 16)),
)
# fmt: on
_REGISTERS = {
    **{name: Register(n, size) for n, row in enumerate(_GENERAL) for name, size in zip(row, (8, 4, 2, 1), strict=True)},
    **{name: Register(n, 1, shift=8) for n, name in enumerate(("ah", "ch", "dh", "bh"))},
}
_BASES = {**{name: register.index for name, register in _REGISTERS.items()}, "rip": RIP, "eip": RIP}
_NO_INDEX = ("riz", "eiz")  # capstone's names for a SIB byte without index


def decode(code: bytes, bits: int) -> Decoded | Unhandled:
    """The first instruction in `code`, of 16-, 32- or 64-bit code."""
    code = code[:MAX_INSTRUCTION_BYTES]
    prefixes = _prefixes(code, bits)
    ignored_bytes = 0
    if bits == 64 and prefixes and _is_rex_w(prefixes[-1]):
        # REX.W overrides the operand-size prefix (SDM 2A 2.2.1.2), which capstone does not know of PUSH and POP
        ignored_bytes = prefixes.count(_OPERAND_SIZE)
        code = prefixes.replace(bytes([_OPERAND_SIZE]), b"") + code[len(prefixes) :]
    found = next(_decoder(bits).disasm(code, 0, 1), None)
    if found is None:
        return Unhandled(f"no instruction: {code.hex(' ')}")
    mnemonic, length_bytes = found.insn_name(), found.size + ignored_bytes
    is_repeated = _REP in prefixes or _REPNE in prefixes  # before MOVS, STOS and LODS both are REP
    if is_repeated and found.opcode[0] not in _REPEATABLE_OPCODES:
        # MODEL: XACQUIRE and XRELEASE are not emulated; F2 and F3 before anything else select another instruction.
        return Unhandled(f"{mnemonic} with prefix F2 or F3")
    operands = tuple(_operands(found, bits, length_bytes))
    if None in operands:
        return Unhandled(f"{mnemonic} {found.op_str}: not a general register")
    known = tuple(operand for operand in operands if operand is not None)
    encoding = found.encoding
    wide = [size for size in (encoding.disp_size, encoding.imm_size) if size]
    fetch_count = length_bytes - sum(wide) + len(wide)
    return Decoded(mnemonic, length_bytes, fetch_count, bits, known, _LOCK in prefixes, is_repeated)


@lru_cache
def _decoder(bits: int) -> Any:
    decoder = capstone.Cs(capstone.CS_ARCH_X86, _MODES[bits])
    decoder.detail = True
    return decoder


def _prefixes(code: bytes, bits: int) -> bytes:
    """The bytes before the opcode; capstone forgets F2 and F3 in front of some instructions."""
    end = 0
    while end < len(code) and (code[end] in _LEGACY_PREFIXES or (bits == 64 and code[end] & 0xF0 == 0x40)):
        end += 1
    return code[:end]


def _is_rex_w(byte: int) -> bool:
    return byte & 0xF8 == 0x48


def _operands(found: Any, bits: int, length_bytes: int) -> Iterable[Operand | None]:
    for operand in found.operands:
        match operand.type:
            case x86.X86_OP_REG:
                yield _REGISTERS.get(found.reg_name(operand.reg))
            case x86.X86_OP_IMM:
                yield Immediate(operand.imm & ((1 << 8 * operand.size) - 1), operand.size)
            case _:
                yield _memory(found, operand, bits, length_bytes)


def _memory(found: Any, operand: Any, bits: int, length_bytes: int) -> Memory | None:
    place = operand.mem
    names = [found.reg_name(register) for register in (place.base, place.index) if register]
    if not all(name in _BASES or name in _NO_INDEX for name in names):
        return None  # a vector index
    base, index = (_BASES.get(found.reg_name(register)) if register else None for register in (place.base, place.index))
    segment = SS if base in (RSP, RBP) else DS
    if place.segment and found.reg_name(place.segment) in SEGMENTS:
        override = SEGMENTS.index(found.reg_name(place.segment))
        segment = override if bits != 64 or override in (FS, GS) else segment  # the others are ignored: SDM 2A 2.1.1
    return Memory(
        size_bytes=operand.size,
        address_bits=8 * found.addr_size,
        segment=segment,
        base=base,
        index=index,
        scale=place.scale,
        displacement=place.disp + (length_bytes if base == RIP else 0),
    )
