"""Kernels of a few bytes, one behaviour each: how a run ends, and what was printed before."""

from pathlib import Path

from tests.vmm.boot.loaders.sample_images import Segment, make_elf

ENTRY = 0x200000

HANG = bytes.fromhex("ebfe")  # jmp $
HALT = bytes.fromhex("faf4")  # cli; hlt
SLEEP = bytes.fromhex("fbf4ebfd")  # sti; 1: hlt; jmp 1b
TRIPLE_FAULT = bytes.fromhex("0f0b")  # ud2, without an IDT
RESET = bytes.fromhex("b0fee664ebfe")  # mov $0xfe, %al; out %al, $0x64; jmp $
POWER_OFF = bytes.fromhex("66ba0406 66b80034 66ef ebfe")  # mov $0x604, %dx; mov $0x3400, %ax; out %ax, %dx; jmp $


def debug_exit(value: int) -> bytes:
    return bytes([0xB0, value, 0xE6, 0xF4]) + HANG  # mov $value, %al; out %al, $0xf4


def say(text: bytes) -> bytes:
    """Print `text` on the serial line: mov $0x3f8, %dx, then for each byte mov $byte, %al; out %al, %dx."""
    return bytes.fromhex("66baf803") + b"".join(bytes([0xB0, byte, 0xEE]) for byte in text)


def say_for_ever(byte: int) -> bytes:
    return say(b"") + bytes([0xB0, byte, 0xEE, 0xEB, 0xFD])  # 1: out %al, %dx; jmp 1b


def write_kernel(folder: Path, code: bytes) -> Path:
    """An ELF kernel whose code is `code`."""
    path = folder / "kernel.elf"
    path.write_bytes(make_elf(Segment(ENTRY, code), entry=ENTRY))
    return path
