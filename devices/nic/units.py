"""The units of the network processor that serve requests one after the other: memories, DMA channels, the PCI bus.

    request ---> | waits | served: bytes / rate | latency ---> answer
                         ^ when the unit is free

Nothing is scheduled here: when a request is answered follows from when the unit is free.

MODEL: requests queue in the order in which contexts go on, not in which they ask, one step later: two may swap places.
MODEL: what DMA moves takes no DRAM time; a channel is held until its transfer is over.
"""

from collections import deque

from emulator.events import PS_PER_SECOND


class Usage:
    """What a queue has served, for reports. Its depth is of requests that wait or are served."""

    def __init__(self) -> None:
        self.requests = self.busy_ps = self.waited_ps = self.depth_max = 0
        self._ends_ps: deque[int] = deque()  # of requests that are not over, in order

    def note(self, at_ps: int, start_ps: int, end_ps: int) -> None:
        """A request that came at `at_ps` is served from start to end."""
        ends_ps = self._ends_ps
        while ends_ps and ends_ps[0] <= at_ps:
            ends_ps.popleft()
        ends_ps.append(end_ps)
        if len(ends_ps) > self.depth_max:
            self.depth_max = len(ends_ps)
        self.requests += 1
        self.busy_ps += end_ps - start_ps
        self.waited_ps += start_ps - at_ps

    def statistics(self) -> dict[str, int]:
        """As plain numbers."""
        return {name: number for name, number in vars(self).items() if name[0] != "_"}


class Unit:
    """A queue with a rate and a latency."""

    def __init__(self, *, latency_ps: int, bytes_per_second: int) -> None:
        self.usage = Usage()
        self.latency_ps = latency_ps
        self._bytes_per_second = bytes_per_second
        self._free_ps = 0  # when the last request has been served

    def request(self, at_ps: int, size_bytes: int) -> int:
        """Ask at `at_ps`; when the answer is there."""
        start_ps = self._free_ps if self._free_ps > at_ps else at_ps
        self._free_ps = start_ps - -size_bytes * PS_PER_SECOND // self._bytes_per_second
        self.usage.note(at_ps, start_ps, self._free_ps)
        return self._free_ps + self.latency_ps


class DmaChannels:
    """The PCI unit: a transfer takes the channel that is free first, and with it the bus."""

    def __init__(self, *, channels: int, setup_ps: int, read_ps: int, write_ps: int, bytes_per_second: int) -> None:
        self.bus = Unit(latency_ps=0, bytes_per_second=bytes_per_second)
        self.usage = Usage()
        self._free_ps = [0] * channels
        self._setup_ps = setup_ps
        self.read_ps, self.write_ps = setup_ps + read_ps, setup_ps + write_ps  # at least
        self._read_ps = read_ps
        self._write_ps = write_ps

    def read(self, at_ps: int, size_bytes: int) -> int:
        """When `size_bytes` of the host's memory are there."""
        return self._transfer(at_ps, size_bytes, self._read_ps)

    def write(self, at_ps: int, size_bytes: int) -> int:
        """When `size_bytes` are in the host's memory."""
        return self._transfer(at_ps, size_bytes, self._write_ps)

    def _transfer(self, at_ps: int, size_bytes: int, latency_ps: int) -> int:
        free_ps = min(self._free_ps)
        channel = self._free_ps.index(free_ps)
        start_ps = max(at_ps, free_ps)
        done_ps = self.bus.request(start_ps + self._setup_ps, size_bytes) + latency_ps
        self._free_ps[channel] = done_ps
        self.usage.note(at_ps, start_ps, done_ps)
        return done_ps
