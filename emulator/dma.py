"""The host's memory as its devices reach it: past the cores, but coherent with their caches.

    device on the host's board --read, write--> snoop of all caches (`detailed`) --> HostMemory

A read leaves cores their lines, which become shared; a write takes the lines away (kernels/coherence.py), or puts them
into the last-level cache of one core, where a device has direct cache access. It takes no
core's time: what a transfer takes is the device's to model. Code that changes is noticed by each engine when it runs it
next (engine/time/blocks.c); a core's TLB keeps what it has, as on hardware.
"""

from emulator.memory import HostMemory
from emulator.timing.core_timing import MachineTiming


class HostDma:
    """The port to `memory` of a machine timed by `timing`. An access lies inside one page."""

    def __init__(self, memory: HostMemory, timing: MachineTiming) -> None:
        self._memory = memory
        self._timing = timing

    def read(self, hpa: int, length_bytes: int) -> bytes:
        """The bytes at `hpa`; all ones where there is no RAM."""
        if not self._memory.is_ram(hpa, length_bytes):
            return b"\xff" * length_bytes
        self._snoop(hpa, length_bytes, is_write=False)
        return self._memory.read(hpa, length_bytes)

    def write(self, hpa: int, data: bytes, *, taker: int | None = None) -> None:
        """Store `data` at `hpa`, and in the last-level cache of core `taker`, if any; dropped where there is no RAM."""
        if self._memory.is_ram(hpa, len(data)):
            self._snoop(hpa, len(data), is_write=True, taker=taker)
            self._memory.write(hpa, data)

    def _snoop(self, hpa: int, length_bytes: int, *, is_write: bool, taker: int | None = None) -> None:
        if self._timing.hierarchy is not None:  # made when a core is first timed in detail
            self._timing.hierarchy.device_access(hpa, length_bytes, is_write, taker=taker)
