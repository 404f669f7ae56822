"""ELF kernels: a Linux vmlinux, freestanding test kernels, PVH kernels; and the ELF files inside Multiboot.

Source: System V ABI, Intel386 and AMD64 supplements; "Tool Interface Standard ELF specification" 1.2, program headers.
Layouts and names of constants come from pyelftools; its file classes are not used, because they follow section headers
that a kernel does not need and a hostile file can fill with anything.

Segments go to their physical addresses (p_paddr), as boot loaders do: a vmlinux is linked at 0xffffffff81000000 and
loaded at 0x1000000. e_entry is a physical address in a vmlinux; when it is no address of a loaded byte but the virtual
address of one (a kernel linked high by a simple script), it is translated.

    ELF64              entered at e_entry in 64-bit mode like Linux, RSI = boot_params
    ELF32              entered at e_entry in protected mode like a 32-bit Linux, ESI = boot_params
    with a PVH note    entered there in protected mode, if the file has 32 bits or no other entry point (e_entry is it)
"""

import re
import struct
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from elftools.common.exceptions import ELFParseError
from elftools.common.utils import struct_parse
from elftools.elf.structs import ELFStructs

from emulator.errors import ConfigError
from vmm.boot.loaders import boot_params
from vmm.boot.loaders.boot_image import BootProtocol, EntryMode, KernelArea, KernelImage
from vmm.boot.loaders.image_file import ImageFile
from vmm.boot.loaders.memory_size import size_text

ELF_MAGIC = b"\x7fELF"
PROGRAM_HEADERS_MAX = 64  # a vmlinux has 5; a hostile count must not loop for long
COMMAND_LINE_MAX_BYTES = 2047  # COMMAND_LINE_SIZE - 1, arch/x86/include/asm/setup.h
LINUX_BANNER = re.compile(rb"Linux version ([0-9][!-~]{1,79}) ")
INITRD_ADDR_MAX = 0x7FFFFFFF  # what a bzImage of Linux 2.6 to 6 states (arch/x86/boot/header.S)
KERNEL_ALIGNMENT = 0x200000  # of an x86-64 vmlinux, CONFIG_PHYSICAL_ALIGN

NOTE_BYTES_MAX = 0x10000  # of a note segment; a vmlinux has 500 bytes
PVH_NOTE_NAME, PVH_NOTE_TYPE = b"Xen\0", 18

CLASS_OFFSET, DATA_OFFSET = 4, 5  # EI_CLASS, EI_DATA
BITS_OF_CLASS = {1: 32, 2: 64}
LITTLE_ENDIAN = 1
# What the file header must say: (field, values, what the file is otherwise)
HEADER = (
    ("e_machine", ("EM_X86_64", "EM_386"), "is an ELF file for another processor; build it for x86"),
    (
        "e_type",
        ("ET_EXEC",),
        "is not linked to fixed addresses; link it with -static -no-pie (not -r, -shared or -pie)",
    ),
)


@dataclass(frozen=True)
class LoadSegment:
    """A PT_LOAD program header with its bytes."""

    gva: int
    area: KernelArea


@dataclass(frozen=True)
class ElfKernel:
    """An ELF executable as far as a loader wants to know it. `pvh_entry_gpa` is what its PVH note says."""

    bits: int
    entry_gpa: int
    areas: tuple[KernelArea, ...]
    pvh_entry_gpa: int | None


def is_elf(start: bytes) -> bool:
    """Whether a file that begins with `start` is ELF."""
    return start.startswith(ELF_MAGIC)


def read(image: ImageFile, *, memory_bytes: int) -> ElfKernel:
    """Read an ELF executable of either size. Raises ConfigError when it is not one or larger than `memory_bytes`."""
    bits, header, program_headers = _read_headers(image)
    if any(program["p_type"] == "PT_INTERP" for program in program_headers):
        raise ConfigError(f"{image.name} is a dynamically linked program, not a kernel; link it with -static")
    loads = [program for program in program_headers if program["p_type"] == "PT_LOAD" and program["p_memsz"]]
    if not loads:
        raise ConfigError(f"{image.name} has nothing to load (no PT_LOAD segment); link it as an executable")
    if sum(program["p_memsz"] for program in loads if program["p_memsz"] <= memory_bytes) > memory_bytes:
        raise ConfigError(f"{image.name} has segments that add up to more than {size_text(memory_bytes)} of memory")
    segments = [_read_segment(image, program, memory_bytes) for program in loads]
    notes = [program for program in program_headers if program["p_type"] == "PT_NOTE"]
    return ElfKernel(
        bits,
        _entry_gpa(image.name, header["e_entry"], segments),
        tuple(segment.area for segment in segments),
        _pvh_entry(image, notes),
    )


def has_pvh_entry_only(file: ElfKernel) -> bool:
    """Whether the PVH note is how the file wants to be entered: an ELF64 may have it beside Linux's entry."""
    return file.pvh_entry_gpa is not None and (file.bits == 32 or file.pvh_entry_gpa == file.entry_gpa)


