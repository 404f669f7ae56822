"""What devices do by themselves: the queues of their events, whose they are, and what an event is called."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from emulator.events import EventQueue
from vmm.hypervisor import Hypervisor


class DeviceEvent(NamedTuple):
    """The class of the device, and what it does."""

    device: str
    what: str


def queues_of(hypervisor: Hypervisor) -> list[tuple[str, EventQueue]]:
    """The time of all devices of a machine under a VMM, and whose they are."""
    found = [("host", hypervisor.machine.events)]
    for domain in hypervisor.domains:
        found.append((f"d{domain.number}", domain.timers))
        found += [(vcpu.engine.owner, vcpu.timers) for vcpu in hypervisor.vcpus_of(domain)]
    return found


def event_of(callback: Callable[[], None]) -> DeviceEvent:
    """By the method that runs."""
    function: Any = callback
    while isinstance(function, partial):
        function = function.func
    device = type(getattr(function, "__self__", None)).__name__
    return DeviceEvent(device, getattr(function, "__name__", "event").strip("_"))
