"""`load`: find the format of a kernel file, place kernel, modules and boot information in guest memory.

kernel --> image_file --> bzimage, multiboot, elf, flat --> KernelImage --+
initrd, modules --> image_file --> initrd (complete?) --------------------+--> BootImage
append --> linux, multiboot, pvh, flat: hand_over ------------------------+
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from emulator.errors import ConfigError
from emulator.memory import LOW_END
from vmm.boot.loaders import boot_params, bzimage, elf, flat, linux, low_memory, multiboot, pvh
from vmm.boot.loaders.boot_image import BootImage, BootProtocol, EntryMode, Handover, KernelImage, Payload
from vmm.boot.loaders.image_file import ImageFile
from vmm.boot.loaders.memory_size import check_memory_bytes, size_text
from vmm.boot.loaders.modules import ModuleFile, place_modules, read_modules

HANDOVERS: dict[BootProtocol, Callable[[KernelImage, Payload], Handover]] = {
    BootProtocol.LINUX: linux.hand_over,
    BootProtocol.MULTIBOOT: multiboot.hand_over,
    BootProtocol.PVH: pvh.hand_over,
    BootProtocol.FLAT: flat.hand_over,
}
START_BYTES = multiboot.SEARCH_BYTES  # enough of a file to recognise its format

# (magic, what a file is that begins with it): common mistakes, each with the way out
KNOWN_OTHERS = (
    (b"\x1f\x8b", "is compressed with gzip; unpack it first (gunzip)"),
    (b"\xfd7zXZ\0", "is compressed with xz; unpack it first (unxz)"),
    (b"BZh", "is compressed with bzip2; unpack it first (bunzip2)"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd; unpack it first (unzstd)"),
    (b"\x02\x21\x4c\x18", "is compressed with lz4; unpack it first (unlz4)"),
    (b"\x04\x22\x4d\x18", "is compressed with lz4; unpack it first (unlz4)"),
    (b"07070", "is a cpio archive; is it the initrd?"),
    (b"!<arch>\n", "is a package or library archive; unpack it and name the kernel in it (dpkg-deb -x)"),
    (b"MZ", "is an EFI program without a Linux setup header; use a bzImage or an ELF kernel"),
)


def load(
    kernel: Path,
    *,
    initrd: Path | None = None,
    modules: Sequence[str] = (),
    append: str = "",
    memory_bytes: int,
    protocol: BootProtocol | None = None,
) -> BootImage:
    """Lay out a guest's memory for `kernel` with command line `append`. Raises ConfigError with one clear line.

    `kernel` is a file of any known format, or `F@ADDRESS` (flat.py); each of `modules` is `FILE ARGUMENTS`. `protocol`
    is for kernels that know several.
    """
    check_memory_bytes(memory_bytes)
    low_bytes = min(memory_bytes, LOW_END)  # kernels and modules lie below the hole
    kernel, placement = flat.split_placement(kernel)
    with ImageFile.open("kernel", kernel) as image:
        if placement is not None:
            kernel_image = flat.parse(image, placement, memory_bytes=low_bytes)
        else:
            kernel_image = parse_kernel(image, memory_bytes=low_bytes, protocol=protocol)
        check_areas(image.name, kernel_image, low_bytes)
    files = read_modules(kernel_image, initrd, modules, low_bytes)
    if kernel_image.protocol is BootProtocol.MULTIBOOT:  # GRUB and QEMU begin with the file's name
        append = f"{kernel.name} {append}".rstrip()
    return place(kernel_image, files=files, append=append, memory_bytes=memory_bytes)


def parse_kernel(image: ImageFile, *, memory_bytes: int, protocol: BootProtocol | None = None) -> KernelImage:
    """Read `image` in whichever format it is, for `protocol` if one is asked for."""
    start = image.read_at_most(0, START_BYTES)
    header = multiboot.find_header(start)
    if bzimage.is_bzimage(start) and protocol in (None, BootProtocol.LINUX):
        return bzimage.parse(image, memory_bytes=memory_bytes)
    if header is not None and protocol in (None, BootProtocol.MULTIBOOT):
        return multiboot.parse(image, header, memory_bytes=memory_bytes)
    if elf.is_elf(start) and protocol in (None, BootProtocol.LINUX, BootProtocol.PVH):
        file = elf.read(image, memory_bytes=memory_bytes)
        wants_pvh = protocol is BootProtocol.PVH or (protocol is None and elf.has_pvh_entry_only(file))
        if wants_pvh and file.pvh_entry_gpa is not None:
            return pvh.kernel_image(file, file.pvh_entry_gpa, memory_bytes=memory_bytes)
        if not wants_pvh:
            return elf.linux_image(file)
    if protocol is BootProtocol.FLAT:
        raise ConfigError(f"{image.name} has no address; a flat binary is --kernel FILE@ADDRESS, as in F.bin@0x100000")
    if protocol is not None:
        raise ConfigError(f"{image.name} is no kernel of the protocol {protocol.value!r}; leave --protocol out")
    for magic, what in KNOWN_OTHERS:
        if start.startswith(magic):
            raise ConfigError(f"{image.name} {what}")
    what = "is no kernel (neither a bzImage nor ELF nor Multiboot)"
    raise ConfigError(f"{image.name} {what}; a flat binary needs its address: --kernel FILE@0x100000")


def check_areas(name: str, kernel: KernelImage, memory_bytes: int) -> None:
    """Raise ConfigError unless all of a kernel is in RAM, clear of the loader's regions and of itself."""
    previous_end_gpa = 0
    ranges = low_memory.kernel_ranges(memory_bytes, kernel.mode)
    for area in sorted(kernel.areas, key=lambda area: area.gpa):
        what = f"{name} wants {size_text(area.size_bytes)} at {area.gpa:#x}"
        if area.gpa < previous_end_gpa:
            raise ConfigError(f"{what}, where another of its segments is; link it with disjoint physical addresses")
        if area.end_gpa > memory_bytes:
            need = size_text(-(-area.end_gpa >> 20) << 20)
            raise ConfigError(f"{what}, outside {size_text(memory_bytes)} of memory; give the guest {need} or more")
        if not any(start_gpa <= area.gpa and area.end_gpa <= end_gpa for start_gpa, end_gpa in ranges):
            advice = f"link all of it at {low_memory.HIGH_MEMORY_GPA:#x} or above (ld -n leaves the file headers out)"
            raise ConfigError(f"{what}, which is firmware's or the loader's; {advice}")
        previous_end_gpa = area.end_gpa
    if kernel.entry_gpa >= memory_bytes:
        raise ConfigError(f"{name} has its entry point {kernel.entry_gpa:#x} outside memory; link it again")


