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


# sizes of the headers, and a program header with its flags early (64 bits) or late (32): System V ABI, ELF
ELF_HEADER_BYTES, PROGRAM_HEADER_BYTES = {64: 64, 32: 52}, {64: 56, 32: 32}


def _cut(value: int, bits: int) -> int:
    return value & ((1 << bits) - 1)


def make_elf(*segments: Segment, entry: int = 0x200000, bits: int = 64, **fields: int) -> bytes:
    """An ELF executable of 64 or 32 bits; `fields` overrides fields of the file header."""
    word = "Q" if bits == 64 else "I"
    header_bytes, program_bytes = ELF_HEADER_BYTES[bits], PROGRAM_HEADER_BYTES[bits]
    header = {
        "ei_class": 2 if bits == 64 else 1,
        "ei_data": 1,
        "e_type": 2,
        "e_machine": 62 if bits == 64 else 3,
        "e_phoff": header_bytes,
        "e_phentsize": program_bytes,
        "e_phnum": len(segments),
        "e_shoff": 0,
        "e_shnum": 0,
        **fields,
    }
    ident = b"\x7fELF" + bytes([header["ei_class"], header["ei_data"], 1]) + bytes(9)
    addresses = (_cut(value, bits) for value in (entry, header["e_phoff"], header["e_shoff"]))
    first = struct.pack(f"<HHI3{word}", header["e_type"], header["e_machine"], 1, *addresses)
    last = struct.pack("<I6H", 0, header_bytes, header["e_phentsize"], header["e_phnum"], 64, header["e_shnum"], 0)
    headers, body = b"", b""
    for s in segments:
        offset = header_bytes + program_bytes * len(segments) + len(body) if s.offset is None else s.offset
        filesz = len(s.data) if s.filesz is None else s.filesz
        memsz = filesz if s.memsz is None else s.memsz
        vaddr = s.paddr if s.vaddr is None else s.vaddr
        values = [_cut(value, bits) for value in (offset, vaddr, s.paddr, filesz, memsz, 0x1000)]
        if bits == 64:
            headers += struct.pack("<II6Q", s.kind, 7, *values)
        else:
            headers += struct.pack("<8I", s.kind, *values[:5], 7, values[5])
        body += s.data
    return ident + first + last + headers + body


def make_note(name: bytes, kind: int, descriptor: bytes) -> bytes:
    """An ELF note."""
    padded = name + bytes(-len(name) % 4) + descriptor + bytes(-len(descriptor) % 4)
    return struct.pack("<3I", len(name), len(descriptor), kind) + padded


def pvh_note(entry: int, *, size_bytes: int = 4) -> Segment:
    """The program header of the note XEN_ELFNOTE_PHYS32_ENTRY."""
    return Segment(0, make_note(b"Xen\0", 18, _cut(entry, 8 * size_bytes).to_bytes(size_bytes, "little")), kind=4)


def multiboot_header(flags: int = 0, *addresses: int, checksum: int | None = None) -> bytes:
    """A Multiboot header; `addresses` are those of flag 16."""
    words = (0x1BADB002, flags, _cut(-(0x1BADB002 + flags), 32) if checksum is None else checksum, *addresses)
    return struct.pack(f"<{len(words)}I", *words)


def make_cpio(files: dict[str, bytes]) -> bytes:
    """A newc cpio archive with its trailer."""
    return b"".join(cpio_entry(name, data) for name, data in [*files.items(), ("TRAILER!!!", b"")])


def cpio_entry(name: str, data: bytes) -> bytes:
    numbers = [0] * 13
    numbers[1], numbers[6], numbers[11] = 0o100644, len(data), len(name) + 1
    entry = b"070701" + b"".join(b"%08X" % number for number in numbers) + name.encode() + b"\0"
    entry += bytes(-len(entry) % 4) + data
    return entry + bytes(-len(entry) % 4)
