"""A debugger of a whole world: `Debugger(world)` in scripts and notebooks, under the console, under gdb.

    Debugger --Pursuit--> Watcher --Happening--> Debugger.stop        forwards: the world runs
             --History--> a clone of a snapshot, run again            backwards: see rerun.py

What it does leaves the run as it is: cycles, VM exits, output, state. What a user types or changes does not: that cuts
off the past.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import FrameType
from typing import Any

from emulator.errors import ConfigError
from emulator.x86 import PAGE_BYTES
from vmm.cost.meter import Charge
from vmm.session.debugger.breaks import Break, Breaks
from vmm.session.debugger.conditions import Condition
from vmm.session.debugger.edit_registers import set_register
from vmm.session.debugger.happening import BESIDE, NOBODY, Happening, Kind, Place
from vmm.session.debugger.history import History, Point
from vmm.session.debugger.last_change import last_change
from vmm.session.debugger.life import Life
from vmm.session.debugger.pursuits import NOTHING, ForBreaks, Noting, Waiter
from vmm.session.debugger.rerun import Watched, awaken, find_last, reach, reach_again, rest
from vmm.session.debugger.timeline import COUNT_MAX, Timeline, timeline
from vmm.session.debugger.views.memory import store
from vmm.session.debugger.views.subject import WORD, Space, Subject
from vmm.session.debugger.watcher import EVERYWHERE, Pursuit
from vmm.session.spec import SLICE_CYCLES, Limits
from vmm.session.symbols import Symbols
from vmm.session.virtual_guest import VirtualGuest
from vmm.session.world.saved import SavedWorld
from vmm.session.world.world import Stop, World
from vmm.vcpu import VCpu

STEP_KINDS = frozenset({Kind.EXIT, Kind.HANDLED, Kind.ENTRY, Kind.SCHEDULED})
MIDDLE = frozenset({Kind.CHARGE, Kind.LINE, Kind.FAILED}) | BESIDE  # of what nobody may change anything
WHY_AT_REST = {
    Stop.ENDED: "every guest has ended",
    Stop.ASLEEP: "nothing is left that could wake a guest",
    Stop.PAUSED: "interrupted",
    Stop.LIMIT: "the cycle is reached",
    Stop.UNTIL: "the text was printed",
}


@dataclass(frozen=True)
class Stopped:
    """Where it stands. `breaks` were hit here; `why` is for people when no break and no step is the reason."""

    happening: Happening
    breaks: tuple[Break, ...] = ()
    why: str = ""


class Debugger:
    """Debugs a copy of `world`, from where that is now on."""

    def __init__(
        self, world: World | SavedWorld[World], *, symbols: Sequence[Symbols] = (), history: History | None = None
    ) -> None:
        """`symbols`: of each guest, in the order of `world.guests`. Raises ConfigError."""
        self.breaks = Breaks()
        self.history = history or History()
        self.on_trace: Callable[[Break, Happening], None] = _say_nothing  # breaks that only trace were hit
        self.on_output: Callable[[int, int], None] = _print_nothing  # (guest, byte): it goes to the serial line
        self._symbols = list(symbols)
        self._who = 0  # whose processor is looked at
        self._is_interrupted = False
        saved, exits = (world.snapshot(), world.exit_count) if isinstance(world, World) else (world, None)
        copy = awaken(saved, exits, self._symbols)
        self.history.add(Point(copy.world.cycles, copy.watcher.exits, saved))
        self._enter(copy, Life(copy.world))
        self.stop = Stopped(self._at_rest(Kind.REST), why="nothing has run yet")

    def close(self) -> None:
        """Nothing runs any more."""
        self._life.end()

    # --- forwards ----------------------------------------------------------------------------------------------------

    def cont(self) -> Stopped:
        """Go on to the next break, or to the end."""
        return self._go(ForBreaks(self.breaks, self._trace))

    def stepi(self, count: int = 1) -> Stopped:
        """Let the processor execute `count` instructions; a VM exit on the way is part of one."""
        return self._go(self._instructions(count))

    def step(self, count: int = 1) -> Stopped:
        """To the next thing that the VMM does: an exit, the end of its handler, the entry."""
        self._need_vmm()
        return self._go(Waiter(STEP_KINDS, count=count))

    def next_exit(self, count: int = 1) -> Stopped:
        """To the next VM exit, of whatever processor."""
        self._need_vmm()
        return self._go(Waiter(frozenset({Kind.EXIT}), count=count))

    def finish(self) -> Stopped:
        """To the VM entry that ends the exit."""
        self._need_exit()
        return self._go(Waiter(frozenset({Kind.ENTRY}), match=self._is_of(self._who)))

    def step_vmm(self, count: int = 1) -> Stopped:
        """To the next line of the VMM's Python; from the guest, to the first one of the next exit's handler."""
        self._need_vmm()
        return self._go(Waiter(frozenset({Kind.LINE}), count=count))

    def wait_for(self, words: Sequence[str]) -> Stopped:
        """To the next happening that a break with these words would stop at; other breaks do not count."""
        return self._go(ForBreaks([Breaks().add(words, self, verb="wait")], self._trace))

    def pursue(self, pursuit: Pursuit) -> Stopped:
        """To what a pursuit of the caller's own halts at."""
        return self._go(pursuit)

    def interrupt(self) -> None:
        """From another thread: what runs forwards, or is just about to, stops soon, between two turns."""
        self._is_interrupted = True
        self.world.pause()

    def take_back_interrupt(self) -> None:
        """It came too late: what it meant has stopped already."""
        self._is_interrupted = False

    def until_text(self, text: str) -> Stopped:
        """To where a guest has printed `text`; breaks do not count."""
        return self._go(NOTHING, until_text=text)

    def goto_cycle(self, cycle: int) -> Stopped:
        """To where the clock of the first host's cores gets to `cycle`, forwards or back."""
        if self.is_at_rest and cycle > self.world.cycles:
            return self._go(NOTHING, until_cycle=cycle)
        return self._change_to(*rest(self._points(cycle)[0], cycle, self._symbols))

    def goto_exit(self, number: int) -> Stopped:
        """To VM exit `number` of the world, the first being 1, forwards or back."""
        self._need_vmm()
        to_it = Waiter(frozenset({Kind.EXIT}), match=lambda happening: happening.exits == number)
        if number > self._watcher.exits:
            return self._go(to_it)
        points = self.history.before_exit(number)
        if not points:
            raise ConfigError(f"exit {number} is not in the past that is kept; it begins behind {self._first_exit}")
        return self._change_to(*reach(points[0], to_it, self._symbols))

    # --- backwards ---------------------------------------------------------------------------------------------------

    def reverse_stepi(self, count: int = 1) -> Stopped:
        """To the instruction of this processor before this one."""
        for _ in range(count):
            here, rip = self.stop.happening, self.subject.rip
            found = self._reverse(self._instructions).happening
            if here.kind is Kind.ACCESS and (found.ordinal, found.rip) == (here.ordinal, rip):
                self._reverse(self._instructions)  # that was the one behind the access, where it stood
        return self.stop

    def reverse_next_exit(self) -> Stopped:
        """To the VM exit before."""
        self._need_vmm()
        return self._reverse(lambda: Waiter(frozenset({Kind.EXIT})))

    def reverse_finish(self) -> Stopped:
        """To where the exit began that is handled."""
        self._need_exit()
        is_ours = self._is_of(self._who)
        return self._reverse(lambda: Waiter(frozenset({Kind.EXIT}), match=is_ours))

    def reverse_cont(self) -> Stopped:
        """To the last break that would have stopped."""
        self._reverse(lambda: ForBreaks([replace(one) for one in self.breaks], _say_nothing))  # hits stay as they are
        here = self.stop.happening
        self.stop = Stopped(here, tuple(one for one in self.breaks if replace(one).matches(here, self.subject)))
        return self.stop

    def return_to(self, happening: Happening) -> Stopped:
        """To where it stood once."""
        return self._change_to(
            *reach_again((self._before(happening) or self._points(happening.cycles))[0], happening, self._symbols)
        )

    def log(self, expression: str, words: Sequence[str], first_cycle: int = 0) -> list[tuple[Happening, Any]]:
        """What `expression` was each time that a break with `words` would have stopped, up to here."""
        alone = Breaks().add(words, self, verb="log")
        origin = self.stop.happening
        points = self.history.before(max(first_cycle, self.history.points[0].cycles if self.history.points else 0))
        if not points:
            raise ConfigError("there is no past to look at")
        noting = Noting(ForBreaks([alone], _say_nothing), Condition(expression), first_cycle)
        find_last(points[:1], lambda: noting, origin, self._symbols)
        return noting.found

    def last_change(self, read: Callable[[Subject], object]) -> Stopped:
        """To the last instruction before which `read` of this processor gave another value than now.

        What changes it is the instruction, or what the VMM or a device does before the next one.
        """
        here, now = self.stop.happening, read(self.subject)
        found = last_change(self._before(here), read, self._who, here, now, self._symbols)
        if found is None:
            raise ConfigError("it was the same as far back as snapshots go")
        self.history.insert(found[0])
        return self._change_to(*reach_again(*found, self._symbols))

    # --- what there is to see ----------------------------------------------------------------------------------------

    @property
    def subject(self) -> Subject:
        """The processor that the stop is of, or that was chosen."""
        return self._watcher.subjects[self._who]

    @property
    def subjects(self) -> list[Subject]:
        """All processors of all guests."""
        return list(self._watcher.subjects)

    def choose(self, name: str) -> Subject:
        """Look at another processor. Raises ConfigError."""
        for number, subject in enumerate(self._watcher.subjects):
            if subject.name == name:
                self._who = number
                return subject
        raise ConfigError(f"no processor {name!r}; there are: {', '.join(s.name for s in self._watcher.subjects)}")

    @property
    def number(self) -> int:
        """Which of `subjects` is looked at."""
        return self._who

    def look_at(self, number: int) -> Subject:
        """Look at another of `subjects`."""
        self._who = number
        return self.subject

    @property
    def words_before(self) -> tuple[int, ...] | None:
        """The processor's VMCS at its last entry, to see what has changed; None: nobody looked then."""
        return self._watcher.words_before(self._who)

    @property
    def charges(self) -> tuple[Charge, ...]:
        """What the exit that is handled was charged so far."""
        vcpu = self.subject.vcpu
        return () if vcpu is None else self._watcher.charges_of(vcpu)

    def costs_of(self, reason: int) -> Sequence[int]:
        """Cycles of the last exits for `reason`."""
        return self._watcher.costs_of(reason)

    def timeline(self, count: int = 20) -> Timeline:
        """The last `count` events of everybody up to here. Raises ConfigError."""
        if not 0 < count <= COUNT_MAX:
            raise ConfigError(f"{count} events cannot be shown; give a number from 1 to {COUNT_MAX:,}")
        origin = self.stop.happening
        points = self._before(origin)
        if not points:
            raise ConfigError("there is no past to look at: what was written or typed has cut it off")
        return timeline(points, origin, self._symbols, count)

    @property
    def frame(self) -> FrameType | None:
        """Python's frame of the VMM's line that it stands at."""
        return self._watcher.tracer.frame

    def enter_pdb(self) -> Stopped:
        """Let Python's own debugger have the terminal, at the line of the VMM where it stands."""
        if self.stop.happening.line is None:
            raise ConfigError("pdb needs a line of the VMM to stand at; `step-vmm` goes to one")
        self._watcher.tracer.enters_pdb = True
        return self._go(Waiter(STEP_KINDS))

    @property
    def is_at_rest(self) -> bool:
        """Whether nobody is in the middle of anything."""
        return not self._life.is_halted

    def number_of(self, text: str) -> int:
        """A number, a symbol, or a symbol and an offset, as a user writes it. Raises ConfigError."""
        try:
            return int(text, 0)
        except ValueError:
            name, plus, offset = text.partition("+")
        address = self.subject.symbols.address_of(name)
        if address is None:
            raise ConfigError(f"{text!r} is no number, and no symbol of the guest")
        try:
            return address + (int(offset, 0) if plus else 0)
        except ValueError:
            raise ConfigError(f"{text!r}: {offset!r} is no number") from None

    @property
    def sidecalls(self) -> Collection[str]:
        """Names of what guests can ask of the host's sidecores; none: there are none."""
        guest = self.subject.guest
        sidecores = guest.hypervisor.sidecores if isinstance(guest, VirtualGuest) else None
        return {name: None for core in (sidecores.cores if sidecores else ()) for name in core.requests.names}

    def place_of(self, space: Space, address: int, size_bytes: int) -> Place:
        """Memory where it is now. Raises ConfigError where none is, or more than lies in a page."""
        if not 0 < size_bytes <= PAGE_BYTES - address % PAGE_BYTES:
            raise ConfigError(f"{size_bytes} bytes at {address:#x} are not possible; give what lies in one page")
        hpa = self.subject.place(space, address) if 0 <= address <= WORD else None
        if hpa is None or self.subject.read_hpa(hpa, size_bytes) is None:
            raise ConfigError(f"no memory is at {space.value} {address:#x} now")
        return Place(self._who, hpa, size_bytes)

    # --- changes -----------------------------------------------------------------------------------------------------

    def type(self, keys: bytes, guest: int = 0) -> None:
        """Type on a guest's serial line; what was before is the past no more. Raises ConfigError within an exit."""
        if not self.is_at_rest:
            raise ConfigError("keys arrive between two turns; `goto cycle N` stops at one")
        self.world.guests[guest].send(keys)
        self.changed()

    def store(self, space: Space, address: int, data: bytes) -> None:
        """Change memory; what was before is the past no more. Raises ConfigError in the middle of the VMM's work."""
        if self.stop.happening.kind in MIDDLE:
            raise ConfigError(
                "somebody is in the middle of something; go on to an exit, an entry or an instruction, then write"
            )
        store(self.subject, space, address, data)
        self.changed()

    def set(self, name: str, value: int) -> None:
        """Change a register; what was before is the past no more. Raises ConfigError where it cannot be."""
        here = self.stop.happening
        if here.kind in {*MIDDLE, Kind.HANDLED, Kind.END}:
            raise ConfigError("registers are changed where the guest stands, or at a VM exit or entry")
        if name == "rip" and here.kind is Kind.EXIT:
            raise ConfigError("the handler decides where the guest goes on; `finish`, then set rip")
        set_register(self.subject, name, value)
        if here.kind in (Kind.INSTRUCTION, Kind.ACCESS) and here.exit is None and here.who == self._who:
            self._watcher.edited(self._who)
        self.changed()

    def changed(self) -> None:
        """Somebody has changed the world: the way back ends here, and begins where it next comes to rest."""
        self.history.forget()
        if self.is_at_rest:
            self._keep()

    # --- the world ---------------------------------------------------------------------------------------------------

    def _enter(self, copy: Watched, life: Life) -> None:
        self.world, self._watcher, self._life = copy.world, copy.watcher, life
        copy.watcher.life = life
        for number, guest in enumerate(self.world.guests):
            guest.on_byte = partial(self._print, number)

    def _go(self, pursuit: Pursuit, until_cycle: int | None = None, until_text: str | None = None) -> Stopped:
        """Let the world run until the pursuit halts it; snapshots are taken on the way."""
        if self.world.has_ended and self.is_at_rest:
            raise ConfigError("every guest has ended; only the way back is left")
        self._watcher.take(pursuit)
        for guest in self.world.guests:
            guest.await_text(until_text)
        while True:
            limit = self.world.cycles + SLICE_CYCLES
            answer = self._life.run(Limits(max_cycles=min(limit, until_cycle or limit), until=until_text))
            if isinstance(answer, Happening):
                break
            if answer is not Stop.LIMIT or (until_cycle is not None and self.world.cycles >= until_cycle):
                break
            if self._is_interrupted:  # between two slices
                answer = Stop.PAUSED
                break
            if self.history.is_due:
                self._keep()
        self._watcher.take(NOTHING)
        self._is_interrupted = False
        return self._arrive(answer, pursuit)

    def _arrive(self, answer: Happening | Stop, pursuit: Pursuit | None = None) -> Stopped:
        self._who = self._who if isinstance(answer, Stop) or answer.who == NOBODY else answer.who
        self.subject.find_kernel()
        if isinstance(answer, Stop):
            kind = Kind.END if answer is Stop.ENDED else Kind.REST
            self.stop = Stopped(self._at_rest(kind), why=WHY_AT_REST.get(answer, answer.value))
            return self.stop
        hit = pursuit.hit if isinstance(pursuit, ForBreaks) else ()
        for one in hit:
            if one.is_temporary:
                self.breaks.by_number.pop(one.number, None)
        self.stop = Stopped(answer, tuple(hit))
        return self.stop

    def _reverse(self, make: Callable[[], Pursuit]) -> Stopped:
        origin = self.stop.happening
        found = find_last(self._before(origin), make, origin, self._symbols)
        if found is None:
            raise ConfigError("there is nothing like that before, as far back as snapshots go")
        self.history.insert(found[0])
        return self._change_to(*reach_again(*found, self._symbols))

    def _change_to(self, copy: Watched, life: Life, answer: Happening | Stop) -> Stopped:
        self._life.end()
        self._enter(copy, life)
        return self._arrive(answer)

    def _keep(self) -> None:
        with self._watcher.aside():
            self.history.keep(self.world, self._watcher.exits)

    def _before(self, happening: Happening) -> list[Point]:
        """Snapshots before it, the latest first."""
        return self.history.before(happening.begin_cycles) or self.history.before(happening.cycles)

    def _points(self, cycle: int) -> list[Point]:
        points = self.history.before(cycle)
        if not points:
            first = self.history.points[0].cycles if self.history.points else self.world.cycles
            raise ConfigError(f"cycle {cycle:,} is not in the past that is kept, which begins at {first:,}")
        return points

    @property
    def _first_exit(self) -> int:
        return self.history.points[0].exits if self.history.points else self._watcher.exits

    def _instructions(self, count: int = 1) -> Waiter:
        return Waiter(frozenset({Kind.INSTRUCTION}), (EVERYWHERE,), match=self._is_of(self._who), count=count)

    def _is_of(self, who: int) -> Callable[[Happening], bool]:
        return lambda happening: happening.who == who

    def _at_rest(self, kind: Kind) -> Happening:
        return Happening(kind, self.world.cycles, self._watcher.exits)

    def _print(self, guest: int, byte: int) -> None:
        self.on_output(guest, byte)

    def _trace(self, one: Break, happening: Happening) -> None:
        self.on_trace(one, happening)

    def _need_vmm(self) -> None:
        if self.subject.vcpu is None:
            raise ConfigError("natively there is no VMM, and nothing exits; boot with --paging shadow or ept")

    def _need_exit(self) -> VCpu:
        self._need_vmm()
        vcpu = self.subject.vcpu
        if vcpu is None or vcpu.exit is None:
            raise ConfigError("no VM exit is being handled here; `next-exit` goes to the next")
        return vcpu


def _say_nothing(_break: Break, _happening: Happening) -> None:
    """Nobody listens."""


def _print_nothing(_guest: int, _byte: int) -> None:
    """Nobody looks."""
