"""The page of slots that a guest has registered, and what waits in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from vmm.sidecore import abi
from vmm.vcpu import VCpu


@dataclass
class SlotCounts:
    """What happened in a domain's slots. Waiting: from when a request could be seen until it is."""

    requests: int = 0
    errors: int = 0
    waiting_cycles: int = 0
    waiting_max_cycles: int = 0
    service_cycles: int = 0


class Served(NamedTuple):
    """A request: when it could be seen, when it was, and when the sidecore had done it."""

    domain: int
    operation: str
    visible_cycles: int
    began_cycles: int
    ended_cycles: int


class Slot:
    """Slot `index` of `page`: a line of guest memory."""

    __slots__ = ("answer_cycles", "gpa", "hpa", "index", "is_in_service", "last_sequence", "page", "visible_cycles")

    def __init__(self, page: "SlotPage", index: int) -> None:
        self.page = page
        self.index = index
        self.gpa = page.gpa + index * abi.SLOT_BYTES
        self.hpa = page.domain.hpa_of(self.gpa)
        self.visible_cycles: int | None = None  # since when the sidecore can see the request; None: there is none
        self.is_in_service = False
        self.answer_cycles: int | None = None  # when the guest can see the answer, if that is known
        self.last_sequence: int | None = None

    @property
    def is_alive(self) -> bool:
        """See service.Place, as the next three."""
        return self.page.is_alive

    @property
    def is_ready(self) -> bool:
        """Whether a request is posted that is not in service."""
        return not self.is_in_service and abi.state_of(self.read()) & abi.STATE == abi.POSTED

    def serve(self) -> None:
        """Serve the request."""
        self.page.server.serve(self)

    def end_spin(self, when_cycles: int) -> None:
        """The guest that waits for the answer is to get there, too."""
        self.page.vcpus[0].pcpu.waiting.end_spin(when_cycles)

    def read(self) -> bytes:
        """All of it."""
        return self.page.domain.read(self.gpa, abi.SLOT_BYTES)

    def write_state(self, state: int) -> None:
        """Set the state word."""
        self.page.domain.write(self.gpa, state.to_bytes(4, "little"))

    def answer(self, answer: abi.Answer, *, is_open: bool) -> None:
        """Put the answer in, and say that it is there."""
        results = b"".join((result & abi.MASK_64).to_bytes(8, "little") for result in answer.results)
        self.page.domain.write(self.gpa + 12, (answer.status & abi.MASK_32).to_bytes(4, "little"))
        self.page.domain.write(self.gpa + 40, results)
        self.write_state(abi.DONE | (0 if is_open else abi.CLOSED))


class Server(Protocol):
    """Who serves requests: `requests.Requests`."""

    def serve(self, slot: Slot) -> None:
        """Serve what is posted there."""
        ...


class SlotPage:
    """The registered page of the domain that has `vcpus`: `count` slots from guest-physical address `gpa` on."""

    def __init__(self, vcpus: Sequence[VCpu], gpa: int, count: int, server: Server) -> None:
        self.server = server
        self.vcpus = vcpus
        self.domain = domain = vcpus[0].domain
        self.gpa = gpa
        self.hpa = domain.hpa_of(gpa)
        self.slots = [Slot(self, index) for index in range(count)]
        self.is_open = True  # the switch
        self.is_wanted = True  # by the guest
        self.is_registered = True
        self.counts = SlotCounts()

    @property
    def places(self) -> Sequence[Slot]:
        """See service.Page, as the next."""
        return self.slots

    @property
    def is_alive(self) -> bool:
        """Whether anybody may still touch it."""
        return self.is_registered and self.domain.end is None

    def slot_at(self, hpa: int) -> Slot | None:
        """The slot in use at a host-physical address."""
        index = (hpa - self.hpa) // abi.SLOT_BYTES
        return self.slots[index] if 0 <= index < len(self.slots) else None

    def set_open(self, is_open: bool) -> None:
        """Switch sidecalls on or off; a request that is posted is answered first."""
        self.is_open = is_open
        for slot in self.slots:
            state = abi.state_of(slot.read())
            if state & abi.STATE != abi.POSTED and not slot.is_in_service:
                slot.write_state(state & ~abi.CLOSED if is_open else state | abi.CLOSED)
