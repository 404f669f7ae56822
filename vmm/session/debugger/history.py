"""Snapshots of a world on its way, within a budget of memory: where the way back begins.

    S---------S---------S----S--S-> now        each costs its time once, and its bytes as long as it is kept;
                                               beyond the budget every second of the older half goes

When snapshots are taken depends on the workstation; what is found from them does not.
"""

import time
from bisect import bisect_right
from dataclasses import dataclass
from operator import attrgetter

from vmm.session.world.saved import SavedWorld
from vmm.session.world.world import World

EVERY_SECONDS = 1.0  # of the workstation, at least
COST_SHARE = 16  # and so many times what the last one took


@dataclass(frozen=True)
class Point:
    """A snapshot, at a cycle of the first host's clock, behind so many VM exits."""

    cycles: int
    exits: int
    saved: SavedWorld[World]


class History:
    """The snapshots, ascending, of `budget_bytes` at most, but for two."""

    def __init__(self, *, every_seconds: float = EVERY_SECONDS, budget_bytes: int = 2 << 30) -> None:
        self.points: list[Point] = []
        self.budget_bytes = budget_bytes
        self._every_seconds = every_seconds
        self._last_took = 0.0
        self._next_at = 0.0

    @property
    def is_due(self) -> bool:
        """Whether it is time for another."""
        return time.perf_counter() >= self._next_at

    def keep(self, world: World, exits: int) -> None:
        """Take one, of a world at rest, unless there is one of this cycle."""
        started = time.perf_counter()
        if not self.points or self.points[-1].cycles < world.cycles:
            self.add(Point(world.cycles, exits, world.snapshot()))
        now = time.perf_counter()
        self._next_at = now + max(self._every_seconds, COST_SHARE * (now - started))

    def add(self, point: Point) -> None:
        """One that was taken already, behind all others."""
        self.points.append(point)
        self._thin_out()

    def insert(self, point: Point) -> None:
        """One of the past, which was run again."""
        at = bisect_right(self.points, point.cycles, key=attrgetter("cycles"))
        if at == 0 or self.points[at - 1].cycles < point.cycles:
            self.points.insert(at, point)
            self._thin_out()

    def before(self, cycles: int) -> list[Point]:
        """Those at `cycles` or before, the latest first."""
        return self._first(bisect_right(self.points, cycles, key=attrgetter("cycles")))

    def before_exit(self, number: int) -> list[Point]:
        """Those before VM exit `number`, the latest first."""
        return self._first(bisect_right(self.points, number - 1, key=attrgetter("exits")))

    def _first(self, count: int) -> list[Point]:
        return self.points[:count][::-1]

    def forget(self) -> None:
        """What was is not the past of what is: somebody has changed the world."""
        self.points.clear()
        self._next_at = 0.0

    @property
    def kept_bytes(self) -> int:
        """Memory in use, about."""
        return sum(point.saved.kept_bytes for point in self.points)

    def _thin_out(self) -> None:
        while self.kept_bytes > self.budget_bytes and len(self.points) > 2:
            half = max(2, len(self.points) // 2)
            del self.points[1:half:2]
