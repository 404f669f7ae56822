"""The commands of the console: a table of names, arguments and functions. What they say is text of 80 columns.

To add one: a function (console, words) -> what it says, here or, if it shows something, in show_commands.py, and a row
in COMMANDS.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from emulator.errors import ConfigError, choices_text
from emulator.x86 import GPR_NAMES
from vmm.session.debugger.answers import Said, log_of, when
from vmm.session.debugger.break_kinds import SPACES, place_named
from vmm.session.debugger.breaks import Break
from vmm.session.debugger.command_words import Console, Function, Says, number_of
from vmm.session.debugger.debugger import Debugger, Stopped
from vmm.session.debugger.show_commands import (
    show,
    show_aliases,
    show_check,
    show_cost,
    show_disas,
    show_examine,
    show_info,
    show_map,
    show_print,
    show_processor,
    show_stack,
    show_symbol,
    show_timeline,
    show_vmcs,
    show_walk,
)
from vmm.session.debugger.stop_view import stop_view
from vmm.session.debugger.views.interrupts import irq
from vmm.session.debugger.views.page_tables import tables
from vmm.session.debugger.views.registers import registers
from vmm.session.debugger.views.sidecores import sidecores
from vmm.session.debugger.views.subject import Space
from vmm.session.debugger.views.values import View, lines_text
from vmm.session.debugger.views.why import why


@dataclass(frozen=True)
class Command:
    """A row: `group` is where the help has it."""

    name: str
    alias: str
    arguments: str
    meaning: str
    group: str
    run: Function


# --- going on and back -----------------------------------------------------------------------------------------------


def _counted(step: Callable[[Debugger, int], Stopped]) -> Function:
    def run(console: Console, words: Sequence[str]) -> Stopped:
        count = number_of(console, words[0]) if words else 1
        if count < 1:
            raise ConfigError(f"{count} steps are not possible; give a number above 0")
        return step(console.debugger, count)

    return run


def _plain(step: Callable[[Debugger], Stopped]) -> Function:
    return lambda console, _words: step(console.debugger)


def _goto(console: Console, words: Sequence[str]) -> Stopped:
    debugger = console.debugger
    if len(words) == 1 and words[0] in console.bookmarks:
        return debugger.return_to(console.bookmarks[words[0]])
    if len(words) != 2 or words[0] not in ("cycle", "exit"):
        raise ConfigError("goto cycle N, goto exit N, or goto BOOKMARK")
    number = number_of(console, words[1])
    return debugger.goto_cycle(number) if words[0] == "cycle" else debugger.goto_exit(number)


def _until(console: Console, words: Sequence[str]) -> Stopped:
    if len(words) == 2 and words[0] in ("cycle", "exit") and words[1][:1].isdigit():
        number, here = number_of(console, words[1]), console.debugger.stop.happening
        if number <= (here.cycles if words[0] == "cycle" else here.exits):
            raise ConfigError(f"{' '.join(words)} has passed; goto goes back")
        return _goto(console, words)
    if words[:1] == ["text"] and len(words) > 1:
        return console.debugger.until_text(" ".join(words[1:]))
    return console.debugger.wait_for(words)


def _last_write(console: Console, words: Sequence[str]) -> Stopped:
    if len(words) == 1 and words[0] in GPR_NAMES:
        index = GPR_NAMES.index(words[0])
        return console.debugger.last_change(lambda subject: subject.gpr(index))
    place = place_named(_numbered(console, words), console.debugger)
    return console.debugger.last_change(lambda subject: subject.read_hpa(place.hpa, place.size_bytes))


def _next_write(console: Console, words: Sequence[str]) -> Stopped:
    return console.debugger.wait_for(["write", *_numbered(console, words).split()])


def _numbered(console: Console, words: Sequence[str]) -> str:
    """The words of memory, with registers and symbols as numbers."""
    return " ".join(word if word in SPACES else f"{number_of(console, word):#x}" for word in words)


def _bookmark(console: Console, words: Sequence[str]) -> str:
    if len(words) != 1:
        return "\n".join(f"{name:<12} {h.kind.value} {h.cycles:,}" for name, h in console.bookmarks.items())
    console.bookmarks[words[0]] = console.debugger.stop.happening
    return f"bookmark {words[0]}: `goto {words[0]}` comes back"


def _when(console: Console, _words: Sequence[str]) -> View:
    return when(console.debugger)


def _log(console: Console, words: Sequence[str]) -> View:
    """EXPR at KIND ... [from CYCLE]."""
    words, first = list(words), 0
    if len(words) > 2 and words[-2] == "from":
        first, words = number_of(console, words[-1]), words[:-2]
    if "at" not in words or words[0] == "at":
        raise ConfigError("log EXPRESSION at KIND [ARGUMENT] [if CONDITION] [from CYCLE]")
    at = words.index("at")
    return log_of(console.debugger.log(" ".join(words[:at]), words[at + 1 :], first))


# --- breaks ----------------------------------------------------------------------------------------------------------


def _break(verb: str) -> Function:
    def run(console: Console, words: Sequence[str]) -> str:
        made = console.debugger.breaks.add(words, console.debugger, verb=verb)
        return f"break {made.number}: {made.words()}"

    return run


def _each(console: Console, words: Sequence[str], change: Callable[[Break], object]) -> str:
    breaks = console.debugger.breaks
    chosen = [breaks.get(number_of(console, word)) for word in words] or list(breaks)
    for one in chosen:
        change(one)
    return f"{len(chosen)} break{'s' * (len(chosen) != 1)}"


def _delete(console: Console, words: Sequence[str]) -> str:
    return _each(console, words, lambda one: console.debugger.breaks.delete(one.number)) + " deleted"


def _enable(console: Console, words: Sequence[str]) -> str:
    return _each(console, words, lambda one: setattr(one, "is_enabled", True)) + " enabled"


def _disable(console: Console, words: Sequence[str]) -> str:
    return _each(console, words, lambda one: setattr(one, "is_enabled", False)) + " disabled"


def _ignore(console: Console, words: Sequence[str]) -> str:
    if len(words) != 2:
        raise ConfigError("ignore NUMBER COUNT")
    one, count = console.debugger.breaks.get(number_of(console, words[0])), number_of(console, words[1])
    one.ignore_count = one.hits + count
    return f"break {one.number} does not stop the next {count:,} times"


def _commands(console: Console, words: Sequence[str]) -> str:
    if not words:
        raise ConfigError("commands NUMBER COMMAND; COMMAND ...")
    one = console.debugger.breaks.get(number_of(console, words[0]))
    one.commands = [part.strip() for part in " ".join(words[1:]).split(";") if part.strip()]
    return f"break {one.number} does: {'; '.join(one.commands) or 'nothing'}"


def _save_breaks(console: Console, words: Sequence[str]) -> str:
    if len(words) != 1:
        raise ConfigError("save-breaks FILE")
    from vmm.session.output_file import write_file

    breaks = list(console.debugger.breaks)
    write_file(Path(words[0]), "".join(f"{one.words()}\n" for one in breaks))
    return f"{len(breaks)} breaks; `source {words[0]}` sets them again"


def _source(console: Console, words: Sequence[str]) -> str:
    if len(words) != 1:
        raise ConfigError("source FILE")
    try:
        lines = Path(words[0]).read_text().splitlines()
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {words[0]!r}: {getattr(error, 'strerror', None) or error}") from None
    return "\n".join(filter(None, (console.answer(line) for line in lines)))


# --- the rest --------------------------------------------------------------------------------------------------------


def _write(console: Console, words: Sequence[str]) -> str:
    rest = list(words)
    space = SPACES[rest.pop(0)] if rest and rest[0] in SPACES else Space.GVA
    if len(rest) != 2:
        raise ConfigError("write [gva|gpa|hpa] ADDRESS BYTES, with bytes as in 0f0b")
    try:
        data = bytes.fromhex(rest[1])
    except ValueError:
        raise ConfigError(f"{rest[1]!r} are no bytes; give hexadecimal digits, two for each") from None
    console.debugger.store(space, number_of(console, rest[0]), data)
    return f"{len(data)} bytes written; the past ends here"


def _set(console: Console, words: Sequence[str]) -> str:
    if len(words) != 2:
        raise ConfigError("set REGISTER VALUE, as in set rax 0x10")
    console.debugger.set(words[0], number_of(console, words[1]))
    return f"{words[0]} is set; the past ends here"


def _type(console: Console, words: Sequence[str]) -> str:
    text = " ".join(words).encode().decode("unicode_escape")
    console.debugger.type(text.encode("latin-1", "replace"))
    return "typed; the past ends here"


def _pdb(console: Console, _words: Sequence[str]) -> Says:
    return console.debugger.enter_pdb()


def _help(console: Console, words: Sequence[str]) -> str:
    if words:
        command = find(words[0])
        return lines_text([f"{command.name} {command.arguments}", f"  {command.meaning}"])
    lines = []
    for group in dict.fromkeys(command.group for command in COMMANDS.values()):
        names = [c.name + (f" ({c.alias})" if c.alias else "") for c in COMMANDS.values() if c.group == group]
        lines.append(f"{group}:")
        line = " "
        for name in names:
            if len(line) + 2 + len(name) > 78:
                lines.append(line)
                line = " "
            line += f" {name}"
        lines.append(line)
    lines.append("Names may be cut short, an empty line repeats, `help NAME` says more; any command")
    lines.append("takes --json, and answers, or says what is wrong, in a line of JSON.")
    return lines_text(lines)


def _quit(console: Console, _words: Sequence[str]) -> None:
    console.is_over = True


GO, BACK, STOP, SEE, REST = "Going on", "Going back", "Where to stop", "What there is", "And"


COMMANDS: dict[str, Command] = {
    command.name: command
    for command in (
        Command("continue", "c", "", "to the next break, or the end", GO, _plain(Debugger.cont)),
        Command("stepi", "si", "[N]", "an instruction, with a VM exit on its way", GO, _counted(Debugger.stepi)),
        Command("step", "s", "[N]", "to the next exit, end of a handler or entry", GO, _counted(Debugger.step)),
        Command("next-exit", "ne", "[N]", "to the next VM exit", GO, _counted(Debugger.next_exit)),
        Command("finish", "fin", "", "to the VM entry that ends the exit", GO, _plain(Debugger.finish)),
        Command("step-vmm", "sv", "[N]", "to the next line of the VMM's Python", GO, _counted(Debugger.step_vmm)),
        Command("pdb", "", "", "Python's own debugger at this line of the VMM", GO, _pdb),
        Command("until", "u", "cycle N | exit N | text TEXT | KIND ...", "to there; breaks do not count", GO, _until),
        Command("wait", "w", "KIND ...", "to the next of a kind of break", GO, _until),
        Command(
            "next-write", "nw", "[gva|gpa|hpa] ADDRESS [BYTES]", "to who stores there next, or changes it", GO,
            _next_write,
        ),
        Command("goto", "g", "cycle N | exit N | BOOKMARK", "there, forwards or back", BACK, _goto),
        Command("reverse-stepi", "rsi", "[N]", "back an instruction", BACK, _counted(Debugger.reverse_stepi)),
        Command("reverse-next-exit", "rne", "", "to the VM exit before", BACK, _plain(Debugger.reverse_next_exit)),
        Command("reverse-finish", "rfin", "", "to where this exit began", BACK, _plain(Debugger.reverse_finish)),
        Command("reverse-continue", "rc", "", "to the last break that would stop", BACK, _plain(Debugger.reverse_cont)),
        Command("last-write", "lw", "REGISTER | [gpa] ADDRESS", "who gave it the value that it has", BACK, _last_write),
        Command("bookmark", "bm", "[NAME]", "a name for where it stands", BACK, _bookmark),
        Command("log", "", "EXPR at KIND ... [from CYCLE]", "what EXPR was each time, up to here", BACK, _log),
        Command("when", "", "", "where it stands in time, and how far back it can go", BACK, _when),
        Command("break", "b", "KIND [ARG] [after] [if COND]", "stop there; `info kinds`", STOP, _break("break")),
        Command("tbreak", "tb", "KIND ...", "stop there once", STOP, _break("tbreak")),
        Command("trace", "", "KIND ...", "say so there, and go on", STOP, _break("trace")),
        Command("delete", "d", "[NUMBER ...]", "forget breaks", STOP, _delete),
        Command("disable", "", "[NUMBER ...]", "leave them out", STOP, _disable),
        Command("enable", "", "[NUMBER ...]", "let them count again", STOP, _enable),
        Command("ignore", "", "NUMBER COUNT", "let it pass so many times", STOP, _ignore),
        Command("commands", "", "NUMBER COMMAND; ...", "what to do where it stops", STOP, _commands),
        Command("save-breaks", "", "FILE", "write them as commands", STOP, _save_breaks),
        Command("where", "", "", "the stop again", SEE, lambda console, _words: console.debugger.stop),
        Command("why", "", "", "what made it exit", SEE, show(why)),
        Command("regs", "r", "", "registers", SEE, show(registers)),
        Command("disas", "", "[ADDRESS [N]]", "instructions", SEE, show_disas),
        Command("x", "", "/NFU [gva|gpa|hpa] ADDRESS", "memory", SEE, show_examine),
        Command("vmcs", "", "[FIELD|changed]", "fields of the VMCS", SEE, show_vmcs),
        Command("check", "", "[FIELD=N ... | FILE.json]", "would the VM entry succeed?", SEE, show_check),
        Command("walk", "", "ADDRESS", "the guest's walk and the processor's", SEE, show_walk),
        Command("map", "", "[FIRST [LAST]] [+ATTR-ATTR]", "page tables as ranges", SEE, show_map),
        Command("aliases", "", "GPA", "where a page is mapped", SEE, show_aliases),
        Command("tables", "", "", "pages that are page tables", SEE, show(tables)),
        Command("cost", "", "", "what this exit was charged for", SEE, show_cost),
        Command("irq", "", "", "interrupt controllers", SEE, show(irq)),
        Command("sidecore", "", "", "slots and who waits", SEE, show(sidecores)),
        Command(
            "bt", "", "", "the guest's stack, and the VMM's above it", SEE,
            show_stack,
        ),
        Command("timeline", "tl", "[N]", "the last events of cores, devices, sidecores, NIC", SEE, show_timeline),
        Command("info", "i", "breaks | guests | ...", "lists", SEE, show_info),
        Command("print", "p", "EXPR", "an expression of conditions", SEE, show_print),
        Command("symbol", "", "[ADDRESS]", "the name of an address", SEE, show_symbol),
        Command("processor", "", "[NAME]", "look at another", SEE, show_processor),
        Command("type", "", "TEXT", "keys for the serial line; \\n ends a line", REST, _type),
        Command("write", "", "[gva|gpa|hpa] ADDRESS BYTES", "change memory", REST, _write),
        Command("set", "", "REGISTER VALUE", "change a general register, rip or rflags", REST, _set),
        Command("source", "", "FILE", "commands of a file", REST, _source),
        Command("help", "h", "[NAME]", "this", REST, _help),
        Command("quit", "q", "", "end", REST, _quit),
    )
}  # fmt: skip
ALIASES = {command.alias: command for command in COMMANDS.values() if command.alias}


def find(name: str) -> Command:
    """The command called `name`, by its alias, or cut short. Raises ConfigError."""
    if name in COMMANDS:
        return COMMANDS[name]
    if name in ALIASES:
        return ALIASES[name]
    found = [command for command in COMMANDS.values() if command.name.startswith(name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"{name!r} may be {', '.join(command.name for command in found)}")
    raise ConfigError(f"no command {name!r}; {choices_text(name, list(COMMANDS), listed_by='help')}")


def said(console: Console, says: Says, *, as_json: bool) -> str:
    """What a command says, as text, or as a line of JSON."""
    if isinstance(says, Stopped):
        says = stop_view(console.debugger)
    elif not isinstance(says, View):
        if not says:
            return ""
        says = Said(says)
    return json.dumps(says.json()) if as_json else says.text()
