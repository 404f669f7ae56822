"""The last events before a stop, of everybody, in order of time: found by running again, so also behind a way back.

    snapshot ---- quietly ----> |<-- window: a Recorder notes -->| the stop

A run that nobody asks is not slowed by it. The window grows until there are enough events, or the past begins.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

from vmm.session.debugger.happening import Happening, Kind
from vmm.session.debugger.history import Point
from vmm.session.debugger.pursuits import NOTHING, LastBefore
from vmm.session.debugger.recorder import Event, Recorder
from vmm.session.debugger.rerun import awaken, run_quietly, span_of
from vmm.session.debugger.views.values import COLUMNS, View, lines_text
from vmm.session.spec import Limits
from vmm.session.symbols import Symbols
from vmm.session.world.world import Stop

COUNT_MAX = 10_000
WINDOW_CYCLES, WINDOW_GROWTH = 1_000_000, 32
SLICE_CYCLES = 100_000  # how long the ring of a processor fills where nothing else happens


@dataclass(frozen=True)
class Timeline(View):
    """Events in order of time up to a stop at `cycles`; `is_all`: there are none before in the past that is kept."""

    events: tuple[Event, ...]
    cycles: int
    kind: str
    is_all: bool

    def text(self) -> str:
        """A line each, and one for the stop."""
        lines = ["the past that is kept begins here"] if self.is_all else []
        for event in self.events:
            who = event.who if event.core is None else f"pcpu{event.core} {event.who}"
            line = f"{event.cycles:>14,} {who:<10} {event.kind.value:<9} {event.what}"
            place = f" <{event.symbol}>" if event.symbol else ""
            lines.append(line + place if len(line + place) <= COLUMNS else line)
        return lines_text([*lines, f"{self.cycles:>14,} now: {self.kind}"])


def timeline(points: Sequence[Point], origin: Happening, symbols: Sequence[Symbols], count: int) -> Timeline:
    """The last `count` events before `origin`; `points` are the snapshots before it, the latest first."""
    events: list[Event] = []
    for point in points:
        width = WINDOW_CYCLES
        while True:
            start = max(point.cycles, origin.begin_cycles - width)
            events = _events(point, start, origin, symbols, count)
            if len(events) >= count or start == point.cycles:
                break
            width *= WINDOW_GROWTH
        if len(events) >= count:
            break
    return Timeline(tuple(events[-count:]), origin.cycles, origin.kind.value, len(events) < count)


def _events(point: Point, start: int, origin: Happening, symbols: Sequence[Symbols], count: int) -> list[Event]:
    recorder = Recorder(count)
    copy = awaken(point.saved, point.exits, symbols, before=(recorder,))
    recorder.is_over = True
    run_quietly(copy, start)
    recorder.is_over = False
    recorder.follow(copy.world, copy.watcher.subjects)

    def arrive() -> None:
        recorder.finish()
        copy.world.pause()

    spans = [span_of(origin)] if origin.kind is Kind.INSTRUCTION else []
    copy.watcher.take(search := LastBefore(NOTHING, origin, arrive, spans=spans))
    limit = origin.cycles if origin.kind is Kind.REST else None
    while not search.is_over and (limit is None or copy.world.cycles < limit):
        until = copy.world.cycles + SLICE_CYCLES
        answer = copy.world.run(Limits(max_cycles=until if limit is None else min(limit, until)))
        if answer not in (Stop.LIMIT, Stop.PAUSED):
            break
        if not search.is_over:
            recorder.drain()
    recorder.finish()
    return sorted(recorder.events, key=attrgetter("at_ps"))
