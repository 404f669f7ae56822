"""The instruction forms the emulator claims to know, as opcode bytes, and random instructions made of them."""

from dataclasses import dataclass

from hypothesis import strategies as st

from emulator.x86 import GS, RAX, RCX, RDI, RDX, RSI, RSP
from tests.vmm.emulation.oracle import CODE, DATA, DATA_BYTES, FLAGS_FIXED, GS_BASE, STATUS, Machine

CF, AF, OF = 1, 0x10, 0x800
BIT_UNDEFINED = 0x894  # OF SF AF PF
MASK_64 = (1 << 64) - 1


@dataclass(frozen=True)
class Form:
    """Opcode, then ModRM with `digit` in its reg field (None: any register), then the immediate.

    immediate: "" none, "b" 8 bits, "z" 16 or 32, "v" 16, 32 or 64, "o" of the address size.
    kind: "rm", "memory" (ModRM without a register form), "plain" (no ModRM), "string", "stack".
    """

    name: str
    opcode: str
    digit: int | None = None
    immediate: str = ""
    kind: str = "rm"
    lockable: bool = False
    modes: tuple[int, ...] = (16, 32, 64)
    byte_opcode: bool = False


def _both(name: str, opcode: int, *, digit: int | None = None, lockable: bool = False) -> list[Form]:
    """The 8-bit form and, one opcode later, the others."""
    digits = 2 if opcode < 0x100 else 4
    return [Form(name, f"{opcode + n:0{digits}x}", digit, lockable=lockable, byte_opcode=n == 0) for n in (0, 1)]


FORMS: list[Form] = [
    *_both("mov", 0x88),
    *_both("mov", 0x8A),
    Form("mov", "c6", 0, "b", byte_opcode=True),
    Form("mov", "c7", 0, "z"),
    *(Form("mov", f"{0xB0 + n:02x}", immediate="b", kind="plain", byte_opcode=True) for n in range(8)),
    *(Form("mov", f"{0xB8 + n:02x}", immediate="v", kind="plain") for n in range(8)),
    *(Form("mov", f"{0xA0 + n:02x}", immediate="o", kind="plain", byte_opcode=n % 2 == 0) for n in range(4)),
    Form("movnti", "0fc3", kind="memory", modes=(32, 64)),
    *_both("movzx", 0x0FB6),
    *_both("movsx", 0x0FBE),
    Form("movsxd", "63", modes=(64,)),
    *_both("xchg", 0x86, lockable=True),
    *(Form("xchg", f"{0x90 + n:02x}", kind="plain") for n in range(1, 8)),
    *_both("xadd", 0x0FC0, lockable=True),
    *_both("cmpxchg", 0x0FB0, lockable=True),
    Form("cmpxchg8b", "0fc7", 1, kind="memory", lockable=True),
    *(
        form
        for n, name in enumerate(("add", "or", "adc", "sbb", "and", "sub", "xor", "cmp"))
        for form in (
            *_both(name, 8 * n, lockable=name != "cmp"),
            *_both(name, 8 * n + 2),
            Form(name, f"{8 * n + 4:02x}", immediate="b", kind="plain", byte_opcode=True),
            Form(name, f"{8 * n + 5:02x}", immediate="z", kind="plain"),
            Form(name, "80", n, "b", lockable=name != "cmp", byte_opcode=True),
            Form(name, "81", n, "z", lockable=name != "cmp"),
            Form(name, "83", n, "b", lockable=name != "cmp"),
        )
    ),
    *_both("test", 0x84),
    Form("test", "f6", 0, "b", byte_opcode=True),
    Form("test", "f7", 0, "z"),
    *_both("not", 0xF6, digit=2, lockable=True),
    *_both("neg", 0xF6, digit=3, lockable=True),
    *_both("inc", 0xFE, digit=0, lockable=True),
    *_both("dec", 0xFE, digit=1, lockable=True),
    *(Form("inc", f"{0x40 + n:02x}", kind="plain", modes=(16, 32)) for n in range(16)),
    *(Form(name, f"{op:04x}") for name, op in (("bt", 0x0FA3), ("bts", 0x0FAB), ("btr", 0x0FB3), ("btc", 0x0FBB))),
    *(Form(name, "0fba", 4 + n, "b", lockable=n > 0) for n, name in enumerate(("bt", "bts", "btr", "btc"))),
    *(
        form
        for digit, name in ((4, "shl"), (5, "shr"), (6, "shl"), (7, "sar"))
        for form in (
            Form(name, "c0", digit, "b", byte_opcode=True),
            Form(name, "c1", digit, "b"),
            *_both(name, 0xD0, digit=digit),
            *_both(name, 0xD2, digit=digit),
        )
    ),
    *(Form("setcc", f"{0x0F90 + n:04x}", 0, byte_opcode=True) for n in range(16)),
    *(Form("cmovcc", f"{0x0F40 + n:04x}") for n in range(16)),
    *(Form("movbe", op, kind="memory", modes=(32, 64)) for op in ("0f38f0", "0f38f1")),
    Form("push", "ff", 6, kind="stack"),
    Form("pop", "8f", 0, kind="stack"),
    *(Form("push", f"{0x50 + n:02x}", kind="plain") for n in range(8)),
    *(Form("pop", f"{0x58 + n:02x}", kind="plain") for n in range(8)),
    Form("push", "6a", immediate="b", kind="plain"),
    Form("push", "68", immediate="z", kind="plain"),
    *(Form(name, op, kind="string") for name, op in (("movs", "a4"), ("stos", "aa"), ("lods", "ac"))),
    *(Form(name, op, kind="string") for name, op in (("movs", "a5"), ("stos", "ab"), ("lods", "ad"))),
]


