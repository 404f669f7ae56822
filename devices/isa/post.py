"""Port 0x80: the diagnostic display of a PC, which shows the last byte written to it.

Kernels also write it as a delay; such a write takes no time here. Source: IBM PC AT technical reference, "POST".
"""

from collections.abc import Callable


def _ignore(code: int) -> None:
    pass


class PostCode:
    """Latch that remembers the last code and reads it back. `on_code` is called with each code, for who looks at it."""

    widths_bytes: tuple[int, ...] = (1,)

    def __init__(self) -> None:
        self.code = 0
        self.on_code: Callable[[int], None] = _ignore

    def read(self, offset: int, size_bytes: int) -> int:
        """The last code."""
        return self.code

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Show `value`."""
        self.code = value
        self.on_code(value)
