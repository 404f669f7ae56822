"""Direct memory access: a device reads and writes memory, and knows nothing of the CPU.

    device --BusMaster.read, write--> may it? piece by piece, each inside one page
                                          |
                                      Upstream, the host bridge --writes to 0xFEExxxxx--> InterruptBus
                                          |
                                      DmaPort of whoever owns the memory: a machine's, a domain's

Reads that nobody answers, or that the function is not allowed, are all ones; such writes are dropped. How long a
transfer takes is the device's to model: the port does it at once, at the time of the event that asks.

MODEL: no function reaches the registers of another (peer to peer); nothing is ever retried or aborted visibly.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from devices.interrupts.interrupt_bus import InterruptBus
from devices.interrupts.message_signalled import MESSAGE_BYTES, decode_message, is_message_address
from emulator.x86 import PAGE_BYTES

TRANSFER_MAX_BYTES = 1 << 16  # of one call: a device splits what is longer, since that takes time
ADDRESS_MASK = (1 << 64) - 1


class DmaPort(Protocol):
    """Memory as devices reach it. Each access lies inside one page; its address may be any of 64 bits."""

    def read(self, address: int, length_bytes: int) -> bytes:
        """The bytes at `address`, as the CPUs would load them; all ones where there is no memory."""
        ...

    def write(self, address: int, data: bytes) -> None:
        """Store `data` at `address`, seen by all CPUs; what does not fall on memory is dropped."""
        ...


class Nowhere:
    """The port of a function that is in no slot."""

    def read(self, address: int, length_bytes: int) -> bytes:
        """Nobody answers."""
        return b"\xff" * length_bytes

    def write(self, address: int, data: bytes) -> None:
        """Nobody takes it."""


class BusMaster:
    """What a function may do on the bus by itself, while `is_allowed()`: the bit of its command register."""

    def __init__(self, is_allowed: Callable[[], bool]) -> None:
        self.port: DmaPort = Nowhere()  # connected by the bus
        self._is_allowed = is_allowed

    def read(self, address: int, length_bytes: int) -> bytes:
        """Up to TRANSFER_MAX_BYTES from `address` on; beyond 2^64 it goes on at 0. Raises ValueError for more."""
        pieces = _pieces(address, length_bytes)
        if not self._is_allowed():
            return b"\xff" * length_bytes
        return b"".join([self.port.read(at, end - start) for at, start, end in pieces])

    def write(self, address: int, data: bytes) -> None:
        """Store up to TRANSFER_MAX_BYTES from `address` on. Raises ValueError for more."""
        pieces = _pieces(address, len(data))
        if self._is_allowed():
            for at, start, end in pieces:
                self.port.write(at, data[start:end])


def _pieces(address: int, length_bytes: int) -> Iterable[tuple[int, int, int]]:
    """(address, where it begins in the transfer, where it ends) for each page. Raises ValueError."""
    if not 0 <= length_bytes <= TRANSFER_MAX_BYTES:
        raise ValueError(f"a device wants to transfer {length_bytes} bytes at once")
    if 0 < length_bytes <= PAGE_BYTES - address % PAGE_BYTES:
        return ((address & ADDRESS_MASK, 0, length_bytes),)
    return _in_pages(address, length_bytes)


def _in_pages(address: int, length_bytes: int) -> Iterator[tuple[int, int, int]]:
    start = 0
    while start < length_bytes:
        at = address + start & ADDRESS_MASK
        end = min(length_bytes, start + PAGE_BYTES - at % PAGE_BYTES)
        yield at, start, end
        start = end


class Upstream:
    """The way from the bus to `memory`, and to the local APICs on `interrupts`."""

    def __init__(self, memory: DmaPort, interrupts: InterruptBus) -> None:
        self._memory = memory
        self._interrupts = interrupts

    def read(self, address: int, length_bytes: int) -> bytes:
        """See DmaPort; nothing can be read where messages go."""
        return b"\xff" * length_bytes if is_message_address(address) else self._memory.read(address, length_bytes)

    def write(self, address: int, data: bytes) -> None:
        """See DmaPort; a message has 32 bits, aligned, any other write there is dropped."""
        if not is_message_address(address):
            self._memory.write(address, data)
        elif len(data) == MESSAGE_BYTES and address % MESSAGE_BYTES == 0:
            message = decode_message(address, int.from_bytes(data, "little"))
            if message is not None:
                self._interrupts.send(message)
