"""Claims about complete and damaged initial RAM disks."""

import bz2
import gzip
import lzma
import random
import shutil
import struct
import subprocess

import pytest

from emulator.errors import ConfigError
from tests.vmm.boot.loaders.sample_images import cpio_entry, make_cpio
from vmm.boot.loaders.initrd import check_initrd

NOISE = random.Random(7).randbytes(300_000)  # does not compress: every stream is long
CPIO = make_cpio({"init": NOISE, "empty": b"", "odd": b"123"})


def lz4_legacy(data: bytes) -> bytes:
    """lz4 -l by hand: blocks of literals only (one token, extended length)."""
    out = b"\x02\x21\x4c\x18"
    for i in range(0, len(data), 100_000):
        literals = data[i : i + 100_000]
        rest = len(literals) - 15
        block = b"\xf0" + b"\xff" * (rest // 255) + bytes([rest % 255]) + literals
        out += struct.pack("<I", len(block)) + block
    return out


def zstd_raw(data: bytes, *, checksum: bool = False) -> bytes:
    """A Zstandard frame of raw blocks and one RLE block: single segment, 4-byte content size."""
    blocks = [data[i : i + 100_000] for i in range(0, len(data), 100_000)]
    out = struct.pack("<IBI", 0xFD2FB528, 0xA0 | 4 * checksum, len(data) + 5)
    out += b"".join(struct.pack("<I", len(block) << 3)[:3] + block for block in blocks)
    return out + struct.pack("<I", 5 << 3 | 1 << 1 | 1)[:3] + b"\0" + b"\x12\x34\x56\x78" * checksum


COMPLETE = {
    "cpio": CPIO,
    "gzip": gzip.compress(CPIO, mtime=0),
    "xz": lzma.compress(CPIO),
    "lzma": lzma.compress(CPIO, lzma.FORMAT_ALONE),
    "bzip2": bz2.compress(CPIO),
    "zstd": zstd_raw(CPIO),
    "zstd with checksum": zstd_raw(CPIO, checksum=True),
    "lz4": lz4_legacy(CPIO),
}
MEMORY_BYTES = 32 << 20


def error_line(data: bytes, memory_bytes: int = MEMORY_BYTES) -> str:
    with pytest.raises(ConfigError) as caught:
        check_initrd("initrd 'x'", data, memory_bytes=memory_bytes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("first", COMPLETE)
@pytest.mark.parametrize("second", COMPLETE)
def test_complete_archives_pass_alone_and_behind_each_other(first: str, second: str) -> None:
    check_initrd("initrd", COMPLETE[first], memory_bytes=MEMORY_BYTES)
    padding = bytes(-len(COMPLETE[first]) % 4 + 512)
    check_initrd("initrd", COMPLETE[first] + padding + COMPLETE[second] + bytes(3), memory_bytes=MEMORY_BYTES)


@pytest.mark.parametrize("name", COMPLETE)
@pytest.mark.parametrize("missing_bytes", [4, 1000, 200_001])
def test_a_truncated_archive_is_an_error(name: str, missing_bytes: int) -> None:
    line = error_line(COMPLETE[name][:-missing_bytes])
    assert line.startswith("initrd 'x' is truncated")


@pytest.mark.parametrize("name", sorted(COMPLETE.keys() - {"cpio"}))
def test_one_missing_byte_is_an_error(name: str) -> None:
    assert "is truncated" in error_line(COMPLETE[name][:-1])


def test_a_cpio_may_lack_the_padding_behind_its_trailer_but_no_byte_of_the_trailer() -> None:
    end = CPIO.rindex(b"TRAILER!!!") + 11
    check_initrd("initrd", CPIO[:end], memory_bytes=MEMORY_BYTES)
    assert "is truncated" in error_line(CPIO[: end - 1])


@pytest.mark.parametrize("name", COMPLETE)
def test_a_truncated_archive_behind_a_complete_one_is_an_error(name: str) -> None:
    assert "truncated" in error_line(CPIO + COMPLETE[name][:-5])


@pytest.mark.parametrize("name", ["gzip", "xz", "bzip2"])
def test_a_flipped_bit_is_an_error_where_the_format_has_a_checksum(name: str) -> None:
    data = bytearray(COMPLETE[name])
    data[len(data) // 2] ^= 0x10
    assert "is damaged" in error_line(bytes(data))


def test_a_cpio_without_its_trailer_is_truncated() -> None:
    assert "truncated" in error_line(cpio_entry("init", b"x"))


def test_a_cpio_with_a_bad_header_is_damaged() -> None:
    archive = bytearray(make_cpio({"init": b"x"}))
    archive[54:62] = b"0000_001"  # int() would take it
    assert "no cpio header at offset 0x0" in error_line(bytes(archive))


def test_a_reserved_zstd_block_type_is_damaged() -> None:
    assert "no zstd block header" in error_line(zstd_raw(b"")[:9] + b"\x06\0\0" + bytes(9))


def test_formats_the_kernel_cannot_read_are_named() -> None:
    assert "lz4 -l" in error_line(b"\x04\x22\x4d\x18" + bytes(100))
    assert "cpio -H newc" in error_line(b"070707" + bytes(100))


def test_an_archive_that_unpacks_to_more_than_memory_is_refused() -> None:
    bomb = gzip.compress(bytes(3 << 20), mtime=0)
    check_initrd("initrd", bomb, memory_bytes=3 << 20)
    assert "unpacks to more than the memory" in error_line(bomb, memory_bytes=(3 << 20) - 1)


def test_an_unknown_format_is_left_to_the_guest() -> None:
    check_initrd("initrd", b"-rom1fs-" + bytes(100), memory_bytes=MEMORY_BYTES)
    check_initrd("initrd", CPIO + b"something else", memory_bytes=MEMORY_BYTES)


@pytest.mark.parametrize(
    "command", [["xz", "--check=crc32"], ["zstd", "-q"], ["zstd", "-q", "--ultra", "-22"], ["lz4", "-l"], ["gzip"]]
)
def test_the_output_of_the_real_tools_passes_and_truncated_does_not(command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    text = make_cpio({f"file{i}": b"some text that compresses %d" % i * 999 for i in range(30)})
    packed = subprocess.run([*command, "-c"], input=text, capture_output=True, check=True).stdout
    check_initrd("initrd", packed, memory_bytes=MEMORY_BYTES)
    assert "truncated" in error_line(packed[:-3])
