"""The standard streams, whatever the command was started with.

closed (`>&-`)            leads nowhere; else the next file that is opened would be in its place
stderr without a reader   what is for people is dropped, and the command does and returns what it would anyway
"""

import io
import os
import sys

STANDARD_FDS = (0, 1, 2)


class _Dropping(io.FileIO):
    """A file that takes what nobody can have."""

    def write(self, data: bytes) -> int:  # type: ignore[override]
        try:
            return super().write(data) or 0
        except OSError:
            return len(data)


def open_streams() -> None:
    """Make all three usable. To be called once, before anything is opened."""
    for fd in STANDARD_FDS:
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, which is this one
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115  (it is open to the end)
    if sys.stderr is None or sys.stderr is sys.__stderr__:  # not that of a test
        sys.stderr = io.TextIOWrapper(
            io.BufferedWriter(_Dropping(2, "w", closefd=False)), errors="backslashreplace", line_buffering=True
        )


def drop_stdout() -> None:
    """Nobody takes what is left to write there: let the interpreter not try again at its end."""
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (it is open to the end)
