"""A pCPU as the VMM uses it: in the guest of a vCPU, or in root mode, deciding who runs, or idle.

         take interrupts, pick a vCPU                 the vCPU sleeps, its slice is over, another core asks
root mode ------------------------------> guest -----------------------------------------------------------> root mode
    |  nobody is runnable
    +--> idle (PCpu.wait) --- an interrupt --> root mode

What is in root mode is done in order of time (emulator/interleave.py): no other core is behind when it begins.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from emulator.errors import GuestError
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
from vmm.host_apic import EVENT_CHECK, FLUSH, SPURIOUS, HostApic, LocalApic
from vmm.outcome import End, EndKind
from vmm.resting import Resting
from vmm.scheduler import Scheduler
from vmm.vcpu import VCpu

INTERRUPTS = "interrupts"  # activity of a core that takes interrupts while nobody runs
PENDING_MAX = 256  # interrupts taken one after the other: a wire that nobody releases does not keep the core


class Sender(Protocol):
    """A core that sends an interrupt: another of the VMM's, or a sidecore."""

    pcpu: PCpu
    meter: Meter
    apic: HostApic


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
    """The VMM's part of one pCPU, which has local APIC `chip`, and whose VMX has `capabilities`.

    `handlers` are by exit reason, `interrupt_handlers` by vector of the host.
    """

    def __init__(
        self,
        pcpu: PCpu,
        chip: LocalApic,
        cores: Cores,
        capabilities: VmxCapabilities,
        handlers: Mapping[int, Handler],
        interrupt_handlers: "Mapping[int, Callable[[Core], None]]",
        observers: Observers,
    ) -> None:
        self.pcpu = pcpu
        self.meter = meter_of(pcpu, observers.listeners)
        self.apic = HostApic(chip, self.meter)
        self.operation = vmx_operation(capabilities, pcpu.profile, self.meter)
        self.operation.vmxon()
        self.loaded: VCpu | None = None  # whose VMCS is current; it stays so until another comes
        self.current: VCpu | None = None  # who has the core: the guest runs, or an exit is handled that returns to it
        self.needs_scheduling = False  # take the core from `current` at the next occasion, and decide who runs
        self.duty: Duty | None = None  # of the core that may serve sidecalls instead
        self.flushes: list[Callable[[Core], None]] = []  # of TLBs: who waits for this core's answer
        self.spurious_count = 0  # interrupts that nobody handles
        self._interrupt_handlers = interrupt_handlers
        self._loop = ExitLoop(self, handlers, observers)
        self._cores = cores
        self._resting = Resting()
        self._due: dict[EventQueue, int] = {}  # of the queues this core serves: the next event
        self._has_other_due = False  # than the local timer has been programmed for
        self._tick_ps: int | None = None
        self._slice_end_ps: int | None = None

    # --- a turn ------------------------------------------------------------------------------------------------------

    def run(self, deadline_cycles: int) -> None:
        """Do what is to do in root mode, then run the guest until the deadline.

        A guest that does what is not modelled ends, and it alone.
        """
        try:
            if self.duty is not None and self.duty.run(deadline_cycles):
                return
            pcpu = self.pcpu
            if self._loop.exit_waits and (self.loaded is None or self.loaded.domain.end is None):
                self._loop.on_exit()
            if self.loaded is not None and self.loaded.domain.end is not None:  # that exit may have been its last
                self._abandon()
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
            self._resting.settle(pcpu.clock.now_ps)
            if self.duty is None or not self.duty.begin():
                pcpu.waiting.wait(Category.IDLE)
        except GuestError as error:
            if self.loaded is None:
                raise
            self._end_guest(self.loaded, End(EndKind.GUEST_ERROR, detail=str(error), cpu=self.loaded.number))

    def _end_guest(self, vcpu: VCpu, end: End) -> None:
        """The loaded vCPU cannot go on."""
        vcpu.domain.finish(end)
        self._loop.give_way(vcpu)
        self._abandon()

    def _abandon(self) -> None:
        """The loaded vCPU's domain has ended; an interrupt that its last exit has acknowledged is the host's."""
        vector = self._loop.drop_exit()
        self.loaded = self.current = None
        self.needs_scheduling = True
        self.pcpu.unload()
        if vector is not None:
            self.pcpu.clock.open_account(HOST, INTERRUPTS)
            self.take_interrupt(vector)

    # --- who runs ----------------------------------------------------------------------------------------------------

    def sleep(self, vcpu: VCpu) -> None:
        """The vCPU waits for an interrupt: somebody else may run."""
        self._cores.scheduler.sleep(vcpu)
        self.needs_scheduling = True
        self._resting.sleep(vcpu)

    def ask(self, asking: Sender | None) -> None:
        """Let the core decide anew who runs. `asking` is the core that wants it, None the outside."""
        self.needs_scheduling = True
        is_about_to = self.current is None and self.pcpu.waiting.ready_cycles == self.pcpu.clock.cycles
        if asking is not self and not (asking is None and is_about_to):
            self.interrupt(asking)

    def interrupt(self, sender: Sender | None, vector: int = EVENT_CHECK) -> None:
        """Make the core take an interrupt, so that it looks what there is to do."""
        if sender is None:
            self.apic.receive(vector)
        else:
            sender.apic.send(vector, self.pcpu.number)

    def shoot_down(self, vcpu: VCpu) -> None:
        """The vCPU's TLB was flushed because of what another did: if it runs, it takes an interrupt for that.

        MODEL: who asked for it does not wait for the answer.
        """
        if self.current is vcpu and self._cores.running is not self:
            self.interrupt(self._cores.running, FLUSH)

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
        if decision.vcpu.woken_by is not None:
            decision.vcpu.woken_by.scheduled(decision.vcpu)
            decision.vcpu.woken_by = None
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
        for queue in (vcpu.domain.timers, vcpu.timers) if vcpu.number == 0 else (vcpu.timers,):
            self._take_over(queue)
        self._program_timer()

    def give_up(self, vcpu: VCpu) -> None:
        """Another core runs the vCPU: unload its state, if it is here."""
        assert self.current is not vcpu
        if self.loaded is vcpu:
            self.meter.commit()
            self.loaded = None
            self.pcpu.unload()

    def hand_over(self, other: "Core") -> None:
        """Keep nothing of any vCPU here: `other` serves the timers, and is told so."""
        if self.loaded is not None:
            self.give_up(self.loaded)
        queues = [queue for queue, core in self._cores.timer_cores.items() if core is self]
        for queue in queues:
            other._take_over(queue)
        self._program_timer()
        if queues:
            other.interrupt(self)

    # --- interrupts --------------------------------------------------------------------------------------------------

    def take_interrupts(self) -> None:
        """Take what waits, in root operation."""
        for _ in range(PENDING_MAX):
            if not self.pcpu.interrupts.is_asserted:
                return
            self.take_interrupt(self.apic.acknowledge())

    def take_interrupt(self, vector: int) -> None:
        """Handle an interrupt that has been acknowledged, and end it; a spurious one is in no need of that."""
        if vector == SPURIOUS:
            self.spurious_count += 1
            return
        handler = self._interrupt_handlers.get(vector)
        if handler is None:
            self.spurious_count += 1
        else:
            handler(self)
        self.apic.end()

    def flush_for_others(self) -> None:
        """FLUSH: the TLB has been flushed since; tell who waits for that."""
        if self.flushes:
            self.meter.commit()
            asked, self.flushes = self.flushes, []
            for answer in asked:
                answer(self)
            self.pcpu.clock.bound_by_events()

    def check_events(self) -> None:
        """EVENT_CHECK: another core has changed what there is to do here. What the core runs is decided anyway."""
        self._program_timer()

    # --- timers ------------------------------------------------------------------------------------------------------

    def run_timers(self) -> None:
        """TIMER: run what is due: virtual devices, the scheduler's tick, the end of a slice."""
        self.apic.disarm_expired()
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
        """Let this core's local timer drive `queues`, whose events may have changed: if not, who has one keeps it."""
        for queue in queues:
            server = self._cores.timer_cores.get(queue)
            if server is None or server._due.get(queue) != queue.next_ps():
                self._take_over(queue)
        if self._has_other_due:
            self._program_timer()

    def _take_over(self, queue: EventQueue) -> None:
        """Drive `queue` from now on. The core that did finds nothing due when its own timer interrupts.

        MODEL: taking a queue over from another core costs nothing else.
        """
        timer_cores = self._cores.timer_cores
        previous = timer_cores.get(queue)
        if previous is not self:
            timer_cores[queue] = self
            if previous is not None:
                previous._due.pop(queue, None)
                previous._has_other_due = True
        self._note(queue)

    def _note(self, queue: EventQueue) -> None:
        next_ps = queue.next_ps()
        self._has_other_due = True
        if next_ps is None:
            self._due.pop(queue, None)
        else:
            self._due[queue] = next_ps

    def _program_timer(self) -> None:
        """The local timer interrupts at the next of all."""
        self._has_other_due = False
        wanted = [when_ps for when_ps in (self._tick_ps, self._slice_end_ps) if when_ps is not None]
        self.apic.arm(min([*self._due.values(), *wanted], default=None))
