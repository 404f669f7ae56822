"""A guest's memory in the host's: where it lies, and the checked ways to it.

gpa 0 ....... LOW_END   hole: devices   HIGH_START ....... end_gpa      nobody answers elsewhere: reads are all ones,
    |                                       |                           writes are dropped
hpa base_hpa ............ in order, around the host's own hole ....... end_hpa
"""

from collections.abc import Iterator
from typing import NamedTuple

from emulator.engine.page_tables import TableMemory
from emulator.memory import HIGH_START, LOW_END, HostMemory, end_of_ram

HOLE_HPA = 1 << 36  # far above any RAM of a host: nothing answers here
HOLE_BYTES = 1 << 30


class Run(NamedTuple):
    """Guest-physical addresses [gpa, end_gpa) that lie in one piece at `hpa`."""

    gpa: int
    end_gpa: int
    hpa: int


def _runs(base_hpa: int, size_bytes: int) -> Iterator[Run]:
    gpa, hpa = 0, base_hpa
    for end_gpa in (min(size_bytes, LOW_END), end_of_ram(0, size_bytes)):
        while gpa < end_gpa:
            if LOW_END <= hpa < HIGH_START:
                hpa = HIGH_START
            length_bytes = min(end_gpa - gpa, LOW_END - hpa) if hpa < LOW_END else end_gpa - gpa
            yield Run(gpa, gpa + length_bytes, hpa)
            gpa, hpa = gpa + length_bytes, hpa + length_bytes
        gpa = max(gpa, HIGH_START)


class GuestMemory:
    """`size_bytes` of RAM in that of `host`, from `base_hpa` on."""

    def __init__(self, host: HostMemory, *, base_hpa: int, size_bytes: int) -> None:
        self._host = host
        self.size_bytes = size_bytes
        self.runs = tuple(_runs(base_hpa, size_bytes))
        self.base_hpa = self.runs[0].hpa
        self._first_bytes = self.runs[0].end_gpa  # nearly all accesses are to the first run
        self.end_hpa = self.runs[-1].hpa + self.runs[-1].end_gpa - self.runs[-1].gpa
        self.tables = TableMemory(host, self.runs, nobody_hpa=HOLE_HPA, nobody_bytes=HOLE_BYTES)
        self._low_end, self._end_gpa = min(size_bytes, LOW_END), end_of_ram(0, size_bytes)

    def is_ram(self, gpa: int, length_bytes: int = 1) -> bool:
        """Whether the guest has RAM at [gpa, gpa + length_bytes)."""
        if gpa < HIGH_START:
            return gpa >= 0 and gpa + length_bytes <= self._low_end
        return gpa + length_bytes <= self._end_gpa

    def run_bytes(self, gpa: int) -> int:
        """How much RAM there is from `gpa` on, in one piece of the host's; 0: none."""
        return next((run.end_gpa - gpa for run in self.runs if run.gpa <= gpa < run.end_gpa), 0)

    def overlaps(self, gpa: int, length_bytes: int) -> bool:
        """Whether there is RAM anywhere in [gpa, gpa + length_bytes)."""
        return any(run.gpa < gpa + length_bytes and gpa < run.end_gpa for run in self.runs)

    def hpa_of(self, gpa: int) -> int:
        """Host-physical address of guest-physical `gpa`.

        Outside the guest's RAM this is an address where nothing answers on the host's bus either: a guest's stray
        access reads all ones and is dropped, as on hardware, and never reaches another domain.
        """
        if 0 <= gpa < self._first_bytes:
            return self.base_hpa + gpa
        for run in self.runs:
            if run.gpa <= gpa < run.end_gpa:
                return run.hpa + gpa - run.gpa
        return HOLE_HPA | gpa & (HOLE_BYTES - 1)

    def gpa_of(self, hpa: int) -> int | None:
        """The guest-physical address that lies at `hpa`; None: it is not the guest's."""
        for run in self.runs:
            if 0 <= hpa - run.hpa < run.end_gpa - run.gpa:
                return run.gpa + hpa - run.hpa
        return None

    def read(self, gpa: int, length_bytes: int) -> bytes:
        """Bytes at `gpa`; all ones where the guest has no RAM."""
        if gpa >= 0 and gpa + length_bytes <= self._first_bytes:
            return self._host.read(self.base_hpa + gpa, length_bytes)
        if self.run_bytes(gpa) >= length_bytes:
            return self._host.read(self.hpa_of(gpa), length_bytes)
        return bytes(
            self._host.bytes[self.hpa_of(gpa + i)] if self.is_ram(gpa + i) else 0xFF for i in range(length_bytes)
        )

    def write(self, gpa: int, data: bytes) -> None:
        """Store `data` at `gpa`; what does not fall on the guest's RAM is dropped."""
        if gpa >= 0 and gpa + len(data) <= self._first_bytes:
            self._host.write(self.base_hpa + gpa, data)
            return
        start = 0
        while start < len(data):
            length_bytes = min(len(data) - start, self.run_bytes(gpa + start))
            if length_bytes:
                self._host.write(self.hpa_of(gpa + start), data[start : start + length_bytes])
            start += length_bytes or 1
