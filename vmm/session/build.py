"""A machine with guests on it, from a plan: the one way to build."""

from collections.abc import Callable, Sequence

from devices.board import PciDeviceMaker
from devices.pc import Pc
from emulator.errors import ConfigError
from emulator.machine import Machine
from vmm.boot.loaders.memory_size import size_text
from vmm.exits.observer import ExitObserver
from vmm.outcome import Ending
from vmm.session.boot_plan import BootPlan, HostPlan
from vmm.session.guest import Guest
from vmm.session.native import NativeGuest
from vmm.session.nic import nic_maker

Transmit = Callable[[int], None]


def build_host(
    plan: HostPlan,
    transmits: Sequence[Transmit],
    *,
    observers: Sequence[ExitObserver] = (),
) -> tuple[Guest, ...]:
    """The plan's guests on their machine. Raises ConfigError when the workstation lacks the memory.

    `transmits` get each byte of the guests' serial consoles; `observers` hear of their VM exits.
    """
    if plan.spec.paging == "native":
        (guest,), (transmit,) = plan.guests, transmits
        ending = Ending()
        pc = Pc(
            _build_machine(plan, guest.spec.memory_bytes),
            transmit=transmit,
            on_exit=ending.debug_exit,
            on_reset=ending.reset,
            on_power_off=ending.power_off,
            devices=[plan.additions.pci_devices[name] for name in guest.spec.devices],
        )
        return (NativeGuest(pc, guest.image, ending),)
    from vmm.session.virtual_host import VirtualHost, memory_bytes_of

    pc = Pc(_build_machine(plan, memory_bytes_of(plan.guests)), devices=_host_devices(plan))
    host = VirtualHost(pc, plan, observers)
    pairs = zip(plan.guests, transmits, strict=True)
    return tuple(host.create_guest(guest, transmit) for guest, transmit in pairs)


def _host_devices(plan: HostPlan) -> Sequence[PciDeviceMaker]:
    """What is on the PCI bus of the machine itself, and so the VMM's."""
    if not plan.spec.has_nic:
        return ()
    has_policy = bool(plan.spec.sidecore_policy or plan.additions.sidecore_policy)
    return (nic_maker(plan.spec, plan.additions.nic_programs, has_policy=has_policy),)


def build_guest(plan: BootPlan, transmit: Transmit, *, observers: Sequence[ExitObserver] = ()) -> Guest:
    """The plan's one guest, as `build_host`."""
    (guest,) = build_host(plan.host, [transmit], observers=observers)
    return guest


def _build_machine(plan: HostPlan, memory_bytes: int) -> Machine:
    spec = plan.spec
    try:
        return Machine(
            plan.profile,
            memory_bytes=memory_bytes,
            pcpu_count=(spec.pcpu_count or 1) + spec.sidecore_count,
            timing=spec.timing,
            allowance=plan.allowance,
        )
    except (OSError, ValueError, MemoryError):
        what = f"the emulated machine needs {size_text(memory_bytes)}, which the workstation does not give"
        raise ConfigError(f"{what}; choose a smaller --memory") from None
