"""PVH: an ELF kernel with a note that names its 32-bit entry point, EBX = what the kernel is told.

Source: Xen docs/misc/pvh.pandoc and xen/include/public/arch-x86/hvm/start_info.h, version 1 of the structure.

    ELF note   name "Xen", type 18 (XEN_ELFNOTE_PHYS32_ENTRY), descriptor: the physical entry point, 4 or 8 bytes
"""

import struct

from vmm.boot.firmware.layout import RSDP_GPA
from vmm.boot.loaders import low_memory
from vmm.boot.loaders.boot_image import BootProtocol, EntryMode, Handover, KernelImage, Payload
from vmm.boot.loaders.boot_information import BootInformation
from vmm.boot.loaders.elf import ElfKernel

START_MAGIC, START_VERSION = 0x336EC578, 1
START_INFO = struct.Struct("<4I4Q2I")
MODULE = struct.Struct("<4Q")
MEMORY_MAP_ENTRY = struct.Struct("<2Q2I")
MODULES_MAX = 32
COMMAND_LINE_MAX_BYTES = low_memory.COMMAND_LINE.size_bytes - 1


def kernel_image(file: ElfKernel, entry_gpa: int, *, memory_bytes: int) -> KernelImage:
    """The kernel, entered at the address of its note."""
    return KernelImage(
        areas=file.areas,
        entry_gpa=entry_gpa,
        mode=EntryMode.PROTECTED,
        protocol=BootProtocol.PVH,
        description=f"PVH kernel (ELF{file.bits})",
        command_line_max_bytes=COMMAND_LINE_MAX_BYTES,
        modules_max=MODULES_MAX,
        module_end_max_gpa=memory_bytes,
    )


def hand_over(kernel: KernelImage, payload: Payload) -> Handover:
    """The start information: command line, modules, memory map."""
    information = BootInformation(START_INFO.size)
    modules = b"".join(
        MODULE.pack(module.gpa, len(module.data), information.add(module.arguments + b"\0"), 0)
        for module in payload.modules
    )
    memory_map = low_memory.memory_map(payload.memory_bytes)
    entries = b"".join(MEMORY_MAP_ENTRY.pack(start, end - start, kind, 0) for start, end, kind in memory_map)
    first = START_INFO.pack(
        START_MAGIC,
        START_VERSION,
        0,  # flags
        len(payload.modules),
        information.add(modules) if modules else 0,
        low_memory.COMMAND_LINE.gpa,
        RSDP_GPA,
        information.add(entries),
        len(memory_map),
        0,
    )
    segments = information.finish(first), (low_memory.COMMAND_LINE.gpa, payload.command_line)
    return Handover(segments, {"rbx": information.gpa})
