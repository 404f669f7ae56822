"""A machine with a guest on it, from a plan."""

from collections.abc import Callable, Sequence

from devices.pc import Pc
from emulator.errors import ConfigError
from emulator.machine import Machine
from vmm.boot.loaders.memory_size import size_text
from vmm.exits.observer import ExitObserver
from vmm.outcome import Ending
from vmm.session.boot_plan import BootPlan
from vmm.session.guest import Guest
from vmm.session.native import NativeGuest


def build_guest(
    plan: BootPlan,
    transmit: Callable[[int], None],
    *,
    observers: Sequence[ExitObserver] = (),
) -> Guest:
    """A machine with the plan's guest loaded on it. Raises ConfigError when the workstation lacks the memory.

    `observers` hear of its VM exits.
    """
    host, guest = plan.host, plan.guest
    memory_bytes, paging = guest.memory_bytes, host.paging
    if paging == "native":
        ending = Ending()
        pc = Pc(
            _build_machine(plan, memory_bytes),
            transmit=transmit,
            on_exit=ending.debug_exit,
            on_reset=ending.reset,
            on_power_off=ending.power_off,
            devices=guest.devices,
        )
        return NativeGuest(pc, plan.image, ending)
    from vmm.session.virtual_guest import VirtualGuest

    machine = _build_machine(plan, VirtualGuest.host_memory_bytes(memory_bytes))
    return VirtualGuest(
        Pc(machine),
        plan.image,
        memory_bytes=memory_bytes,
        transmit=transmit,
        paging=paging,
        scheduler=host.scheduler,
        sidecore_count=host.sidecore_count if plan.policy is None else 0,
        poll=host.poll,
        policy=plan.policy,
        switches=host.sidecore_switches,
        jumps_spins=host.jumps_spins,
        vcpu_count=guest.vcpu_count,
        devices=guest.devices,
        observers=observers,
    )


def _build_machine(plan: BootPlan, memory_bytes: int) -> Machine:
    host = plan.host
    try:
        return Machine(
            plan.profile,
            memory_bytes=memory_bytes,
            pcpu_count=(host.pcpu_count or 1) + host.sidecore_count,
            timing=host.timing,
            allowance=plan.allowance,
        )
    except (OSError, ValueError, MemoryError):
        what = f"the emulated machine needs {size_text(memory_bytes)}, which the workstation does not give"
        raise ConfigError(f"{what}; choose a smaller --memory") from None
