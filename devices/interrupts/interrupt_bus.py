"""The bus between local APICs and I/O APICs: messages to one, several or all CPUs (SDM 3A 10.6, 10.7).

    I/O APIC pin ---+                        +--> apics whose ID or logical ID the destination names
    ICR of a CPU ---+--> InterruptMessage ---+--> lowest priority: one of them, that with the lowest PPR
    EOI of a CPU ------> vector ---------------> every I/O APIC (level-triggered interrupts only)

A message arrives at once, unless `carry` takes time for it. MODEL: no arbitration, no retries: an APIC takes whatever
is sent to it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import Protocol

BROADCAST = 0xFF


class DeliveryMode(IntEnum):
    """Delivery mode of ICR, LVT and redirection entries (SDM 3A figure 10-12)."""

    FIXED = 0
    LOWEST_PRIORITY = 1
    SMI = 2
    NMI = 4
    INIT = 5
    START_UP = 6
    EXT_INT = 7


@dataclass(frozen=True, slots=True)
class InterruptMessage:
    """An interrupt on its way. `destination` is an APIC ID, or a message destination address if `is_logical`."""

    vector: int
    delivery_mode: int = DeliveryMode.FIXED
    destination: int = BROADCAST
    is_logical: bool = False
    is_level: bool = False


class BusApic(Protocol):
    """A local APIC as the bus sees it."""

    @property
    def processor_priority(self) -> int:
        """PPR."""
        ...

    def is_addressed(self, destination: int, *, is_logical: bool) -> bool:
        """Whether the destination names this APIC."""
        ...

    def accept(self, message: InterruptMessage) -> None:
        """Take the interrupt."""
        ...


def _at_once(deliver: Callable[[], None]) -> None:
    deliver()


class InterruptBus:
    """Carries messages to `apics`, in the order they were attached; `on_eoi` are the I/O APICs.

    `carry` is given what a message does where it arrives, and does it then.
    """

    def __init__(self) -> None:
        self.carry: Callable[[Callable[[], None]], None] = _at_once
        self.apics: list[BusApic] = []
        self.on_eoi: list[Callable[[int], None]] = []

    def attach(self, apic: BusApic) -> None:
        """Put a local APIC on the bus."""
        self.apics.append(apic)

    def send(self, message: InterruptMessage) -> None:
        """Deliver to the APICs that the destination names; none may be."""
        self.carry(partial(self._deliver, message))

    def _deliver(self, message: InterruptMessage) -> None:
        logical = message.is_logical
        addressed = [apic for apic in self.apics if apic.is_addressed(message.destination, is_logical=logical)]
        if message.delivery_mode == DeliveryMode.LOWEST_PRIORITY and addressed:
            addressed = [min(addressed, key=lambda apic: apic.processor_priority)]  # MODEL: of equals the first
        for apic in addressed:
            apic.accept(message)

    def send_to_all(self, message: InterruptMessage, *, but: BusApic | None = None) -> None:
        """Deliver to every APIC, or to all others than `but`."""
        self.carry(partial(self._deliver_to_all, message, but))

    def _deliver_to_all(self, message: InterruptMessage, but: BusApic | None) -> None:
        for apic in self.apics:
            if apic is not but:
                apic.accept(message)

    def end_of_interrupt(self, vector: int) -> None:
        """An APIC finished a level-triggered interrupt."""
        for listener in self.on_eoi:
            listener(vector)
