"""Linux bzImage, entered in 64-bit mode, or a 32-bit one in protected mode: it decompresses itself inside the guest.

Source: Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header", "32-bit Boot Protocol", "64-bit Boot Protocol".

    file      | boot sector + setup (setup_sects + 1) * 512 | protected-mode kernel, syssize * 16 ... |
                          header at 0x1f1                    |
    memory                                          pref_address: kernel .. decompression area .. | init_size
                                                    entry = pref_address + 0x200 (64-bit), + 0 (32-bit)

Left out: the real-mode entry, kernels below protocol 2.10 (Linux 2.6.31), the EFI stub, loading above 4 GiB.
The kernel is always loaded at its preferred address: it would move itself up to it anyway.
"""

from emulator.errors import ConfigError
from vmm.boot.loaders import boot_params
from vmm.boot.loaders.boot_image import BootProtocol, EntryMode, KernelArea, KernelImage
from vmm.boot.loaders.boot_params import read_field
from vmm.boot.loaders.image_file import ImageFile
from vmm.boot.loaders.memory_size import size_text

SECTOR_BYTES = 512
DEFAULT_SETUP_SECTS = 4  # "if setup_sects is 0, the real value is 4"
PARAGRAPH_BYTES = 16  # unit of syssize
ENTRY_64_OFFSET = 0x200
KERNEL_VERSION_OFFSET = 0x200  # kernel_version counts from here
KERNEL_VERSION_MAX_BYTES = 80  # enough to recognise it; a hostile file may have no terminator
HEADER_BYTES = 0x1000


def is_bzimage(start: bytes) -> bool:
    """Whether a file that begins with `start` has the setup header of a Linux kernel."""
    flag, magic = read_field(start, boot_params.BOOT_FLAG), read_field(start, boot_params.HEADER_MAGIC)
    return flag == boot_params.BOOT_FLAG_VALUE and magic == boot_params.HEADER_MAGIC_VALUE


def parse(image: ImageFile, *, memory_bytes: int) -> KernelImage:
    """Read a bzImage. Raises ConfigError when it is damaged, too old, or larger than `memory_bytes`."""
    start = image.read_at_most(0, HEADER_BYTES)
    header_end = boot_params.JUMP_LENGTH.offset + 1 + read_field(start, boot_params.JUMP_LENGTH)
    _check_version(image.name, start, header_end)
    setup_bytes = ((read_field(start, boot_params.SETUP_SECTS) or DEFAULT_SETUP_SECTS) + 1) * SECTOR_BYTES
    load_gpa = _load_gpa(image.name, start)
    kernel = _read_kernel(image, start, setup_bytes, memory_bytes)
    area_bytes = max(read_field(start, boot_params.INIT_SIZE), len(kernel))
    header_end = min(header_end, boot_params.SETUP_HEADER_MAX_END)
    is_64 = _has_64_bit_entry(start)
    return KernelImage(
        areas=(KernelArea(gpa=load_gpa, size_bytes=area_bytes, data=kernel),),
        entry_gpa=load_gpa + (ENTRY_64_OFFSET if is_64 else 0),
        mode=EntryMode.LONG if is_64 else EntryMode.PROTECTED,
        protocol=BootProtocol.LINUX,
        setup_header=start[boot_params.SETUP_HEADER_OFFSET : header_end],
        command_line_max_bytes=read_field(start, boot_params.CMDLINE_SIZE),
        modules_max=1,
        module_end_max_gpa=read_field(start, boot_params.INITRD_ADDR_MAX) + 1,
        description=f"Linux {_version_text(image, start, setup_bytes)} bzImage{'' if is_64 else ' of 32 bits'}",
    )


def _has_64_bit_entry(start: bytes) -> bool:
    is_told = read_field(start, boot_params.VERSION) >= boot_params.VERSION_2_12
    return is_told and bool(read_field(start, boot_params.XLOADFLAGS) & boot_params.XLF_KERNEL_64)


def _check_version(name: str, start: bytes, header_end: int) -> None:
    """Raise ConfigError unless the header is complete and says where the kernel wants to be."""
    version = read_field(start, boot_params.VERSION)
    if version < boot_params.VERSION_2_10:
        have = f"boot protocol {version >> 8}.{version & 0xFF:02}"
        raise ConfigError(f"{name} has {have}, 2.10 is the oldest that can be booted; use Linux 2.6.31 or newer")
    if min(header_end, len(start)) < boot_params.SETUP_HEADER_MIN_END:
        raise ConfigError(f"{name} has an incomplete setup header; build or download it again")
    if not read_field(start, boot_params.LOADFLAGS) & boot_params.LOADED_HIGH:
        raise ConfigError(f"{name} is a zImage, which loads below 1 MiB; build a bzImage")


def _load_gpa(name: str, start: bytes) -> int:
    """The preferred load address, which must obey the kernel's own alignment."""
    load_gpa = read_field(start, boot_params.PREF_ADDRESS)
    alignment_bytes = read_field(start, boot_params.KERNEL_ALIGNMENT)
    relocatable = read_field(start, boot_params.RELOCATABLE_KERNEL)
    # A relocatable kernel rounds its start up to kernel_alignment and would run over what lies behind init_size.
    if relocatable and (alignment_bytes == 0 or load_gpa % alignment_bytes):
        what = f"pref_address {load_gpa:#x} is not a multiple of kernel_alignment {alignment_bytes:#x}"
        raise ConfigError(f"{name} has a damaged setup header ({what}); build or download it again")
    return load_gpa


def _read_kernel(image: ImageFile, start: bytes, setup_bytes: int, memory_bytes: int) -> bytes:
    """The protected-mode kernel: everything behind the setup sectors, at least the `syssize` the header promises.

    That is in paragraphs, and some files (memtest86+) end within the last one.
    """
    promised_bytes = read_field(start, boot_params.SYSSIZE) * PARAGRAPH_BYTES
    kernel_bytes = max(promised_bytes - PARAGRAPH_BYTES + 1, image.size_bytes - setup_bytes)
    if promised_bytes <= ENTRY_64_OFFSET:
        raise ConfigError(f"{image.name} has no protected-mode kernel in it; build or download it again")
    if setup_bytes + kernel_bytes <= image.size_bytes and kernel_bytes > memory_bytes:
        have = f"{size_text(kernel_bytes)} do not fit into {size_text(memory_bytes)} of memory"
        raise ConfigError(f"{image.name} is too big: its {have}; give the guest more")
    return image.read(setup_bytes, kernel_bytes, "the kernel its header describes")


def _version_text(image: ImageFile, start: bytes, setup_bytes: int) -> str:
    """First word of the version string the header points to, such as `6.1.0-13-amd64`; `(unnamed)` without one."""
    pointer = read_field(start, boot_params.KERNEL_VERSION)
    if pointer == 0 or pointer + KERNEL_VERSION_OFFSET >= setup_bytes:
        return "(unnamed)"
    text = image.read_at_most(pointer + KERNEL_VERSION_OFFSET, KERNEL_VERSION_MAX_BYTES).split(b"\0")[0]
    words = text.decode("ascii", errors="replace").split()
    return words[0] if words and words[0].isprintable() else "(unnamed)"
