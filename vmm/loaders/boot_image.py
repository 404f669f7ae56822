"""What a loader hands to the domain builder, and what a kernel format hands to `load`."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class BootImage:
    """A guest ready to run in 64-bit mode; memory that no segment covers is zero.

    RIP = `entry_gpa`, CR3 = `cr3_gpa`, GDTR = (`gdt_gpa`, `gdt_limit`), interrupts off, every register that is not in
    `registers` zero. Selectors: CS 0x10 (64-bit code), DS = SS = ES 0x18 (flat data), TR 0x20 (64-bit TSS, busy).
    """

    segments: tuple[tuple[int, bytes], ...]  # (gpa, data), ascending, disjoint, all inside memory
    entry_gpa: int
    registers: Mapping[str, int]  # such as {"rsi": address of boot_params}
    cr3_gpa: int  # identity map of the first 4 GiB by 2 MiB pages
    gdt_gpa: int
    gdt_limit: int
    description: str  # such as "Linux 6.1.0-13-amd64 bzImage" or "ELF64 kernel"

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
    """A kernel file as its format describes it, before it is placed beside the command line and the initrd."""

    areas: tuple[KernelArea, ...]  # not yet checked against memory or each other
    entry_gpa: int
    setup_header: bytes  # struct setup_header, from offset 0x1f1 of boot_params
    command_line_max_bytes: int  # without the terminating zero
    initrd_end_max_gpa: int  # the initrd ends at or below
    description: str
