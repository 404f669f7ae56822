"""A device that remembers what is written to it."""


class Registers:
    """A `BusDevice`; `values` are its registers by offset."""

    NOTHING = 0x7B

    def __init__(self, widths_bytes: tuple[int, ...]) -> None:
        self.widths_bytes = widths_bytes
        self.values: dict[int, int] = {}

    def read(self, offset: int, size_bytes: int) -> int:
        return self.values.get(offset, self.NOTHING)

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        self.values[offset] = value
