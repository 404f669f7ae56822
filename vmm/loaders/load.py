"""`load`: find the format of a kernel file, place kernel, initrd and boot parameters in guest memory.

kernel --> image_file --> bzimage or elf --> KernelImage --+
initrd --> image_file --> initrd (complete?) --------------+--> BootImage
append --> boot_params, low_memory -------------------------+
"""

from pathlib import Path

from emulator.errors import ConfigError
from vmm.loaders import boot_params, bzimage, elf, low_memory
from vmm.loaders.boot_image import BootImage, KernelArea, KernelImage
from vmm.loaders.image_file import ImageFile
from vmm.loaders.initrd import check_initrd
from vmm.loaders.memory_size import PAGE_BYTES, check_memory_bytes, size_text

START_BYTES = 0x1000  # enough of a file to recognise its format

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
    (b"MZ", "is an EFI program without a Linux setup header; use a bzImage or an ELF64 kernel"),
)


def load(kernel: Path, *, initrd: Path | None, append: str, memory_bytes: int) -> BootImage:
    """Lay out a guest's memory for `kernel` with command line `append`. Raises ConfigError with one clear line."""
    check_memory_bytes(memory_bytes)
    with ImageFile.open("kernel", kernel) as image:
        kernel_image = parse_kernel(image, memory_bytes=memory_bytes)
        check_areas(image.name, kernel_image.areas, memory_bytes)
    initrd_data = b""
    if initrd is not None:
        with ImageFile.open("initrd", initrd) as image:
            initrd_data = _read_initrd(image, memory_bytes)
    return place(kernel_image, initrd_data=initrd_data, append=append, memory_bytes=memory_bytes)


def parse_kernel(image: ImageFile, *, memory_bytes: int) -> KernelImage:
    """Read `image` in whichever format it is."""
    start = image.read_at_most(0, START_BYTES)
    if bzimage.is_bzimage(start):
        return bzimage.parse(image, memory_bytes=memory_bytes)
    if elf.is_elf(start):
        return elf.parse(image, memory_bytes=memory_bytes)
    for magic, what in KNOWN_OTHERS:
        if start.startswith(magic):
            raise ConfigError(f"{image.name} {what}")
    raise ConfigError(
        f"{image.name} is no kernel (neither a bzImage nor ELF64); name a vmlinuz, vmlinux or test kernel"
    )


def check_areas(name: str, areas: tuple[KernelArea, ...], memory_bytes: int) -> None:
    """Raise ConfigError unless all of a kernel is in RAM, clear of the loader's regions and of itself."""
    previous_end_gpa = 0
    for area in sorted(areas, key=lambda area: area.gpa):
        what = f"{name} wants {size_text(area.size_bytes)} at {area.gpa:#x}"
        if area.gpa < previous_end_gpa:
            raise ConfigError(f"{what}, where another of its segments is; link it with disjoint physical addresses")
        if area.end_gpa > memory_bytes:
            need = size_text(-(-area.end_gpa >> 20) << 20)
            raise ConfigError(f"{what}, outside {size_text(memory_bytes)} of memory; give the guest {need} or more")
        ranges = low_memory.kernel_ranges(memory_bytes)
        if not any(start_gpa <= area.gpa and area.end_gpa <= end_gpa for start_gpa, end_gpa in ranges):
            advice = f"link all of it at {low_memory.HIGH_MEMORY_GPA:#x} or above (ld -n leaves the file headers out)"
            raise ConfigError(f"{what}, which is firmware's or the loader's; {advice}")
        previous_end_gpa = area.end_gpa


def _read_initrd(image: ImageFile, memory_bytes: int) -> bytes:
    if image.size_bytes > memory_bytes:
        have = f"its {size_text(image.size_bytes)} do not fit into {size_text(memory_bytes)} of memory"
        raise ConfigError(f"{image.name} is too big: {have}; give the guest more")
    data = image.read(0, image.size_bytes, "the initrd")
    check_initrd(image.name, data, memory_bytes=memory_bytes)
    return data


def place(kernel: KernelImage, *, initrd_data: bytes, append: str, memory_bytes: int) -> BootImage:
    """Put a checked kernel, its initrd and its boot parameters into memory."""
    command_line = boot_params.command_line_bytes(append, kernel.command_line_max_bytes)
    initrd_gpa = _initrd_gpa(kernel, len(initrd_data), memory_bytes) if initrd_data else 0
    parameters = boot_params.build(
        kernel.setup_header,
        memory_bytes=memory_bytes,
        load_gpa=min(area.gpa for area in kernel.areas),
        initrd_gpa=initrd_gpa,
        initrd_bytes=len(initrd_data),
    )
    segments = [
        (low_memory.BIOS_DATA.gpa, low_memory.bios_data()),
        (low_memory.GDT.gpa, low_memory.gdt()),
        (low_memory.BOOT_PARAMS.gpa, parameters),
        (low_memory.PAGE_TABLES.gpa, low_memory.identity_page_tables()),
        (low_memory.COMMAND_LINE.gpa, command_line),
        *((area.gpa, area.data) for area in kernel.areas if area.data),
        *([(initrd_gpa, initrd_data)] if initrd_data else []),
    ]
    return BootImage(
        segments=tuple(sorted(segments)),
        entry_gpa=kernel.entry_gpa,
        registers={"rsi": low_memory.BOOT_PARAMS.gpa},
        cr3_gpa=low_memory.PAGE_TABLES.gpa,
        gdt_gpa=low_memory.GDT.gpa,
        gdt_limit=low_memory.GDT.size_bytes - 1,
        description=kernel.description,
    )


def _initrd_gpa(kernel: KernelImage, initrd_bytes: int, memory_bytes: int) -> int:
    """Highest page the initrd can begin at: below the kernel's limit and the end of memory, above the kernel."""
    end_max_gpa = min(memory_bytes, kernel.initrd_end_max_gpa)
    kernel_end_gpa = max(area.end_gpa for area in kernel.areas)
    initrd_gpa = (end_max_gpa - initrd_bytes) // PAGE_BYTES * PAGE_BYTES
    if initrd_gpa < max(kernel_end_gpa, low_memory.HIGH_MEMORY_GPA):
        what = f"the kernel ends at {size_text(kernel_end_gpa)}, the initrd has {size_text(initrd_bytes)}"
        raise ConfigError(f"{what} and must end below {size_text(end_max_gpa)}; give the guest more memory")
    return initrd_gpa
