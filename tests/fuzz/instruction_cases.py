"""Random instruction cases: a mode, a few instructions, registers and data. A case follows from its seed alone."""

import random
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import capstone

from tests.fuzz.modes import CODE, DATA, DATA_BYTES, GDT, HANDLERS, HLT, MODES, STACK3, VM, Mode, first_state
from tests.fuzz.processor_state import MSRS, NAMES, PLACE, State
from tests.fuzz.undefined_flags import UNDEFINED

LEGACY_PREFIXES = bytes.fromhex("26 2e 36 3e 64 65 66 67")
PREFIXES = LEGACY_PREFIXES + bytes([0xF0, 0xF2, 0xF3, *range(0x40, 0x50)])
REPEATS = b"\xf2\xf3"
VECTOR_OPCODES = frozenset(
    (0x0E, 0x0F, *range(0x10, 0x18), *range(0x28, 0x30), 0x38, 0x3A, *range(0x50, 0x80), 0xAE, 0xC2)
) | frozenset((0xC4, 0xC5, 0xC6, *range(0xD0, 0x100)))
INTERESTING = (
    0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF,
    1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 0x0000_7FFF_FFFF_FFFF, 0x0000_8000_0000_0000,
)  # fmt: skip
WIDE_MSRS = ("star", "lstar", "cstar", "kernel_gs_base", "sysenter_esp", "sysenter_eip", "pat")  # all 64 bits count
# A short branch leads behind the instructions of the case, not into the middle of one.
SHORT_BRANCHES = frozenset(bytes([opcode]) for opcode in (*range(0x70, 0x80), *range(0xE0, 0xE4), 0xEB))
HINTS = frozenset(bytes([opcode]) for opcode in range(0x18, 0x20))
FAR_AHEAD = b"\x60"
# Comparing a register with itself gives every status flag a value that depends on nothing.
SETTLE_FLAGS = bytes.fromhex("39c0")


@dataclass
class Case:
    """One case: `code` at CODE, then HLT; what differs from the mode's first registers and memory."""

    mode: str
    code: list[bytes]
    registers: dict[str, int] = field(default_factory=dict)
    memory: dict[int, bytes] = field(default_factory=dict)

    def state(self) -> State:
        """The registers the case begins with."""
        state = first_state(MODES[self.mode])
        for name, value in self.registers.items():
            state[PLACE[name]] = value
        return state

    @property
    def uses_vector_state(self) -> bool:
        """Whether x87, MMX or SSE instructions may be in it."""
        return any(is_vector(part) for part in self.code)

    def as_json(self) -> dict[str, Any]:
        """For the file of kept cases."""
        return {
            "mode": self.mode,
            "code": [part.hex() for part in self.code],
            "registers": {name: hex(value) for name, value in self.registers.items()},
            "memory": {hex(at): data.hex() for at, data in self.memory.items()},
        }

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> "Case":
        """The other way."""
        return cls(
            row["mode"],
            [bytes.fromhex(part) for part in row["code"]],
            {name: int(value, 16) for name, value in row["registers"].items()},
            {int(at, 16): bytes.fromhex(data) for at, data in row["memory"].items()},
        )


@cache
def disassembler(bits: int) -> capstone.Cs:
    """Capstone for 16, 32 or 64-bit code."""
    mode = {16: capstone.CS_MODE_16, 32: capstone.CS_MODE_32, 64: capstone.CS_MODE_64}[bits]
    return capstone.Cs(capstone.CS_ARCH_X86, mode)


def mnemonic_and_length(code: bytes, bits: int) -> tuple[str, int]:
    """Name without prefixes, and bytes of the first instruction; "?" when capstone does not know it."""
    for _address, size, mnemonic, _operands in disassembler(bits).disasm_lite(code, 0, 1):
        return str(mnemonic).rsplit(" ", 1)[-1], int(size)
    before, rest = code[: len(code) - len(code.lstrip(PREFIXES))], code.lstrip(PREFIXES)
    plain = bytes(byte for byte in before if byte not in REPEATS)
    if plain != before:  # REP where it means nothing
        name, length = mnemonic_and_length(plain + rest, bits)
        return name, length + len(before) - len(plain)
    return "?", len(code)


