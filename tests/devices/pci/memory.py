"""Memory behind a board, as devices reach it: a fake port."""


class FakeMemory:
    """Bytes from 0 on; `accesses` are (address, length in bytes, whether it is a write)."""

    def __init__(self, size_bytes: int = 0x4000) -> None:
        self.bytes = bytearray(size_bytes)
        self.accesses: list[tuple[int, int, bool]] = []

    def read(self, address: int, length_bytes: int) -> bytes:
        self.accesses.append((address, length_bytes, False))
        inside = bytes(self.bytes[address : address + length_bytes]) if address < len(self.bytes) else b""
        return inside + b"\xff" * (length_bytes - len(inside))

    def write(self, address: int, data: bytes) -> None:
        self.accesses.append((address, len(data), True))
        if address + len(data) <= len(self.bytes):
            self.bytes[address : address + len(data)] = data
