"""The guest images' part of the user's cache, and how files get into it whole or not at all.

kernels/<name>-<key>.elf     test kernels; the key is a hash of all that went into them
linux/<recipe>-<key>/        fetched kernel, BusyBox and initramfs, with a manifest of checksums
"""

import hashlib
import tempfile
from collections.abc import Iterable
from pathlib import Path

from emulator.user_cache import cache_directory


def temporary_directory(part: str) -> "tempfile.TemporaryDirectory[str]":
    """A scratch folder inside the cache, so what is finished can be renamed into place."""
    return tempfile.TemporaryDirectory(prefix="tmp-", dir=cache_directory(part))


def content_key(parts: Iterable[bytes]) -> str:
    """16 hex digits that change when any of `parts` does; boundaries between parts count."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()[:16]


def file_sha256(path: Path) -> str:
    """The file's SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def ignore_progress(_line: str) -> None:
    """What to do with progress lines when nobody looks."""
