"""A host with a VMM, as specs describe it, and guests on it."""

from collections.abc import Callable, Sequence
from functools import partial

from devices.nic.nic import Nic
from devices.pc import Pc
from emulator.errors import ConfigError
from vmm.exits.observer import ExitObserver
from vmm.exits.table import EXIT_HANDLERS
from vmm.hypervisor import Hypervisor, host_memory_bytes
from vmm.scheduler import Scheduler
from vmm.scheduler.credit import CreditScheduler
from vmm.scheduler.pinned import PinnedScheduler
from vmm.session.additions import Additions
from vmm.session.boot_plan import GuestPlan, HostPlan
from vmm.session.nic import interrupt_core_of, parse_mac, signal_of
from vmm.session.observe.statistics import ExitStatistics
from vmm.session.spec import HostSpec, SchedulerName
from vmm.session.virtual_guest import VirtualGuest
from vmm.sidecore.policy import Policy, named_policy
from vmm.vcpu import Extensions, VCpu

SCHEDULERS: dict[SchedulerName, Callable[[int], Scheduler[VCpu]]] = {
    "pinned": PinnedScheduler,
    "credit": CreditScheduler,
    "credit-boost": partial(CreditScheduler, has_boost=True),
}


def memory_bytes_of(guests: Sequence[GuestPlan]) -> int:
    """Host memory that guests need, with the VMM's own."""
    return host_memory_bytes([guest.spec.memory_bytes for guest in guests])


class VirtualHost:
    """The VMM of `plan` on `pc`, which may have a network card; `observers` hear of its VM exits.

    Without a scheduler each vCPU has a core of its own; if there are fewer cores, all vCPUs share them.
    """

    def __init__(self, pc: Pc, plan: HostPlan, observers: Sequence[ExitObserver] = ()) -> None:
        spec, added = plan.spec, plan.additions
        machine = pc.machine
        self.statistics = ExitStatistics()
        policy = make_policy(spec, added)
        sidecore_count = spec.sidecore_count if policy is None else 0
        core_count = machine.pcpu_count - sidecore_count
        is_shared = policy is not None or not _have_own_cores(plan.guests, core_count)
        scheduler = added.scheduler or SCHEDULERS[spec.scheduler or ("credit" if is_shared else "pinned")]
        self.hypervisor = Hypervisor(
            pc,
            paging=spec.paging,
            scheduler=scheduler(core_count),
            sidecore_count=sidecore_count,
            poll=spec.poll,
            policy=policy,
            jumps_spins=spec.jumps_spins,
            handlers={**EXIT_HANDLERS, **added.exit_handlers},
            added=Extensions(dict(added.hypercalls), dict(added.cpuid_leaves)),
            operations=added.operations,
            observers=(self.statistics, *observers),
        )
        if self.hypervisor.sidecores is not None:
            for cycle, is_on in spec.sidecore_switches:
                turn = partial(self.hypervisor.sidecores.turn, is_on)
                machine.events.schedule(machine.timeline.cycles_to_ps(cycle), turn)
        self._devices = added.pci_devices
        self._nic = next((device for device in pc.board.pci_devices if isinstance(device, Nic)), None)
        if self._nic is not None:
            self.hypervisor.attach_nic(self._nic, signal=signal_of(spec), interrupt_core=interrupt_core_of(spec))

    def create_guest(self, plan: GuestPlan, transmit: Callable[[int], None]) -> VirtualGuest:
        """A guest, runnable at once; `transmit` gets each byte of its serial console. Raises ConfigError."""
        spec = plan.spec
        domain = self.hypervisor.create_domain(
            plan.image,
            memory_bytes=spec.memory_bytes,
            transmit=transmit,
            vcpu_count=spec.vcpu_count,
            weight=spec.weight,
            cores=spec.cores,
            devices=[self._devices[name] for name in spec.devices],
            vif_mac=None if spec.mac is None else parse_mac(spec.mac),
            is_manager=spec.is_manager,
            is_backend=spec.is_backend,
        )
        return VirtualGuest(self.hypervisor, domain, self.statistics, self._nic)


def _have_own_cores(guests: Sequence[GuestPlan], core_count: int) -> bool:
    """Whether `pinned` finds a core for each vCPU, one after the other."""
    free = set(range(core_count))
    for guest in guests:
        mine = sorted(free.intersection(guest.spec.cores or free))[: guest.spec.vcpu_count]
        if len(mine) < guest.spec.vcpu_count:
            return False
        free.difference_update(mine)
    return True


def make_policy(spec: HostSpec, added: Additions) -> Policy | None:
    """The policy of the host's sidecore, new. Raises ConfigError."""
    if added.sidecore_policy is not None:
        if spec.sidecore_policy is not None:
            raise ConfigError("the sidecore has a policy by name and one that was added; leave one out")
        return added.sidecore_policy()
    return None if spec.sidecore_policy is None else named_policy(spec.sidecore_policy)
