"""Sees what happens in a world, and halts it where a pursuit wants that.

    hypervisor: exit_began, charged, ... --.
    engine: on_instruction ----------------+--> Watcher --Happening--> Pursuit.look --True--> Life.halt
    Python: lines of the VMM --------------'

Watching changes nothing. What no pursuit wants costs next to nothing: `take` says what is looked at.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Protocol

from emulator.vmx import fields as f
from emulator.vmx.check import EntryFailure
from emulator.vmx.instruction_errors import VmFailure
from vmm.cost.meter import Charge, Meter
from vmm.exits.observer import ExitObserver, Observers
from vmm.outcome import Outcome
from vmm.session.debugger.happening import Access, By, Happening, Kind, Place, VmmLine
from vmm.session.debugger.life import Life
from vmm.session.debugger.lines import LineTracer
from vmm.session.debugger.places import WatchedPlaces
from vmm.session.debugger.side_events import KINDS, SideEvents
from vmm.session.debugger.views.subject import Subject
from vmm.session.guest import Processor
from vmm.session.symbols import Symbols
from vmm.session.world.world import World
from vmm.vcpu import Exit, VCpu

Span = tuple[int, int]  # first and last linear address
EVERYWHERE: Span = (0, (1 << 64) - 1)
_RIP, _CS_BASE = f.SLOT[f.GUEST_RIP], f.SLOT[f.GUEST_CS_BASE]
COSTS_MAX = 10_000  # that are kept for each reason
WITHOUT_CHARGES = {Kind.INSTRUCTION, Kind.EXIT}  # where no exit has been charged for anything


class Pursuit(Protocol):
    """What a command waits for."""

    @property
    def kinds(self) -> frozenset[Kind]:
        """What it looks at."""
        ...

    @property
    def spans(self) -> Sequence[Span]:
        """Of INSTRUCTION: where."""
        ...

    @property
    def places(self) -> Sequence[Place]:
        """Of ACCESS: to what."""
        ...

    def look(self, happening: Happening) -> bool:
        """Whether to halt here."""
        ...


class Watcher(ExitObserver):
    """Of one world. `exits`: how many have begun before it is watched."""

    def __init__(self, exits: int = 0) -> None:
        self.exits = exits
        self.life: Life | None = None
        self._pursuit: Pursuit | None = None
        self._kinds: frozenset[Kind] = frozenset()
        self._sees_exits = self._sees_handled = self._sees_entries = self._sees_charges = self._sees_lines = False
        self.subjects: list[Subject] = []  # all processors of the world
        self._numbers: dict[Processor, int] = {}  # of all processors in the world
        self._spans: tuple[Span, ...] = ()
        self._places: WatchedPlaces | None = None
        self._side_events: SideEvents | None = None
        self._seats: list[Observers] = []
        self._hears_charges = True
        self._charges: dict[Meter, list[Charge]] = {}  # of the exit that a core handles, if all were heard,
        self._charged: dict[Meter, int] = {}  # and whose that is
        self._costs: dict[int, deque[int]] = {}  # of the last exits, by reason
        self._words: dict[int, bytes] = {}  # VMCS by processor
        self._last_instruction: tuple[object, ...] = ()
        self._repeats = self._access_repeats = 0
        self._edited: tuple[int, int] | None = None  # whose instruction begins anew
        self._last_access: tuple[object, ...] = ()
        self._handled: VCpu | None = None  # whose exit is traced line by line
        self._told_charges = 0  # of its charges: how many lines have had
        self.tracer = LineTracer(self._line)

    def follow(self, world: World, symbols: Sequence[Symbols]) -> None:
        """The world is built: look at its processors too. `symbols` of each guest, as far as there are any."""
        for index, guest in enumerate(world.guests):
            known = symbols[index] if index < len(symbols) else None
            for number, processor in enumerate(guest.built.processors):
                subject, who = Subject(guest.built, number, known), len(self.subjects)
                processor.engine.on_instruction = partial(self._instruction, who, subject)
                self._numbers[processor] = who
                self.subjects.append(subject)

    def take(self, pursuit: Pursuit) -> None:
        """Look for this from now on. Raises ValueError for too many spans."""
        self._pursuit, kinds = pursuit, pursuit.kinds
        self._sees_exits, self._sees_handled = Kind.EXIT in kinds, Kind.HANDLED in kinds
        self._sees_entries, self._sees_charges = Kind.ENTRY in kinds, Kind.CHARGE in kinds
        self._sees_lines = Kind.LINE in kinds
        self._kinds = kinds
        self._hear_charges(self._hears_charges or not kinds <= WITHOUT_CHARGES)
        spans = tuple(pursuit.spans) if Kind.INSTRUCTION in kinds else ()
        if spans != self._spans:
            for subject in self.subjects:
                subject.engine.watch_instructions(spans)
            self._spans = spans
        if self._places is not None:
            self._places.close()
            self._places = None
        if Kind.ACCESS in kinds and pursuit.places:
            self._places = WatchedPlaces(self.subjects, pursuit.places)
        self._hear_side_events()

    def _hear_side_events(self) -> None:
        self._leave_side_events()
        if self._kinds & KINDS:
            self._side_events = SideEvents(self.subjects, self._kinds, lambda: self.exits, self._tell)

    def _leave_side_events(self) -> None:
        if self._side_events is not None:
            self._side_events.close()
            self._side_events = None

    @contextmanager
    def aside(self) -> Iterator[None]:
        """For as long as a snapshot is taken."""
        self._leave_side_events()
        yield
        self._hear_side_events()

    def _hear_charges(self, is_wanted: bool) -> None:
        if is_wanted is not self._hears_charges:
            self._hears_charges = is_wanted
            for seats in self._seats:
                seats.listen(self, is_wanted)

    def edited(self, who: int) -> None:
        """At an instruction: its registers were changed, and stay so; it is not told anew."""
        subject = self.subjects[who]
        subject.engine.keep_edits()
        self._edited = (who, subject.linear_rip)

    def words_before(self, who: int) -> tuple[int, ...] | None:
        """The VMCS of a vCPU at its last entry, if that was watched."""
        words = self._words.get(who)
        return None if words is None else tuple(memoryview(words).cast("Q"))

    def charges_of(self, vcpu: VCpu) -> tuple[Charge, ...]:
        """What the exit that is handled was charged so far on this core; nothing if nobody listened from its begin."""
        return tuple(self._charges.get(vcpu.meter, ()))

    def costs_of(self, reason: int) -> Sequence[int]:
        """Cycles of the exits for `reason` that have ended, as far as they were watched."""
        return self._costs.get(reason, ())

    # --- the hypervisor ----------------------------------------------------------------------------------------------

    def seated(self, seats: Observers) -> None:
        """See `ExitObserver`."""
        self._seats.append(seats)

    def exit_began(self, vcpu: VCpu, exit: Exit) -> None:
        """See `ExitObserver`."""
        if self._places is not None:
            self._tell_accesses(self._numbers[vcpu], By.OTHERS)
        self.exits += 1
        self._account_for(vcpu)
        if self._sees_exits:
            self._tell(self._at(Kind.EXIT, vcpu, exit), vcpu.meter)
        if self._sees_lines:  # it may be wanted only now
            self._handled, self._told_charges = vcpu, 0
            self.tracer.begin()

    def exit_handled(self, vcpu: VCpu, exit: Exit, outcome: Outcome) -> None:
        """See `ExitObserver`."""
        if self._places is not None:
            self._tell_accesses(self._numbers[vcpu], By.VMM)
        if self._sees_handled:
            self._tell(self._at(Kind.HANDLED, vcpu, exit))

    def exit_resumed(self, vcpu: VCpu, exit: Exit) -> None:
        """See `ExitObserver`."""
        self._account_for(vcpu)
        if Kind.SCHEDULED in self._kinds:
            self._tell(self._at(Kind.SCHEDULED, vcpu, exit))

    def exit_ended(self, vcpu: VCpu, exit: Exit, cycles: int) -> None:
        """See `ExitObserver`."""
        self.tracer.end()
        if self._kinds:
            who = self._numbers[vcpu]
            self._words[who] = self.subjects[who].vmcs.storage.tobytes()
        self._costs.setdefault(exit.reason, deque(maxlen=COSTS_MAX)).append(cycles)
        if self._places is not None:
            self._tell_accesses(self._numbers[vcpu], By.VMM)
        if self._sees_entries:
            self._tell(self._at(Kind.ENTRY, vcpu, exit, exit_cycles=cycles))

    def entry_failed(self, vcpu: VCpu, failure: VmFailure | EntryFailure) -> None:
        """See `ExitObserver`."""
        if Kind.FAILED in self._kinds:
            here = Happening(Kind.FAILED, vcpu.meter.now_cycles, self.exits, self._numbers[vcpu], exit=vcpu.exit)
            subject = self.subjects[here.who]
            self._tell(replace(here, subject=subject, rip=subject.rip, what=str(failure)))

    def charged(self, meter: Meter, charge: Charge) -> None:
        """See `ExitObserver`."""
        charges = self._charges.get(meter)
        if charges is None or self.subjects[self._charged[meter]].exit is None:
            return  # not within an exit
        charges.append(charge)
        if self._sees_charges:
            who = self._charged[meter]
            subject = self.subjects[who]
            here = Happening(
                Kind.CHARGE, meter.now_cycles, self.exits, who, subject, subject.exit,
                ordinal=len(charges), charge=charge,
            )  # fmt: skip
            self._tell(here)

    def _account_for(self, vcpu: VCpu) -> None:
        """Charges are for an exit of it from now on, if anybody wants them."""
        self._hear_charges(not self._kinds <= WITHOUT_CHARGES)
        self._charges.pop(vcpu.meter, None)
        self._charged[vcpu.meter] = self._numbers[vcpu]
        if self._hears_charges:
            self._charges[vcpu.meter] = []

    def _at(self, kind: Kind, vcpu: VCpu, exit: Exit, exit_cycles: int = 0) -> Happening:
        cycles, who = vcpu.meter.now_cycles, self._numbers[vcpu]
        subject = self.subjects[who]
        return Happening(kind, cycles, self.exits, who, subject, exit, rip=vcpu.rip, exit_cycles=exit_cycles)

    # --- the guest's instructions, the VMM's lines -------------------------------------------------------------------

    def _instruction(self, who: int, subject: Subject) -> None:
        if not self._spans and self._places is None:
            return  # of a block that is left soon
        accesses = [] if self._places is None else self._places.taken(who, By.OTHERS)
        storage = subject.vmcs.storage
        linear = subject.linear_rip if storage[_CS_BASE] else storage[_RIP]
        edited, self._edited = self._edited, None
        if edited != (who, linear) and any(first <= linear <= last for first, last in self._spans):
            self._tell_instruction(who, subject, linear)
        for whose, access in accesses:
            self._tell_access(whose, access)

    def _tell_instruction(self, who: int, subject: Subject, linear: int) -> None:
        rip, instructions = subject.vmcs.storage[_RIP], int(subject.engine.shared.instructions)
        place = (who, self.exits, instructions, rip)
        self._repeats = self._repeats + 1 if place == self._last_instruction else 0
        self._last_instruction = place
        cycles = int(subject.engine.shared.clock_cycles)
        self._tell(
            Happening(
                Kind.INSTRUCTION, cycles, self.exits, who, subject,
                rip=rip, linear=linear, ordinal=instructions, repeats=self._repeats,
            )
        )  # fmt: skip

    # --- memory ------------------------------------------------------------------------------------------------------

    def _tell_accesses(self, who: int, by: By) -> None:
        """Those since the last time."""
        if self._places is not None:
            for whose, access in self._places.taken(who, by):
                self._tell_access(whose, access)

    def _tell_access(self, who: int, access: Access) -> None:
        if Kind.ACCESS not in self._kinds:
            return
        subject = self.subjects[who]
        shared, exit = subject.engine.shared, None if subject.vcpu is None else subject.vcpu.exit
        cycles, instructions = int(shared.clock_cycles), int(shared.instructions)
        place = (who, self.exits, instructions, access.linear, access.place)
        self._access_repeats = self._access_repeats + 1 if place == self._last_access else 0
        self._last_access = place
        self._tell(
            Happening(
                Kind.ACCESS, cycles, self.exits, who, subject, exit, rip=access.linear, linear=access.linear,
                ordinal=instructions, repeats=self._access_repeats, access=access,
            )
        )  # fmt: skip

    def _line(self, file: str, number: int, function: str, text: str) -> None:
        vcpu = self._handled
        if not self._sees_lines or vcpu is None or vcpu.exit is None:
            return
        charges = self._charges.get(vcpu.meter, [])
        line = VmmLine(file, number, function, text, tuple(charges[self._told_charges :]))
        self._told_charges = len(charges)
        self._tell(replace(self._at(Kind.LINE, vcpu, vcpu.exit), ordinal=self.tracer.count, line=line))

    def _tell(self, happening: Happening, meter: Meter | None = None) -> None:
        """Halt where it is wanted. `meter`: of an exit that has just begun, whose charges may be asked for later."""
        if self._pursuit is not None and self._pursuit.look(happening) and self.life is not None:
            if meter is not None:
                self._hear_charges(True)
                self._charges[meter] = []
            self.life.halt(happening)
