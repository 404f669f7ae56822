"""A flat binary: bytes at an address, entered at the first one. `F@ADDRESS` or `F@ADDRESS:BITS` on the command line.

    BITS 16   real mode, CS:IP = 0:ADDRESS below 64 KiB, else ADDRESS >> 4 : ADDRESS & 15; DL = 0x80 for a boot sector
    BITS 32   protected mode, flat segments, no paging
    BITS 64   64-bit mode, the first 4 GiB mapped onto themselves

Without BITS it is 16 below 1 MiB and 32 from there on. It is told nothing: no command line, no modules. There is no
BIOS: in real mode every interrupt vector leads to an IRET.
"""

import re
from pathlib import Path
from typing import NamedTuple

from emulator.errors import ConfigError
from vmm.boot.loaders import low_memory
from vmm.boot.loaders.boot_image import BootProtocol, EntryMode, Handover, KernelArea, KernelImage, Payload
from vmm.boot.loaders.image_file import ImageFile
from vmm.boot.loaders.memory_size import size_text

FIRST_DISK = 0x80
MODES = {16: EntryMode.REAL, 32: EntryMode.PROTECTED, 64: EntryMode.LONG}
PLACED = re.compile(r"(.+)@(0x[0-9a-f]{1,16}|[0-9]{1,16})(?::([0-9]{1,3}))?", re.ASCII | re.IGNORECASE)


class Placement(NamedTuple):
    """Where a flat binary goes, and how it is entered."""

    gpa: int
    mode: EntryMode


def split_placement(kernel: Path) -> tuple[Path, Placement | None]:
    """`F@ADDRESS:BITS` as the user gave it; a file that has this very name is no flat binary. Raises ConfigError."""
    match = PLACED.fullmatch(str(kernel))
    if match is None or kernel.exists():
        return kernel, None
    gpa = int(match[2], 0)
    bits = int(match[3]) if match[3] else 16 if gpa < low_memory.HIGH_MEMORY_GPA else 32
    if bits not in MODES:
        raise ConfigError(f"--kernel {str(kernel)!r} asks for code of {bits} bits; 16, 32 and 64 are possible")
    if bits == 16 and gpa >= low_memory.HIGH_MEMORY_GPA:
        raise ConfigError(f"--kernel {str(kernel)!r} is entered in real mode, which ends at 1 MiB; write :32 or :64")
    return Path(match[1]), Placement(gpa, MODES[bits])


def parse(image: ImageFile, placement: Placement, *, memory_bytes: int) -> KernelImage:
    """The whole file at its address. Raises ConfigError when it does not fit."""
    if placement.gpa + image.size_bytes > memory_bytes:
        what = f"{size_text(image.size_bytes)} at {placement.gpa:#x} are outside {size_text(memory_bytes)} of memory"
        raise ConfigError(f"{image.name} does not fit: its {what}; give the guest more")
    data = image.read(0, image.size_bytes, "the file")
    return KernelImage(
        areas=(KernelArea(placement.gpa, len(data), data),),
        entry_gpa=placement.gpa,
        mode=placement.mode,
        protocol=BootProtocol.FLAT,
        description=f"flat binary at {placement.gpa:#x} in {placement.mode.value}",
        command_line_max_bytes=0,
        modules_max=0,
    )


def hand_over(kernel: KernelImage, payload: Payload) -> Handover:
    """Nothing but the drive number that a BIOS gives to a boot sector."""
    return Handover((), {"rdx": FIRST_DISK} if kernel.mode is EntryMode.REAL else {})
