"""The past again: from a snapshot a clone runs, once to find what is looked for, once to stop there.

    points, the latest first --> clone --quietly up to a window--> LastBefore(pursuit, origin) --> the last match
                             --> clone --quietly up to it--------> Reach(match): halted there

Instructions are looked at one by one only in a window before the origin, which grows as long as nothing is found.
Ctrl-C ends a search by KeyboardInterrupt: only copies have run.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from vmm.exits.observer import ExitObserver
from vmm.session.debugger.happening import Happening, Kind
from vmm.session.debugger.history import Point
from vmm.session.debugger.life import Life
from vmm.session.debugger.pursuits import NOTHING, LastBefore, Reach
from vmm.session.debugger.watcher import EVERYWHERE, Pursuit, Watcher
from vmm.session.spec import SLICE_CYCLES, Limits
from vmm.session.symbols import Symbols
from vmm.session.world.saved import SavedWorld
from vmm.session.world.world import Stop, World

WINDOW_CYCLES, WINDOW_GROWTH = 20_000, 32


@dataclass(frozen=True)
class Watched:
    """A world, and who watches it."""

    world: World
    watcher: Watcher


def awaken(
    saved: SavedWorld[World], exits: int | None, symbols: Sequence[Symbols], *, before: Sequence[ExitObserver] = ()
) -> Watched:
    """A world that goes on from `saved`, watched. `exits`: how many have begun; None: as many as have ended.

    Others hear of exits `before` the watcher.
    """
    watcher = Watcher()

    def prepare(world: World) -> None:
        for host in world.hosts:
            for observer in (*before, watcher):
                host.observe(observer)

    world = saved.clone(prepare)
    watcher.exits = world.exit_count if exits is None else exits
    watcher.follow(world, symbols)
    return Watched(world, watcher)


def find_last(
    points: Sequence[Point], make: Callable[[], Pursuit], origin: Happening, symbols: Sequence[Symbols]
) -> tuple[Point, Happening] | None:
    """The last happening before `origin` that a pursuit of `make` halts at, and a snapshot before it.

    The snapshot is one of `points`, or a nearer one.
    """
    for point in points:
        for start in _windows(point.cycles, origin.begin_cycles, make()):
            near, found = _search(point, start, make(), origin, symbols)
            if found is not None:
                return near, found
    return None


def _windows(first: int, end: int, pursuit: Pursuit) -> Iterator[int]:
    """Where to begin to look: for instructions anywhere not far before the end at first."""
    width = WINDOW_CYCLES
    if pursuit.places or (EVERYWHERE in pursuit.spans and Kind.INSTRUCTION in pursuit.kinds):
        while end - width > first:
            yield end - width
            width *= WINDOW_GROWTH
    yield first


def _search(
    point: Point, start: int, pursuit: Pursuit, origin: Happening, symbols: Sequence[Symbols]
) -> tuple[Point, Happening | None]:
    """The last match, and a snapshot of where it began to look."""
    copy = awaken(point.saved, point.exits, symbols)
    if start > point.cycles:
        run_quietly(copy, start)
        point = Point(copy.world.cycles, copy.watcher.exits, copy.world.snapshot())
    search = LastBefore(pursuit, origin, copy.world.pause, spans=_spans(pursuit, origin))
    copy.watcher.take(search)
    limit = origin.cycles if origin.kind is Kind.REST else None
    while not search.is_over:
        if limit is not None and limit <= copy.world.cycles:
            break
        if copy.world.run(Limits(max_cycles=limit)) is not Stop.PAUSED:
            break
    return point, search.found


def _spans(pursuit: Pursuit, origin: Happening) -> list[tuple[int, int]]:
    """Of the pursuit, and where the origin lies if that is an instruction."""
    spans = list(pursuit.spans) if Kind.INSTRUCTION in pursuit.kinds else []
    if origin.kind is Kind.INSTRUCTION and EVERYWHERE not in spans:
        spans.append(span_of(origin))
    return spans


def span_of(instruction: Happening) -> tuple[int, int]:
    """Where it lies."""
    return (instruction.linear, instruction.linear)


def rest(point: Point, cycles: int, symbols: Sequence[Symbols]) -> tuple[Watched, Life, Stop]:
    """A world that is at rest at `cycles`."""
    copy, life = _alive(point, symbols)
    answer = _go_on(life, cycles) if cycles > copy.world.cycles else Stop.LIMIT
    assert isinstance(answer, Stop)
    return copy, life, answer


def reach(
    point: Point, pursuit: Pursuit, symbols: Sequence[Symbols], *, near_cycles: int = 0
) -> tuple[Watched, Life, Happening]:
    """A world that is halted where `pursuit` halts it; nobody looks before `near_cycles`."""
    copy, life = _alive(point, symbols)
    if near_cycles > copy.world.cycles:
        _go_on(life, near_cycles)
    copy.watcher.take(pursuit)
    answer: Happening | Stop = Stop.LIMIT
    while answer is Stop.LIMIT:
        answer = _go_on(life, copy.world.cycles + SLICE_CYCLES)
    assert isinstance(answer, Happening), f"the run is another: {answer.value} instead of {pursuit}"
    copy.watcher.take(NOTHING)
    return copy, life, answer


def reach_again(point: Point, target: Happening, symbols: Sequence[Symbols]) -> tuple[Watched, Life, Happening | Stop]:
    """A world that stands where one did at `target`."""
    if target.kind in (Kind.REST, Kind.END):
        return rest(point, target.cycles, symbols)
    spans = [span_of(target)] if target.kind is Kind.INSTRUCTION else []
    return reach(point, Reach(target, spans), symbols, near_cycles=target.begin_cycles - WINDOW_CYCLES)


def _alive(point: Point, symbols: Sequence[Symbols]) -> tuple[Watched, Life]:
    copy = awaken(point.saved, point.exits, symbols)
    life = Life(copy.world)
    copy.watcher.life = life
    return copy, life


def _go_on(life: Life, cycles: int) -> Happening | Stop:
    """Up to `cycles`. Raises KeyboardInterrupt at Ctrl-C: the copy is not wanted any more."""
    answer = life.run(Limits(max_cycles=cycles))
    if answer is Stop.PAUSED:
        life.end()
        raise KeyboardInterrupt
    return answer


def run_quietly(copy: Watched, cycles: int) -> None:
    """To a cycle, while nobody looks."""
    if cycles > copy.world.cycles:
        copy.world.run(Limits(max_cycles=cycles))
