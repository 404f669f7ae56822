"""What happens beside VM exits: sidecalls, and what devices do by themselves; heard only while somebody wants it.

    sidecore: a request is taken, is carried out --.
    queues of events: one is due ------------------+--> tell(Happening)

Their seats are wires (vmm/session/snapshot): they are left while a snapshot is taken.
"""

from collections.abc import Callable, Collection, Sequence
from functools import partial

from emulator.events import EventQueue
from emulator.machine import Machine
from vmm.hypervisor import Hypervisor
from vmm.session.debugger.happening import Happening, Kind
from vmm.session.debugger.views.subject import Subject
from vmm.session.observe.device_events import event_of, queues_of
from vmm.session.virtual_guest import VirtualGuest
from vmm.sidecore.requests import Requests
from vmm.sidecore.slots import Served

SIDECALLS = frozenset({Kind.SIDECALL, Kind.SERVED})
KINDS = SIDECALLS | {Kind.EVENT}
OnEvent = Callable[[Callable[[], None], int], None] | None


class SideEvents:
    """Of the machines of `subjects`, from now on, until `close`. `exits`: how many there were so far."""

    def __init__(
        self,
        subjects: Sequence[Subject],
        kinds: Collection[Kind],
        exits: Callable[[], int],
        tell: Callable[[Happening], None],
    ) -> None:
        self._subjects, self._kinds, self._exits, self._tell = subjects, kinds, exits, tell
        self._queues: list[tuple[EventQueue, OnEvent]] = []  # and who heard of them before
        self._requests: list[tuple[Requests, Callable[[Served], None] | None]] = []
        self._last: tuple[object, ...] = ()
        self._repeats = 0
        machines: set[int] = set()
        for first, subject in enumerate(subjects):
            machine = subject.guest.machine
            if id(machine) in machines:
                continue
            machines.add(id(machine))
            hypervisor = subject.guest.hypervisor if isinstance(subject.guest, VirtualGuest) else None
            if Kind.EVENT in kinds:
                queues = [("machine", machine.events)] if hypervisor is None else queues_of(hypervisor)
                for owner, queue in queues:
                    who = _of_owner(subjects, first, owner)
                    self._queues.append((queue, queue.on_event))
                    queue.on_event = partial(self._happened, who, owner, machine, hypervisor, queue.on_event)
            if SIDECALLS & set(kinds) and hypervisor is not None and hypervisor.sidecores is not None:
                for sidecore in hypervisor.sidecores.cores:
                    requests = sidecore.requests
                    self._requests.append((requests, requests.on_served))
                    requests.on_taken = partial(self._taken, first)
                    requests.on_served = partial(self._served, first, requests.on_served)

    def close(self) -> None:
        """No more."""
        for queue, other in self._queues:
            queue.on_event = other
        for requests, served in self._requests:
            requests.on_taken, requests.on_served = None, served

    def _happened(
        self,
        who: int,
        owner: str,
        machine: Machine,
        hypervisor: Hypervisor | None,
        other: OnEvent,
        callback: Callable[[], None],
        when_ps: int,
    ) -> None:
        if other is not None:
            other(callback, when_ps)
        what = " ".join((owner, *event_of(callback)))
        due_cycles = cycles = machine.timeline.ps_to_cycles(when_ps)
        if hypervisor is not None and hypervisor.running is not None:  # it serves what was due
            cycles = max(cycles, hypervisor.running.meter.now_cycles)
        place = (who, what, when_ps)
        self._repeats = self._repeats + 1 if place == self._last else 0
        self._last = place
        self._say(Kind.EVENT, who, what, cycles, due_cycles, ordinal=when_ps)

    def _taken(self, first: int, request: Served) -> None:
        who = _of_owner(self._subjects, first, f"d{request.domain}")
        self._say(
            Kind.SIDECALL, who, request.operation, request.began_cycles, request.visible_cycles,
            ordinal=request.began_cycles,
        )  # fmt: skip

    def _served(self, first: int, other: Callable[[Served], None] | None, request: Served) -> None:
        if other is not None:
            other(request)
        who = _of_owner(self._subjects, first, f"d{request.domain}")
        self._say(
            Kind.SERVED, who, request.operation, request.ended_cycles, request.visible_cycles,
            ordinal=request.began_cycles,
        )  # fmt: skip

    def _say(self, kind: Kind, who: int, what: str, cycles: int, due_cycles: int, *, ordinal: int) -> None:
        if kind in self._kinds:
            subject, repeats = self._subjects[who], self._repeats if kind is Kind.EVENT else 0
            self._tell(
                Happening(
                    kind, cycles, self._exits(), who, subject, rip=subject.rip, ordinal=ordinal, repeats=repeats,
                    what=what, due_cycles=due_cycles,
                )
            )  # fmt: skip


def _of_owner(subjects: Sequence[Subject], first: int, owner: str) -> int:
    """The number of the processor `owner`, or of the first one of a domain, on the machine of subject `first`."""
    machine = subjects[first].guest.machine
    for number, subject in enumerate(subjects):
        domain = "" if subject.domain is None else f"d{subject.domain.number}"
        if subject.guest.machine is machine and owner in (subject.name, domain):
            return number
    return first
