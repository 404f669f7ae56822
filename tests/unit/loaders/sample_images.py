"""Builders of small kernels and initrds; every header field can be set to something hostile."""

import struct
from dataclasses import dataclass

HEADER_FIELDS = {  # name: (offset in file, struct format), Documentation/arch/x86/boot.rst
    "setup_sects": (0x1F1, "<B"),
    "syssize": (0x1F4, "<I"),
    "boot_flag": (0x1FE, "<H"),
    "jump": (0x200, "<H"),
    "magic": (0x202, "<I"),
    "version": (0x206, "<H"),
    "kernel_version": (0x20E, "<H"),
    "loadflags": (0x211, "<B"),
    "initrd_addr_max": (0x22C, "<I"),
    "kernel_alignment": (0x230, "<I"),
    "relocatable_kernel": (0x234, "<B"),
    "xloadflags": (0x236, "<H"),
    "cmdline_size": (0x238, "<I"),
    "setup_data": (0x250, "<Q"),
    "pref_address": (0x258, "<Q"),
    "init_size": (0x260, "<I"),
}
HEADER_DEFAULTS = {
    "setup_sects": 3,
    "boot_flag": 0xAA55,
    "jump": 0x6AEB,  # jmp 0x26c
    "magic": 0x53726448,
    "version": 0x020F,
    "kernel_version": 0x300,
    "loadflags": 0x01,
    "initrd_addr_max": 0x7FFFFFFF,
    "kernel_alignment": 0x200000,
    "relocatable_kernel": 1,
    "xloadflags": 0x7F,
    "cmdline_size": 2047,
    "pref_address": 0x400000,
    "init_size": 0x300000,
}


def make_bzimage(payload: bytes = bytes(range(256)) * 8, /, **fields: int) -> bytes:
    """A bzImage with `payload` as its protected-mode kernel."""
    values = {"syssize": len(payload) // 16, **HEADER_DEFAULTS, **fields}
    image = bytearray((HEADER_DEFAULTS["setup_sects"] + 1) * 512)
    for name, value in values.items():
        offset, layout = HEADER_FIELDS[name]
        struct.pack_into(layout, image, offset, value)
    image[0x500:0x51C] = b"9.8.7-test (builder) #1 SMP\0"
    return bytes(image) + payload


@dataclass
class Segment:
    """A program header; `data` follows the headers in the file unless `offset` says otherwise."""

    paddr: int
    data: bytes = b"\xf4"
    vaddr: int | None = None
    memsz: int | None = None
    filesz: int | None = None
    offset: int | None = None
    kind: int = 1  # PT_LOAD


def make_elf(*segments: Segment, entry: int = 0x200000, **fields: int) -> bytes:
    """An ELF64 executable; `fields` overrides fields of the file header."""
    header = {
        "ei_class": 2,
        "ei_data": 1,
        "e_type": 2,
        "e_machine": 62,
        "e_phoff": 64,
        "e_phentsize": 56,
        "e_phnum": len(segments),
        "e_shoff": 0,
        "e_shnum": 0,
        **fields,
    }
    ident = b"\x7fELF" + bytes([header["ei_class"], header["ei_data"], 1]) + bytes(9)
    first = struct.pack(
        "<HHIQQQ", header["e_type"], header["e_machine"], 1, entry, header["e_phoff"], header["e_shoff"]
    )
    last = struct.pack("<IHHHHHH", 0, 64, header["e_phentsize"], header["e_phnum"], 64, header["e_shnum"], 0)
    headers, body = b"", b""
    for s in segments:
        offset = 64 + 56 * len(segments) + len(body) if s.offset is None else s.offset
        filesz = len(s.data) if s.filesz is None else s.filesz
        memsz = filesz if s.memsz is None else s.memsz
        vaddr = s.paddr if s.vaddr is None else s.vaddr
        headers += struct.pack("<IIQQQQQQ", s.kind, 7, offset, vaddr, s.paddr, filesz, memsz, 0x1000)
        body += s.data
    return ident + first + last + headers + body


def make_cpio(files: dict[str, bytes]) -> bytes:
    """A newc cpio archive with its trailer."""
    return b"".join(cpio_entry(name, data) for name, data in [*files.items(), ("TRAILER!!!", b"")])


def cpio_entry(name: str, data: bytes) -> bytes:
    numbers = [0] * 13
    numbers[1], numbers[6], numbers[11] = 0o100644, len(data), len(name) + 1
    entry = b"070701" + b"".join(b"%08X" % number for number in numbers) + name.encode() + b"\0"
    entry += bytes(-len(entry) % 4) + data
    return entry + bytes(-len(entry) % 4)
