"""One guest under the VMM: what `sidecore boot` runs unless it is native."""

from collections.abc import Sequence

from devices.board import Board
from devices.nic.nic import Nic
from emulator.events import EventQueue
from emulator.vmx import fields as f
from vmm.domain import Domain
from vmm.hypervisor import Hypervisor
from vmm.outcome import End
from vmm.paging.guest_walk import PagingMode
from vmm.paging.shadow_view import ShadowView
from vmm.session.observe.statistics import ExitStatistics
from vmm.session.stats import DutyChange, ExitStats, NicStats
from vmm.vcpu import VCpu


class VirtualGuest:
    """A guest in VMX non-root mode: `domain` of `hypervisor`, whose VM exits are in `statistics`."""

    def __init__(
        self, hypervisor: Hypervisor, domain: Domain, statistics: ExitStatistics, nic: Nic | None = None
    ) -> None:
        self.hypervisor, self.domain, self._statistics = hypervisor, domain, statistics
        self.nic = nic
        self.machine = hypervisor.machine
        self.pcpu = self.machine.pcpus[0]
        self.vcpu = hypervisor.vcpus_of(domain)[0]
        self.engine, self.vmcs = self.vcpu.engine, self.vcpu.vmcs

    @property
    def host(self) -> Hypervisor:
        """The machine with all that runs on it."""
        return self.hypervisor

    @property
    def processors(self) -> Sequence[VCpu]:
        """The domain's vCPUs."""
        return self.hypervisor.vcpus_of(self.domain)

    @property
    def memory(self) -> Domain:
        """The domain's."""
        return self.domain

    def mode_of(self, number: int) -> PagingMode:
        """See `Guest`: the VMCS has what the processor runs with."""
        vcpu = self.processors[number]
        if isinstance(vcpu.paging, ShadowView):
            return vcpu.paging.mode
        read = vcpu.vmcs.read
        cr0, cr4 = (
            read(register) & ~read(mask) | read(shadow) & read(mask)
            for register, mask, shadow in (
                (f.GUEST_CR0, f.CR0_GUEST_HOST_MASK, f.CR0_READ_SHADOW),
                (f.GUEST_CR4, f.CR4_GUEST_HOST_MASK, f.CR4_READ_SHADOW),
            )
        )
        return PagingMode(cr0, read(f.GUEST_CR3), cr4, read(f.GUEST_IA32_EFER))

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

    def advance(self, limit_cycles: int) -> None:
        """Run the host until its clocks reach `limit_cycles`, all guests end, or only the outside could wake one."""
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

    def nic_stats(self) -> NicStats | None:
        """See `Guest`."""
        vifs = self.hypervisor.vifs
        return None if self.nic is None or vifs is None else {"card": self.nic.stats(), "vmm": vifs.stats()}
