"""The one checked way to read a file the user named: no size or offset found inside a file is trusted."""

import stat
from contextlib import AbstractContextManager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from emulator.errors import ConfigError
from vmm.boot.loaders.memory_size import size_text


class ImageFile(AbstractContextManager["ImageFile"]):
    """A regular, non-empty file open for reading; every failure is a ConfigError that begins with `name`."""

    def __init__(self, name: str, stream: BinaryIO, size_bytes: int) -> None:
        self.name = name  # "kernel '/boot/vmlinuz'"
        self.size_bytes = size_bytes
        self._stream = stream

    @classmethod
    def open(cls, role: str, path: Path) -> "ImageFile":
        """Open `path`, which the user gave as `role` (kernel, initrd)."""
        name = f"{role} {str(path)!r}"
        try:
            status = path.stat()
            if stat.S_ISDIR(status.st_mode):
                raise ConfigError(f"{name} is a directory; name the {role} file in it")
            if not stat.S_ISREG(status.st_mode):  # opening a FIFO would wait for ever
                raise ConfigError(f"{name} is not a regular file; copy it to one")
            if status.st_size == 0:
                raise ConfigError(f"{name} is empty; build or download it again")
            return cls(name, path.open("rb"), status.st_size)
        except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
            raise ConfigError(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}") from None

    @classmethod
    def from_bytes(cls, name: str, data: bytes) -> "ImageFile":
        """A file that is in memory already."""
        return cls(name, BytesIO(data), len(data))

    def __exit__(self, *exception: object) -> None:
        self._stream.close()

    def read(self, offset: int, size_bytes: int, what: str) -> bytes:
        """Exactly `size_bytes` at `offset`, or a ConfigError saying that `what` is cut off."""
        if offset < 0 or size_bytes < 0 or offset + size_bytes > self.size_bytes:
            have = f"the file has {size_text(self.size_bytes)}, {what} ends at {size_text(offset + size_bytes)}"
            raise ConfigError(f"{self.name} is truncated ({have}); build or download it again")
        try:
            self._stream.seek(offset)
            data = self._stream.read(size_bytes)
        except OSError as error:
            raise ConfigError(f"{self.name} cannot be read: {error.strerror or error}") from None
        if len(data) != size_bytes:
            raise ConfigError(f"{self.name} became shorter while it was read; try again")
        return data

    def read_at_most(self, offset: int, size_bytes: int) -> bytes:
        """Up to `size_bytes` at `offset`: fewer, or none, at the end of the file."""
        return self.read(offset, max(0, min(size_bytes, self.size_bytes - offset)), "the file") if offset >= 0 else b""
