"""Lines that cores write to each other, followed exactly at every fidelity: who has a line, who had it written.

    store by a core that others read too   the others lose it: `upgrade`          the store waits in the store buffer,
    store by a core that has it not        the line comes from who wrote it        not the core
    load  by a core that has it not        the line comes from who wrote it, and stays there to be read
    load or store by a core that has it    nothing
    store by a device                      all lose it: it is in memory

The costs are those of the memory hierarchy (hierarchy.py, state.py): stalls beyond a hit in the first-level cache.
# MODEL: a line that is shared this way never leaves the caches for want of room.
"""

from dataclasses import dataclass, field

from emulator.profiles.profile import Profile
from emulator.timing.topology import places_of


@dataclass(slots=True)
class Line:
    """Who has a line."""

    writer: int | None = None  # the core that has it modified
    readers: set[int] = field(default_factory=set)  # cores that have it, the writer too
    written_cycles: int = 0  # when the last store to it is visible to others
    is_in_memory: bool = False  # and in no cache: a device has written it


class SharedLines:
    """The shared lines of a machine with `pcpu_count` pCPUs. Raises ConfigError when the profile has fewer."""

    def __init__(self, profile: Profile, pcpu_count: int) -> None:
        core, memory, caches = profile.core, profile.memory, profile.caches
        beyond = caches.l1d_latency_cycles
        self._places = places_of(profile, pcpu_count)
        self._line_bytes = caches.line_bytes
        self._dirty_cycles = max(0, core.dirty_line_cycles - beyond)
        self._remote_dirty_cycles = max(0, core.remote_dirty_line_cycles - beyond)
        self._upgrade_cycles, self._clean_cycles = self._dirty_cycles, memory.dram_latency_cycles - beyond
        if caches.l3_ways:
            self._upgrade_cycles = self._clean_cycles = caches.l3_latency_cycles - beyond
        elif caches.l2_ways and caches.is_l2_shared:
            self._upgrade_cycles = self._clean_cycles = caches.l2_latency_cycles - beyond
        self._memory_cycles = memory.dram_latency_cycles - beyond
        self._lines: dict[int, Line] = {}
        self.transfer_cycles = self._dirty_cycles  # of a line another core of the package has written

    def load(self, pcpu: int, hpa: int) -> int:
        """A load by `pcpu`: how long it stalls."""
        line, core = self._line(hpa), self._places[pcpu].core
        if core in line.readers:
            return 0
        cycles = self._fetch_cycles(line, core)
        line.readers.add(core)
        line.writer, line.is_in_memory = None, False
        return cycles

    def store(self, pcpu: int, hpa: int, now_cycles: int) -> int:
        """A store by `pcpu`: when others see it; never before an earlier store to the line."""
        cycles, line, core = self.store_cycles(pcpu, hpa), self._line(hpa), self._places[pcpu].core
        line.writer, line.readers, line.is_in_memory = core, {core}, False
        line.written_cycles = max(now_cycles + cycles, line.written_cycles)
        return line.written_cycles

    def store_by_device(self, hpa: int, size_bytes: int, now_cycles: int) -> None:
        """A device's store, past the caches: it is visible when it arrives, and no core has its lines then."""
        for number in range(hpa // self._line_bytes, (hpa + size_bytes - 1) // self._line_bytes + 1):
            line = self._lines.setdefault(number, Line())
            line.writer, line.is_in_memory = None, True
            line.readers.clear()
            line.written_cycles = max(now_cycles, line.written_cycles)

    def store_cycles(self, pcpu: int, hpa: int) -> int:
        """What a store by `pcpu` would take, which does not take place yet."""
        line, core = self._line(hpa), self._places[pcpu].core
        if line.writer == core or line.readers == {core}:
            return 0
        if line.writer is not None or core not in line.readers:
            return self._fetch_cycles(line, core)
        remote = any(self._is_remote(core, other) for other in line.readers)
        return self._remote_dirty_cycles if remote else self._upgrade_cycles

    def _line(self, hpa: int) -> Line:
        return self._lines.setdefault(hpa // self._line_bytes, Line())

    def _fetch_cycles(self, line: Line, core: int) -> int:
        """How long a line takes to get to a core that has it not."""
        if line.writer is not None:
            return self._transfer_cycles(core, line.writer)
        return self._memory_cycles if line.is_in_memory else self._clean_cycles

    def _is_remote(self, core: int, other: int) -> bool:
        return self._places[core].package != self._places[other].package  # the first pCPUs are the cores, in order

    def _transfer_cycles(self, core: int, other: int) -> int:
        return self._remote_dirty_cycles if self._is_remote(core, other) else self._dirty_cycles
