"""The first megabyte of a guest when its kernel starts: what firmware and boot loader would have left there.

    0x000000 +-----------------------------+
             | interrupt vectors           |  real mode: each leads to the IRET at 0x500
    0x000400 | BIOS data area              |  where the base memory ends, serial port addresses
    0x001000 | GDT                         |  null, -, code 0x10, data 0x18, TSS 0x20
    0x002000 | TSS                         |  zero: VM entry wants a usable TR, no kernel uses this one
    0x007000 | boot_params ("zero page")   |  Linux: RSI
    0x008000 | page tables                 |  64-bit mode: CR3: PML4, PDPT, 4 page directories
    0x010000 | command line                |
    0x011000 | boot information            |  Multiboot, PVH: EBX, with all that it points to
    0x015000 | free, kept for loaders      |
    0x020000 +-----------------------------+  LOADER_END_GPA: a kernel may be linked from here on
             | RAM                         |
    0x09fc00 +-----------------------------+  BASE_MEMORY_END_GPA
             | reserved: EBDA, video, BIOS |
    0x100000 +-----------------------------+  HIGH_MEMORY_GPA
             | RAM: kernel ..... initrd    |
    memory   +-----------------------------+  at most 3 GiB, LOW_END: more RAM is at 4 GiB, HIGH_START

A kernel in real mode has all but the first 0x600 bytes to itself. The identity map lets a 64-bit kernel run until it
has its own tables (64-bit boot protocol in Documentation/arch/x86/boot.rst). All of it is ordinary RAM that the kernel
may reuse once it has read it.
"""

import struct
from dataclasses import dataclass

from emulator.memory import HIGH_START, LOW_END, end_of_ram
from emulator.x86 import PAGE_BYTES
from vmm.boot.loaders.boot_image import EntryMode


@dataclass(frozen=True)
class LowRegion:
    """A piece of the picture above."""

    gpa: int
    size_bytes: int


BIOS_DATA = LowRegion(0x00400, 0x100)
GDT = LowRegion(0x01000, 0x30)
TSS = LowRegion(0x02000, 0x68)
BOOT_PARAMS = LowRegion(0x07000, 0x1000)
PAGE_TABLES = LowRegion(0x08000, 0x6000)
COMMAND_LINE = LowRegion(0x10000, 0x1000)
BOOT_INFORMATION = LowRegion(0x11000, 0x4000)
VECTORS = LowRegion(0x00000, 0x400)
IRET = LowRegion(0x00500, 1)
LOW_REGIONS = (VECTORS, BIOS_DATA, IRET, GDT, TSS, BOOT_PARAMS, PAGE_TABLES, COMMAND_LINE, BOOT_INFORMATION)

REAL_MODE_START_GPA = 0x600
LOADER_END_GPA = 0x20000
BASE_MEMORY_END_GPA = 0x9FC00
HIGH_MEMORY_GPA = 0x100000

E820_RAM, E820_RESERVED = 1, 2  # enum e820_type, arch/x86/include/uapi/asm/setup_data.h

CODE_SELECTOR, DATA_SELECTOR, TSS_SELECTOR = 0x10, 0x18, 0x20


def memory_map(memory_bytes: int) -> tuple[tuple[int, int, int], ...]:
    """The e820 map of a guest with `memory_bytes` of RAM, as (start gpa, end gpa, type)."""
    low = (
        (0, BASE_MEMORY_END_GPA, E820_RAM),
        (BASE_MEMORY_END_GPA, HIGH_MEMORY_GPA, E820_RESERVED),
        (HIGH_MEMORY_GPA, min(memory_bytes, LOW_END), E820_RAM),
    )
    end = end_of_ram(0, memory_bytes)
    return low if end <= LOW_END else (*low, (HIGH_START, end, E820_RAM))


