"""Debug exit: a port a test guest writes to end the run with a status.

Not a real chip: virtual machine monitors offer it at port 0xf4 by convention (QEMU: isa-debug-exit), and test kernels
write one, two or four bytes to it. Reads float.
"""

from collections.abc import Callable


class DebugExit:
    """Hands each value written to `on_exit`."""

    WIRED = ("on_exit",)

    widths_bytes: tuple[int, ...] = (1, 2, 4)

    def __init__(self, on_exit: Callable[[int], None]) -> None:
        self.on_exit = on_exit

    def read(self, offset: int, size_bytes: int) -> int:
        """All ones: nothing drives the bus."""
        return (1 << 8 * size_bytes) - 1

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """End the run with status `value`."""
        self.on_exit(value)
