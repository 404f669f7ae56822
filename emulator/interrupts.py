"""The pins of a core, and what drives them.

    local APIC --set_interrupt--> INTR --> VM exit (VMM) or IDT (native); ends a wait
               --raise_nmi------> NMI
               --initialize, start_up--> INIT, SIPI: whoever executes on the core

The pins are the core's: an engine that is loaded finds them as they are, one that is unloaded leaves them here.
"""

from typing import Protocol

from emulator.clock import Clock
from emulator.engine import Engine
from emulator.timeline import Timeline
from emulator.waiting import Waiting


class Executor(Protocol):
    """What executes on a core, for what its INTR pin does not say."""

    def on_nmi(self) -> None:
        """The NMI pin has been driven: it may end a wait."""
        ...

    def on_init(self) -> None:
        """INIT."""
        ...

    def on_start_up(self, vector: int) -> None:
        """SIPI."""
        ...


class Interrupts:
    """The pins of the core of `clock`, which may be `waiting`."""

    def __init__(self, clock: Clock, waiting: Waiting, timeline: Timeline) -> None:
        self.seen_from_cycles = 0  # the guest does not see the INTR pin before: its spinning was jumped over
        self.is_asserted = False  # level of the INTR pin
        self.executor: Executor | None = None  # None: a VMM in root operation, where INIT waits (SDM 3C 23.8)
        self._clock = clock
        self._waiting = waiting
        self._timeline = timeline
        self._nmi_pending = False  # while no engine is loaded

    def set_interrupt(self, is_asserted: bool) -> None:
        """The level of the INTR pin, driven by the local APIC."""
        self.is_asserted = is_asserted
        self.drive()

    def raise_nmi(self) -> None:
        """An edge at the NMI pin; one waits at most. What it ends, a `wait`, is for the executor to say."""
        if self._clock.engine is None:
            self._nmi_pending = True
        else:
            self._clock.engine.shared.nmi_pending = 1
        if self.executor is not None:
            self.executor.on_nmi()

    def initialize(self) -> None:
        """INIT, from a local APIC."""
        if self.executor is not None:
            self.executor.on_init()

    def start_up(self, vector: int) -> None:
        """SIPI: real mode at vector << 12."""
        if self.executor is not None:
            self.executor.on_start_up(vector)

    def drive(self) -> None:
        """Let the loaded engine, and a core that waits, see the level of the INTR pin."""
        if self.is_asserted and self._waiting.is_spinning:
            self.seen_from_cycles = self._timeline.event_cycles
            self._waiting.wake(self.seen_from_cycles)
        if self._clock.engine is not None:
            is_seen = self.is_asserted and self.seen_from_cycles <= self._clock.cycles
            self._clock.engine.shared.interrupt_pending = is_seen
        self._waiting.set_interrupt(self.is_asserted)

    def connect(self, engine: Engine) -> None:
        """The core has loaded `engine`."""
        engine.shared.nmi_pending, self._nmi_pending = self._nmi_pending, False
        self.drive()

    def disconnect(self, engine: Engine) -> None:
        """The core is about to unload `engine`."""
        self._nmi_pending = bool(engine.shared.nmi_pending)
        engine.shared.interrupt_pending = engine.shared.nmi_pending = 0
