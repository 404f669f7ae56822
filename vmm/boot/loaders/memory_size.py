"""Sizes as people write them: `256M` to bytes, and bytes to `256 MiB`."""

import re

from emulator.errors import ConfigError
from emulator.x86 import PAGE_BYTES

MEMORY_MIN_BYTES = 16 << 20  # a Linux kernel is linked at 16 MiB; test kernels fit below it
MEMORY_MAX_BYTES = 16 << 30

SUFFIX_SHIFT = {"": 0, "K": 10, "M": 20, "G": 30}
SIZE_PATTERN = re.compile(r"([0-9]{1,15})([KMG]?)", re.ASCII | re.IGNORECASE)


def parse_memory_size(text: str) -> int:
    """Bytes of guest memory meant by `text`, such as `256M`. Raises ConfigError when it cannot be had."""
    match = SIZE_PATTERN.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"memory size {text!r} is not a size; write a whole number and K, M or G, such as 256M")
    return check_memory_bytes(int(match[1]) << SUFFIX_SHIFT[match[2].upper()])


def check_memory_bytes(memory_bytes: int) -> int:
    """Return `memory_bytes`; raises ConfigError when a domain cannot have that much, or not a part of a page."""
    if not MEMORY_MIN_BYTES <= memory_bytes <= MEMORY_MAX_BYTES:
        limits = f"between {size_text(MEMORY_MIN_BYTES)} and {size_text(MEMORY_MAX_BYTES)}"
        raise ConfigError(f"memory size {size_text(memory_bytes)} is not possible; choose one {limits}")
    if memory_bytes % PAGE_BYTES:
        raise ConfigError(f"memory size {memory_bytes} bytes is not a multiple of the {PAGE_BYTES} byte page")
    return memory_bytes


def size_text(size_bytes: int) -> str:
    """`size_bytes` for an error line: exact in its unit, or rounded up to a tenth so that it is never too small."""
    for suffix, shift in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size_bytes >= 1 << shift:
            tenths = -(-size_bytes * 10 >> shift)
            return f"{tenths // 10}{f'.{tenths % 10}' if tenths % 10 else ''} {suffix}"
    return f"{size_bytes} bytes"
