"""The pins of a core, and what drives them.

    board's interrupt controller --set_interrupt--.
    local timer ------------------- arm_timer ----+--> INTR --> VM exit (VMM) or IDT (native); ends a wait
    another core ------------------- send_ipi ----'
    board's NMI -------------------- raise_nmi ------> NMI
    INIT, SIPI --------------------- initialize, start_up --> whoever executes on the core

The pins are the core's: an engine that is loaded finds them as they are, one that is unloaded leaves them here.
"""

from typing import Protocol

from emulator.clock import Clock
from emulator.engine import Engine
from emulator.events import Event
from emulator.ledger import Category
from emulator.profiles.profile import Profile
from emulator.timeline import Timeline
from emulator.waiting import Waiting

LOCAL_TIMER_VECTOR = 0xEF  # the vector of this core's local timer; a VMM's own choice on real hardware


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

    def __init__(self, clock: Clock, waiting: Waiting, timeline: Timeline, profile: Profile) -> None:
        self.seen_from_cycles = 0  # the guest does not see the INTR pin before: its spinning was jumped over
        self.has_timer_fired = False
        self.executor: Executor | None = None  # None: a VMM in root operation, where INIT waits (SDM 3C 23.8)
        self._clock = clock
        self._waiting = waiting
        self._timeline = timeline
        self._send_cycles = profile.events.ipi_send_cycles
        self._receive_cycles = profile.events.ipi_receive_cycles
        self._timer: Event | None = None
        self._ipi_pending = False
        self._intr_asserted = False  # level of the board's interrupt wire
        self._nmi_pending = False  # while no engine is loaded

    # --- pins --------------------------------------------------------------------------------------------------------

    def set_interrupt(self, is_asserted: bool) -> None:
        """The level of the INTR pin, driven by the board's interrupt controller."""
        self._intr_asserted = is_asserted
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

    @property
    def is_asserted(self) -> bool:
        """The level of the INTR pin."""
        return self._intr_asserted or self.has_timer_fired or self._ipi_pending

    def drive(self) -> None:
        """Let the loaded engine, and a core that waits, see the level of the INTR pin."""
        is_pending = self.is_asserted
        if is_pending and self._waiting.is_spinning:
            self.seen_from_cycles = self._timeline.event_cycles
            self._waiting.wake(self.seen_from_cycles)
        if self._clock.engine is not None:
            is_seen = is_pending and self.seen_from_cycles <= self._clock.cycles
            self._clock.engine.shared.interrupt_pending = is_seen
        self._waiting.set_interrupt(is_pending)

    def connect(self, engine: Engine) -> None:
        """The core has loaded `engine`."""
        engine.shared.nmi_pending, self._nmi_pending = self._nmi_pending, False
        self.drive()

    def disconnect(self, engine: Engine) -> None:
        """The core is about to unload `engine`."""
        self._nmi_pending = bool(engine.shared.nmi_pending)
        engine.shared.interrupt_pending = engine.shared.nmi_pending = 0

    # --- the local timer ---------------------------------------------------------------------------------------------

    def arm_timer(self, when_ps: int | None) -> None:
        """Set the local timer to interrupt at `when_ps`, or never; the earlier setting is forgotten."""
        if self._timer is not None and self._timer.callback is not None and self._timer.when_ps == when_ps:
            return
        events = self._timeline.events
        events.cancel(self._timer)
        self._timer = None if when_ps is None else events.schedule(when_ps, self._on_timer)
        self._clock.bound_by_events()

    def _on_timer(self) -> None:
        self._timer = None
        self.has_timer_fired = True
        self.drive()

    def acknowledge_timer(self) -> bool:
        """Whether the local timer has fired since last asked; lowers its request."""
        fired, self.has_timer_fired = self.has_timer_fired, False
        self.drive()
        return fired

    # --- interrupts between cores ------------------------------------------------------------------------------------

    def send_ipi(self, target: "Interrupts") -> None:
        """Interrupt another core. MODEL: `ipi_receive_cycles` has the receiver's entry to its handler in it, too."""
        clock, timeline = self._clock, self._timeline
        clock.charge(Category.EVENTS, self._send_cycles)
        clock.commit()
        timeline.events.schedule(timeline.cycles_to_ps(clock.cycles + self._receive_cycles), target.receive_ipi)
        clock.bound_by_events()

    def receive_ipi(self) -> None:
        """Another core's interrupt arrives."""
        self._ipi_pending = True
        self.drive()

    def acknowledge_ipi(self) -> bool:
        """Whether an IPI has arrived since last asked; lowers its request."""
        arrived, self._ipi_pending = self._ipi_pending, False
        self.drive()
        return arrived