def _only_one(code: bytes, bits: int) -> bytes:
    """Bytes that capstone does not know, with HLTs for what is behind their operand: no other instruction."""
    prefixes = len(code) - len(code.lstrip(PREFIXES))
    rest = code[prefixes:].ljust(4, HLT)
    at = prefixes + (1 if rest[0] != 0x0F else 3 if rest[1] in (0x38, 0x3A) else 2)
    if at >= len(code):
        return code
    modrm, end, is_narrow = code[at], at + 1, (bits == 16) != (0x67 in code[:prefixes])
    if modrm < 0xC0 and not is_narrow and modrm & 7 == 4:
        end += 1
    if modrm & 0xC0 == 0x40:
        end += 1
    elif modrm & 0xC0 == 0x80 or modrm & 0xC7 == (6 if is_narrow else 5):
        end += 2 if is_narrow else 4
    return code[:end].ljust(15, HLT)[:15]


def is_vector(code: bytes) -> bool:
    """Whether an instruction may be of x87, MMX or SSE, by its opcode."""
    rest = code.lstrip(PREFIXES)
    if not rest or rest[0] != 0x0F:
        return bool(rest) and (0xD8 <= rest[0] <= 0xDF or rest[0] in (0x9B, 0xC4, 0xC5))
    return len(rest) > 1 and rest[1] in VECTOR_OPCODES


def prefixes_of(code: bytes) -> set[int]:
    """The prefix bytes before the opcode."""
    return set(code[: len(code) - len(code.lstrip(PREFIXES))])


def _pointer(random_: random.Random) -> int:
    at = DATA + random_.randrange(DATA_BYTES)
    if random_.random() < 0.3:
        at = (at & ~0xFFF) + random_.choice((-8, -4, -2, -1, 0, 4092, 4094))
    return at


def _value(random_: random.Random) -> int:
    roll = random_.random()
    if roll < 0.5:
        return _pointer(random_)
    if roll < 0.65:
        return random_.choice(INTERESTING)
    if roll < 0.8:
        return random_.randrange(256)
    if roll < 0.85:
        return random_.choice((GDT, CODE, STACK3, HANDLERS)) + random_.randrange(64)
    if roll < 0.9:
        return random_.choice(range(0, 0xC0, 8)) | random_.choice((0, 3, 3, 4))
    return random_.getrandbits(random_.choice((16, 32, 64, 64)))


def _tail(random_: random.Random, bits: int) -> bytes:
    """ModRM and what may follow it: SIB, displacement, immediate."""
    modrm = random_.getrandbits(8)
    small = random_.choice((0, 1, 2, 7, 0x80, 0xFF, random_.getrandbits(8)))
    place = _pointer(random_).to_bytes(4, "little")
    if bits == 64 and modrm & 0xC7 == 5:
        place = (_pointer(random_) - CODE).to_bytes(4, "little")
    sib = bytes([random_.getrandbits(8)]) if bits != 16 and modrm & 7 == 4 and modrm < 0xC0 else b""
    if modrm >= 0xC0:
        return bytes([modrm, small]) + random_.randbytes(8)
    if modrm >= 0x80 or modrm & 0xC7 in (5, 6):
        displacement = place if random_.random() < 0.5 else random_.choice((0, 8, 0xFFFFFFF8)).to_bytes(4, "little")
        return bytes([modrm]) + sib + displacement[: 2 if bits == 16 else 4] + bytes([small]) + random_.randbytes(4)
    return bytes([modrm]) + sib + bytes([small]) + random_.randbytes(8)


def random_instruction(random_: random.Random, bits: int, *, vector: bool) -> bytes:
    """Bytes that begin an instruction: prefixes, an opcode of one of the maps, operands."""
    if random_.random() < 0.03:
        return random_.randbytes(15)
    code = bytearray()
    while random_.random() < 0.12:
        code.append(random_.choice(LEGACY_PREFIXES))
    if random_.random() < 0.08:
        code.append(random_.choice((0xF0, 0xF2, 0xF3)))
    if vector and random_.random() < 0.6:
        code += random_.choice((b"", b"\x66", b"\xf2", b"\xf3"))
    if bits == 64 and random_.random() < 0.5:
        code.append(0x40 | random_.getrandbits(4))
    if vector and random_.random() < 0.3:
        code.append(0xD8 | random_.getrandbits(3))
        return bytes(code) + _tail(random_, bits)
    roll = random_.random()
    if vector or roll < 0.4:
        code.append(0x0F)
        if roll < 0.06:
            code.append(random_.choice((0x38, 0x3A)))
    code.append(random_.getrandbits(8))
    return bytes(code) + _tail(random_, bits)


