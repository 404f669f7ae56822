"""Port 0x80: the diagnostic display of a PC, which shows the last byte written to it.

Kernels also write it as a delay; such a write takes no time here. Source: IBM PC AT technical reference, "POST".
"""


class PostCode:
    """Latch that remembers the last code and reads it back."""

    widths_bytes: tuple[int, ...] = (1,)

    def __init__(self) -> None:
        self.code = 0

    def read(self, offset: int, size_bytes: int) -> int:
        """The last code."""
        return self.code

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Show `value`."""
        self.code = value