def place(kernel: KernelImage, *, files: Sequence[ModuleFile], append: str, memory_bytes: int) -> BootImage:
    """Put a checked kernel, its modules and what it is told into memory."""
    if append and kernel.protocol is BootProtocol.FLAT:
        raise ConfigError("a flat binary has no command line; leave --append out")
    command_line = boot_params.command_line_bytes(append, kernel.command_line_max_bytes)
    modules = place_modules(kernel, files, min(memory_bytes, LOW_END))
    handover = HANDOVERS[kernel.protocol](kernel, Payload(command_line, modules, memory_bytes))
    segments = [
        *low_memory.tables(kernel.mode),
        *handover.segments,
        *((area.gpa, area.data) for area in kernel.areas if area.data),
        *((module.gpa, module.data) for module in modules),
    ]
    is_long, is_real = kernel.mode is EntryMode.LONG, kernel.mode is EntryMode.REAL
    return BootImage(
        segments=tuple(sorted(segments)),
        entry_gpa=kernel.entry_gpa,
        registers=handover.registers,
        cr3_gpa=low_memory.PAGE_TABLES.gpa if is_long else 0,
        gdt_gpa=0 if is_real else low_memory.GDT.gpa,
        gdt_limit=0xFFFF if is_real else low_memory.GDT.size_bytes - 1,
        description=kernel.description,
        mode=kernel.mode,
    )
