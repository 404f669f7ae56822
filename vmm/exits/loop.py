"""The dispatcher of a vCPU: its VM exits, the injection of its interrupts, and its VM entries.

    engine --> VM exit --> EXIT_HANDLERS[reason] --> Outcome --> inject? --> entry checks --> VM entry --> engine
                  |                                     |
                  +-- another core is behind: the       +-- it sleeps, or must give way: `leave`; the core decides who
                      exit waits for the core's turn        runs, and `enter` goes on from here

One table, one place that moves RIP.
"""

from typing import TYPE_CHECKING

from emulator.engine import LEAVE, RESUME, Next
from emulator.errors import GuestError
from emulator.vmx import controls as c
from emulator.vmx import fields as f
from emulator.vmx import interruption as i
from emulator.vmx.entry_checks import EntryChecker
from emulator.vmx.exit_reasons import ExitReason as R
from emulator.vmx.exit_reasons import name
from vmm.cost import paths
from vmm.exits.table import EXIT_HANDLERS, IMPOSSIBLE
from vmm.outcome import AGAIN, NEXT, WAIT, End, EndKind
from vmm.session.observe.statistics import ExitStatistics
from vmm.session.observe.trace import ExitTrace
from vmm.vcpu import FLAG_IF, NMI_VECTOR, VCpu

if TYPE_CHECKING:
    from vmm.core import Core

WINDOW_EXITING = c.PROC_INTERRUPT_WINDOW_EXITING | c.PROC_NMI_WINDOW_EXITING
WITH_GPA = (R.EPT_VIOLATION, R.EPT_MISCONFIG)  # exits that save GUEST_PHYSICAL_ADDRESS


class Dispatcher:
    """Takes one vCPU through its exits."""

    def __init__(self, vcpu: VCpu, statistics: ExitStatistics, trace: ExitTrace | None) -> None:
        """`vcpu` has its first guest state and its paging."""
        self.vcpu = vcpu
        self.engine = vcpu.engine
        self.core: Core | None = None  # where the vCPU's state is loaded, or was last
        self.has_deferred_exit = False  # a VM exit took place that waits for its turn
        self._shared = vcpu.engine.shared  # while a core runs the engine, the core's clock is here
        self._statistics = statistics
        self._trace = trace
        self._entry_checker = EntryChecker(vcpu.vmcs, vcpu.paging.capabilities())
        self._windows = 0  # interrupt-window and NMI-window exiting, as far as they are set
        self._exit_in_progress: tuple[int, int, int] | None = None  # reason, clock at the exit, RIP
        self.engine.on_exit = self._on_exit
        self.engine.shared.non_root = 1

    def _on_exit(self) -> Next:
        """Called by the engine at a VM exit."""
        if self._shared.clock_cycles > self._shared.horizon_cycles:
            self.has_deferred_exit = True
            return LEAVE
        return self._handle_exit()

    def handle_deferred_exit(self) -> None:
        """The core has its turn: the exit takes place now."""
        self.has_deferred_exit = False
        self._handle_exit()

    def _handle_exit(self) -> Next:
        """From a VM exit to the next entry, or to leaving the guest."""
        vcpu = self.vcpu
        began = self._shared.clock_cycles
        reason = vcpu.begin_exit()
        rip = vcpu.rip
        handler = EXIT_HANDLERS.get(reason)
        if handler is None:
            why = IMPOSSIBLE.get(reason, "no such reason is known")
            raise GuestError(f"VM exit {name(reason)} at RIP {rip:#x} was thought impossible: {why}")
        outcome = handler(vcpu)
        if outcome is NEXT or outcome is WAIT:
            vcpu.advance_rip()
        elif outcome is AGAIN:
            vcpu.reinject_interrupted_event()
        self._exit_in_progress = (reason, began, rip)
        core = self.core
        assert core is not None
        if outcome is WAIT and not vcpu.is_injecting and not vcpu.is_woken:
            self._block(core)
        if core.needs_scheduling or vcpu.domain.end is not None:
            self._leave(core)
            return LEAVE
        self.enter()
        return RESUME

    def _block(self, core: "Core") -> None:
        """The vCPU sleeps until its virtual interrupt controller asks for it."""
        vcpu = self.vcpu
        vcpu.is_blocked = True
        vcpu.is_parked = not vcpu.read(f.GUEST_RFLAGS) & FLAG_IF
        if all(other.is_parked or other.waits_for_start_up for other in vcpu.domain.vcpus):
            vcpu.domain.finish(End(EndKind.SHUTDOWN, detail="halted with interrupts off"))
            return
        vcpu.follow(paths.SLEEP)
        core.sleep(vcpu)

    def _leave(self, core: "Core") -> None:
        """Stay in root mode: the core decides who runs next."""
        self.vcpu.commit_cycles()
        core.leave_guest()
        if self.vcpu.domain.end is not None and self._exit_in_progress is not None:
            self._book_exit(*self._exit_in_progress)

    def enter(self) -> None:
        """Inject what is pending, check the VMCS, charge the VM entry, and book the exit that ends with it."""
        vcpu = self.vcpu
        vcpu.follow(paths.CHECK_EVENTS)
        if vcpu.interrupt_request or vcpu.nmi_request or self._windows:
            self._inject_events()
        failure = self._entry_checker.check()
        if failure is not None:
            raise GuestError(str(failure))
        vcpu.vmcs.is_launched = True
        vcpu.end_exit()
        if self._exit_in_progress is not None:
            self._book_exit(*self._exit_in_progress)

    def _inject_events(self) -> None:
        """Give the vCPU its NMI or external interrupt now, or ask for an exit when it can take it (SDM 3C 25.2)."""
        vcpu = self.vcpu
        if vcpu.nmi_request and vcpu.can_take_nmi:
            vcpu.nmi_request = False
            vcpu.inject(NMI_VECTOR, i.NMI)
        if vcpu.interrupt_request and vcpu.can_take_interrupt:
            vcpu.follow(paths.INTERRUPT)
            vcpu.run_devices()
            vcpu.inject(vcpu.apic.acknowledge(), i.EXTERNAL_INTERRUPT)
            vcpu.arm_timer()
        wanted = c.PROC_INTERRUPT_WINDOW_EXITING if vcpu.interrupt_request else 0
        wanted |= c.PROC_NMI_WINDOW_EXITING if vcpu.nmi_request else 0
        if wanted != self._windows:
            self._windows = wanted
            proc = vcpu.read(f.PRIMARY_PROCESSOR_BASED_CONTROLS) & ~WINDOW_EXITING
            vcpu.write(f.PRIMARY_PROCESSOR_BASED_CONTROLS, proc | wanted)

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
                domain=self.vcpu.domain.number,
                vcpu=self.vcpu.number,
                reason=name(reason),
                rip=rip,
                qualification=vmcs.read(f.EXIT_QUALIFICATION),
                information=vmcs.read(f.VM_EXIT_INTERRUPTION_INFORMATION) if reason == R.EXCEPTION_NMI else 0,
                gpa=vmcs.read(f.GUEST_PHYSICAL_ADDRESS) if reason in WITH_GPA else 0,
            )
