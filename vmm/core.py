"""A pCPU as the VMM uses it: in the guest of a vCPU, or in root mode, deciding who runs, or idle.

         take interrupts, pick a vCPU                 the vCPU sleeps, its slice is over, another core asks
root mode ------------------------------> guest -----------------------------------------------------------> root mode
    |  nobody is runnable
    +--> idle (PCpu.wait) --- an interrupt --> root mode

What is in root mode is done in order of time (emulator/interleave.py): no other core is behind when it begins.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from emulator.events import EventQueue
from emulator.ledger import HOST, Category
from emulator.pcpu import PCpu
from emulator.vmx.capabilities import VmxCapabilities
from emulator.vmx.operation import vmx_operation
from vmm.boot.start_up import write_init_state
from vmm.cost import paths
from vmm.cost.meter import Meter, meter_of
from vmm.exits.loop import ExitLoop
from vmm.exits.observer import Observers
from vmm.exits.table import Handler
from vmm.scheduler import Scheduler
from vmm.vcpu import VCpu

INTERRUPTS = "interrupts"  # activity of a core that takes interrupts while nobody runs


class Sender(Protocol):
    """A core that sends an interrupt: another of the VMM's, or a sidecore."""

    pcpu: PCpu
    meter: Meter


class Duty(Protocol):
    """What a core may do instead of running guests: `sidecore.dynamic.DynamicSidecore`."""

    def run(self, deadline_cycles: int) -> bool:
        """The core's turn, if it is on duty; False: it runs guests, from now on or still."""
        ...

    def begin(self) -> bool:
        """The core has no vCPU to run. Whether its duty begins now."""
        ...


class Cores(Protocol):
    """What the cores have in common: `vmm.hypervisor.Hypervisor`."""

    scheduler: Scheduler[VCpu]
    timer_cores: dict[EventQueue, "Core"]  # whose local timer serves a queue

    @property
    def running(self) -> Sender | None:
        """The core whose turn it is; None: devices', or the outside's."""
        ...

    def forget_ended(self) -> None:
        """Take the vCPUs of domains that have ended from the scheduler."""
        ...

    def start_up(self, vcpu: VCpu, vector: int) -> None:
        """A SIPI for the vCPU."""
        ...


