"""The debugger's console: lines in, text out; at a terminal with history, completion and help of prompt_toolkit.

terminal, --script FILE, a pipe, gdb's monitor --line--> answer --commands.py--> text
the guest's serial line --on_output--> shown as it comes
"""

import shlex
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from emulator.errors import ConfigError
from vmm.session.debugger.answers import Mistake
from vmm.session.debugger.break_kinds import BREAK_KINDS
from vmm.session.debugger.breaks import Break
from vmm.session.debugger.commands import COMMANDS, find, said
from vmm.session.debugger.debugger import Debugger, Stopped
from vmm.session.debugger.happening import Happening

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession

PROMPT = "(sidecore) "
COMMANDS_DEPTH_MAX = 20  # of commands of breaks that go on to breaks with commands
COMMENT = "#"
AS_JSON = "--json"  # behind any command


class Console:
    """Of `debugger`. `write` gets what is said; `write_guest` what guests print."""

    def __init__(self, debugger: Debugger, write: Callable[[str], None], write_guest: Callable[[bytes], None]) -> None:
        self.debugger: Debugger = debugger
        self.bookmarks: dict[str, Happening] = {}
        self.is_over = False
        self._write = write
        self._last_line = ""
        self._depth = 0
        debugger.on_trace = self._say_trace
        debugger.on_output = lambda _guest, byte: write_guest(bytes([byte]))

    def answer(self, line: str) -> str:
        """Do what a line says; what that says, a mistake too, is the result. An empty line repeats the last."""
        line = line.strip() or self._last_line
        self._last_line = line
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            return f"{line!r}: {error}"
        if not words:
            return ""
        as_json = AS_JSON in words[1:]
        name, *arguments = [word for word in words if word != AS_JSON] or words
        try:
            return self._run(name, arguments, as_json)
        except ConfigError as error:
            return said(self, Mistake(str(error)), as_json=as_json)
        except KeyboardInterrupt:  # in a search backwards; what runs forwards is halted by it
            return said(self, Mistake("interrupted; it stands where it stood"), as_json=as_json)

    def _run(self, name: str, arguments: list[str], as_json: bool) -> str:
        if name.startswith("x/"):  # as gdb has it
            name, arguments = "x", [name[1:], *arguments]
        says = find(name).run(self, arguments)
        text = said(self, says, as_json=as_json)
        return "\n".join(filter(None, [text, *self._break_commands(says)]))

    def _break_commands(self, says: object) -> Iterable[str]:
        """Of the breaks that were hit; each gives JSON only if it asks for that itself."""
        if not isinstance(says, Stopped) or self._depth >= COMMANDS_DEPTH_MAX:
            return
        self._depth += 1
        try:
            for one in says.breaks:
                for line in one.commands:
                    yield self.answer(line)
        finally:
            self._depth -= 1

    def _say_trace(self, one: Break, happening: Happening) -> None:
        self._write(f"trace {one.number}: cycle {happening.cycles:,} exit {happening.exits:,} rip {happening.rip:#x}")

    # --- where lines come from ---------------------------------------------------------------------------------------

    def follow(self, lines: Iterable[str]) -> None:
        """Do one line after the other, said before what it says, to the end or `quit`."""
        for line in lines:
            if line.strip() and not line.strip().startswith(COMMENT):
                self._write(f"{PROMPT}{line.strip()}")
                self._say(self.answer(line))
            if self.is_over:
                return

    def talk(self) -> None:
        """With whoever sits at the terminal. Ctrl-C at the prompt drops the line, Ctrl-D ends."""
        session = _session()
        while not self.is_over:
            try:
                line = session.prompt(PROMPT)
            except KeyboardInterrupt:
                continue
            except EOFError:
                return
            self._say(self.answer(line))

    def _say(self, text: str) -> None:
        if text:
            self._write(text)


def _session() -> "PromptSession[str]":
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import NestedCompleter

    kinds = dict.fromkeys(BREAK_KINDS)
    nested = {"break": kinds, "tbreak": kinds, "trace": kinds, "wait": kinds, "until": {"cycle": None, "exit": None}}
    names: dict[str, object] = {name: nested.get(name) for name in COMMANDS}
    return PromptSession(completer=NestedCompleter.from_nested_dict(names), complete_while_typing=False)


def is_terminal() -> bool:
    """Whether somebody can be talked with."""
    return sys.stdin.isatty() and sys.stdout.isatty()
