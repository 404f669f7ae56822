"""Emulated x86-64 hosts with VT-x, their VMM and their guests, for scripts and notebooks.

    import sidecore

    world = sidecore.World()
    host = world.add_host(sidecore.HostSpec(paging="ept"))
    guest = host.add_guest(sidecore.GuestSpec(image="default"))
    world.run(sidecore.Limits(max_seconds=60))
    print(guest.output.decode())
    print(guest.exit_table())

Emulated time is exact: the same world gives the same cycles on every workstation, however it is run. What can be added
to a host (exit handlers, hypercalls, CPUID leaves, devices, sidecalls, policies) is in `vmm/EXTENDING.md`, with an
example of each. A mistake is a `ConfigError` of one line.

The code is in five packages with common names. `import sidecore` refuses to go on with somebody else's.
"""

from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("emulator", "devices", "guest_images", "vmm", "benchmarks")


def check_packages(folder: Path) -> None:
    """Raise ImportError if a package of ours would be found elsewhere than in `folder`."""
    for name in PACKAGES:
        spec = find_spec(name)
        found = [] if spec is None else list(spec.submodule_search_locations or [spec.origin or "nowhere"])
        if [Path(place).resolve() for place in found] != [folder / name]:
            where = f"found at {found[0]}" if found else "missing"
            raise ImportError(f"sidecore needs its own package {name!r} in {folder}, but it is {where}", name=name)


check_packages(Path(__file__).resolve().parent)

# ruff: noqa: E402  (only packages that are ours are imported)
from devices.pci.function import DECODES_MEMORY, DECODES_PORTS, IS_MASTER, NO_INTERRUPTS, PciFunction, Region
from emulator.errors import ConfigError, GuestError
from emulator.events import EventQueue
from emulator.vmx.exit_reasons import ExitReason
from emulator.wire import WireEnd
from vmm.cost import paths
from vmm.exits.observer import ExitObserver
from vmm.exits.table import EXIT_HANDLERS
from vmm.outcome import AGAIN, MOVED, NEXT, STOP, WAIT, End, EndKind, Outcome
from vmm.scheduler import Decision, Scheduler
from vmm.session.additions import Additions
from vmm.session.option_values import Switch
from vmm.session.spec import GuestSpec, HostSpec, Limits, Paging
from vmm.session.world import (
    EthernetSwitch,
    Guest,
    Host,
    HostDescription,
    Link,
    SavedWorld,
    Stop,
    Timeline,
    World,
    WorldSpec,
)
from vmm.sidecore.abi import EADDRESS, EVALUE, OK, Answer
from vmm.sidecore.policy import Policy, Sample
from vmm.sidecore.worker import Worker
from vmm.vcpu import Exit, VCpu

__all__ = [
    "AGAIN",
    "DECODES_MEMORY",
    "DECODES_PORTS",
    "EADDRESS",
    "EVALUE",
    "EXIT_HANDLERS",
    "IS_MASTER",
    "MOVED",
    "NEXT",
    "NO_INTERRUPTS",
    "OK",
    "STOP",
    "WAIT",
    "Additions",
    "Answer",
    "ConfigError",
    "Decision",
    "End",
    "EndKind",
    "EthernetSwitch",
    "EventQueue",
    "Exit",
    "ExitObserver",
    "ExitReason",
    "Guest",
    "GuestError",
    "GuestSpec",
    "Host",
    "HostDescription",
    "HostSpec",
    "Limits",
    "Link",
    "Outcome",
    "Paging",
    "PciFunction",
    "Policy",
    "Region",
    "Sample",
    "SavedWorld",
    "Scheduler",
    "Stop",
    "Switch",
    "Timeline",
    "VCpu",
    "WireEnd",
    "Worker",
    "World",
    "WorldSpec",
    "paths",
]
