"""What commands say about the debugger itself, as values: where it stands in time, its breaks, a log, a number."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from vmm.session.debugger.breaks import Break
from vmm.session.debugger.debugger import Debugger
from vmm.session.debugger.happening import Happening
from vmm.session.debugger.views.values import Hex, View, lines_text


@dataclass(frozen=True)
class When(View):
    """Where it stands, and how far back it can go; None: there is no past."""

    cycles: int
    exits: int
    kind: str
    past_begins_cycles: int | None
    snapshot_count: int
    snapshot_bytes: int

    def text(self) -> str:
        """Two lines."""
        begin = self.past_begins_cycles
        past = "there is no past" if begin is None else f"the past that is kept begins at cycle {begin:,}"
        return lines_text(
            [
                f"cycle {self.cycles:,}, behind {self.exits:,} VM exits, at: {self.kind}",
                f"{past}; {self.snapshot_count} snapshots, {self.snapshot_bytes >> 20} MiB",
            ]
        )


def when(debugger: Debugger) -> When:
    """Of the stop, and the snapshots."""
    here, history = debugger.stop.happening, debugger.history
    begin = history.points[0].cycles if history.points else None
    return When(here.cycles, here.exits, here.kind.value, begin, len(history.points), history.kept_bytes)


@dataclass(frozen=True)
class LogRow:
    """What the expression was once."""

    cycles: int
    exits: int
    value: int | str | bool | None


@dataclass(frozen=True)
class Log(View):
    """Each time, in order."""

    rows: tuple[LogRow, ...]

    def text(self) -> str:
        """A line each."""
        rows = [f"{row.cycles:>16,} {row.exits:>8,}  {row.value}" for row in self.rows]
        return lines_text(rows or ["nothing like that happened"])


def log_of(found: Iterable[tuple[Happening, Any]]) -> Log:
    """Of what `Debugger.log` has found."""
    return Log(tuple(LogRow(here.cycles, here.exits, _plain(value)) for here, value in found))


@dataclass(frozen=True)
class Value(View):
    """Of an expression; None: there is no such thing here."""

    expression: str
    value: int | str | bool | None

    def text(self) -> str:
        """A number twice: in hexadecimal, too."""
        if self.value is None:
            return "there is no such thing here"
        is_number = isinstance(self.value, int) and not isinstance(self.value, bool)
        return f"{self.value:#x} {self.value:,}" if is_number else str(self.value)


def value_of(expression: str, value: object) -> Value:
    """What `expression` is worth."""
    return Value(expression, _plain(value))


def _plain(value: object) -> int | str | bool | None:
    return value if value is None or isinstance(value, int | str) else str(value)


@dataclass(frozen=True)
class SymbolAt(View):
    """The name of an address; "": it has none."""

    address: Hex
    symbol: str

    def text(self) -> str:
        """A line."""
        return f"{self.address:#x} {self.symbol or 'is in no symbol'}"


@dataclass(frozen=True)
class ProcessorAt:
    """A processor, and where it is."""

    name: str
    is_looked_at: bool
    rip: Hex
    symbol: str


@dataclass(frozen=True)
class Processors(View):
    """All of all guests."""

    processors: tuple[ProcessorAt, ...]

    def text(self) -> str:
        """A line each; a star for the one that is looked at."""
        return lines_text(
            f"{'*' if row.is_looked_at else ' '} {row.name}  RIP {row.rip:x} {row.symbol}" for row in self.processors
        )


def processors(debugger: Debugger) -> Processors:
    """All that there are to look at."""
    rows = [
        ProcessorAt(s.name, s is debugger.subject, Hex(s.rip), s.symbols.name_of(s.linear_rip))
        for s in debugger.subjects
    ]
    return Processors(tuple(rows))


@dataclass(frozen=True)
class BreakRow:
    """A break of a user's."""

    number: int
    command: str
    is_enabled: bool
    ignore_count: int
    hits: int
    commands: tuple[str, ...]


@dataclass(frozen=True)
class BreakList(View):
    """All of them."""

    breaks: tuple[BreakRow, ...]

    def text(self) -> str:
        """A line each."""
        rows = [
            f"{row.number:>3} {'' if row.is_enabled else 'off '}{row.command}, hit {row.hits}" for row in self.breaks
        ]
        return lines_text(rows or ["no breaks"])


def break_list(breaks: Iterable[Break]) -> BreakList:
    """Those of `Debugger.breaks`."""
    return BreakList(
        tuple(
            BreakRow(one.number, one.words(), one.is_enabled, one.ignore_count, one.hits, tuple(one.commands))
            for one in breaks
        )
    )


@dataclass(frozen=True)
class Said(View):
    """Lines for people: what a command has done, a list of words."""

    says: str

    def text(self) -> str:
        """As they are."""
        return self.says


@dataclass(frozen=True)
class Mistake(View):
    """Why a command has done nothing."""

    error: str

    def text(self) -> str:
        """One line."""
        return self.error