def kernel_ranges(memory_bytes: int, mode: EntryMode) -> tuple[tuple[int, int], ...]:
    """Where a kernel may lie, as (start gpa, end gpa): RAM that the loader does not use itself."""
    start_gpa = REAL_MODE_START_GPA if mode is EntryMode.REAL else LOADER_END_GPA
    return (start_gpa, BASE_MEMORY_END_GPA), (HIGH_MEMORY_GPA, memory_bytes)


def tables(mode: EntryMode) -> tuple[tuple[int, bytes], ...]:
    """What the processor itself needs in memory in `mode`, and what a BIOS would have left there, as (gpa, data)."""
    match mode:
        case EntryMode.LONG:
            return (BIOS_DATA.gpa, bios_data()), (GDT.gpa, gdt(mode)), (PAGE_TABLES.gpa, identity_page_tables())
        case EntryMode.PROTECTED:
            return (BIOS_DATA.gpa, bios_data()), (GDT.gpa, gdt(mode))
        case EntryMode.REAL:
            vectors = struct.pack("<H", IRET.gpa) + bytes(2)
            return (VECTORS.gpa, vectors * 256), (BIOS_DATA.gpa, bios_data()), (IRET.gpa, b"\xcf")


def bios_data() -> bytes:
    """BIOS data area: the words kernels look at to find the end of base memory and the serial ports.

    Offsets are those of every PC BIOS since the IBM PC technical reference, "BIOS data area".
    """
    fields = {0x00: 0x3F8, 0x02: 0x2F8, 0x0E: BASE_MEMORY_END_GPA >> 4, 0x13: BASE_MEMORY_END_GPA >> 10}
    area = bytearray(BIOS_DATA.size_bytes)
    for offset, word in fields.items():  # COM1, COM2, EBDA segment, base memory in KiB
        struct.pack_into("<H", area, offset, word)
    return bytes(area)


def segment_descriptor(*, base: int, limit: int, access: int, flags: int) -> int:
    """A segment descriptor (SDM 3A 3.4.5, figure 3-8).

    63      56 55   52 51      48 47    40 39              16 15             0
    | base 31:24 | flags | limit 19:16 | access |   base 23:0   |   limit 15:0   |
                  G D L AVL             P DPL S type
    """
    low = limit & 0xFFFF | (base & 0xFFFFFF) << 16
    return low | access << 40 | (limit >> 16 & 0xF) << 48 | flags << 52 | (base >> 24 & 0xFF) << 56


def gdt(mode: EntryMode) -> bytes:
    """Flat code and data, as the boot protocols ask, and a TSS descriptor of 16 bytes (SDM 3A 8.2.3)."""
    size = 0xA if mode is EntryMode.LONG else 0xC  # G and L, or G and D
    code = segment_descriptor(base=0, limit=0xFFFFF, access=0x9B, flags=size)  # present, execute/read, accessed
    data = segment_descriptor(base=0, limit=0xFFFFF, access=0x93, flags=0xC)  # present, read/write, accessed; G, D
    tss = segment_descriptor(base=TSS.gpa, limit=TSS.size_bytes - 1, access=0x8B, flags=0)  # present, busy TSS
    return struct.pack("<6Q", 0, 0, code, data, tss, TSS.gpa >> 32)


def identity_page_tables() -> bytes:
    """PML4, PDPT and four page directories that map the first 4 GiB to themselves (SDM 3A 4.5, 4-level paging).

    47      39 38      30 29      21 20              0
    |  PML4 0 | PDPT 0-3 | PD 0-511 | 2 MiB page offset |
    """
    table, large_page = 0x3, 0x83  # present, writable; and PS
    directories = PAGE_TABLES.gpa + 2 * PAGE_BYTES
    pml4 = struct.pack("<Q", PAGE_TABLES.gpa + PAGE_BYTES | table).ljust(PAGE_BYTES, b"\0")
    pdpt = struct.pack("<4Q", *(directories + i * PAGE_BYTES | table for i in range(4))).ljust(PAGE_BYTES, b"\0")
    return pml4 + pdpt + struct.pack("<2048Q", *(i << 21 | large_page for i in range(2048)))
