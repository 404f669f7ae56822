"""Takes the ELF vmlinux out of a bzImage.

    0x1f1 setup_sects | 0x202 "HdrS" | 0x248 payload_offset | 0x24c payload_length      (Linux boot.rst)
    setup: (setup_sects + 1) * 512 bytes | protected-mode code, which holds the payload: compressed vmlinux, 4-byte size

GZIP, XZ, LZMA and BZIP2 payloads are read with the standard library, ZSTD and LZ4 with the `zstd` and `lz4` programs.
"""

import bz2
import lzma
import shutil
import struct
import subprocess
import zlib

from emulator.errors import ConfigError

BOOT_MAGIC = b"HdrS"
ELF_MAGIC = b"\x7fELF"
SECTOR_BYTES = 512

# payload magic (Linux lib/decompress.c) -> the program that decompresses it from stdin to stdout
PROGRAMS = {
    b"\x28\xb5\x2f\xfd": ("zstd", "-dcq"),
    b"\x02\x21\x4c\x18": ("lz4", "-dcq"),
}


def extract_vmlinux(bzimage: bytes) -> bytes:
    """The ELF file inside. Raises ConfigError when there is none or nothing here decompresses it."""
    payload = compressed_payload(bzimage)
    vmlinux = _decompress(payload)
    if not vmlinux.startswith(ELF_MAGIC):
        raise ConfigError("the kernel's payload is not an ELF file")
    return vmlinux


def compressed_payload(bzimage: bytes) -> bytes:
    """The compressed bytes, found by the boot header; the last 4 are the uncompressed size."""
    if len(bzimage) < 0x250 or bzimage[0x202:0x206] != BOOT_MAGIC:
        raise ConfigError("not a bzImage: the boot header is missing")
    (version,) = struct.unpack_from("<H", bzimage, 0x206)
    offset, length = struct.unpack_from("<II", bzimage, 0x248)
    start = ((bzimage[0x1F1] or 4) + 1) * SECTOR_BYTES + offset
    if version < 0x208 or length < 8 or start + length > len(bzimage):
        raise ConfigError("the bzImage's boot header does not say where its payload is")
    return bzimage[start : start + length]


def _decompress(payload: bytes) -> bytes:
    size_bytes = int.from_bytes(payload[-4:], "little")
    try:
        if payload.startswith(b"\x1f\x8b"):
            return zlib.decompressobj(wbits=31).decompress(payload, size_bytes)
        if payload.startswith((b"\xfd7zXZ", b"\x5d\0\0")):
            return lzma.LZMADecompressor().decompress(payload, size_bytes)
        if payload.startswith(b"BZh"):
            return bz2.BZ2Decompressor().decompress(payload, size_bytes)
    except (zlib.error, lzma.LZMAError, OSError) as error:
        raise ConfigError(f"the kernel's payload is damaged: {error}") from error
    return _decompress_by_program(payload)


def _decompress_by_program(payload: bytes) -> bytes:
    command = PROGRAMS.get(payload[:4])
    if command is None:
        raise ConfigError(f"the kernel is compressed in a way not known here (magic {payload[:4].hex()})")
    if shutil.which(command[0]) is None:
        raise ConfigError(f"the kernel is compressed with {command[0]}, which is not installed")
    # The size that follows the payload makes both programs complain after having written everything.
    return subprocess.run(command, input=payload[:-4], capture_output=True, check=False).stdout
