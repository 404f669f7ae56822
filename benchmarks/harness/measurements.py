"""What guests measure, as lines on their serial console, and the statistics of it. Every guest benchmark uses this.

    ~ cpuid 50 empty 313 313 ... cycles 241263 241263 ...     name, operations of a round, cycles of each round
    ~ load_latency/4096/64 8192 empty ... cycles ...            /number: parameters of the measurement
    ~ vmcall unavailable: no hypervisor

`guest_images/lib/measure.h` prints them. A round repeats the operation and is timed by the guest's RDTSC; an empty
round is the same loop around nothing. The method is LMbench's: eleven rounds, the overhead taken off, the median
counts (McVoy and Staelin, "lmbench: Portable Tools for Performance Analysis", USENIX 1996).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

LINE_START = "~"
_NUMBERS = r"((?: \d+)+)"
_SAMPLES = re.compile(rf"~ ([a-z]\w*)((?:/\d+)*) (\d+) empty{_NUMBERS} cycles{_NUMBERS}", re.ASCII)
_UNAVAILABLE = re.compile(r"~ ([a-z]\w*) unavailable: (\S.*)", re.ASCII)


class ProtocolError(Exception):
    """A guest printed a line of measurements that is none: guest and reader do not fit each other."""


@dataclass(frozen=True)
class Unavailable:
    """A measurement that this machine does not allow."""

    name: str
    reason: str


@dataclass(frozen=True)
class Measurement:
    """The rounds of one operation; `cycles` and `empty_cycles` are those of whole rounds."""

    name: str
    parameters: tuple[int, ...]
    operations: int  # of a round
    empty_cycles: tuple[int, ...]
    cycles: tuple[int, ...]

    @property
    def median_round(self) -> int:
        """Which round is the median one."""
        return median_index(self.cycles)

    @property
    def median_empty_round(self) -> int:
        """Which of the empty rounds is the median one."""
        return median_index(self.empty_cycles)

    @cached_property
    def samples(self) -> tuple[float, ...]:
        """Cycles of one operation in each round, in ascending order, without the loop's overhead."""
        overhead = self.empty_cycles[self.median_empty_round]
        return tuple(sorted((cycles - overhead) / self.operations for cycles in self.cycles))

    @property
    def median(self) -> float:
        """Cycles of one operation."""
        return self.samples[(len(self.samples) - 1) // 2]


def nanoseconds(cycles: float, frequency_hz: int) -> float:
    """`cycles` of a core's clock, to picoseconds."""
    return round(cycles * 1e9 / frequency_hz, 3)


def median_index(values: Sequence[int]) -> int:
    """The index of the median; the first of equals, the lower of the two in the middle."""
    return sorted(range(len(values)), key=lambda index: (values[index], index))[(len(values) - 1) // 2]


def parse_line(line: str) -> Measurement | Unavailable:
    """The measurement in a line that begins with `~`. Raises ProtocolError."""
    if match := _UNAVAILABLE.fullmatch(line):
        return Unavailable(match[1], match[2])
    match = _SAMPLES.fullmatch(line)
    if match is None:
        raise ProtocolError(f"not a measurement: {line!r}")
    parameters = tuple(int(text) for text in match[2].split("/")[1:])
    empty, cycles = (tuple(int(text) for text in group.split()) for group in match.group(4, 5))
    operations = int(match[3])
    if operations == 0 or len(empty) != len(cycles):
        raise ProtocolError(f"no operations, or not as many empty rounds as others: {line!r}")
    return Measurement(match[1], parameters, operations, empty, cycles)