def _flags(random_: random.Random, mode: Mode) -> int:
    flags = mode.rflags | random_.getrandbits(12) & 0x8D5
    for bit, chance in ((0x400, 0.3), (0x200, 0.3), (0x100, 0.04), (0x4000, 0.05), (0x10000, 0.03), (0x200000, 0.1)):
        if random_.random() < chance:
            flags |= bit
    if mode.rflags & VM:
        return flags & ~0x3000 | random_.choice((0x3000, 0x3000, 0x0000))
    return flags | (random_.choice((0, 0, 0x3000, 0x1000)))


def _registers(random_: random.Random, mode: Mode) -> dict[str, int]:
    count = 16 if mode.bits == 64 else 8
    width = (1 << 64) - 1 if mode.bits == 64 else (1 << 32) - 1
    registers = {name: _value(random_) & width for name in NAMES[:count] if name != "rsp"}
    if random_.random() < 0.3:
        registers["rsp"] = _value(random_) & width
    elif random_.random() < 0.2:
        registers["rsp"] = STACK3 + random_.choice((-6, -1, 1, 2, 4))
    registers["rflags"] = _flags(random_, mode)
    cr0 = mode.cr0
    for bit, chance in ((1 << 16, 0.2), (1 << 3, 0.06), (1 << 2, 0.04), (1 << 1, 0.3), (1 << 5, 0.05)):
        if random_.random() < chance:
            cr0 ^= bit
    if cr0 != mode.cr0:
        registers["cr0"] = cr0
    return registers


def random_case(seed: int) -> Case:
    """The case of a seed."""
    random_ = random.Random(seed)
    mode = MODES[random_.choice(tuple(MODES))]
    vector = random_.random() < 0.25
    case = Case(mode.name, [], _registers(random_, mode))
    for _ in range(random_.choice((1, 1, 1, 2, 3, 4))):
        case.code += _one(random_, mode, vector=vector)
    if case.code[-1] == SETTLE_FLAGS:
        case.code.pop()
    for i, part in enumerate(case.code):
        if part.lstrip(PREFIXES)[:1] in SHORT_BRANCHES and (i + 1 < len(case.code) or part[-1] >= 0x80):
            case.code[i] = part[:-1] + FAR_AHEAD
    for part in case.code:
        if part.lstrip(PREFIXES)[:2] in (b"\x0f\x30", b"\x0f\x32"):
            case.registers["rcx"] = random_.choice([MSRS[name] for name in WIDE_MSRS])
    return case


def _one(random_: random.Random, mode: Mode, *, vector: bool) -> list[bytes]:
    """One instruction; behind one that leaves flags undefined, another that gives them values."""
    while True:
        code = random_instruction(random_, mode.bits, vector=vector)
        mnemonic, length = mnemonic_and_length(code, mode.bits)
        if mnemonic in PLATFORM:
            continue
        if mnemonic == "?" and code.lstrip(PREFIXES)[:1] == b"\x0f" and code.lstrip(PREFIXES)[1:2] in HINTS:
            continue  # capstone does not know how long they are
        mandatory = prefixes_of(code) & {0x66, 0xF2, 0xF3}
        if (is_vector(code) and len(mandatory) > 1) or mandatory >= {0xF2, 0xF3}:
            continue  # which of two mandatory prefixes counts is not defined
        if mnemonic == "?":
            code = _only_one(code, mode.bits)
            length = len(code)
        if mnemonic in UNDEFINED:
            return [code[:length], SETTLE_FLAGS]
        return [code[:length]]


# What a processor answers by itself, and each differently: the comparison would only show that.
PLATFORM = frozenset(["cpuid", "rdtsc", "rdtscp", "rdpmc", "rdrand", "rdseed", "monitor", "mwait", "xgetbv", "hlt"])
