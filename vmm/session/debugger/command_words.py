"""What a command of the console is given, and what it may say."""

from collections.abc import Callable, Sequence
from typing import Protocol

from vmm.session.debugger import conditions
from vmm.session.debugger.debugger import Debugger, Stopped
from vmm.session.debugger.happening import Happening
from vmm.session.debugger.views.values import View

Says = str | View | Stopped | None


class Console(Protocol):
    """Who asks: `console.Console`."""

    debugger: Debugger
    bookmarks: dict[str, Happening]
    is_over: bool

    def answer(self, line: str) -> str:
        """Do what a line says."""
        ...


Function = Callable[[Console, Sequence[str]], Says]


def number_of(console: Console, text: str) -> int:
    """A number, a register's name, or a symbol. Raises ConfigError."""
    if text in conditions.NAMES:
        value = conditions.Condition(text).value(console.debugger.stop.happening, console.debugger.subject)
        if isinstance(value, int):
            return value
    return console.debugger.number_of(text)
