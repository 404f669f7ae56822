"""One guest under the VMM, with the PC to itself: what `sidecore boot` runs unless it is native."""

from collections.abc import Callable, Sequence
from functools import partial

from devices.board import Board
from devices.pc import Pc
from emulator.events import EventQueue
from vmm.boot.loaders import BootImage
from vmm.exits.observer import ExitObserver
from vmm.hypervisor import Hypervisor, host_memory_bytes
from vmm.outcome import End
from vmm.scheduler import Scheduler
from vmm.scheduler.credit import CreditScheduler
from vmm.scheduler.pinned import PinnedScheduler
from vmm.session.observe.statistics import ExitStatistics
from vmm.session.spec import SchedulerName
from vmm.session.stats import DutyChange, ExitStats
from vmm.sidecore.policy import Policy
from vmm.sidecore.poll import Poll
from vmm.vcpu import VCpu

SCHEDULERS: dict[SchedulerName, Callable[[int], Scheduler[VCpu]]] = {
    "pinned": PinnedScheduler,
    "credit": CreditScheduler,
}


class VirtualGuest:
    """A guest in VMX non-root mode on `pc`, under the VMM with the given way of paging.

    Without a scheduler each vCPU has a core of its own; if there are fewer cores, all vCPUs share them.
    `switches` are (clock in cycles, whether sidecalls are on from then on).
    """

    def __init__(
        self,
        pc: Pc,
        image: BootImage,
        *,
        memory_bytes: int,
        transmit: Callable[[int], None],
        paging: str = "shadow",
        scheduler: SchedulerName | None = None,
        sidecore_count: int = 0,
        poll: Poll = "spin",
        policy: Policy | None = None,
        switches: Sequence[tuple[int, bool]] = (),
        jumps_spins: bool = True,
        vcpu_count: int = 1,
        devices: Sequence[str] = (),
        observers: Sequence[ExitObserver] = (),
    ) -> None:
        self.machine = machine = pc.machine
        self.pcpu = machine.pcpus[0]
        self._statistics = ExitStatistics()
        core_count = machine.pcpu_count - sidecore_count
        is_shared = vcpu_count > core_count or policy is not None
        chosen = SCHEDULERS[scheduler or ("credit" if is_shared else "pinned")](core_count)
        self.hypervisor = Hypervisor(
            pc,
            paging=paging,
            scheduler=chosen,
            sidecore_count=sidecore_count,
            poll=poll,
            policy=policy,
            jumps_spins=jumps_spins,
            observers=(self._statistics, *observers),
        )
        if self.hypervisor.sidecores is not None:
            for cycles, is_on in switches:
                turn = partial(self.hypervisor.sidecores.turn, is_on)
                machine.events.schedule(machine.timeline.cycles_to_ps(cycles), turn)
        self.domain = self.hypervisor.create_domain(
            image, memory_bytes=memory_bytes, transmit=transmit, vcpu_count=vcpu_count, devices=devices
        )
        self.vcpu = self.hypervisor.vcpus_of(self.domain)[0]
        self.engine, self.vmcs = self.vcpu.engine, self.vcpu.vmcs

    @property
    def end(self) -> End | None:
        """How it ended, if it has."""
        return self.domain.end

    def finish(self, end: End) -> None:
        """End it; the first end counts."""
        self.domain.finish(end)

    @property
    def board(self) -> Board:
        """The domain's."""
        return self.domain.board

    @property
    def timers(self) -> EventQueue:
        """The domain's."""
        return self.domain.timers

    @staticmethod
    def host_memory_bytes(memory_bytes: int) -> int:
        """Host memory that a guest of `memory_bytes` needs, with the VMM's own."""
        return host_memory_bytes([memory_bytes])

    def advance(self, limit_cycles: int) -> None:
        """Run until the cores' clocks reach `limit_cycles`, the guest ends, or only the outside could wake it."""
        self.hypervisor.advance(limit_cycles)

    def pause(self) -> None:
        """Return from `advance` soon, between two instructions; another goes on."""
        self.hypervisor.pause(self.domain)

    def run_timers(self) -> None:
        """Bring the devices to the core's time, before the outside world touches one."""
        self.domain.timers.run_until(self.pcpu.clock.now_ps)

    def exit_statistics(self) -> dict[str, ExitStats]:
        """Every VM exit so far, by the name of its reason."""
        return self._statistics.table(self.domain)

    def duty_changes(self) -> list[DutyChange] | None:
        """See `Guest`."""
        dynamic = self.hypervisor.dynamic_sidecore
        if dynamic is None:
            return None
        to_cycles = self.machine.timeline.ps_to_cycles
        return [{"cycle": to_cycles(when_ps), "serves": serves} for when_ps, serves in dynamic.changes]
