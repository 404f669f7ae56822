"""The units of the network processor that serve requests one after the other: memories, DMA channels, the PCI bus.

    request ---> | waits | served: bytes / rate | latency ---> answer
                         ^ when the unit is free

Nothing is scheduled here: when a request is answered follows from when the unit is free.
"""

from emulator.events import PS_PER_SECOND


class Unit:
    """A queue with a rate and a latency. `busy_ps` and `requests` are for reports."""

    def __init__(self, *, latency_ps: int, bytes_per_second: int) -> None:
        self.latency_ps = latency_ps
        self.free_ps = 0  # when the last request has been served
        self.requests = self.busy_ps = self.waited_ps = 0
        self._bytes_per_second = bytes_per_second

    def request(self, at_ps: int, size_bytes: int) -> int:
        """Ask at `at_ps`; when the answer is there."""
        start_ps = self.free_ps if self.free_ps > at_ps else at_ps
        service_ps = -(-size_bytes * PS_PER_SECOND // self._bytes_per_second)
        self.free_ps = start_ps + service_ps
        self.requests += 1
        self.busy_ps += service_ps
        self.waited_ps += start_ps - at_ps
        return self.free_ps + self.latency_ps


class DmaChannels:
    """The PCI unit: a transfer takes the channel that is free first, and with it the bus."""

    def __init__(self, *, channels: int, setup_ps: int, read_ps: int, write_ps: int, bytes_per_second: int) -> None:
        self.bus = Unit(latency_ps=0, bytes_per_second=bytes_per_second)
        self.free_ps = [0] * channels
        self._setup_ps = setup_ps
        self._read_ps = read_ps
        self._write_ps = write_ps

    def read(self, at_ps: int, size_bytes: int) -> int:
        """When `size_bytes` of the host's memory are there."""
        return self._transfer(at_ps, size_bytes, self._read_ps)

    def write(self, at_ps: int, size_bytes: int) -> int:
        """When `size_bytes` are in the host's memory."""
        return self._transfer(at_ps, size_bytes, self._write_ps)

    def _transfer(self, at_ps: int, size_bytes: int, latency_ps: int) -> int:
        free_ps = min(self.free_ps)
        channel = self.free_ps.index(free_ps)
        done_ps = self.bus.request(max(at_ps, free_ps) + self._setup_ps, size_bytes) + latency_ps
        self.free_ps[channel] = done_ps
        return done_ps