@dataclass(frozen=True)
class Case:
    """One instruction and the processor it runs on; `undefined` flags need not agree."""

    name: str
    code: bytes
    bits: int
    machine: Machine
    undefined: int


_small = st.integers(-600, 600).map(lambda n: n & MASK_64)
_edges = st.sampled_from([0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0x7FFF_FFFF, 0x8000_0000, 1 << 63, (1 << 63) - 1])
_values = st.one_of(_small, _edges, st.integers(0, MASK_64))
_targets = st.one_of(
    st.integers(DATA + 64, DATA + DATA_BYTES - 80),
    st.integers(DATA + 0x1000 - 16, DATA + 0x1000 + 2),
    st.integers(DATA - 8, DATA + DATA_BYTES + 8),
)
_BASE_INDEX_16 = ((3, 6), (3, 7), (5, 6), (5, 7), (6, None), (7, None), (5, None), (3, None))


@st.composite
def cases(draw: st.DrawFn, bits: int) -> Case:
    """A random instruction of a random form, its memory operand mostly inside mapped memory."""
    form = draw(st.sampled_from([form for form in FORMS if bits in form.modes]))
    has_67, has_66 = draw(st.booleans()), form.name not in ("movnti", "movsxd") and draw(st.booleans())
    address_bits = {64: (64, 32), 32: (32, 16), 16: (16, 32)}[bits][has_67]
    rex = _rex(draw, form) if bits == 64 else 0
    operand_bits = 8 if form.byte_opcode else _operand_bits(bits, has_66, rex)
    gpr = _registers(draw, form, bits, operand_bits)
    has_gs = form.kind != "plain" and draw(st.integers(0, 3)) == 0
    base = GS_BASE if has_gs and bits == 64 else 0
    prefixes = [p for p, on in ((b"\x67", has_67), (b"\x66", has_66), (b"\x65", has_gs)) if on]
    body, is_memory = b"", False
    if form.kind in ("rm", "memory", "stack"):
        is_memory = form.kind != "rm" or draw(st.integers(0, 4)) > 0
        body = _modrm(draw, form, gpr, bits, is_memory=is_memory, address_bits=address_bits, rex=rex, base=base)
    if form.kind == "string":
        gpr[RSI], gpr[RDI], gpr[RCX] = draw(_targets), draw(_targets), draw(st.sampled_from([0, 1, 2, 7, 1 << 32]))
        gpr[RCX] &= (1 << max(bits, 32)) - 1
        prefixes += [draw(st.sampled_from([b"", b"\xf3", b"\xf2"]))]
    if form.lockable and is_memory and draw(st.booleans()):
        prefixes.append(b"\xf0")
    immediate = _immediate(draw, form, operand_bits, address_bits)
    prefix = b"".join(draw(st.permutations(prefixes)))
    code = prefix + (bytes([rex]) if rex else b"") + bytes.fromhex(form.opcode) + body + immediate
    rflags = FLAGS_FIXED | draw(st.integers(0, 0xFFF)) & (STATUS | 0x400)
    pattern = draw(st.one_of(st.just(bytes(64)), st.binary(min_size=64, max_size=64)))
    memory = bytearray(pattern * (DATA_BYTES // 64))
    machine = Machine(gpr, memory, CODE, rflags, {GS: GS_BASE} if bits == 64 else {})
    undefined = _undefined(form, operand_bits, gpr[RCX], immediate)
    if form.name == "neg" and b"\xf0" in prefixes:
        undefined = STATUS  # Unicorn takes the flags of the old value; test_emulation_cases.py has a test
    return Case(form.name, code, bits, machine, undefined)


def _rex(draw: st.DrawFn, form: Form) -> int:
    rex = draw(st.integers(0x40, 0x4F)) if draw(st.booleans()) else 0
    if form.opcode in ("c6", "c7"):
        rex &= ~4  # Unicorn refuses REX.R here, processors ignore it
    return rex | 0x48 if form.name == "movsxd" else rex  # capstone does not decode it with another REX


def _registers(draw: st.DrawFn, form: Form, bits: int, operand_bits: int) -> list[int]:
    gpr = [draw(_values) & (MASK_64 if bits == 64 else 0xFFFF_FFFF) for _ in range(16 if bits == 64 else 8)]
    gpr += [0] * (16 - len(gpr))
    gpr[RSP] = draw(_targets)
    if form.name.startswith("cmpxchg") and draw(st.booleans()):
        gpr[RAX] = gpr[RDX] = 0  # often equal, with memory of zeros
    if form.name == "cmpxchg" and operand_bits == 32:
        gpr[RAX] &= 0xFFFF_FFFF  # Unicorn clears the upper half on a match too; test_emulation_cases.py has a test
    return gpr


def _operand_bits(bits: int, has_66: bool, rex: int) -> int:
    if rex & 8:
        return 64
    return 16 if has_66 == (bits != 16) else 32


def _modrm(
    draw: st.DrawFn, form: Form, gpr: list[int], bits: int, *, is_memory: bool, address_bits: int, rex: int, base: int
) -> bytes:
    """ModRM, SIB and displacement of a register, or of memory: then the base register is set to reach a target."""
    reg = (draw(st.integers(0, 7)) if form.digit is None else form.digit) << 3
    if not is_memory:
        return bytes([0xC0 | reg | draw(st.integers(0, 7))])
    target, mod = draw(_targets) - base, draw(st.integers(0, 2))
    if address_bits == 16:
        return _memory_16(draw, gpr, reg, mod, target)
    displacement = draw(st.integers(-128, 127)) if mod == 1 else draw(st.integers(-(1 << 31), (1 << 31) - 1))
    displacement *= mod > 0
    rm, sib, base_number, index_number, scale = draw(st.integers(0, 7)), b"", 0, None, 1
    base_number = rm | (rex & 1) << 3
    if rm == 4:
        scale_bits, index, base_field = draw(st.integers(0, 3)), draw(st.integers(0, 7)), draw(st.integers(0, 7))
        sib, scale = bytes([scale_bits << 6 | index << 3 | base_field]), 1 << scale_bits
        base_number = base_field | (rex & 1) << 3
        index_number = index | (rex & 2) << 2
        index_number = None if index_number == RSP else index_number
    if mod == 0 and (rm == 5 or (rm == 4 and base_number & 7 == 5)):
        if rm == 5 and bits == 64:
            rm, base_number = 3, 3 | (rex & 1) << 3  # RIP-relative has its own test
        else:
            if index_number is not None:
                gpr[index_number] = draw(st.integers(0, 15))
                target -= gpr[index_number] * scale
            return bytes([reg | rm]) + sib + (target & 0xFFFF_FFFF).to_bytes(4, "little")
    if base_number != index_number:
        part = gpr[index_number] * scale if index_number is not None else 0
        _set_low(gpr, base_number, target - displacement - part, address_bits)
    return bytes([mod << 6 | reg | rm]) + sib + displacement.to_bytes((0, 1, 4)[mod], "little", signed=True)


def _memory_16(draw: st.DrawFn, gpr: list[int], reg: int, mod: int, target: int) -> bytes:
    rm = draw(st.integers(0, 7))
    if mod == 0 and rm == 6:
        return bytes([reg | rm]) + (target & 0xFFFF).to_bytes(2, "little")
    displacement = draw(st.integers(-128, 127)) if mod == 1 else draw(st.integers(-0x8000, 0x7FFF)) * (mod > 0)
    base_number, index_number = _BASE_INDEX_16[rm]
    part = gpr[index_number] if index_number is not None else 0
    _set_low(gpr, base_number, target - displacement - part, 16)
    return bytes([mod << 6 | reg | rm]) + displacement.to_bytes(mod, "little", signed=True)


def _set_low(gpr: list[int], number: int, value: int, bits: int) -> None:
    mask = (1 << bits) - 1
    gpr[number] = gpr[number] & ~mask | value & mask


def _immediate(draw: st.DrawFn, form: Form, operand_bits: int, address_bits: int) -> bytes:
    if form.immediate == "o":
        return draw(_targets).to_bytes(address_bits // 8, "little")
    size_bytes = {"": 0, "b": 1, "z": min(operand_bits, 32) // 8, "v": operand_bits // 8}[form.immediate]
    return (draw(_values) & ((1 << 8 * size_bytes) - 1)).to_bytes(size_bytes, "little")


def _undefined(form: Form, operand_bits: int, cl: int, immediate: bytes) -> int:
    """Flags the manual leaves undefined."""
    match form.name:
        case "and" | "or" | "xor" | "test":
            return AF
        case "bt" | "bts" | "btr" | "btc":
            return BIT_UNDEFINED
        case "shl" | "shr" | "sar":
            count = immediate[0] if immediate else cl if form.opcode in ("d2", "d3") else 1
            count &= 63 if operand_bits == 64 else 31
            too_far = form.name != "sar" and count >= operand_bits
            return 0 if count == 0 else AF | (OF if count != 1 else 0) | (CF if too_far else 0)
    return 0
