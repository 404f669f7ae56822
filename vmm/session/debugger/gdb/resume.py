"""Runs a world for gdb, forwards and backwards, and says where it stopped.

go_on, step, go_back, step_back --> text for the console, "" : gdb sees itself why     reply --> T05thread:1;...
"""

from collections.abc import Callable

from emulator.errors import ConfigError
from vmm.session.debugger.breaks import Break, Breaks
from vmm.session.debugger.debugger import WHY_AT_REST, Debugger, Stopped
from vmm.session.debugger.gdb.target import NUMBERS, TABLE, hex_of
from vmm.session.debugger.happening import Happening, Kind
from vmm.session.debugger.pursuits import ForBreaks
from vmm.session.debugger.views.exit_screen import exit_screen
from vmm.session.debugger.watcher import EVERYWHERE
from vmm.session.world.world import Stop

SIGINT, SIGTRAP = 2, 5
WATCHES = {2: ("write", b"watch"), 3: ("read", b"rwatch"), 4: ("access", b"awatch")}  # by gdb's number of the kind
SENT_WITH_STOP = ("rip", "rsp", "rbp")  # what gdb asks for at once


class StepOrBreak(ForBreaks):
    """Halts at a break, or before the next instruction of processor `who` outside of [first, end)."""

    def __init__(self, breaks: Breaks, who: int, first: int, end: int) -> None:
        super().__init__(breaks, _ignore)
        self._who, self._first, self._end = who, first, end
        self.kinds |= {Kind.INSTRUCTION}
        self.spans = (EVERYWHERE,)

    def look(self, happening: Happening) -> bool:
        """Whether it is a break, or there."""
        is_hit = super().look(happening)
        is_step = happening.kind is Kind.INSTRUCTION and happening.who == self._who
        return is_hit or (is_step and not self._first <= happening.linear < self._end)


class Resumption:
    """gdb's breaks, and how the world goes on."""

    def __init__(self, debugger: Debugger) -> None:
        self.tells_breaks = False  # gdb knows the word `swbreak`
        self._debugger = debugger
        self._breaks: dict[int, Break] = {}  # by address
        self._watches: dict[tuple[int, int, int], Break] = {}  # by kind, address and length
        self._watched = b""  # the part of the reply that tells of one
        self._is_at_begin = False  # of what can be gone back to

    # --- breaks ------------------------------------------------------------------------------------------------------

    def add(self, address: int) -> None:
        """Break at an instruction; a second one at the same place is the same. Raises ConfigError for too many."""
        if address not in self._breaks:
            self._breaks[address] = self._debugger.breaks.add(["exec", f"{address:#x}"], self._debugger)

    def remove(self, address: int) -> None:
        """No break there."""
        one = self._breaks.pop(address, None)
        if one is not None:
            self._debugger.breaks.by_number.pop(one.number, None)  # who has the console may have deleted it

    def watch(self, kind: int, address: int, length_bytes: int) -> None:
        """Break at accesses to memory, where it lies now. Raises ConfigError where none is."""
        key = (kind, address, length_bytes)
        if key not in self._watches:
            words = [WATCHES[kind][0], "gva", f"{address:#x}", str(length_bytes)]
            self._watches[key] = self._debugger.breaks.add(words, self._debugger)

    def unwatch(self, kind: int, address: int, length_bytes: int) -> None:
        """Not any more."""
        one = self._watches.pop((kind, address, length_bytes), None)
        if one is not None:
            self._debugger.breaks.by_number.pop(one.number, None)

    def clear(self) -> None:
        """No break at all."""
        for key in list(self._watches):
            self.unwatch(*key)
        for address in list(self._breaks):
            self.remove(address)

    # --- running -----------------------------------------------------------------------------------------------------

    def go_on(self) -> str:
        """To the next break."""
        self._is_at_begin = False
        return self._text(self._debugger.cont())

    def step(self, who: int, first: int = 0, end: int = 0) -> str:
        """One instruction of processor `who`, or as many as lie within [first, end); breaks count for all."""
        self._is_at_begin = False
        return self._text(self._debugger.pursue(StepOrBreak(self._debugger.breaks, who, first, end)))

    def go_back(self) -> str:
        """To the last break, or to where the past begins; of an access, to before it."""
        return self._back(self._before_break)

    def _before_break(self) -> Stopped:
        stop = self._debugger.reverse_cont()
        self._watched = self._watch_of(stop)
        return self._debugger.reverse_stepi() if self._watched else stop

    def step_back(self) -> str:
        """One instruction back, or to where the past begins."""
        return self._back(self._debugger.reverse_stepi)

    def _back(self, run: Callable[[], Stopped]) -> str:
        self._is_at_begin, self._watched = False, b""
        try:
            stop = run()
            watched, text = self._watched, self._text(stop)
            self._watched = watched
            return text
        except ConfigError:
            self._is_at_begin = True
            points = self._debugger.history.points
            if points:
                self._debugger.goto_cycle(points[0].cycles)
        return ""

    def _text(self, stop: Stopped) -> str:
        """What gdb cannot know of a stop."""
        happening = stop.happening
        self._watched = self._watch_of(stop)
        names = "".join(f"break {one.number}: {one.words()}\n" for one in stop.breaks if not self._is_ours(one))
        if happening.kind is Kind.EXIT:
            return names + exit_screen(self._debugger.subject, number=happening.exits).text()
        if happening.charge is not None:
            return f"{names}{happening.charge.what}, {happening.charge.cycles:,} cycles\n"
        if happening.kind in (Kind.REST, Kind.END):
            return f"{stop.why}\n"
        return names

    def _is_ours(self, one: Break) -> bool:
        return one in self._breaks.values() or one in self._watches.values()

    def _watch_of(self, stop: Stopped) -> bytes:
        for (kind, address, _), one in self._watches.items():
            if one in stop.breaks:
                return b"%s:%x" % (WATCHES[kind][1], address)
        return b""

    # --- where it stopped --------------------------------------------------------------------------------------------

    def reply(self) -> bytes:
        """The stop as gdb wants it."""
        stop, subject = self._debugger.stop, self._debugger.subject
        is_interrupt = stop.why == WHY_AT_REST[Stop.PAUSED]
        parts = [b"thread:%x" % (self._debugger.number + 1), b"core:%x" % subject.pcpu.number]
        parts += [b"%02x:%s" % (NUMBERS[name], hex_of(TABLE[NUMBERS[name]], subject)) for name in SENT_WITH_STOP]
        if self._is_at_begin:
            parts.append(b"replaylog:begin")
        elif self._watched:
            parts.append(self._watched)
        elif self.tells_breaks and any(self._is_ours(one) for one in stop.breaks):
            parts.append(b"swbreak:")
        return b"T%02x%s;" % (SIGINT if is_interrupt else SIGTRAP, b";".join(parts))


def _ignore(_break: Break, _happening: Happening) -> None:
    """A trace has nobody to tell."""