def linux_image(file: ElfKernel) -> KernelImage:
    """The kernel, entered at e_entry like Linux."""
    areas = file.areas
    setup_header = boot_params.setup_header_from_scratch(
        kernel_alignment=KERNEL_ALIGNMENT,
        initrd_addr_max=INITRD_ADDR_MAX,
        init_size=min(max(area.end_gpa for area in areas) - min(area.gpa for area in areas), 0xFFFFFFFF),
        command_line_max_bytes=COMMAND_LINE_MAX_BYTES,
    )
    return KernelImage(
        areas=areas,
        entry_gpa=file.entry_gpa,
        mode=EntryMode.LONG if file.bits == 64 else EntryMode.PROTECTED,
        protocol=BootProtocol.LINUX,
        setup_header=setup_header,
        command_line_max_bytes=COMMAND_LINE_MAX_BYTES,
        modules_max=1,
        module_end_max_gpa=INITRD_ADDR_MAX + 1,
        description=_description(file),
    )


def _read_headers(image: ImageFile) -> tuple[int, Any, list[Any]]:
    """32 or 64, the ELF header and all program headers, as pyelftools containers."""
    start = image.read(0, DATA_OFFSET + 1, "the ELF header")
    # class and byte order first: the rest of a big-endian header would be misread
    bits = BITS_OF_CLASS.get(start[CLASS_OFFSET])
    if bits is None or start[DATA_OFFSET] != LITTLE_ENDIAN:
        raise ConfigError(f"{image.name} is a big-endian or damaged ELF file; build it for x86")
    structs = ELFStructs(little_endian=True, elfclass=bits)
    structs.create_basic_structs()
    structs.create_advanced_structs()
    header = _parse(structs.Elf_Ehdr, image, 0, "the ELF header")
    for field, wanted, otherwise in HEADER:
        if header[field] not in wanted:
            raise ConfigError(f"{image.name} {otherwise}")
    entry_bytes = structs.Elf_Phdr.sizeof()
    if header["e_phentsize"] != entry_bytes or header["e_phnum"] > PROGRAM_HEADERS_MAX:
        what = f"{header['e_phnum']} program headers of {header['e_phentsize']} bytes"
        raise ConfigError(f"{image.name} has {what}, at most {PROGRAM_HEADERS_MAX} of {entry_bytes} are possible")
    offsets = (header["e_phoff"] + index * entry_bytes for index in range(header["e_phnum"]))
    return bits, header, [_parse(structs.Elf_Phdr, image, offset, "the program header table") for offset in offsets]


def _pvh_entry(image: ImageFile, notes: list[Any]) -> int | None:
    """The descriptor of the note XEN_ELFNOTE_PHYS32_ENTRY.

    note   0 name size | 4 descriptor size | 8 type | 12 name, padded to 4 bytes | descriptor, padded
    """
    for program in notes:
        data = image.read_at_most(program["p_offset"], min(program["p_filesz"], NOTE_BYTES_MAX))
        at = 0
        while at + 12 <= len(data):
            name_bytes, descriptor_bytes, kind = struct.unpack_from("<3I", data, at)
            descriptor_at = at + 12 + (name_bytes + 3 & ~3)
            name, descriptor = data[at + 12 : at + 12 + name_bytes], data[descriptor_at:][:descriptor_bytes]
            if (name, kind) == (PVH_NOTE_NAME, PVH_NOTE_TYPE) and len(descriptor) in (4, 8):
                return int.from_bytes(descriptor, "little")
            at = descriptor_at + (descriptor_bytes + 3 & ~3)
    return None


def _parse(layout: Any, image: ImageFile, offset: int, what: str) -> Any:
    """A pyelftools container of `layout` at `offset`; it refuses some values, such as an unknown ELF version."""
    try:
        return struct_parse(layout, BytesIO(image.read(offset, layout.sizeof(), what)))
    except ELFParseError as error:
        raise ConfigError(f"{image.name} has damage in {what} ({error}); link it again") from None


def _read_segment(image: ImageFile, program: Any, memory_bytes: int) -> LoadSegment:
    """The bytes of a PT_LOAD; sizes are checked before anything is read."""
    gpa, file_bytes, size_bytes = program["p_paddr"], program["p_filesz"], program["p_memsz"]
    if file_bytes > size_bytes:
        what = f"p_filesz {file_bytes:#x} is above p_memsz {size_bytes:#x}"
        raise ConfigError(f"{image.name} has a damaged segment ({what}); link it again")
    if gpa + size_bytes > memory_bytes:
        what = f"a segment at physical {gpa:#x} of {size_text(size_bytes)}"
        advice = "give the guest more, or link with physical addresses inside it (AT() in the linker script)"
        raise ConfigError(f"{image.name} has {what}, outside {size_text(memory_bytes)} of memory; {advice}")
    data = image.read(program["p_offset"], file_bytes, "a segment")
    return LoadSegment(gva=program["p_vaddr"], area=KernelArea(gpa=gpa, size_bytes=size_bytes, data=data))


def _entry_gpa(name: str, entry: int, segments: list[LoadSegment]) -> int:
    """Guest-physical address of e_entry, see above."""
    areas = [segment.area for segment in segments]
    if any(area.gpa <= entry < area.end_gpa for area in areas):
        return entry
    for segment in segments:
        if segment.gva <= entry < segment.gva + segment.area.size_bytes:
            return entry - segment.gva + segment.area.gpa
    raise ConfigError(f"{name} has its entry point {entry:#x} outside its segments; name it with ENTRY() or ld -e")


def _description(file: ElfKernel) -> str:
    """What the file is, for the user: Linux carries its banner in .rodata (linux_banner, init/version.c)."""
    for area in file.areas:
        banner = LINUX_BANNER.search(area.data)
        if banner:
            return f"Linux {banner[1].decode('ascii')} vmlinux"
    return f"ELF{file.bits} kernel"
