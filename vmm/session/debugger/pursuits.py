"""What commands wait for: values that say what to look at, and when it is there.

Waiter(kinds)            the next of these kinds                next-exit, finish, step, stepi, step-vmm
ForBreaks(breaks)        what a break stops at                  continue
Reach(key)               the happening with this key            goto, and the way back
LastBefore(match, key)   runs up to `key`, keeps the last match  the reverse commands
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from vmm.session.debugger.breaks import Break
from vmm.session.debugger.conditions import Condition
from vmm.session.debugger.happening import Happening, Kind, Place
from vmm.session.debugger.watcher import Pursuit, Span

NOTED_MAX = 10_000  # lines of a log


class Nothing:
    """Runs on."""

    kinds: frozenset[Kind] = frozenset()
    spans: Sequence[Span] = ()
    places: Sequence[Place] = ()

    def look(self, happening: Happening) -> bool:
        """Never."""
        return False


NOTHING = Nothing()


def always(_happening: Happening) -> bool:
    """Whatever it is."""
    return True


def places_of(target: Happening) -> Sequence[Place]:
    """What has to be watched to see it again."""
    return () if target.access is None else (target.access.place,)


@dataclass
class Waiter:
    """Halts at the `count`-th of these `kinds` that `match`."""

    kinds: frozenset[Kind]
    spans: Sequence[Span] = ()
    match: Callable[[Happening], bool] = always
    count: int = 1
    places: Sequence[Place] = ()

    def look(self, happening: Happening) -> bool:
        """One less to wait for."""
        if happening.kind not in self.kinds or not self.match(happening):
            return False
        self.count -= 1
        return self.count <= 0


@dataclass
class Reach:
    """Halts at the happening with the `key` of `target`."""

    target: Happening
    spans: Sequence[Span] = ()
    kinds: frozenset[Kind] = field(init=False)
    places: Sequence[Place] = field(init=False)

    def __post_init__(self) -> None:
        self.kinds = frozenset({self.target.kind})
        self.places = places_of(self.target)

    def look(self, happening: Happening) -> bool:
        """Whether this is it."""
        return happening.key == self.target.key


class ForBreaks:
    """Halts where one of `breaks` is hit: those are in `hit`. `trace` hears of those that only trace."""

    def __init__(self, breaks: Iterable[Break], trace: Callable[[Break, Happening], None]) -> None:
        self.hit: tuple[Break, ...] = ()
        self._trace = trace
        self._breaks = [one for one in breaks if one.is_enabled]
        self.kinds = frozenset(one.stage for one in self._breaks)
        self.spans: Sequence[Span] = [one.span for one in self._breaks if one.span is not None]
        self.places: Sequence[Place] = [one.place for one in self._breaks if one.place is not None]

    def look(self, happening: Happening) -> bool:
        """Count hits, and whether one of them stops."""
        hit = []
        for one in self._breaks:
            if happening.subject is not None and one.matches(happening, happening.subject):
                one.hits += 1
                if one.is_trace:
                    self._trace(one, happening)
                elif one.hits > one.ignore_count:
                    hit.append(one)
        self.hit = tuple(hit)
        return bool(hit)


@dataclass
class Noting:
    """Notes what `expression` is where `pursuit` would halt, from a cycle on."""

    pursuit: Pursuit
    expression: Condition
    first_cycle: int
    found: list[tuple[Happening, Any]] = field(default_factory=list)

    @property
    def kinds(self) -> frozenset[Kind]:
        """Those of the pursuit."""
        return self.pursuit.kinds

    @property
    def spans(self) -> Sequence[Span]:
        """Those of the pursuit."""
        return self.pursuit.spans

    @property
    def places(self) -> Sequence[Place]:
        """Those of the pursuit."""
        return self.pursuit.places

    def look(self, happening: Happening) -> bool:
        """Never halts."""
        subject, is_wanted = happening.subject, happening.cycles >= self.first_cycle and self.pursuit.look(happening)
        if is_wanted and subject is not None and len(self.found) < NOTED_MAX:
            self.found.append((happening, self.expression.value(happening, subject)))
        return False


@dataclass
class LastBefore:
    """Looks for `pursuit` up to `end`, and keeps the last that it would have halted at. Calls `done` at the end."""

    pursuit: Pursuit
    end: Happening
    done: Callable[[], None]
    spans: Sequence[Span] = ()
    found: Happening | None = None
    is_over: bool = False
    kinds: frozenset[Kind] = field(init=False)
    places: Sequence[Place] = field(init=False)

    def __post_init__(self) -> None:
        self.kinds = self.pursuit.kinds | {self.end.kind}
        self.places = (*self.pursuit.places, *places_of(self.end))

    def look(self, happening: Happening) -> bool:
        """Never halts; what comes behind the end is not looked at."""
        if self.is_over:
            return False
        if happening.key == self.end.key:
            self.is_over = True
            self.done()
        elif happening.kind in self.pursuit.kinds and self.pursuit.look(happening):
            self.found = happening
        return False
