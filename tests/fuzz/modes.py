"""The modes of the processor that cases run in, and the memory they run over.

    0x00000 vectors of real mode | 0x01000 + 16 * vector: HLT, where every vector leads
    0x04000 code, two pages | 0x08000 data, see DATA_PAGES | 0x0e000 user stack | 0x0f000 stack of ring 0
    0x200000 page tables: PML4 PDPT PD PT PT, then a directory and tables of 32-bit entries
    0x210000 GDT | 0x211000 IDT of 8-byte gates | 0x212000 TSS of 32 and of 64 bits | 0x213000 IDT of 16-byte gates

Everything lies at its own address (linear = physical), below 64 KiB where 16-bit code reaches it. Accessed and dirty
bits are all set: page-table walks have a fuzzer of their own.
"""

import random
import struct
from dataclasses import dataclass
from functools import cache

from tests.emulator.engine.rig import UNUSABLE, descriptor
from tests.fuzz.processor_state import NAMES, PLACE, SEGMENT_NAMES, State

MEMORY_BYTES = 0x220000
HANDLERS, CODE, DATA, STACK3, STACK0 = 0x1000, 0x4000, 0x8000, 0xF000, 0xFF00
LOW_BYTES, CODE_BYTES, DATA_BYTES, DATA_SEED = 0x10000, 0x1000, 0x4000, 20061022
PML4, PDPT, PD, PT, PT2 = 0x200000, 0x201000, 0x202000, 0x203000, 0x204000
PD32, PT32 = 0x205000, 0x206000
PDPT_PAE = 0x207000
GDT, IDT, TSS32, TSS64, IDT64, LDT = 0x210000, 0x211000, 0x212000, 0x212800, 0x213000, 0x214000
VECTOR_BEFORE, VECTOR_AFTER, SNIPPETS = 0x215000, 0x215200, 0x215400
TABLES, TABLES_END = PML4, 0x215800
P, W, U, ACCESSED, DIRTY, NX = 1, 2, 4, 0x20, 0x40, 1 << 63
LEAF = P | W | U | ACCESSED | DIRTY
# What differs from a page that everybody may read and write.
DATA_PAGES = {0x8000: LEAF | NX, 0x9000: LEAF | NX, 0xA000: LEAF & ~W | NX, 0xB000: LEAF & ~U | NX, 0xC000: 0}

# selectors, and descriptors as access byte and flags (bits 55..40)
CODE64_0, CODE32_0, CODE16_0, DATA32_0, DATA16_0 = 0x08, 0x10, 0x18, 0x20, 0x28
CODE64_3, CODE32_3, CODE16_3, DATA32_3, DATA16_3 = 0x33, 0x3B, 0x43, 0x4B, 0x53
TSS_SELECTOR, TSS_HIGH, LDT_SELECTOR = 0x58, 0x60, 0x68
DESCRIPTORS = {
    CODE64_0: 0xA09B, CODE32_0: 0xC09B, CODE16_0: 0x009B, DATA32_0: 0xC093, DATA16_0: 0x0093,
    CODE64_3: 0xA0FB, CODE32_3: 0xC0FB, CODE16_3: 0x00FB, DATA32_3: 0xC0F3, DATA16_3: 0x00F3,
    0x70: 0x4097,  # data that grows down, of ring 0
    0x78: 0xC0F1,  # read-only data
    0x80: 0xC09D,  # conforming code, execute only
    0x88: 0xC013,  # absent data
    0x90: 0x40F3,  # data of 64 KiB in bytes, of ring 3
    0x98: 0x008C,  # a call gate of 32 or 64 bits to ring 0: made by _gate
    0xA8: 0x0083,  # a 16-bit TSS
    0xB0: 0xE09B,  # code with both L and D
}  # fmt: skip
CALL_GATE = 0x98
GDT_LIMIT = 0xBF
HLT = b"\xf4"


@dataclass(frozen=True)
class Mode:
    """One row of the table of modes."""

    name: str
    bits: int
    cpl: int
    cr0: int
    cr4: int
    efer: int
    cr3: int
    code: int
    data: int
    rflags: int = 2

    @property
    def is_wide(self) -> bool:
        """IA-32e mode: gates of 16 bytes."""
        return bool(self.efer & 0x400)

    @property
    def is_flat_real(self) -> bool:
        """Segments as real mode and V86 load them."""
        return not self.cr0 & 1 or bool(self.rflags & VM)