class Core:
    """The VMM's part of one pCPU, whose VMX has `capabilities`."""

    def __init__(
        self,
        pcpu: PCpu,
        cores: Cores,
        capabilities: VmxCapabilities,
        handlers: Mapping[int, Handler],
        observers: Observers,
    ) -> None:
        self.pcpu = pcpu
        self.meter = meter_of(pcpu, observers.listeners)
        self.operation = vmx_operation(capabilities, pcpu.profile, self.meter)
        self.operation.vmxon()
        self.loaded: VCpu | None = None  # whose VMCS is current; it stays so until another comes
        self.current: VCpu | None = None  # who has the core: the guest runs, or an exit is handled that returns to it
        self.needs_scheduling = False  # take the core from `current` at the next occasion, and decide who runs
        self.duty: Duty | None = None  # of the core that may serve sidecalls instead
        self.acknowledgements: list[Callable[[Core], None]] = []  # what to do when this core takes an interrupt
        self._loop = ExitLoop(self, handlers, observers)
        self._cores = cores
        self._due: dict[EventQueue, int] = {}  # of the queues this core serves: the next event
        self._tick_ps: int | None = None
        self._slice_end_ps: int | None = None

    # --- a turn ------------------------------------------------------------------------------------------------------

    def run(self, deadline_cycles: int) -> None:
        """Do what is to do in root mode, then run the guest until the deadline."""
        if self.duty is not None and self.duty.run(deadline_cycles):
            return
        pcpu = self.pcpu
        if self.loaded is not None and self.loaded.domain.end is not None:
            self._abandon()
        elif self._loop.exit_waits:
            self._loop.on_exit()
        if self.current is None:
            pcpu.clock.open_account(HOST, INTERRUPTS)
            self.take_interrupts()
        while self.needs_scheduling and self.current is None:
            if pcpu.clock.cycles > pcpu.clock.horizon_cycles:
                return  # in another turn
            self._schedule()
        if self.current is not None:
            pcpu.run(deadline_cycles)
            return
        self.meter.commit()
        if self.duty is None or not self.duty.begin():
            pcpu.waiting.wait(Category.IDLE)

    def _abandon(self) -> None:
        """The loaded vCPU's domain has ended."""
        self._loop.exit_waits = False
        self.loaded = self.current = None
        self.needs_scheduling = True
        self.pcpu.unload()

    # --- who runs ----------------------------------------------------------------------------------------------------

    def sleep(self, vcpu: VCpu) -> None:
        """The vCPU waits for an interrupt: somebody else may run."""
        self._cores.scheduler.sleep(vcpu)
        self.needs_scheduling = True

    def ask(self, asking: Sender | None) -> None:
        """Let the core decide anew who runs. `asking` is the core that wants it, None the outside."""
        self.needs_scheduling = True
        if asking is not self:
            self.interrupt(asking)

    def interrupt(self, sender: Sender | None) -> None:
        """Make the core take an interrupt, so that it looks what there is to do."""
        if sender is None:
            self.pcpu.interrupts.receive_ipi()
        else:
            sender.meter.commit()
            sender.pcpu.interrupts.send_ipi(self.pcpu.interrupts)

    def shoot_down(self, vcpu: VCpu) -> None:
        """The vCPU's TLB was flushed because of what another did: if it runs, it takes an interrupt for that.

        MODEL: who asked for it does not wait for the answer.
        """
        if self.current is vcpu and self._cores.running is not self:
            self.interrupt(self._cores.running)

    def _schedule(self) -> None:
        self.meter.commit()
        self.needs_scheduling = False
        cores, number, now_ps = self._cores, self.pcpu.number, self.pcpu.clock.now_ps
        cores.forget_ended()
        decision = cores.scheduler.pick(number, now_ps)
        self._slice_end_ps = decision.until_ps
        self._tick_ps = cores.scheduler.next_tick_ps(number, now_ps)
        self._program_timer()
        if decision.vcpu is None:
            return
        self._load(decision.vcpu)
        if decision.vcpu.init_request:
            self._initialize(decision.vcpu)
        else:
            self._loop.resume(decision.vcpu)

    def _initialize(self, vcpu: VCpu) -> None:
        """Carry out an INIT: the vCPU waits for its SIPI, which may have come meanwhile."""
        vcpu.resume_exit()
        vcpu.init_request = False
        vcpu.is_blocked = vcpu.waits_for_start_up = True
        write_init_state(vcpu.engine, vcpu.vmcs)
        vcpu.paging.start(vcpu)
        self.sleep(vcpu)
        if vcpu.start_up_vector is not None:
            self._cores.start_up(vcpu, vcpu.start_up_vector)

    def _load(self, vcpu: VCpu) -> None:
        """Load the vCPU's state, if it is not still here."""
        if self.loaded is vcpu:
            return
        vcpu.core.give_up(vcpu)
        self.operation.vmptrld(vcpu.vmcs)
        self.meter.follow(paths.SWITCH)
        self.meter.commit()
        self.pcpu.load(vcpu.engine)
        vcpu.engine.on_exit = self._loop.on_exit
        self.loaded = vcpu
        vcpu.load(self)
        self.serve(*((vcpu.domain.timers, vcpu.timers) if vcpu.number == 0 else (vcpu.timers,)))

    def give_up(self, vcpu: VCpu) -> None:
        """Another core runs the vCPU: unload its state, if it is here."""
        assert self.current is not vcpu
        if self.loaded is vcpu:
            self.meter.commit()
            self.loaded = None
            self.pcpu.unload()

    def hand_over(self, other: "Core") -> None:
        """Keep nothing of any vCPU here: `other` serves the timers."""
        if self.loaded is not None:
            self.give_up(self.loaded)
        other.serve(*(queue for queue, core in self._cores.timer_cores.items() if core is self))

    # --- timers ------------------------------------------------------------------------------------------------------

    def take_interrupts(self) -> None:
        """Acknowledge what has interrupted: another core's request needs no more than that, the local timer does."""
        self.pcpu.interrupts.acknowledge_ipi()
        if self.acknowledgements:
            self.meter.commit()
            asked, self.acknowledgements = self.acknowledgements, []
            for acknowledge in asked:
                acknowledge(self)
            self.pcpu.clock.bound_by_events()
        if self.pcpu.interrupts.acknowledge_timer():
            self._run_timers()

    def _run_timers(self) -> None:
        """Run what is due: virtual devices, the scheduler's tick, the end of a slice."""
        self.meter.follow(paths.TIMERS)
        self.meter.commit()
        now_ps = self.pcpu.clock.now_ps
        for queue in [queue for queue, when_ps in self._due.items() if when_ps <= now_ps]:
            queue.run_until(now_ps)
            self._note(queue)
        if self._tick_ps is not None and self._tick_ps <= now_ps:
            self._cores.scheduler.tick(self.pcpu.number, now_ps)
            self._tick_ps = self._cores.scheduler.next_tick_ps(self.pcpu.number, now_ps)
        if self._slice_end_ps is not None and self._slice_end_ps <= now_ps:
            self._slice_end_ps = None
            self.needs_scheduling = True
        self._program_timer()

    def serve(self, *queues: EventQueue) -> None:
        """Let this core's local timer drive `queues`, whose events may have changed.

        MODEL: taking a queue over from another core costs nothing.
        """
        timer_cores = self._cores.timer_cores
        for queue in queues:
            previous = timer_cores.get(queue)
            if previous is not self:
                timer_cores[queue] = self
                if previous is not None:
                    previous._due.pop(queue, None)
                    previous._program_timer()
            self._note(queue)
        self._program_timer()

    def _note(self, queue: EventQueue) -> None:
        next_ps = queue.next_ps()
        if next_ps is None:
            self._due.pop(queue, None)
        else:
            self._due[queue] = next_ps

    def _program_timer(self) -> None:
        """The local timer interrupts at the next of all."""
        wanted = [when_ps for when_ps in (self._tick_ps, self._slice_end_ps) if when_ps is not None]
        self.pcpu.interrupts.arm_timer(min([*self._due.values(), *wanted], default=None))
