"""Who changed this? The last instruction before which a value was another than now, found by running again.

snapshot ... |    |    |    |    | now      the value at 32 places: the last at which it was another begins a part,
                       |  |  |  |           which is cut again, until it is short;
                         | instructions     there each instruction is looked at
"""

from collections.abc import Callable, Sequence

from vmm.session.debugger.happening import Happening, Kind
from vmm.session.debugger.history import Point
from vmm.session.debugger.pursuits import Waiter
from vmm.session.debugger.rerun import awaken, find_last
from vmm.session.debugger.views.subject import Subject
from vmm.session.debugger.watcher import EVERYWHERE
from vmm.session.spec import Limits
from vmm.session.symbols import Symbols

PARTS = 32
SHORT_CYCLES = 200_000
INSTRUCTIONS = frozenset({Kind.INSTRUCTION})
Read = Callable[[Subject], object]


def last_change(
    points: Sequence[Point], read: Read, who: int, origin: Happening, now: object, symbols: Sequence[Symbols]
) -> tuple[Point, Happening] | None:
    """The last instruction before `origin` that begins with another value than `now`, and the snapshot before it.

    `points` are those before the origin, the latest first. None: the value has not changed since the first.
    """
    end = origin
    for point in points:
        copy = awaken(point.saved, point.exits, symbols)
        if read(copy.watcher.subjects[who]) == now:
            end = Happening(Kind.REST, point.cycles, point.exits)
            continue
        first, last = point.cycles, end.cycles
        while last - first > SHORT_CYCLES:
            first, found_last = _part(point, read, who, now, first, last, symbols)
            if found_last < last:
                end = Happening(Kind.REST, found_last, 0)
            last = found_last
        return find_last(
            [point],
            lambda: Waiter(
                INSTRUCTIONS, (EVERYWHERE,), match=lambda h: h.subject is not None and read(h.subject) != now
            ),
            end,
            symbols,
        )
    return None


def _part(
    point: Point, read: Read, who: int, now: object, first: int, last: int, symbols: Sequence[Symbols]
) -> tuple[int, int]:
    """The part of [first, last] that begins with the last other value at its ends."""
    copy = awaken(point.saved, point.exits, symbols)
    begin, end = first, last
    ends = [first + (last - first) * number // PARTS for number in range(PARTS)]
    for number, cycle in enumerate(ends):
        if cycle > copy.world.cycles:
            copy.world.run(Limits(max_cycles=cycle))
        if read(copy.watcher.subjects[who]) != now:
            begin, end = cycle, ends[number + 1] if number + 1 < PARTS else last
    return begin, end
