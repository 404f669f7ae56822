"""What a loader hands to the domain builder, and what a kernel format hands to `load`."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class EntryMode(Enum):
    """The processor's mode at the first instruction; `vmm/boot/boot_state.py` has the registers."""

    LONG = "64-bit mode"
    PROTECTED = "32-bit protected mode without paging"
    REAL = "real mode"


class BootProtocol(Enum):
    """How a kernel learns about its memory, command line and modules; a user may name one."""

    LINUX = "linux"
    MULTIBOOT = "multiboot"
    PVH = "pvh"
    FLAT = "flat"


@dataclass(frozen=True)
class BootImage:
    """A guest ready to run in `mode`; memory that no segment covers is zero.

    RIP = `entry_gpa`, GDTR = (`gdt_gpa`, `gdt_limit`), interrupts off, every register that is not in `registers` zero.
    Selectors but in real mode: CS 0x10 (code of the mode), DS = SS = ES 0x18 (flat data), TR 0x20 (busy TSS).
    """

    segments: tuple[tuple[int, bytes], ...]  # (gpa, data), ascending, disjoint, all inside memory
    entry_gpa: int
    registers: Mapping[str, int]  # such as {"rsi": address of boot_params}
    cr3_gpa: int  # 64-bit mode: identity map of the first 4 GiB by 2 MiB pages
    gdt_gpa: int
    gdt_limit: int
    description: str  # such as "Linux 6.1.0-13-amd64 bzImage" or "ELF64 kernel"
    mode: EntryMode = EntryMode.LONG

    @property
    def is_linux(self) -> bool:
        """Whether it is a Linux kernel, as far as its headers tell."""
        return self.description.startswith("Linux")


@dataclass(frozen=True)
class KernelArea:
    """Guest-physical memory [gpa, gpa + size_bytes) of a kernel: `data` from the file, then zeros (bss, scratch)."""

    gpa: int
    size_bytes: int
    data: bytes  # at most size_bytes

    @property
    def end_gpa(self) -> int:
        """First address behind the area."""
        return self.gpa + self.size_bytes


@dataclass(frozen=True)
class KernelImage:
    """A kernel file as its format describes it, before it is placed beside the command line and the modules."""

    areas: tuple[KernelArea, ...]  # not yet checked against memory or each other
    entry_gpa: int
    mode: EntryMode
    protocol: BootProtocol
    description: str
    command_line_max_bytes: int  # without the terminating zero
    modules_max: int  # how many the protocol can pass; Linux has one, the initrd
    module_end_max_gpa: int = 1 << 32  # the last module ends at or below
    setup_header: bytes = b""  # Linux: struct setup_header, from offset 0x1f1 of boot_params

    @property
    def end_gpa(self) -> int:
        """First address behind all areas."""
        return max(area.end_gpa for area in self.areas)


@dataclass(frozen=True)
class Module:
    """A file in guest memory for the kernel: `arguments` is its own command line, without zero."""

    gpa: int
    data: bytes
    arguments: bytes = b""


@dataclass(frozen=True)
class Payload:
    """What a kernel is told about: its zero-terminated command line, its modules, the size of memory."""

    command_line: bytes
    modules: tuple[Module, ...]
    memory_bytes: int


@dataclass(frozen=True)
class Handover:
    """What a protocol puts into memory and registers to tell it."""

    segments: tuple[tuple[int, bytes], ...]
    registers: Mapping[str, int]