VM = 1 << 17
PG_PE, PE = 0x8001_0031, 0x31
PAE, PSE, OSFXSR = 0x20, 0x10, 0x600
LONG = 0xD01
MODES = {
    mode.name: mode
    for mode in (
        Mode("long0", 64, 0, PG_PE, PAE | OSFXSR, LONG, PML4, CODE64_0, DATA32_0),
        Mode("long3", 64, 3, PG_PE, PAE | OSFXSR, LONG, PML4, CODE64_3, DATA32_3),
        Mode("compatible3", 32, 3, PG_PE, PAE | OSFXSR, LONG, PML4, CODE32_3, DATA32_3),
        Mode("compatible0", 32, 0, PG_PE, PAE | OSFXSR, LONG, PML4, CODE32_0, DATA32_0),
        Mode("compatible16", 16, 3, PG_PE, PAE | OSFXSR, LONG, PML4, CODE16_3, DATA16_3),
        Mode("protected0", 32, 0, PG_PE, PSE | OSFXSR, 0, PD32, CODE32_0, DATA32_0),
        Mode("protected3", 32, 3, PG_PE, PSE | OSFXSR, 0, PD32, CODE32_3, DATA32_3),
        Mode("pae0", 32, 0, PG_PE, PAE | OSFXSR, 0x800, PDPT_PAE, CODE32_0, DATA32_0),
        Mode("pae3", 32, 3, PG_PE, PAE | OSFXSR, 0x800, PDPT_PAE, CODE32_3, DATA32_3),
        Mode("unpaged", 32, 0, PE, OSFXSR, 0, 0, CODE32_0, DATA32_0),
        Mode("protected16", 16, 0, PE, OSFXSR, 0, 0, CODE16_0, DATA16_0),
        Mode("v86", 16, 3, PG_PE, PSE | OSFXSR, 0, PD32, 0, 0, VM | 0x3002),
        Mode("real", 16, 0, 0x30, OSFXSR, 0, 0, 0, 0),
    )
}


def _word(memory: bytearray, at: int, value: int, size_bytes: int = 8) -> None:
    memory[at : at + size_bytes] = value.to_bytes(size_bytes, "little")


def _page_tables(memory: bytearray) -> None:
    below = P | W | U | ACCESSED
    _word(memory, PML4, PDPT | below)
    _word(memory, PDPT, PD | below)
    _word(memory, PDPT_PAE, PD | P)
    _word(memory, PD, PT | below)
    _word(memory, PD + 8, PT2 | below)
    _word(memory, PD32, PT32 | below, 4)
    for page in range(0, 0x110000, 0x1000):
        entry = page | DATA_PAGES.get(page, LEAF)
        _word(memory, PT + (page >> 9), entry if entry & P else 0)
        _word(memory, PT32 + (page >> 10), entry & 0xFFFFFFFF if entry & P else 0, 4)
    for page in range(TABLES, MEMORY_BYTES, 0x1000):
        _word(memory, PT2 + (page >> 9 & 0xFFF), page | LEAF & ~U)
        _word(memory, PT32 + (page >> 10), page | LEAF & ~U, 4)


def gate(vector: int, selector: int, kind: int, dpl: int = 0) -> int:
    """The low 8 bytes of a gate to the handler of `vector`."""
    target = HANDLERS + 16 * vector
    return target & 0xFFFF | selector << 16 | kind << 40 | dpl << 45 | 1 << 47 | (target >> 16) << 48


def _descriptor_tables(memory: bytearray) -> None:
    for selector, rights in DESCRIPTORS.items():
        limit = 0xFFFF if not rights & 0x8000 else 0xFFFFF
        _word(memory, GDT + (selector & ~7), descriptor(rights, limit=limit))
    _word(memory, GDT + TSS_SELECTOR, descriptor(0x8B, base=TSS32, limit=0x67))
    _word(memory, GDT + LDT_SELECTOR, descriptor(0x82, base=LDT, limit=0x1F))
    _word(memory, LDT, descriptor(0xC0F3))
    _word(memory, GDT + CALL_GATE, gate(0, CODE32_0, 12, 3))
    for vector in range(256):
        dpl = 3 if vector in (3, 4, 0x80) else 0
        _word(memory, vector * 4, HANDLERS + 16 * vector, 4)
        _word(memory, IDT + 8 * vector, gate(vector, CODE32_0, 14, dpl))
        _word(memory, IDT64 + 16 * vector, gate(vector, CODE64_0, 14, dpl))
        memory[HANDLERS + 16 * vector] = HLT[0]
    for tss in (TSS32, TSS64):
        _word(memory, tss + 4, STACK0)
        _word(memory, tss + 0x66, 0x68, 2)  # no I/O permission map
    _word(memory, TSS32 + 8, DATA32_0, 4)


