"""Where to stop: the breaks a user has set.

break exit IO_INSTRUCTION if port == 0x64      Break: kind, what of it, condition, hits ...
break exec start_kernel                              | matches(happening, subject)
continue                                      ForBreaks: a pursuit of all that are enabled
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from emulator.errors import ConfigError, choices_text
from vmm.session.debugger.break_kinds import BREAK_KINDS, BreakKind, Finder, Match, place_named
from vmm.session.debugger.conditions import Condition
from vmm.session.debugger.happening import Happening, Kind, Place
from vmm.session.debugger.views.subject import Subject
from vmm.session.debugger.watcher import Span

SPANS_MAX = 64  # of the engine: breaks on instructions
PLACES_MAX = 64  # of it, too: memory that breaks watch
STAGES = {
    Kind.EXIT: {"before": Kind.EXIT, "after": Kind.HANDLED},
    Kind.SIDECALL: {"before": Kind.SIDECALL, "after": Kind.SERVED},
}


@dataclass
class Break:
    """One of a user's. `stage` is of an exit's, or sidecall's: before it is handled, or after."""

    number: int
    row: BreakKind
    argument: str
    condition: Condition | None
    stage: Kind
    span: Span | None  # of one on an instruction
    place: Place | None  # of one on memory
    matches_argument: Match = field(repr=False)
    is_enabled: bool = True
    is_trace: bool = False  # it is only noted, and the guest goes on
    is_temporary: bool = False
    ignore_count: int = 0  # how many hits do not stop
    seen: int = 0  # how often it was there, whatever the condition says: `n` in conditions
    hits: int = 0
    commands: list[str] = field(default_factory=list)

    def matches(self, happening: Happening, subject: Subject) -> bool:
        """Whether it is hit, and once more seen; hits are counted by who asks."""
        if not self.is_enabled or happening.kind is not self.stage:
            return False
        if not self.matches_argument(happening, subject):
            return False
        self.seen += 1
        return self.condition is None or self.condition.holds(happening, subject, self.seen)

    def words(self) -> str:
        """The command that makes it again."""
        verb = "trace" if self.is_trace else "tbreak" if self.is_temporary else "break"
        parts = [verb, self.row.name, self.argument, "after" if self.stage is not self.row.kind else ""]
        if self.condition is not None:
            parts.append(f"if {self.condition.text}")
        return " ".join(part for part in parts if part)


class Breaks:
    """All of them, by number."""

    def __init__(self) -> None:
        self.by_number: dict[int, Break] = {}
        self._next_number = 1

    def __iter__(self) -> Any:
        return iter(self.by_number.values())

    def add(self, words: Sequence[str], finder: Finder, *, verb: str = "break") -> Break:
        """Of the words behind `break`: KIND [ARGUMENT] [before|after] [if CONDITION]. Raises ConfigError."""
        if not words:
            raise ConfigError(f"{verb} what? {choices_text('', list(BREAK_KINDS))}")
        words, condition = list(words), None
        if "if" in words:
            at = words.index("if")
            condition, words = Condition(" ".join(words[at + 1 :])), words[:at]
        row = _row(words.pop(0) if words else "")
        stage = row.kind
        stages = STAGES.get(row.kind, {})
        if words and words[-1] in stages:
            stage = stages[words.pop()]
        if len(words) > row.words_max:
            raise ConfigError(f"{verb} {row.name} {row.argument}: {' '.join(words[row.words_max :])!r} is too much")
        argument = " ".join(words)
        if not argument and row.argument and not row.argument.startswith("["):
            raise ConfigError(f"{verb} {row.name} needs {row.argument}")
        span = place = None
        if row.kind is Kind.INSTRUCTION:
            address = finder.number_of(argument)
            span = (address, address)
            if sum(1 for other in self if other.span is not None) >= SPANS_MAX:
                raise ConfigError(f"there are {SPANS_MAX} breaks on instructions; delete one")
        if row.kind is Kind.ACCESS:
            place = place_named(argument, finder)
            if sum(1 for other in self if other.place is not None) >= PLACES_MAX:
                raise ConfigError(f"there are {PLACES_MAX} breaks on memory; delete one")
        made = Break(
            self._next_number, row, argument, condition, stage, span, place, row.make(argument, finder),
            is_trace=verb == "trace", is_temporary=verb == "tbreak",
        )  # fmt: skip
        self.by_number[made.number] = made
        self._next_number += 1
        return made

    def get(self, number: int) -> Break:
        """Break `number`. Raises ConfigError."""
        if number not in self.by_number:
            raise ConfigError(f"there is no break {number}; `info breaks` shows them")
        return self.by_number[number]

    def delete(self, number: int) -> None:
        """Forget it. Raises ConfigError."""
        del self.by_number[self.get(number).number]


def _row(name: str) -> BreakKind:
    """By its name, or so much of it that no other is meant."""
    found = [row for row in BREAK_KINDS.values() if row.name.startswith(name)] if name else []
    if name in BREAK_KINDS:
        return BREAK_KINDS[name]
    if len(found) != 1:
        raise ConfigError(f"nothing to break at is called {name!r}; {choices_text(name, list(BREAK_KINDS))}")
    return found[0]
