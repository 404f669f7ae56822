"""A pCPU as the VMM uses it: in the guest of a vCPU, or in root mode, deciding who runs, or idle.

         take interrupts, pick a vCPU                 the vCPU sleeps, its slice is over, another core asks
root mode ------------------------------> guest -----------------------------------------------------------> root mode
    |  nobody is runnable
    +--> idle (Waiting.wait) --- an interrupt --> root mode

What is in root mode is done in order of time (emulator/interleave.py): no other core is behind when it begins.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from emulator.events import EventQueue
from emulator.ledger import HOST, Category
from emulator.pcpu import PCpu
from vmm.boot.start_up import write_init_state
from vmm.cost import paths
from vmm.exits.loop import Dispatcher
from vmm.scheduler import Scheduler
from vmm.vcpu import VCpu

if TYPE_CHECKING:
    from vmm.sidecore.dynamic import DynamicSidecore
    from vmm.sidecore.service import Sidecore

INTERRUPTS = "interrupts"  # activity of a core that takes interrupts while nobody runs


class Cores(Protocol):
    """What the cores have in common: `vmm.hypervisor.Hypervisor`."""

    scheduler: Scheduler[VCpu]
    dispatchers: dict[VCpu, Dispatcher]
    timer_cores: dict[EventQueue, "Core"]  # whose local timer serves a queue

    def forget_ended(self) -> None:
        """Take the vCPUs of domains that have ended from the scheduler."""
        ...

    def start_up(self, vcpu: VCpu, vector: int) -> None:
        """A SIPI for the vCPU."""
        ...


class Core:
    """The VMM's part of one pCPU."""

    def __init__(self, pcpu: PCpu, cores: Cores) -> None:
        self.pcpu = pcpu
        self.dispatcher: Dispatcher | None = None  # of the vCPU whose state is loaded, in the guest or not
        self.in_guest = False
        self.needs_scheduling = False  # leave the guest at the next occasion, and decide who runs
        self.duty: DynamicSidecore | None = None  # of the core that may serve sidecalls instead
        self.acknowledgements: list[Callable[[Core], None]] = []  # what to do when this core takes an interrupt
        self._cores = cores
        self._due: dict[EventQueue, int] = {}  # of the queues this core serves: the next event
        self._tick_ps: int | None = None
        self._slice_end_ps: int | None = None

    # --- a turn ------------------------------------------------------------------------------------------------------

    def run(self, deadline_cycles: int) -> None:
        """Do what is to do in root mode, then run the guest until the deadline."""
        if self.duty is not None and self.duty.run(deadline_cycles):
            return
        pcpu, dispatcher = self.pcpu, self.dispatcher
        if dispatcher is not None and dispatcher.vcpu.domain.end is not None:
            self._abandon(dispatcher)
        elif dispatcher is not None and dispatcher.has_deferred_exit:
            dispatcher.handle_deferred_exit()
        if not self.in_guest:
            self._open_host_account()
            self.take_interrupts()
        while self.needs_scheduling and not self.in_guest:
            if pcpu.clock.cycles > pcpu.clock.horizon_cycles:
                return  # in another turn
            self._schedule()
        if not self.in_guest:
            self.commit()
            if self.duty is None or not self.duty.begin():
                pcpu.waiting.wait(Category.IDLE)
        else:
            pcpu.run(deadline_cycles)

    def leave_guest(self) -> None:
        """The vCPU's exit is handled, and something else than its entry comes next."""
        self.in_guest = False

    def _abandon(self, dispatcher: Dispatcher) -> None:
        """The loaded vCPU's domain has ended."""
        dispatcher.has_deferred_exit = False
        self.dispatcher = None
        self.in_guest = False
        self.needs_scheduling = True
        self.pcpu.unload()

    def _open_host_account(self) -> None:
        self.pcpu.clock.open_account(HOST, INTERRUPTS)

    def follow(self, path: paths.Path) -> None:
        """Charge the instructions of `path` to whom the core works for now."""
        self.pcpu.clock.charge(Category.PATHS, path.cycles(self.pcpu.profile))

    def commit(self) -> None:
        """Put all charges on the clock."""
        if self.dispatcher is not None:
            self.dispatcher.vcpu.commit_cycles()
        else:
            self.pcpu.clock.commit()

    # --- who runs ----------------------------------------------------------------------------------------------------

    def sleep(self, vcpu: VCpu) -> None:
        """The vCPU waits for an interrupt: somebody else may run."""
        self._cores.scheduler.sleep(vcpu)
        self.needs_scheduling = True

    def ask(self, asking: "Core | Sidecore | None") -> None:
        """Let the core decide anew who runs. `asking` is the core that wants it, None the outside."""
        self.needs_scheduling = True
        if asking is not self:
            self.interrupt(asking)

    def interrupt(self, sender: "Core | Sidecore | None") -> None:
        """Make the core take an interrupt, so that it looks what there is to do."""
        if sender is None:
            self.pcpu.interrupts.receive_ipi()
        else:
            sender.commit()
            sender.pcpu.interrupts.send_ipi(self.pcpu.interrupts)

    def _schedule(self) -> None:
        self.commit()
        self.needs_scheduling = False
        cores, number, now_ps = self._cores, self.pcpu.number, self.pcpu.clock.now_ps
        cores.forget_ended()
        decision = cores.scheduler.pick(number, now_ps)
        self._slice_end_ps = decision.until_ps
        self._tick_ps = cores.scheduler.next_tick_ps(number, now_ps)
        self._program_timer()
        if decision.vcpu is None:
            return
        dispatcher = cores.dispatchers[decision.vcpu]
        self._switch_to(dispatcher)
        if decision.vcpu.init_request:
            self._initialize(decision.vcpu)
        else:
            self.in_guest = True
            dispatcher.enter()

    def _initialize(self, vcpu: VCpu) -> None:
        """Carry out an INIT: the vCPU waits for its SIPI, which may have come meanwhile."""
        vcpu.init_request = False
        vcpu.is_blocked = vcpu.waits_for_start_up = True
        write_init_state(vcpu.engine, vcpu.vmcs)
        vcpu.paging.start(vcpu)
        self.sleep(vcpu)
        if vcpu.start_up_vector is not None:
            self._cores.start_up(vcpu, vcpu.start_up_vector)

    def _switch_to(self, dispatcher: Dispatcher) -> None:
        """Load the vCPU's state, if it is not still here."""
        vcpu = dispatcher.vcpu
        if self.dispatcher is not dispatcher:
            if dispatcher.core is not None:
                dispatcher.core.give_up(dispatcher)
            self.pcpu.clock.charge(Category.VMCS, self.pcpu.profile.vmx.vmptrld_cycles)
            self.follow(paths.SWITCH)
            self.pcpu.load(dispatcher.engine)
            self.dispatcher = dispatcher
            vcpu.assign(self.pcpu)
            vcpu.core = dispatcher.core = self
            self.serve(*((vcpu.domain.timers, vcpu.timers) if vcpu.number == 0 else (vcpu.timers,)))
        vcpu.resume_exit()

    def give_up(self, dispatcher: Dispatcher) -> None:
        """Another core runs the vCPU: unload its state."""
        assert not self.in_guest or self.dispatcher is not dispatcher
        if self.dispatcher is dispatcher:
            self.commit()
            self.dispatcher = None
            self.pcpu.unload()

    def hand_over(self, other: "Core") -> None:
        """Keep nothing of any vCPU here: `other` serves the timers."""
        if self.dispatcher is not None:
            self.give_up(self.dispatcher)
        other.serve(*(queue for queue, core in self._cores.timer_cores.items() if core is self))

    # --- timers ------------------------------------------------------------------------------------------------------

    def take_interrupts(self) -> None:
        """Acknowledge what has interrupted: another core's request needs no more than that, the local timer does."""
        self.pcpu.interrupts.acknowledge_ipi()
        if self.acknowledgements:
            self.commit()
            asked, self.acknowledgements = self.acknowledgements, []
            for acknowledge in asked:
                acknowledge(self)
            self.pcpu.clock.bound_by_events()
        if self.pcpu.interrupts.acknowledge_timer():
            self._run_timers()

    def _run_timers(self) -> None:
        """Run what is due: virtual devices, the scheduler's tick, the end of a slice."""
        self.follow(paths.TIMERS)
        self.commit()
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