LOAD_VECTOR = b"\x0f\xae\x0c\x25" + VECTOR_BEFORE.to_bytes(4, "little") + HLT  # fxrstor
SAVE_VECTOR = b"\x0f\xae\x04\x25" + VECTOR_AFTER.to_bytes(4, "little") + HLT  # fxsave


def _vector_state(random_: random.Random) -> bytes:
    """An FXSAVE image: all exceptions masked, numbers in six of the x87 registers, anything in the XMM registers."""
    image = bytearray(512)
    image[0:8] = bytes.fromhex("7f03 0010 3f 00 0000")  # FCW, FSW with TOP = 2, the registers that are not empty
    image[24:32] = bytes.fromhex("801f0000 ffff0000")  # MXCSR and its mask
    for i in range(8):
        number = (
            random_.getrandbits(63) | 1 << 63 | random_.randrange(0x3FF0, 0x4010) << 64 | random_.getrandbits(1) << 79
        )
        image[32 + 16 * i : 42 + 16 * i] = number.to_bytes(10, "little")
    for i in range(16):
        values = struct.pack("<dff", random_.uniform(-1e6, 1e6), random_.uniform(-1e3, 1e3), random_.random())
        image[160 + 16 * i : 176 + 16 * i] = values if i % 3 else random_.randbytes(16)
    return bytes(image)


@cache
def memory_image() -> bytes:
    """The memory that cases begin with; code and data pages are the cases' own."""
    memory = bytearray(MEMORY_BYTES)
    _page_tables(memory)
    _descriptor_tables(memory)
    random_ = random.Random(DATA_SEED)
    memory[DATA : DATA + DATA_BYTES] = random_.randbytes(DATA_BYTES)
    memory[VECTOR_BEFORE : VECTOR_BEFORE + 512] = _vector_state(random_)
    memory[SNIPPETS : SNIPPETS + len(LOAD_VECTOR)] = LOAD_VECTOR
    memory[SNIPPETS + 64 : SNIPPETS + 64 + len(SAVE_VECTOR)] = SAVE_VECTOR
    return bytes(memory)


def _rights(mode: Mode, name: str) -> tuple[int, int, int]:
    """Selector, access rights and limit of a segment register."""
    if mode.is_flat_real:
        real_code = 0x9B if name == "cs" else 0x93
        return 0, 0xF3 if mode.rflags & VM else real_code, 0xFFFF
    selector = mode.code if name == "cs" else mode.data
    rights = DESCRIPTORS[selector]
    return selector, rights, 0xFFFFFFFF if rights & 0x8000 else 0xFFFF


@cache
def _first_state(mode: Mode) -> tuple[int, ...]:
    state = dict.fromkeys(NAMES, 0)
    for name in SEGMENT_NAMES[:6]:
        parts = _rights(mode, name)
        state[f"{name}_selector"], state[f"{name}_access_rights"], state[f"{name}_limit"] = parts
    state |= {"ldtr_access_rights": UNUSABLE | 0x82}
    state |= {
        "tr_selector": TSS_SELECTOR,
        "tr_base": TSS64 if mode.is_wide else TSS32,
        "tr_limit": 0x67,
        "tr_access_rights": 0x8B,
    }
    state |= {"gdtr_base": GDT, "gdtr_limit": GDT_LIMIT}
    state |= {"idtr_base": IDT64, "idtr_limit": 0xFFF} if mode.is_wide else {"idtr_base": IDT, "idtr_limit": 0x7FF}
    if not mode.cr0 & 1:
        state |= {"idtr_base": 0, "idtr_limit": 0x3FF}
    state |= {"cr0": mode.cr0, "cr3": mode.cr3, "cr4": mode.cr4, "efer": mode.efer, "rflags": mode.rflags}
    state |= {"dr6": 0xFFFF0FF0, "dr7": 0x400, "rip": CODE, "rsp": STACK3 if mode.cpl == 3 else STACK0}
    state |= {"pat": 0x0007040600070406}
    return tuple(state[name] for name in NAMES)


def first_state(mode: Mode) -> State:
    """The registers that cases of a mode begin with."""
    return list(_first_state(mode))


def is_defined(name: str, mode: Mode) -> bool:
    """Whether a register means anything in `mode` and has one value there."""
    return name in PLACE and (mode.bits == 64 or name not in (f"r{n}" for n in range(8, 16)))


def vector_snippet(offset_bytes: int) -> State:
    """Registers to run one of the snippets that load and save the x87 and SSE state."""
    state = first_state(MODES["long0"])
    state[PLACE["rip"]] = SNIPPETS + offset_bytes
    return state
