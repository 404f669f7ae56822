"""Writes cpio archives in the `newc` format, the one the Linux kernel unpacks as its initramfs.

    110 bytes of header: "070701", then 13 numbers of 8 hex digits | name, NUL, padding to 4 | data, padding to 4
    ... the last entry is called TRAILER!!!

Same entries, same bytes: entries are sorted by path, inodes count up from 1, owner is root, time is 0.
Source: Linux Documentation/driver-api/early-userspace/buffer-format.rst.
"""

import stat
from collections.abc import Iterable
from dataclasses import dataclass

MAGIC = b"070701"
TRAILER = "TRAILER!!!"
NO_DEVICE = (0, 0)


@dataclass(frozen=True)
class CpioEntry:
    """A file, folder, link or device; `path` is relative to the root, `mode` as in stat(2)."""

    path: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = NO_DEVICE  # major, minor


def folder(path: str) -> CpioEntry:
    """A folder that everybody can read."""
    return CpioEntry(path, stat.S_IFDIR | 0o755)


def program(path: str, data: bytes) -> CpioEntry:
    """An executable file."""
    return CpioEntry(path, stat.S_IFREG | 0o755, data)


def text_file(path: str, text: str) -> CpioEntry:
    """A plain file."""
    return CpioEntry(path, stat.S_IFREG | 0o644, text.encode())


def symlink(path: str, target: str) -> CpioEntry:
    """A symbolic link."""
    return CpioEntry(path, stat.S_IFLNK | 0o777, target.encode())


def character_device(path: str, major: int, minor: int) -> CpioEntry:
    """A character device node; no privilege is needed to write one into an archive."""
    return CpioEntry(path, stat.S_IFCHR | 0o600, device=(major, minor))


def write_cpio(entries: Iterable[CpioEntry]) -> bytes:
    """The archive. Raises ValueError when two entries have the same path or a folder on the way is missing."""
    archive = bytearray()
    known = {""}
    for inode, entry in enumerate(sorted(entries, key=lambda entry: entry.path.split("/")), start=1):
        if entry.path in known or entry.path.rpartition("/")[0] not in known:
            raise ValueError(f"'{entry.path}' is there already, or its folder is not")
        known.add(entry.path)
        archive += _record(entry, inode)
    return bytes(archive + _record(CpioEntry(TRAILER, 0), 0))


def _record(entry: CpioEntry, inode: int) -> bytes:
    name = entry.path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    numbers = (inode, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, *entry.device, len(name), 0)
    header = MAGIC + b"".join(b"%08x" % number for number in numbers)
    return _padded(header + name) + _padded(entry.data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
