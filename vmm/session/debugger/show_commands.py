"""Commands that show something: each finds its arguments, and asks a view of `views/`."""

from collections.abc import Callable, Sequence
from pathlib import Path

from emulator.errors import ConfigError
from vmm.session.debugger import conditions
from vmm.session.debugger.answers import SymbolAt, break_list, processors, value_of
from vmm.session.debugger.break_kinds import BREAK_KINDS, SPACES
from vmm.session.debugger.command_words import Console, Function, Says, number_of
from vmm.session.debugger.views.backtrace import backtrace
from vmm.session.debugger.views.check import capabilities_of, check, check_file
from vmm.session.debugger.views.cost import cost
from vmm.session.debugger.views.disassembly import disassemble
from vmm.session.debugger.views.exit_words import reason_of
from vmm.session.debugger.views.info import cores, devices, guests
from vmm.session.debugger.views.memory import examine, read_format
from vmm.session.debugger.views.page_map import aliases, page_map
from vmm.session.debugger.views.subject import Space, Subject
from vmm.session.debugger.views.translation import walk
from vmm.session.debugger.views.values import Hex, View, lines_text
from vmm.session.debugger.views.vmcs import changed, fields_of


def show(view: Callable[[Subject], View]) -> Function:
    """The command that shows a view without arguments."""
    return lambda console, _words: view(console.debugger.subject)


def show_stack(console: Console, _words: Sequence[str]) -> View:
    """The guest's stack, and the VMM's frames above it."""
    return backtrace(console.debugger.subject, console.debugger.frame)


def show_timeline(console: Console, words: Sequence[str]) -> View:
    """The last events of everybody."""
    return console.debugger.timeline(*(number_of(console, word) for word in words[:1]))


def show_info(console: Console, words: Sequence[str]) -> Says:
    """Lists: breaks, guests, cores, devices, names of conditions, kinds of breaks."""
    debugger = console.debugger
    what = words[0] if words else ""
    if what == "breaks":
        return break_list(debugger.breaks)
    if what == "guests":
        by_guest = [[s for s in debugger.subjects if s.guest is g.built] for g in debugger.world.guests]
        return guests(by_guest)
    if what in ("cores", "devices"):
        return (cores if what == "cores" else devices)(debugger.subject)
    if what == "names":
        return lines_text(conditions.documented())
    if what == "kinds":
        return lines_text(f"{row.name} {row.argument:<15} {row.meaning}" for row in BREAK_KINDS.values())
    raise ConfigError("info breaks, guests, cores, devices, names (of conditions) or kinds (of breaks)")


def show_vmcs(console: Console, words: Sequence[str]) -> View:
    """Fields of the VMCS, all, one, or those that have changed."""
    subject = console.debugger.subject
    if words and words[0] == "changed":
        before = console.debugger.words_before
        if before is None:
            raise ConfigError("nobody looked at the last entry; go on to the next exit, then ask again")
        return changed(subject, before)
    return fields_of(subject, words[0] if words else None)


def show_check(console: Console, words: Sequence[str]) -> View:
    """The checks of a VM entry: on the VMCS, on edited fields, on one in a file."""
    subject = console.debugger.subject
    if len(words) == 1 and "=" not in words[0]:
        return check_file(Path(words[0]), capabilities_of(subject))
    edits = {}
    for word in words:
        name, _, value = word.partition("=")
        edits[name] = number_of(console, value)
    return check(subject, edits)


def show_disas(console: Console, words: Sequence[str]) -> View:
    """Instructions at an address, or around RIP."""
    address = number_of(console, words[0]) if words else None
    count = number_of(console, words[1]) if len(words) > 1 else 8
    return disassemble(console.debugger.subject, address, count, before=0 if words else 4)


def show_examine(console: Console, words: Sequence[str]) -> View:
    """Memory, in a format as gdb's."""
    space, format_text, rest = Space.GVA, "", list(words)
    if rest and rest[0].startswith("/"):
        format_text = rest.pop(0)[1:]
    if rest and rest[0] in SPACES:
        space = SPACES[rest.pop(0)]
    if len(rest) != 1:
        raise ConfigError("x /NFU [gva|gpa|hpa] ADDRESS, as in x /8xg rsp")
    address = number_of(console, rest[0])
    subject = console.debugger.subject
    return (
        examine(subject, space, address, read_format(format_text)) if format_text else examine(subject, space, address)
    )


def show_walk(console: Console, words: Sequence[str]) -> View:
    """The walks of an address: the guest's tables, and the processor's."""
    if len(words) != 1:
        raise ConfigError("walk ADDRESS")
    return walk(console.debugger.subject, number_of(console, words[0]))


def show_map(console: Console, words: Sequence[str]) -> View:
    """Page tables as ranges, of some attributes."""
    subject = console.debugger.subject
    attributes = next((word for word in words if word[:1] in "+-"), "")
    ends = [number_of(console, word) for word in words if word != attributes]
    return page_map(subject, *ends[:2], attributes=attributes)


def show_aliases(console: Console, words: Sequence[str]) -> View:
    """Where a guest-physical page is mapped."""
    if len(words) != 1:
        raise ConfigError("aliases GPA")
    return aliases(console.debugger.subject, number_of(console, words[0]))


def show_cost(console: Console, _words: Sequence[str]) -> View:
    """What the exit was charged for."""
    debugger = console.debugger
    if debugger.subject.vcpu is None:
        raise ConfigError("natively there is no VMM that could cost anything")
    costs = debugger.costs_of(reason_of(debugger.subject))
    return cost(debugger.charges, debugger.subject.guest.machine.profile, costs)


def show_processor(console: Console, words: Sequence[str]) -> View:
    """All processors; with a name, look at that one."""
    if words:
        console.debugger.choose(words[0])
    return processors(console.debugger)


def show_print(console: Console, words: Sequence[str]) -> View:
    """The value of an expression, as conditions have them."""
    text, debugger = " ".join(words), console.debugger
    return value_of(text, conditions.Condition(text).value(debugger.stop.happening, debugger.subject))


def show_symbol(console: Console, words: Sequence[str]) -> View:
    """The symbol of an address, or of RIP."""
    address = number_of(console, words[0]) if len(words) == 1 else console.debugger.subject.linear_rip
    return SymbolAt(Hex(address), console.debugger.subject.symbols.name_of(address))
