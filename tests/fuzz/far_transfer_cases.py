"""Random far transfers: CALL, JMP and IRET, INT and faults, over random gates, task states and segments.

In the GDT of modes.py: 0x98 a gate, 0xA8 a TSS at one of TSS_PLACES, 0x70 a descriptor of any kind. Most of what a case
has is right, so that it comes far.
"""

import random

from emulator.x86 import RFLAGS_NT
from tests.emulator.engine.rig import descriptor
from tests.fuzz import modes as m
from tests.fuzz.instruction_cases import Case

GATE, TSS, ANY = 0x98, 0xA8, 0x70
TSS_LINKS = (TSS, TSS, TSS, GATE, 0, ANY)
TSS_PLACES = (0x212200, 0x212200, 0x212200, 0x8000, 0x8FD0, 0x9FC0, 0xA000, 0xBFF0, 0xC000)
CODES = (m.CODE32_0, m.CODE32_0, m.CODE16_0, m.CODE32_3, m.CODE16_3, m.CODE64_0, 0x80)
STACKS = (m.DATA32_0, m.DATA32_0, m.DATA16_0, m.DATA32_3, m.DATA16_3)
OTHERS = (0, 3, 0x78, 0x88, 0x90, ANY, ANY | 3, 4, 7, m.LDT_SELECTOR, m.TSS_SELECTOR, TSS, 0xC0, 0xFFFC)
SELECTORS = (*CODES, *STACKS, *OTHERS)
NO_CODE = tuple(selector for selector in SELECTORS if selector not in CODES)
BEYOND = 0xFFFF1FE0  # the limit of 16-bit code, of which 16 bits lead to a handler
MODES = (
    *("protected0", "protected3", "pae0", "pae3", "unpaged", "protected16", "protected0", "protected3"),
    *("long0", "long3", "compatible3"),
)
VECTOR = 0x80  # which ring 3 may raise


def _word(value: int, size_bytes: int) -> bytes:
    return value.to_bytes(size_bytes, "little")


def _mostly(random_: random.Random, usual: int, *others: int) -> int:
    return usual if random_.random() < 0.95 else random_.choice(others)


def _gate(random_: random.Random, kinds: tuple[int, ...]) -> int:
    kind = _mostly(random_, random_.choice(kinds), random_.randrange(16))
    selector = TSS if kind == 5 else random_.choice(CODES)
    selector = _mostly(random_, selector, selector | 3, random_.choice(SELECTORS))
    rights = kind | _mostly(random_, 3, 0, 1, 2) << 5 | _mostly(random_, 1, 0) << 7
    target = _mostly(random_, m.HANDLERS + 16 * random_.randrange(256), 0x21230, BEYOND)
    low = target & 0xFFFF | selector << 16 | random_.randrange(32) << 32
    return low | rights << 40 | (target >> 16) << 48


def _segments(random_: random.Random) -> dict[str, int]:
    level = random_.choice((0, 0, 3))
    code, stack = ((m.CODE32_0, m.CODE16_0), (m.DATA32_0, m.DATA16_0)) if not level else (
        (m.CODE32_3, m.CODE16_3), (m.DATA32_3, m.DATA16_3)
    )  # fmt: skip
    chosen = {"cs": random_.choice(code), "ss": random_.choice(stack)}
    chosen |= {name: random_.choice((*STACKS[-2:], 0)) for name in ("es", "ds", "fs", "gs")}
    return {name: _mostly(random_, selector, random_.choice(SELECTORS)) for name, selector in chosen.items()}


