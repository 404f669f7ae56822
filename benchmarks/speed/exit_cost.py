"""What one VM exit through the VMM's Python takes: the guest `exit_cost` repeats one, the workstation's clock runs.

The guest prints `~ NAME count begin`, repeats, and prints `~ NAME cycles end`: cycles of its own for each. The clock is
read when the first line has ended and when the second has begun, so neither line is part of what is measured.
"""

import re
import time
from dataclasses import dataclass
from itertools import pairwise

from vmm.session.build import build_guest
from vmm.session.plan import plan
from vmm.session.spec import GuestSpec, HostSpec, Paging

SLICE_CYCLES = 10**12
REPEAT = 5
BEGIN = re.compile(rb"~ (\w+) (\d+) begin")
END = re.compile(rb"~ (\w+) (\d+) end")


@dataclass(frozen=True)
class ExitCost:
    """One kind of exit under one way of paging."""

    exit_name: str
    paging: Paging
    microseconds: float  # of the workstation
    guest_cycles: int


class Stopwatch:
    """Gets the guest's output; notes when each line began and when it ended."""

    def __init__(self) -> None:
        self.lines: list[tuple[bytes, float, float]] = []  # (text, began, ended)
        self._line = bytearray()
        self._began = 0.0

    def transmit(self, byte: int) -> None:
        """The guest sent `byte`."""
        if not self._line:
            self._began = time.process_time()
        self._line.append(byte)
        if byte == ord("\n"):
            self.lines.append((bytes(self._line), self._began, time.process_time()))
            self._line.clear()


def measure_exit_costs(modes: tuple[Paging, ...] = ("ept", "shadow"), repeat: int = REPEAT) -> list[ExitCost]:
    """Run the guest `repeat` times in each mode; what counts is the fastest: other work only ever adds."""
    costs: list[ExitCost] = []
    for paging in modes:
        runs = [_measure(paging) for _ in range(repeat)]
        costs += [min(same_exit, key=lambda cost: cost.microseconds) for same_exit in zip(*runs, strict=True)]
    return costs


def _measure(paging: Paging) -> list[ExitCost]:
    stopwatch = Stopwatch()
    guest = build_guest(plan(HostSpec(paging=paging), GuestSpec(image="exit_cost")), stopwatch.transmit)
    while guest.end is None:
        guest.advance(guest.pcpu.clock.cycles + SLICE_CYCLES)
    return costs_of(stopwatch.lines, paging)


def costs_of(lines: list[tuple[bytes, float, float]], paging: Paging) -> list[ExitCost]:
    """The measurements in the guest's output."""
    costs = []
    for (first, _, started), (second, ended, _) in pairwise(lines):
        begin, end = BEGIN.match(first), END.match(second)
        if begin and end and begin[1] == end[1]:
            seconds = (ended - started) / int(begin[2])
            costs.append(ExitCost(begin[1].decode(), paging, seconds * 1e6, int(end[2])))
    return costs
