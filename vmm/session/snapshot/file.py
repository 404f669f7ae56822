"""The file of a snapshot.

    "SCSNAP\\r\\n"   8 bytes; a transfer that changes the ends of lines is noticed
    version         4 bytes, little-endian, as all numbers
    document        8 bytes: how many follow; JSON, compressed: everything but memory, and where its pages go
    memory          8 bytes: how many follow; the pages that are not zero, compressed; once for each machine
    SHA-256         32 bytes, of all before

Compressed means zlib (RFC 1950). The sum finds damage, not malice; reading a file that somebody made up executes
nothing of it, and what a CPU gets from it is what a guest could have done, or is refused.
"""

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from emulator.errors import ConfigError
from emulator.memory import END_MAX
from emulator.x86 import PAGE_BYTES
from vmm.session.snapshot.contents import Contents
from vmm.session.snapshot.memory_file import MemoryFile
from vmm.session.snapshot.saved import Snapshot

MAGIC = b"SCSNAP\r\n"
VERSION = 2
LEVEL = 1  # of compression: memory is large
CHUNK_PAGES = 256
READ_BYTES = 1 << 20
DOCUMENT_MAX_BYTES = 1 << 30
LENGTH = struct.Struct("<Q")
SUM_BYTES = 32


class _SummedFile:
    """Writes, and keeps the sum."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._sum = hashlib.sha256()

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._sum.update(data)

    def finish(self) -> None:
        self._file.write(self._sum.digest())


def write_snapshot(snapshot: Snapshot, path: Path) -> None:
    """Write `path`, which is there whole or as it was before. Raises ConfigError."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("wb") as file:
            _write(snapshot, _SummedFile(file))
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ConfigError(f"cannot write the snapshot {str(path)!r}: {error.strerror}") from None


def _write(snapshot: Snapshot, file: _SummedFile) -> None:
    memories = snapshot.contents.memories
    document = {
        "made_of": snapshot.document,
        "contents": snapshot.contents.document,
        "memories": [{"size_bytes": memory.size_bytes, "pages": memory.runs} for memory in memories],
    }
    file.write(MAGIC + struct.pack("<I", VERSION))
    packed = zlib.compress(json.dumps(document, separators=(",", ":")).encode(), LEVEL)
    file.write(LENGTH.pack(len(packed)) + packed)
    for memory in memories:
        _write_memory(memory, file)
    file.finish()


def _write_memory(memory: MemoryFile, file: _SummedFile) -> None:
    pages = zlib.compressobj(LEVEL)
    parts = [pages.compress(memory.read(first, count)) for first, count in _chunks(memory.runs)]
    parts.append(pages.flush())
    file.write(LENGTH.pack(sum(map(len, parts))))
    for part in parts:
        file.write(part)


def _chunks(runs: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Runs of pages in pieces of CHUNK_PAGES at most."""
    for first, count in runs:
        for start in range(first, first + count, CHUNK_PAGES):
            yield start, min(CHUNK_PAGES, first + count - start)


def read_snapshot(path: Path) -> Snapshot:
    """The snapshot in `path`. Raises ConfigError with the reason when there is none, or when it is damaged."""
    try:
        with path.open("rb") as file:
            _check(file, path)
            file.seek(len(MAGIC) + 4)
            document = _read_document(file)
            memories = [_read_memory(file, each["size_bytes"], each["pages"]) for each in document["memories"]]
            contents = Contents(_table(document["contents"]), tuple(memories))
            return Snapshot(_table(document["made_of"]), contents)
    except OSError as error:
        raise ConfigError(f"cannot read the snapshot {str(path)!r}: {error.strerror}") from None
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError, zlib.error, struct.error) as error:
        raise ConfigError(f"the snapshot {str(path)!r} is damaged: {error}") from None


def _check(file: BinaryIO, path: Path) -> None:
    """It is a snapshot, of this version, and as it was written."""
    head = file.read(len(MAGIC) + 4)
    if head[: len(MAGIC)] != MAGIC:
        raise ConfigError(f"{str(path)!r} is no snapshot of sidecore")
    if head[len(MAGIC) :] != struct.pack("<I", VERSION):
        version = int.from_bytes(head[len(MAGIC) :], "little")
        raise ConfigError(
            f"the snapshot {str(path)!r} has version {version} of the format, not {VERSION}; make it anew"
        )
    left = os.fstat(file.fileno()).st_size - len(head) - SUM_BYTES
    found = hashlib.sha256(head)
    while left > 0 and (data := file.read(min(left, READ_BYTES))):
        found.update(data)
        left -= len(data)
    if file.read() != found.digest():
        raise ConfigError(f"the snapshot {str(path)!r} is damaged, or not all of it is there; make it anew")


def _read_length(file: BinaryIO) -> int:
    return int(LENGTH.unpack(file.read(LENGTH.size))[0])


def _read_document(file: BinaryIO) -> dict[str, Any]:
    length = _read_length(file)
    packed = file.read(min(length, DOCUMENT_MAX_BYTES))
    unpacker = zlib.decompressobj()
    text = unpacker.decompress(packed, DOCUMENT_MAX_BYTES)
    return _table(json.loads(text))


def _table(document: Any) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise TypeError("what describes it is no table")
    return document


def _read_memory(file: BinaryIO, size_bytes: int, runs: list[tuple[int, int]]) -> MemoryFile:
    if not 0 < size_bytes <= END_MAX or size_bytes % PAGE_BYTES:
        raise ValueError(f"{size_bytes} bytes of memory")
    memory = MemoryFile(size_bytes)
    left = _read_length(file)
    unpacker = zlib.decompressobj()
    for first, count in _chunks(runs):
        if first < 0 or (first + count) * PAGE_BYTES > size_bytes:
            raise ValueError(f"page {first} is outside its memory")
        data = b""
        while len(data) < count * PAGE_BYTES:
            packed = unpacker.unconsumed_tail or file.read(min(left, READ_BYTES))
            if not packed:
                raise ValueError("pages are missing")
            if not unpacker.unconsumed_tail:
                left -= len(packed)
            data += unpacker.decompress(packed, count * PAGE_BYTES - len(data))
        memory.add(first, data)
    return memory
