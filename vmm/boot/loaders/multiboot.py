"""Multiboot 1: a header in the first 8 KiB of the kernel, 32-bit protected mode, EBX = what the kernel is told.

Source: Multiboot Specification version 0.6.96, 3.1 "OS image format", 3.2 "Machine state", 3.3 "Boot information".

    0 magic | 4 flags | 8 checksum | 12 header_addr load_addr load_end_addr bss_end_addr entry_addr, with flag 16
    flags   0 modules on page boundaries | 1 memory size wanted | 2 video mode wanted | 16 addresses ("a.out kludge")

The addresses serve kernels of any file format; without them it is ELF, of 32 or 64 bits, entered in the same mode.
Left out: video modes (who wants one gets none, as with QEMU), the section headers of an ELF kernel, drives, APM.
"""

import struct
from typing import NamedTuple

from emulator.errors import ConfigError
from emulator.memory import LOW_END
from vmm.boot.loaders import elf, low_memory
from vmm.boot.loaders.boot_image import BootProtocol, EntryMode, Handover, KernelArea, KernelImage, Payload
from vmm.boot.loaders.boot_information import BootInformation
from vmm.boot.loaders.image_file import ImageFile
from vmm.boot.loaders.memory_size import size_text

SEARCH_BYTES = 8192
HEADER_MAGIC, LOADER_MAGIC = 0x1BADB002, 0x2BADB002
FLAG_ADDRESSES = 1 << 16
FLAGS_UNKNOWN = 0xFFF8  # bits 0 to 15 have to be understood
MODULES_MAX = 32
COMMAND_LINE_MAX_BYTES = low_memory.COMMAND_LINE.size_bytes - 1
INFORMATION_BYTES = 88
# flags of the boot information: memory size, command line, modules, memory map, loader name
HAS_MEMORY, HAS_COMMAND_LINE, HAS_MODULES, HAS_MEMORY_MAP, HAS_LOADER_NAME = 1 << 0, 1 << 2, 1 << 3, 1 << 6, 1 << 9


class Header(NamedTuple):
    """A Multiboot header at `offset` of its file; the addresses mean something when `flags` says so."""

    offset: int
    flags: int
    header_gpa: int
    load_gpa: int
    load_end_gpa: int
    bss_end_gpa: int
    entry_gpa: int


def find_header(start: bytes) -> Header | None:
    """The Multiboot header in the first bytes of a file: 4-byte aligned, magic + flags + checksum = 0 modulo 2^32."""
    magic = struct.pack("<I", HEADER_MAGIC)
    at = start.find(magic)
    while at >= 0 and at + 12 <= min(len(start), SEARCH_BYTES):
        _, flags, checksum = struct.unpack_from("<3I", start, at)
        if at % 4 == 0 and (HEADER_MAGIC + flags + checksum) & 0xFFFFFFFF == 0:
            addresses = start[at + 12 : at + 32].ljust(20, b"\0")
            return Header(at, flags, *struct.unpack("<5I", addresses))
        at = start.find(magic, at + 1)
    return None


def parse(image: ImageFile, header: Header, *, memory_bytes: int) -> KernelImage:
    """Read a Multiboot kernel. Raises ConfigError when it cannot be loaded."""
    if header.flags & FLAGS_UNKNOWN:
        what = f"wants features that Multiboot 1 has not (flags {header.flags & FLAGS_UNKNOWN:#x})"
        raise ConfigError(f"{image.name} {what}; build it for Multiboot 1")
    if header.flags & FLAG_ADDRESSES:
        areas: tuple[KernelArea, ...] = (_area(image, header, memory_bytes),)
        entry_gpa, kind = header.entry_gpa, "addresses"
        if not areas[0].gpa <= entry_gpa < areas[0].end_gpa:
            raise ConfigError(f"{image.name} has its entry point {entry_gpa:#x} outside what it loads; link it again")
    else:
        if not elf.is_elf(image.read_at_most(0, SEARCH_BYTES)):
            raise ConfigError(
                f"{image.name} has a Multiboot header without addresses and is no ELF file; build it again"
            )
        file = elf.read(image, memory_bytes=memory_bytes)
        areas, entry_gpa, kind = file.areas, file.entry_gpa, f"ELF{file.bits}"
    return KernelImage(
        areas=areas,
        entry_gpa=entry_gpa,
        mode=EntryMode.PROTECTED,
        protocol=BootProtocol.MULTIBOOT,
        description=f"Multiboot kernel ({kind})",
        command_line_max_bytes=COMMAND_LINE_MAX_BYTES,
        modules_max=MODULES_MAX,
        module_end_max_gpa=memory_bytes,
    )


def _area(image: ImageFile, header: Header, memory_bytes: int) -> KernelArea:
    """The part of the file that the addresses describe, and its bss.

    file      | .. | load_addr .... header at header_addr ..... load_end_addr | ..      0: to the end of the file
    memory         | load_addr .......................................... bss_end_addr  0: no bss
    """
    offset = header.offset - (header.header_gpa - header.load_gpa)
    file_bytes = header.load_end_gpa - header.load_gpa if header.load_end_gpa else image.size_bytes - offset
    size_bytes = max(file_bytes, header.bss_end_gpa - header.load_gpa if header.bss_end_gpa else 0)
    if header.header_gpa < header.load_gpa or offset < 0 or file_bytes <= 0:
        raise ConfigError(f"{image.name} has a Multiboot header whose addresses contradict each other; link it again")
    if header.load_gpa + size_bytes > memory_bytes:
        what = f"{size_text(size_bytes)} at {header.load_gpa:#x}, outside {size_text(memory_bytes)} of memory"
        raise ConfigError(f"{image.name} wants {what}; give the guest more")
    return KernelArea(header.load_gpa, size_bytes, image.read(offset, file_bytes, "what its header loads"))


def hand_over(kernel: KernelImage, payload: Payload) -> Handover:
    """The boot information: memory size and map, command line, modules."""
    information = BootInformation(INFORMATION_BYTES)
    modules = b"".join(
        struct.pack("<4I", module.gpa, module.gpa + len(module.data), information.add(module.arguments + b"\0"), 0)
        for module in payload.modules
    )
    memory_map = b"".join(
        struct.pack("<IQQI", 20, start_gpa, end_gpa - start_gpa, kind)  # the size counts what is behind it
        for start_gpa, end_gpa, kind in low_memory.memory_map(payload.memory_bytes)
    )
    lower_kib = low_memory.BASE_MEMORY_END_GPA >> 10
    upper_kib = min(payload.memory_bytes, LOW_END) - low_memory.HIGH_MEMORY_GPA >> 10
    first = struct.pack(
        "<12I",
        HAS_MEMORY | HAS_COMMAND_LINE | HAS_MODULES | HAS_MEMORY_MAP | HAS_LOADER_NAME,
        *(lower_kib, upper_kib),
        0,  # boot device
        low_memory.COMMAND_LINE.gpa,
        *(len(payload.modules), information.add(modules)),
        *(0, 0, 0, 0),  # symbols
        len(memory_map),
    ) + struct.pack("<5I", information.add(memory_map), 0, 0, 0, information.add(b"sidecore\0"))
    segments = information.finish(first), (low_memory.COMMAND_LINE.gpa, payload.command_line)
    return Handover(segments, {"rax": LOADER_MAGIC, "rbx": information.gpa})
