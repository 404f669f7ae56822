"""What a user adds to one host: exit handlers, hypercalls, CPUID leaves, devices, sidecalls, policies of their own.

A value: with the specs it says all of how a host is built, so that it can be built again. What is made for each build,
and keeps state while it runs, is a class or function here that makes it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from devices.board import PCI_DEVICES, PciDevice
from devices.nic.microengine import ProgramFunction
from emulator.cpuid import Registers
from emulator.errors import ConfigError
from emulator.events import EventQueue
from vmm.exits.table import Handler
from vmm.scheduler import Scheduler
from vmm.sidecore.operations import OPERATIONS, Operation
from vmm.sidecore.policy import Policy
from vmm.vcpu import Hypercall, VCpu

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, kw_only=True)
class Additions:
    """By number, name or reason.

    An exit handler and a microengine's program take the place of the one there is; nothing else may be taken.
    """

    exit_handlers: Mapping[int, Handler] = field(default_factory=dict)
    hypercalls: Mapping[int, Hypercall] = field(default_factory=dict)
    cpuid_leaves: Mapping[int, Registers] = field(default_factory=dict)
    sidecalls: Mapping[int, Operation] = field(default_factory=dict)
    devices: Mapping[str, Callable[[EventQueue], PciDevice]] = field(default_factory=dict)
    nic_programs: Mapping[int, ProgramFunction] = field(default_factory=dict)  # by microengine
    scheduler: Callable[[int], Scheduler[VCpu]] | None = None  # from the number of cores it has
    sidecore_policy: Callable[[], Policy] | None = None

    @property
    def operations(self) -> dict[int, Operation]:
        """All sidecalls of the host. Raises ConfigError."""
        return _joined("sidecall", OPERATIONS, self.sidecalls)

    @property
    def pci_devices(self) -> dict[str, Callable[[EventQueue], PciDevice]]:
        """All devices that guests of the host can have. Raises ConfigError."""
        return _joined("device", PCI_DEVICES, self.devices)


def _joined(what: str, ours: Mapping[K, V], theirs: Mapping[K, V]) -> dict[K, V]:
    for key in theirs:
        if key in ours:
            raise ConfigError(f"{what} {key!r} is there already; choose another")
    return {**ours, **theirs}


NOTHING_ADDED = Additions()
