"""The dispatcher of a vCPU: its VM exits, the injection of its interrupts, and its VM entries.

    engine --> VM exit --> EXIT_HANDLERS[reason] --> Outcome --> inject? --> entry checks --> VM entry --> engine
                  |                                     |
                  +-- another core is behind: the       +-- it sleeps, or must give way: `leave`; the core decides who
                      exit waits for the core's turn        runs, and `enter` goes on from here

One table, one place that moves RIP.
"""

from typing import Protocol

from emulator.errors import GuestError
from emulator.ledger import Category
from emulator.vmx import controls as c
from emulator.vmx import fields as f
from emulator.vmx import interruption as i
from emulator.vmx.entry_checks import EntryChecker
from emulator.vmx.exit_reasons import ExitReason as R
from emulator.vmx.exit_reasons import name
from vmm.exit_handlers import EXIT_HANDLERS, IMPOSSIBLE
from vmm.outcome import End, EndKind, Outcome
from vmm.statistics import ExitStatistics
from vmm.trace import TraceWriter
from vmm.vcpu import FLAG_IF, VCpu

EXIT_REASON_MASK = 0xFFFF
WITH_GPA = (R.EPT_VIOLATION, R.EPT_MISCONFIG)  # exits that save GUEST_PHYSICAL_ADDRESS


class Scheduling(Protocol):
    """What a dispatcher asks of the core that its vCPU is on: `vmm.core.Core`."""

    needs_scheduling: bool

    def sleep(self, vcpu: VCpu) -> None:
        """The vCPU waits for an interrupt: somebody else may run."""
        ...


class Dispatcher:
    """Takes one vCPU through its exits. `core` is where it runs."""

    core: Scheduling

    def __init__(self, vcpu: VCpu, statistics: ExitStatistics, trace: TraceWriter | None) -> None:
        """`vcpu` has its first guest state and its paging."""
        self.vcpu = vcpu
        self.engine = vcpu.engine
        self.has_deferred_exit = False  # a VM exit took place that waits for its turn
        self._shared = vcpu.engine.shared  # while a core runs the engine, the core's clock is here
        self._statistics = statistics
        self._trace = trace
        self._entry_checker = EntryChecker(vcpu.vmcs, vcpu.paging.capabilities())
        self._window_is_open = False  # interrupt-window exiting is set
        self._exit_in_progress: tuple[int, int, int] | None = None  # reason, clock at the exit, RIP
        self.engine.on_exit = self._on_exit
        self.engine.shared.non_root = 1

    def _on_exit(self) -> None:
        """Called by the engine at a VM exit; when it returns the guest goes on, or the engine stops."""
        if self._shared.clock_cycles > self.vcpu.pcpu.horizon_cycles:
            self.has_deferred_exit = True
            self.engine.stop()
            return
        self.handle_exit()

    def handle_exit(self) -> None:
        """From a VM exit to the next entry, or to leaving the guest."""
        vcpu = self.vcpu
        self.has_deferred_exit = False
        began = self._shared.clock_cycles
        reason = vcpu.read(f.EXIT_REASON) & EXIT_REASON_MASK
        vcpu.charge(Category.EXIT, vcpu.pcpu.machine.profile.cycles_of(reason))
        rip = vcpu.vmcs.read(f.GUEST_RIP)
        handler = EXIT_HANDLERS.get(reason)
        if handler is None:
            why = IMPOSSIBLE.get(reason, "no such reason is known")
            raise GuestError(f"VM exit {name(reason)} at RIP {rip:#x} was thought impossible: {why}")
        outcome = handler(vcpu)
        if outcome is Outcome.NEXT or outcome is Outcome.WAIT:
            vcpu.advance_rip()
        elif outcome is Outcome.AGAIN:
            vcpu.reinject_interrupted_event()
        self._exit_in_progress = (reason, began, rip)
        is_woken = vcpu.is_injecting or (vcpu.interrupt_request and vcpu.can_take_interrupt)
        if outcome is Outcome.WAIT and not is_woken:
            self._block()
        if self.core.needs_scheduling:
            self._leave()
        else:
            self.enter()

    def _block(self) -> None:
        """The vCPU sleeps until its virtual interrupt controller asks for it."""
        if not self.vcpu.read(f.GUEST_RFLAGS) & FLAG_IF:
            self.vcpu.domain.finish(End(EndKind.SHUTDOWN, detail="halted with interrupts off"))
        self.vcpu.is_blocked = True
        self.core.sleep(self.vcpu)

    def _leave(self) -> None:
        """Stay in root mode: the core decides who runs next."""
        self.vcpu.commit_cycles()
        self.engine.stop()

    def enter(self) -> None:
        """Inject what is pending, check the VMCS, charge the VM entry, and book the exit that ends with it."""
        vcpu = self.vcpu
        if vcpu.interrupt_request or self._window_is_open:
            self._inject_interrupt()
        if vcpu.domain.end is None:
            failure = self._entry_checker.check()
            if failure is not None:
                raise GuestError(str(failure))
            vcpu.vmcs.is_launched = True
            vcpu.charge(Category.ENTRY, vcpu.pcpu.machine.profile.entry_cycles)
        vcpu.commit_cycles()
        if self._exit_in_progress is not None:
            self._book_exit(*self._exit_in_progress)

    def _inject_interrupt(self) -> None:
        """Give the vCPU its external interrupt now, or ask for an exit when it can take one (SDM 3C 25.2)."""
        vcpu = self.vcpu
        if vcpu.interrupt_request and vcpu.can_take_interrupt:
            vcpu.inject(vcpu.domain.board.pic.acknowledge(), i.EXTERNAL_INTERRUPT)
        wanted = vcpu.interrupt_request
        if wanted != self._window_is_open:
            self._window_is_open = wanted
            proc = vcpu.read(f.PRIMARY_PROCESSOR_BASED_CONTROLS) & ~c.PROC_INTERRUPT_WINDOW_EXITING
            vcpu.write(f.PRIMARY_PROCESSOR_BASED_CONTROLS, proc | (c.PROC_INTERRUPT_WINDOW_EXITING if wanted else 0))

    def _book_exit(self, reason: int, began: int, rip: int) -> None:
        """An exit lasts until the next entry: that of a HLT includes the wait, as `perf kvm stat` has it."""
        cycles = self._shared.clock_cycles - began
        self._statistics.add(reason, cycles)
        if self._trace is not None:
            vmcs = self.vcpu.vmcs
            self._trace.exit(
                began,
                cycles,
                pcpu=self.vcpu.pcpu.number,
                vcpu=self.vcpu.number,
                reason=name(reason),
                rip=rip,
                qualification=vmcs.read(f.EXIT_QUALIFICATION),
                information=vmcs.read(f.VM_EXIT_INTERRUPTION_INFORMATION) if reason == R.EXCEPTION_NMI else 0,
                gpa=vmcs.read(f.GUEST_PHYSICAL_ADDRESS) if reason in WITH_GPA else 0,
            )
