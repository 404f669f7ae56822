"""Initial RAM disks: is the file complete? A guest would find out after minutes, with a panic that names no file.

An initrd is a sequence of archives, each a cpio or a compressed cpio, with zero bytes between them
(Documentation/driver-api/early-userspace/buffer-format.rst). `ARCHIVE_FORMATS` has one row per magic number; its
function returns the offset behind the archive. gzip, xz, lzma and bzip2 are decompressed (checksums verified, the
contents dropped); cpio, zstd and lz4 are walked from header to header. A file that begins with none of the magic
numbers (lzo, a file system image) is passed on unchecked.
"""

import bz2
import lzma
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from emulator.errors import ConfigError

CHUNK_BYTES = 1 << 20
LZMA_MEMORY_MAX_BYTES = 1 << 28  # xz -9 needs 65 MiB; a hostile header may ask for 4 GiB

# newc header: magic and 13 numbers of 8 hexadecimal digits (buffer-format.rst)
CPIO_HEADER = re.compile(rb"07070[12]([0-9A-Fa-f]{104})")
CPIO_HEADER_BYTES, CPIO_ALIGN_BYTES = 110, 4
CPIO_FILESIZE, CPIO_NAMESIZE = slice(48, 56), slice(88, 96)  # digits behind the magic
CPIO_TRAILER = b"TRAILER!!!\0"

# RFC 8878: sizes of Dictionary_ID and Frame_Content_Size by their flags (3.1.1.1.1), block types (3.1.1.2.2)
ZSTD_MAGIC_BYTES, ZSTD_BLOCK_HEADER_BYTES, ZSTD_CHECKSUM_BYTES = 4, 3, 4
ZSTD_DICTIONARY_ID_BYTES, ZSTD_CONTENT_SIZE_BYTES = (0, 1, 2, 4), (0, 2, 4, 8)
ZSTD_RLE, ZSTD_RESERVED = 1, 3

LZ4_WORD_BYTES = 4
LZ4_BLOCK_MAX_BYTES = (8 << 20) + (8 << 20) // 255 + 16  # LZ4_compressBound of the legacy 8 MiB block


class DamagedArchiveError(Exception):
    """The archive cannot be unpacked by a kernel; `str(error)` says why, to follow the name of the file."""


@dataclass(frozen=True)
class ArchiveFormat:
    """How to find the end of an archive: end_of_archive(data, offset, memory_bytes)."""

    magic: bytes
    end_of_archive: Callable[[bytes, int, int], int]


def check_initrd(name: str, data: bytes, *, memory_bytes: int) -> None:
    """Raise ConfigError, beginning with `name`, when a part of `data` is damaged or unpacks to over `memory_bytes`."""
    offset = 0
    while offset < len(data):
        check = next((row.end_of_archive for row in ARCHIVE_FORMATS if data.startswith(row.magic, offset)), None)
        if check is None:
            return  # MODEL: what follows an unknown magic number is the guest's to judge
        try:
            offset = check(data, offset, memory_bytes)
        except DamagedArchiveError as error:
            raise ConfigError(f"{name} {error}; build or download it again") from None
        offset = _behind_zeros(data, offset)


def _behind_zeros(data: bytes, offset: int) -> int:
    """Offset of the first byte at or behind `offset` that is not zero."""
    while offset < len(data):
        chunk = data[offset : offset + CHUNK_BYTES]
        rest_bytes = len(chunk.lstrip(b"\0"))
        offset += len(chunk) - rest_bytes
        if rest_bytes:
            break
    return offset


def _truncated(what: str) -> DamagedArchiveError:
    return DamagedArchiveError(f"is truncated ({what} ends too early)")


def _gzip_end(data: bytes, offset: int, memory_bytes: int) -> int:
    return _stream_end(zlib.decompressobj(wbits=31), "gzip data", data, offset, memory_bytes)


def _xz_end(data: bytes, offset: int, memory_bytes: int) -> int:
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, LZMA_MEMORY_MAX_BYTES)
    return _stream_end(decompressor, "xz data", data, offset, memory_bytes)


def _lzma_end(data: bytes, offset: int, memory_bytes: int) -> int:
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_ALONE, LZMA_MEMORY_MAX_BYTES)
    return _stream_end(decompressor, "lzma data", data, offset, memory_bytes)


def _bzip2_end(data: bytes, offset: int, memory_bytes: int) -> int:
    return _stream_end(bz2.BZ2Decompressor(), "bzip2 data", data, offset, memory_bytes)


def _stream_end(
    decompressor: "zlib._Decompress | lzma.LZMADecompressor | bz2.BZ2Decompressor",
    what: str,
    data: bytes,
    offset: int,
    memory_bytes: int,
) -> int:
    """Decompress the stream at `offset` in pieces; return where it ends."""
    unpacked_bytes = 0
    try:
        while not decompressor.eof:
            chunk: bytes = getattr(decompressor, "unconsumed_tail", b"")  # zlib gives back what it had no room for
            if not chunk:
                chunk = data[offset : offset + CHUNK_BYTES]
                offset += len(chunk)
            unpacked = decompressor.decompress(chunk, CHUNK_BYTES)
            if not chunk and not unpacked and not decompressor.eof:
                raise _truncated(what)
            unpacked_bytes += len(unpacked)
            if unpacked_bytes > memory_bytes:
                raise DamagedArchiveError("unpacks to more than the memory of the guest")
    except (zlib.error, lzma.LZMAError, OSError) as error:
        raise DamagedArchiveError(f"is damaged ({what}: {error})") from None
    return offset - len(decompressor.unused_data)