def _task_state(random_: random.Random, *, wide: bool, cr3: int) -> bytes:
    """The image of a TSS; the link is that of the task in use."""
    segments = _segments(random_)
    ip = _mostly(random_, m.HANDLERS + 16 * random_.randrange(256), BEYOND)
    flags = _mostly(random_, 2, random_.getrandbits(16) & ~0x100, 0x20002 | 0x3000 if wide else 2)
    ldt = _mostly(random_, 0, random_.choice(SELECTORS))
    stack = _mostly(random_, m.STACK0, 0x8004, 0xC004, random_.getrandbits(32) & ~3)
    registers = [random_.getrandbits(32) for _ in range(8)]
    registers[4] = stack
    order = ("es", "cs", "ss", "ds") + (("fs", "gs") if wide else ())
    width = 4 if wide else 2
    parts = [_word(value & (1 << 8 * width) - 1, width) for value in (ip, flags, *registers)]
    parts += [_word(segments[name], width) for name in order] + [_word(ldt, width)]
    head = _word(m.TSS_SELECTOR, 2) + bytes(26) + _word(cr3, 4) if wide else _word(m.TSS_SELECTOR, 2) + bytes(12)
    return head + b"".join(parts) + (_word(_mostly(random_, 0, 1), 2) + b"\x68\0" if wide else b"")


def _transfer(random_: random.Random, mode: m.Mode, case: Case, how: str) -> bytes:
    """The instruction, with what it needs in the memory and registers of `case`."""
    selector = _mostly(random_, random_.choice((GATE, TSS)), ANY, random_.choice(NO_CODE)) | _mostly(random_, 0, 1, 3)
    if how == "iret":
        case.registers["rflags"] = mode.rflags | RFLAGS_NT
        return b"\xcf"
    if how in ("int", "fault"):
        at = m.IDT + 8 * (VECTOR if how == "int" else 13)
        case.memory[at] = _word(_gate(random_, (5,)), 8)
        return bytes((0xCD, VECTOR)) if how == "int" else b"\x8e\xd8"  # mov ds, eax
    if mode.bits == 64:
        case.memory[0x8800] = _word(0x55555555, 4) + _word(selector, 2)
        return bytes((0xFF, 0x1C if how == "call" else 0x2C, 0x25)) + _word(0x8800, 4)
    return bytes((0x9A if how == "call" else 0xEA,)) + b"\x55" * (mode.bits // 8) + _word(selector, 2)


def far_transfer_case(seed: int) -> Case:
    """One case."""
    random_ = random.Random(seed)
    mode = m.MODES[random_.choice(MODES)]
    case = Case(mode.name, [], {"rax": 0x1234, "cr0": mode.cr0 | random_.choice((0, 8))}, {})
    wide = random_.random() < 0.7
    place = random_.choice(TSS_PLACES)
    how = random_.choice(("call", "call", "jmp", "iret", "int", "fault"))
    kind = (9 if wide else 1) | (2 if how == "iret" else 0)
    kind = _mostly(random_, kind, kind ^ 2, random_.randrange(16))
    rights = kind | _mostly(random_, 3, 0) << 5 | _mostly(random_, 1, 0) << 7
    limit = _mostly(random_, 0x67 if wide else 0x2B, 0x66, 0x2A, 0x5F, 0xFFF)
    gate, upper = _gate(random_, (12, 12, 4, 5)), random_.choice((0, 0, 0, 1 << 40, 1))
    case.memory[m.GDT + GATE] = _word(gate, 8) + _word(upper, 8)
    case.memory[m.GDT + TSS] = _word(descriptor(rights, base=place, limit=limit), 8)
    any_rights = random_.getrandbits(16)
    any_rights &= ~8 if any_rights & 0x10 else ~0  # no code: transfers within code are those of instruction_cases.py
    case.memory[m.GDT + ANY] = _word(descriptor(any_rights, limit=random_.choice((0xFFFFF, 0xFFFF))), 8)
    case.memory[place] = _task_state(random_, wide=wide, cr3=mode.cr3)
    stacks = [(m.STACK0, m.DATA32_0), (0x8F00, m.DATA32_0 | 1), (0x8F80, m.DATA32_0 | 2)]
    words = [random_.choice(TSS_LINKS)]
    for esp, ss in stacks:
        words.append(_mostly(random_, esp, 8, 0xC004, random_.getrandbits(32) & ~3))
        words.append(_mostly(random_, ss, random_.choice(SELECTORS)))
    if not mode.is_wide:
        case.memory[m.TSS32] = b"".join(_word(word, 4) for word in words)
    case.registers["tr_limit"] = _mostly(random_, 0x67, 0x5F, 0x5E, 7)
    case.code.append(_transfer(random_, mode, case, how))
    return case
