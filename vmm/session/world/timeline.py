"""The past of a world: snapshots on the way, and the way from the nearest one to any cycle or VM exit.

    run -----S---------S---------S-----> now            every `every_cycles` of the first host's clock
                       |--->|
             seek(cycle=...), seek(exit=...): a clone of the last snapshot before it, run again up to there

Exact, since a world is: what is run again is what was run.
"""

import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace
from operator import attrgetter

from emulator.errors import ConfigError
from vmm.exits.observer import ExitObserver
from vmm.session.spec import Limits
from vmm.session.world.saved import SavedWorld
from vmm.session.world.world import Stop, World
from vmm.vcpu import Exit, VCpu

EVERY_CYCLES = 200_000_000


@dataclass(frozen=True)
class _Point:
    """A snapshot on the way."""

    cycle: int
    exits: int  # so far
    saved: SavedWorld[World]


class _Stopper(ExitObserver):
    """Pauses a world behind the exit that is `left` exits away."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.pause: Callable[[], None] = lambda: None

    def exit_ended(self, vcpu: VCpu, exit: Exit, cycles: int) -> None:
        """One exit less."""
        self.left -= 1
        if self.left == 0:
            self.pause()


class Timeline:
    """Runs `world`, and goes back in it."""

    def __init__(self, world: World, *, every_cycles: int = EVERY_CYCLES) -> None:
        """`world` may be built or not. `every_cycles`: between two snapshots. Raises ConfigError."""
        if every_cycles < 1:
            raise ConfigError(f"every_cycles {every_cycles} is not possible; give a number above 0")
        world.build()
        if world.has_ended:
            raise ConfigError("the world has ended already; make its timeline before it runs")
        self.world = world
        self._every_cycles = every_cycles
        self._points: list[_Point] = []
        self._first_cycle = world.cycles if world.has_run else 1  # what a VMM has set up is before any cycle
        self._keep()

    def _keep(self) -> None:
        self._points.append(_Point(self.world.cycles, self.world.exit_count, self.world.snapshot()))

    def run(self, limits: Limits | None = None) -> Stop:
        """As `World.run`, with snapshots on the way."""
        limits = limits or Limits()
        started, left_seconds = time.perf_counter(), limits.max_seconds
        while True:
            next_cycles = self._points[-1].cycle + self._every_cycles
            is_last = limits.max_cycles is not None and limits.max_cycles <= next_cycles
            max_cycles = limits.max_cycles if is_last else next_cycles
            stop = self.world.run(replace(limits, max_cycles=max_cycles, max_seconds=left_seconds))
            if is_last or stop is not Stop.LIMIT or self.world.cycles < next_cycles:
                return stop
            self._keep()
            if limits.max_seconds is not None:
                left_seconds = started + limits.max_seconds - time.perf_counter()
                if left_seconds <= 0:
                    return Stop.LIMIT

    def seek(self, *, cycle: int | None = None, exit: int | None = None) -> World:
        """A world where the first host's clock gets to `cycle`, or behind its VM exit number `exit`, the first being 1.

        Raises ConfigError when it has not come that far, or was made later.
        """
        world = self.world
        if cycle is not None and exit is None:
            _check("cycle", cycle, self._first_cycle, world.cycles)
            return self._to_cycle(cycle)
        if exit is not None and cycle is None:
            _check("exit", exit, self._points[0].exits + 1, world.exit_count)
            return self._to_exit(exit)
        raise ConfigError("seek needs either a cycle or an exit")

    def _to_cycle(self, cycle: int) -> World:
        point = self._points[max(0, bisect_right(self._points, cycle, key=attrgetter("cycle")) - 1)]
        world = point.saved.clone()
        if cycle > point.cycle:
            world.run(Limits(max_cycles=cycle))
        return world

    def _to_exit(self, number: int) -> World:
        point = self._points[bisect_right(self._points, number - 1, key=attrgetter("exits")) - 1]
        stopper = _Stopper(number - point.exits)

        def prepare(world: World) -> None:
            for host in world.hosts:
                host.observe(stopper)
            stopper.pause = world.pause

        world = point.saved.clone(prepare)
        world.run()
        return world


def _check(what: str, wanted: int, first: int, last: int) -> None:
    if not first <= wanted <= last:
        raise ConfigError(f"there is no {what} {wanted} in the past; give a number from {first} to {last}")