def _cpio_end(data: bytes, offset: int, memory_bytes: int) -> int:
    """Walk a newc cpio: header, name, padding, file, padding; the last name is TRAILER!!!."""
    while True:
        if offset + CPIO_HEADER_BYTES > len(data):
            raise _truncated("the cpio archive")
        header = CPIO_HEADER.match(data, offset)
        if header is None:
            raise DamagedArchiveError(f"is damaged (no cpio header at offset {offset:#x})")
        name_bytes, file_bytes = int(header[1][CPIO_NAMESIZE], 16), int(header[1][CPIO_FILESIZE], 16)
        name_offset = offset + CPIO_HEADER_BYTES
        offset += _padded(CPIO_HEADER_BYTES + name_bytes) + _padded(file_bytes)
        if name_bytes == len(CPIO_TRAILER) and data.startswith(CPIO_TRAILER, name_offset):
            return offset
        if offset > len(data):
            raise _truncated("the cpio archive")


def _padded(size_bytes: int) -> int:
    return -(-size_bytes // CPIO_ALIGN_BYTES) * CPIO_ALIGN_BYTES


def _zstd_end(data: bytes, offset: int, memory_bytes: int) -> int:
    """Walk a Zstandard frame: header, then blocks until the one marked last, then a checksum (RFC 8878, 3.1.1).

    7    6 5              4      3        2          1       0
    | FCS | single segment | unused | rsvd | checksum | dict id |   Frame_Header_Descriptor
    """
    descriptor_offset = offset + ZSTD_MAGIC_BYTES
    if descriptor_offset >= len(data):
        raise _truncated("the zstd frame")
    descriptor = data[descriptor_offset]
    single_segment = descriptor >> 5 & 1
    content_size_bytes = ZSTD_CONTENT_SIZE_BYTES[descriptor >> 6] or single_segment
    window_bytes = 1 - single_segment
    offset = descriptor_offset + 1 + window_bytes + ZSTD_DICTIONARY_ID_BYTES[descriptor & 3] + content_size_bytes
    is_last = False
    while not is_last:
        header = int.from_bytes(data[offset : offset + ZSTD_BLOCK_HEADER_BYTES], "little")
        is_last, kind, size_bytes = bool(header & 1), header >> 1 & 3, header >> 3
        offset += ZSTD_BLOCK_HEADER_BYTES
        if kind == ZSTD_RESERVED:
            raise DamagedArchiveError(f"is damaged (no zstd block header at offset {offset:#x})")
        offset += 1 if kind == ZSTD_RLE else size_bytes
        if offset > len(data):
            raise _truncated("the zstd frame")
    offset += ZSTD_CHECKSUM_BYTES * (descriptor >> 2 & 1)
    if offset > len(data):
        raise _truncated("the zstd frame")
    return offset


def _lz4_end(data: bytes, offset: int, memory_bytes: int) -> int:
    """Walk the legacy lz4 format (lz4 -l): magic, then blocks of a size word and that many bytes.

    It has no end mark: another magic number, zeros or the end of the file end it.
    MODEL: a file cut exactly between two blocks passes.
    """
    offset += LZ4_WORD_BYTES
    while offset < len(data):
        size_bytes = int.from_bytes(data[offset : offset + LZ4_WORD_BYTES], "little")
        if size_bytes == 0 or size_bytes > LZ4_BLOCK_MAX_BYTES:
            break
        offset += LZ4_WORD_BYTES + size_bytes
        if offset > len(data):
            raise _truncated("an lz4 block")
    return offset


def _lz4_frame_end(data: bytes, offset: int, memory_bytes: int) -> int:
    raise DamagedArchiveError("is in lz4's frame format, which kernels do not read: compress it with lz4 -l")


def _old_cpio_end(data: bytes, offset: int, memory_bytes: int) -> int:
    raise DamagedArchiveError("is an old-format cpio, which kernels do not read: make it with cpio -H newc")


# magic numbers: compressed_formats in lib/decompress.c and do_header in init/initramfs.c of Linux
ARCHIVE_FORMATS = (
    ArchiveFormat(b"\x1f\x8b", _gzip_end),
    ArchiveFormat(b"\xfd7zXZ\0", _xz_end),
    ArchiveFormat(b"\x5d\0\0", _lzma_end),
    ArchiveFormat(b"BZh", _bzip2_end),
    ArchiveFormat(b"\x28\xb5\x2f\xfd", _zstd_end),
    ArchiveFormat(b"\x02\x21\x4c\x18", _lz4_end),
    ArchiveFormat(b"\x04\x22\x4d\x18", _lz4_frame_end),
    ArchiveFormat(b"070701", _cpio_end),
    ArchiveFormat(b"070702", _cpio_end),
    ArchiveFormat(b"070707", _old_cpio_end),
)
