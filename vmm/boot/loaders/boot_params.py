"""struct boot_params, the "zero page": how a boot loader tells Linux about memory, initrd and command line.

Sources: Documentation/arch/x86/boot.rst ("The Real-Mode Kernel Header", "64-bit Boot Protocol") and
Documentation/arch/x86/zero-page.rst. The setup header lies at the same offset in a bzImage file and in boot_params, so
one table serves to read the file and to fill the page:

    0x000      0x1e8          0x1f1                 0x290         0x2d0                 0x1000
      | screen.. | e820_entries | setup header (file) | edd_mbr_sig | e820_table (20 each) | ... |
"""

import struct
from dataclasses import dataclass

from emulator.errors import ConfigError
from vmm.boot.firmware.layout import RSDP_GPA
from vmm.boot.loaders import low_memory


@dataclass(frozen=True)
class Field:
    """An unsigned field: offset in boot_params (and in a bzImage, for the setup header), size."""

    offset: int
    size_bytes: int


ACPI_RSDP_ADDR = Field(0x070, 8)
E820_ENTRIES = Field(0x1E8, 1)

# the setup header: name and number as in boot.rst, "The Real-Mode Kernel Header"
SETUP_SECTS = Field(0x1F1, 1)
SYSSIZE = Field(0x1F4, 4)
BOOT_FLAG = Field(0x1FE, 2)
JUMP_LENGTH = Field(0x201, 1)  # second byte of the jump instruction; the header ends at 0x202 + this
HEADER_MAGIC = Field(0x202, 4)
VERSION = Field(0x206, 2)
KERNEL_VERSION = Field(0x20E, 2)
TYPE_OF_LOADER = Field(0x210, 1)
LOADFLAGS = Field(0x211, 1)
CODE32_START = Field(0x214, 4)
RAMDISK_IMAGE = Field(0x218, 4)
RAMDISK_SIZE = Field(0x21C, 4)
CMD_LINE_PTR = Field(0x228, 4)
INITRD_ADDR_MAX = Field(0x22C, 4)
KERNEL_ALIGNMENT = Field(0x230, 4)
RELOCATABLE_KERNEL = Field(0x234, 1)
XLOADFLAGS = Field(0x236, 2)
CMDLINE_SIZE = Field(0x238, 4)
SETUP_DATA = Field(0x250, 8)
PREF_ADDRESS = Field(0x258, 8)
INIT_SIZE = Field(0x260, 4)

SETUP_HEADER_OFFSET = 0x1F1
SETUP_HEADER_MIN_END = 0x264  # behind init_size, the last field that is read here
SETUP_HEADER_MAX_END = 0x290  # boot_params goes on with edd_mbr_sig_buffer
E820_TABLE_OFFSET, E820_ENTRY = 0x2D0, struct.Struct("<QQI")

BOOT_FLAG_VALUE = 0xAA55
HEADER_MAGIC_VALUE = int.from_bytes(b"HdrS", "little")
VERSION_2_10, VERSION_2_12 = 0x020A, 0x020C
LOADED_HIGH = 0x01  # loadflags: the kernel lies at or above 1 MiB
XLF_KERNEL_64 = 0x01  # xloadflags: there is a 64-bit entry at 0x200
UNDEFINED_LOADER = 0xFF


def read_field(data: bytes, field: Field) -> int:
    """Value of `field` in the first 4 KiB of a bzImage or in boot_params."""
    return int.from_bytes(data[field.offset : field.offset + field.size_bytes], "little")


def write_field(page: bytearray, field: Field, value: int) -> None:
    """Store `value` in boot_params; a value too wide for the field is our mistake (OverflowError)."""
    page[field.offset : field.offset + field.size_bytes] = value.to_bytes(field.size_bytes, "little")


def setup_header_from_scratch(
    *, kernel_alignment: int, initrd_addr_max: int, init_size: int, command_line_max_bytes: int
) -> bytes:
    """The setup header of a kernel that carries none, being a plain ELF file."""
    page = bytearray(SETUP_HEADER_MAX_END)
    write_field(page, BOOT_FLAG, BOOT_FLAG_VALUE)
    write_field(page, HEADER_MAGIC, HEADER_MAGIC_VALUE)
    write_field(page, VERSION, VERSION_2_12)
    write_field(page, INITRD_ADDR_MAX, initrd_addr_max)
    write_field(page, KERNEL_ALIGNMENT, kernel_alignment)
    write_field(page, XLOADFLAGS, XLF_KERNEL_64)
    write_field(page, CMDLINE_SIZE, command_line_max_bytes)
    write_field(page, INIT_SIZE, init_size)
    return bytes(page[SETUP_HEADER_OFFSET:])


def build(setup_header: bytes, *, memory_bytes: int, load_gpa: int, initrd_gpa: int, initrd_bytes: int) -> bytes:
    """boot_params for a kernel at `load_gpa`; no initrd is 0 at 0. `setup_header` comes from the image."""
    page = bytearray(low_memory.BOOT_PARAMS.size_bytes)
    page[SETUP_HEADER_OFFSET : SETUP_HEADER_OFFSET + len(setup_header)] = setup_header
    write_field(page, TYPE_OF_LOADER, UNDEFINED_LOADER)
    write_field(page, LOADFLAGS, LOADED_HIGH)
    write_field(page, CODE32_START, load_gpa)
    write_field(page, RAMDISK_IMAGE, initrd_gpa)
    write_field(page, RAMDISK_SIZE, initrd_bytes)
    write_field(page, CMD_LINE_PTR, low_memory.COMMAND_LINE.gpa)
    write_field(page, SETUP_DATA, 0)  # no setup_data list; a pointer left in the file would be followed
    write_field(page, ACPI_RSDP_ADDR, RSDP_GPA)
    memory_map = low_memory.memory_map(memory_bytes)
    write_field(page, E820_ENTRIES, len(memory_map))
    for index, (start_gpa, end_gpa, kind) in enumerate(memory_map):
        offset = E820_TABLE_OFFSET + index * E820_ENTRY.size
        E820_ENTRY.pack_into(page, offset, start_gpa, end_gpa - start_gpa, kind)
    return bytes(page)


def command_line_bytes(append: str, max_bytes: int) -> bytes:
    """`append` as the zero-terminated string the kernel reads. Raises ConfigError when it is too long for it."""
    try:
        text = append.encode(errors="surrogateescape")  # bytes of a shell argument come back as they were
    except UnicodeEncodeError:
        raise ConfigError("the kernel command line has characters that cannot be encoded; remove them") from None
    if b"\0" in text:
        raise ConfigError("the kernel command line has a zero byte in it; remove it")
    limit_bytes = min(max_bytes, low_memory.COMMAND_LINE.size_bytes - 1)
    if len(text) > limit_bytes:
        raise ConfigError(f"the kernel command line has {len(text)} bytes, this kernel takes {limit_bytes}; shorten it")
    return text + b"\0"
