"""A file that the user asked for: refused before the run if it cannot be written, and written whole or not at all.

Figures may also go where no file can be replaced: to stdout, into pipes and devices (`check_output`, `open_output`).
"""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from emulator.errors import ConfigError
from vmm.session.spec import STDOUT

STDOUT_FD = 1


def check_writable(path: Path) -> None:
    """Raise ConfigError unless `write_file(path, ...)` will work; leaves nothing behind. Call before a long run."""
    with _one_line_errors(path), _temporary_file(path):
        pass


def write_file(path: Path, content: str | bytes) -> None:
    """Write `content` to `path` so that a reader sees the old file or all of the new one. Raises ConfigError."""
    with _one_line_errors(path), _temporary_file(path) as (file, temporary):
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
        temporary.replace(os.path.realpath(path))  # a symbolic link stays one


def check_output(path: Path) -> None:
    """As `check_writable`, for figures."""
    if not _is_stream(path):
        check_writable(path)
    elif path != STDOUT and not os.access(path, os.W_OK):
        raise ConfigError(f"cannot write {str(path)!r}: {os.strerror(errno.EACCES)}")


def open_output(path: Path) -> FileIO:
    """Where figures are written as they come. A pipe waits for its reader here. Raises OSError or ValueError."""
    return FileIO(os.dup(STDOUT_FD) if path == STDOUT else path, "wb")


def write_output(path: Path, content: str) -> None:
    """As `write_file`, for figures. Raises ConfigError."""
    if not _is_stream(path):
        write_file(path, content)
        return
    with _one_line_errors(path), open_output(path) as file:
        write_all(file, content.encode())


def write_all(file: FileIO, content: bytes) -> None:
    """Write all of `content`, in as many pieces as it takes. Raises OSError."""
    left = memoryview(content)
    while left:
        left = left[file.write(left) or 0 :]


def _is_stream(path: Path) -> bool:
    with _one_line_errors(path):
        return path == STDOUT or path.is_fifo() or path.is_char_device()


@contextmanager
def _temporary_file(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """A new file beside `path`, with the permissions `path` has or would get; gone afterwards unless renamed."""
    path = Path(os.path.realpath(path))
    if path.is_dir():
        raise IsADirectoryError(0, "it is a directory; name a file in it")
    if path.exists() and not path.is_file():
        raise OSError(0, "it is not a regular file")
    if not path.parent.is_dir():
        raise FileNotFoundError(0, f"there is no directory {str(path.parent)!r}; make it first")
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name[:32]}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            temporary.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask())
            yield file, temporary
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    """The process's umask, which can be read only by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


@contextmanager
def _one_line_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise ConfigError(f"cannot write {str(path)!r}: {getattr(error, 'strerror', None) or error}") from None
