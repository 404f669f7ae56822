"""Notes what happens in a world that is run again, for `timeline`: the last events, from all that can tell of one.

    hypervisor   exits, entries with what they inject, vCPUs that get a core      an ExitObserver
    processors   exceptions and interrupts through the IDT                        the engine's ring of the last 32
    devices      what they do by themselves                                       their queues of events
    sidecores    requests answered      NIC   hops of packets, signals            their observers

A ring is emptied at each exit and each event of a device. What it has lost by then is an event, too: "... not kept".
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial

from emulator.engine.abi import RECENT_MAX
from emulator.events import EventQueue
from emulator.machine import Machine
from emulator.pcpu import PCpu
from emulator.vmx import exit_reasons
from emulator.vmx import fields as f
from vmm.exits.observer import ExitObserver
from vmm.session.debugger.views.exit_words import event_text, qualification_text
from vmm.session.debugger.views.subject import Subject
from vmm.session.debugger.views.values import Hex
from vmm.session.observe.device_events import event_of, queues_of
from vmm.session.report.recent import recent_events
from vmm.session.virtual_guest import VirtualGuest
from vmm.session.world.world import World
from vmm.sidecore.slots import Served
from vmm.vcpu import Exit, VCpu

KEPT_PER_EVENT = 4  # events come in the order in which cores have their turns: time sorts them


class EventKind(Enum):
    """What an event is."""

    EXIT = "exit"
    ENTRY = "entry"
    SCHEDULED = "scheduled"
    DELIVERY = "delivery"
    DEVICE = "device"
    SIDECALL = "sidecall"
    PACKET = "packet"


@dataclass(frozen=True)
class Event:
    """One, at `at_ps` of the world's time and `cycles` of a core's clock. `core` is None for devices."""

    at_ps: int
    cycles: int
    kind: EventKind
    who: str
    core: int | None
    what: str
    rip: Hex | None = None
    symbol: str = ""


class Recorder(ExitObserver):
    """Keeps the last `count` events, and some more. `is_over`: nothing is noted any more."""

    def __init__(self, count: int) -> None:
        self.events: deque[Event] = deque(maxlen=KEPT_PER_EVENT * count)
        self.is_over = False
        self._subjects: dict[VCpu, Subject] = {}
        self._all: list[Subject] = []
        self._told: list[int] = []  # events of each processor's ring

    def follow(self, world: World, subjects: list[Subject]) -> None:
        """Hear of what happens in `world` from now on."""
        self._all, self._told = subjects, [int(s.engine.shared.recent_count) for s in subjects]
        self._subjects = {s.vcpu: s for s in subjects if s.vcpu is not None}
        machines: set[int] = set()
        for guest in world.guests:
            built = guest.built
            machine = built.machine
            if id(machine) in machines:
                continue
            machines.add(id(machine))
            if built.nic is not None:
                built.nic.observers.append(_Packets(self, machine))
            if not isinstance(built, VirtualGuest):
                self._hear_of("machine", machine.events, machine)
                continue
            hypervisor = built.hypervisor
            for owner, queue in queues_of(hypervisor):
                self._hear_of(owner, queue, machine)
            for sidecore in hypervisor.sidecores.cores if hypervisor.sidecores is not None else ():
                sidecore.requests.on_served = partial(self._served, sidecore.pcpu)

    def finish(self) -> None:
        """What comes now is later."""
        if not self.is_over:
            self.drain()
            self.is_over = True

    # --- VM exits ----------------------------------------------------------------------------------------------------

    def exit_began(self, vcpu: VCpu, exit: Exit) -> None:
        """With what made it, in words."""
        if not self.is_over:
            self.drain()
            subject, what = self._subjects[vcpu], exit_reasons.name(exit.reason)
            detail = qualification_text(subject)
            self._note_at(subject, EventKind.EXIT, f"{what}: {detail}" if detail else what)

    def exit_resumed(self, vcpu: VCpu, exit: Exit) -> None:
        """It gets a core."""
        if not self.is_over:
            what = f"goes on with {exit_reasons.name(exit.reason)}"
            self._note_at(self._subjects[vcpu], EventKind.SCHEDULED, what)

    def exit_ended(self, vcpu: VCpu, exit: Exit, cycles: int) -> None:
        """With what it injects."""
        if self.is_over:
            return
        subject = self._subjects[vcpu]
        information = subject.read(f.VM_ENTRY_INTERRUPTION_INFORMATION)
        event = event_text(information, subject.read(f.VM_ENTRY_EXCEPTION_ERROR_CODE))
        what = f"{exit_reasons.name(exit.reason)} took {cycles:,} cycles"
        self._note_at(subject, EventKind.ENTRY, f"{event}; {what}" if event else what)

    def _note_at(self, subject: Subject, kind: EventKind, what: str) -> None:
        """Of a processor, where it is now."""
        pcpu, cycles = subject.pcpu, subject.cycles
        rip, symbol = Hex(subject.rip), subject.symbols.name_of(subject.linear_rip)
        at_ps = pcpu.timeline.cycles_to_ps(cycles)
        self.events.append(Event(at_ps, cycles, kind, subject.name, pcpu.number, what, rip, symbol))

    # --- processors --------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Note what processors have delivered since the last time."""
        for number, subject in enumerate(self._all):
            count = int(subject.engine.shared.recent_count)
            fresh = count - self._told[number]
            if fresh:
                self._told[number] = count
                self._note_deliveries(subject, fresh)

    def _note_deliveries(self, subject: Subject, fresh: int) -> None:
        pcpu = subject.pcpu
        if fresh > RECENT_MAX:
            what = f"... {fresh - RECENT_MAX:,} not kept"
            cycles = recent_events(subject.engine)[0].cycles
            at_ps = pcpu.timeline.cycles_to_ps(cycles)
            self.events.append(Event(at_ps, cycles, EventKind.DELIVERY, subject.name, pcpu.number, what))
        for recent in recent_events(subject.engine)[-min(fresh, RECENT_MAX) :]:
            if not recent.is_exit:
                at_ps, rip = pcpu.timeline.cycles_to_ps(recent.cycles), Hex(recent.rip)
                symbol = subject.symbols.name_of(recent.rip)
                self.events.append(
                    Event(at_ps, recent.cycles, EventKind.DELIVERY, subject.name, pcpu.number, str(recent), rip, symbol)
                )

    # --- devices -----------------------------------------------------------------------------------------------------

    def _hear_of(self, owner: str, queue: EventQueue, machine: Machine) -> None:
        queue.on_event = partial(self._happened, owner, machine, queue.on_event)

    def _happened(
        self,
        owner: str,
        machine: Machine,
        other: Callable[[Callable[[], None], int], None] | None,
        callback: Callable[[], None],
        when_ps: int,
    ) -> None:
        if other is not None:
            other(callback, when_ps)
        if not self.is_over:
            self.drain()
            device, what = event_of(callback)
            self.note(machine, EventKind.DEVICE, owner, f"{device} {what}", when_ps)

    def note(self, machine: Machine, kind: EventKind, who: str, what: str, at_ps: int) -> None:
        """Something that no core does."""
        if not self.is_over:
            self.events.append(Event(at_ps, machine.timeline.ps_to_cycles(at_ps), kind, who, None, what))

    def _served(self, pcpu: PCpu, request: Served) -> None:
        if not self.is_over:
            waited, took = request.began_cycles - request.visible_cycles, request.ended_cycles - request.began_cycles
            what = f"{request.operation} waited {waited:,}, took {took:,} cycles"
            at_ps = pcpu.timeline.cycles_to_ps(request.began_cycles)
            who = f"d{request.domain}"
            self.events.append(Event(at_ps, request.began_cycles, EventKind.SIDECALL, who, pcpu.number, what))


class _Packets:
    """Hears of hops on one machine's card (devices/nic/observe.py)."""

    def __init__(self, recorder: Recorder, machine: Machine) -> None:
        self._recorder, self._machine = recorder, machine

    def stamp(self, vif_number: int, hop: str, now_ps: int) -> None:
        """A packet gets there."""
        self._recorder.note(self._machine, EventKind.PACKET, f"vif{vif_number}", hop, now_ps)
