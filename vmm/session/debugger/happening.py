"""What happens in a world, as a debugger may stop at it.

A run is one sequence, the same each time: so a happening is found again by its `key`, by running once more.
"""

from dataclasses import dataclass, field
from enum import Enum

from vmm.cost.meter import Charge
from vmm.session.debugger.views.subject import Subject
from vmm.vcpu import Exit

NOBODY = -1
OVERSHOOT_CYCLES = 20_000  # how far a core may be beyond a limit, in root mode


class Kind(Enum):
    """What can happen."""

    INSTRUCTION = "instruction"  # one is about to run
    EXIT = "exit"  # a VM exit has taken place; its handler has not begun
    HANDLED = "handled"  # the handler has returned; RIP has not moved
    ENTRY = "entry"  # the VM entry behind an exit
    SCHEDULED = "scheduled"  # a vCPU that slept, or gave way, goes on with its exit
    CHARGE = "charge"  # the VMM was charged for something
    LINE = "line"  # a line of the VMM's Python is about to run
    SIDECALL = "sidecall"  # a sidecore takes a request
    SERVED = "served"  # it has carried it out
    EVENT = "event"  # a device is about to do something by itself
    FAILED = "entry-failure"  # the VM entry behind an exit has failed
    ACCESS = "access"  # a place in memory was accessed, or has changed
    REST = "rest"  # nobody runs: between two turns
    END = "end"  # all guests have ended


BESIDE = {Kind.SIDECALL, Kind.SERVED, Kind.EVENT}  # not in the middle of a processor's work


@dataclass(frozen=True)
class VmmLine:
    """A line of the VMM's Python, and what was charged since the line before."""

    file: str  # within the project
    number: int
    function: str
    text: str
    charges: tuple[Charge, ...] = ()


@dataclass(frozen=True)
class Place:
    """Memory that is watched, on the host of processor `who`. `tells_accesses`: loads, too, and stores of the same."""

    who: int
    hpa: int
    size_bytes: int
    tells_accesses: bool = True


class By(Enum):
    """Who may have accessed a place."""

    INSTRUCTION = "an instruction"
    VMM = "the VMM, or a device of its"
    OTHERS = "a page walk, an event on its way to its handler, or a device"


@dataclass(frozen=True)
class Access:
    """Of a place: its bytes before and after it. `linear`: of the instruction, or the last one before."""

    place: Place
    by: By
    linear: int
    is_load: bool
    is_store: bool
    old: bytes
    new: bytes


@dataclass(slots=True)  # not frozen: that takes three times as long to make, and there is one for each exit
class Happening:
    """One of them, at `cycles` of its core's clock, behind so many VM exits of the world, the open one included."""

    kind: Kind
    cycles: int
    exits: int
    who: int = NOBODY  # whose: the number of the processor in the world
    subject: Subject | None = field(default=None, compare=False)  # the same, to look at
    exit: Exit | None = None  # the one that is handled
    rip: int = 0
    linear: int = 0  # address of the instruction
    ordinal: int = 0  # instructions that the CPU has retired, as it counts them; lines or charges of this exit so far
    repeats: int = 0  # of an instruction that stands at the same place and count
    charge: Charge | None = None
    line: VmmLine | None = None
    access: Access | None = None
    exit_cycles: int = 0  # of an ENTRY: what its exit took
    what: str = ""  # of an EVENT, the owner, device and what it does; the operation of a sidecall; why an entry FAILED
    due_cycles: int = 0  # of an EVENT, when it was due; of a sidecall, when it could be seen

    @property
    def key(self) -> tuple[object, ...]:
        """What no other happening of the run has."""
        if self.kind in BESIDE:
            return (self.kind, self.who, self.what, self.ordinal, self.repeats)
        cycles = self.cycles if self.kind in (Kind.REST, Kind.END) else 0
        place = None if self.access is None else self.access.place
        return (self.kind, self.who, self.exits, cycles, self.rip, self.ordinal, self.repeats, place)

    @property
    def begin_cycles(self) -> int:
        """A world that rests at this cycle, or before, is before it. A handler is not cut by a limit."""
        if self.kind in BESIDE:
            return max(0, self.due_cycles - OVERSHOOT_CYCLES)
        return self.cycles if self.exit is None else self.exit.began_cycles
