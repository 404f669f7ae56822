"""A pCPU as the VMM uses it: in the guest of its current vCPU, or in root mode, deciding who runs, or idle.

         take interrupts, pick a vCPU                 deadline, or the vCPU leaves
root mode ------------------------------> guest ------------------------------------> root mode
    |  nobody is runnable
    +--> idle (PCpu.wait) --- an interrupt --> root mode
"""

from emulator.ledger import Category
from emulator.pcpu import PCpu
from vmm.dispatch import Dispatcher
from vmm.exit_handlers import run_virtual_timers
from vmm.vcpu import VCpu


class Core:
    """The VMM's part of one pCPU. `dispatcher` is that of the vCPU whose state is loaded, in the guest or not."""

    def __init__(self, pcpu: PCpu) -> None:
        self.pcpu = pcpu
        self.dispatcher: Dispatcher | None = None
        self.needs_scheduling = True  # leave the guest at the next occasion, and decide who runs
        self._is_in_root_mode = True

    def add(self, dispatcher: Dispatcher) -> None:
        """Let this core run the vCPU of `dispatcher`, and no other."""
        assert self.dispatcher is None
        self.dispatcher = dispatcher
        dispatcher.core = self
        self.pcpu.load(dispatcher.engine)

    def run(self, deadline_cycles: int) -> bool:
        """Do what is to do in root mode, then run the guest until the deadline; whether only that stopped it."""
        dispatcher = self.dispatcher
        if dispatcher is not None:
            if dispatcher.has_deferred_exit and self.pcpu.clock_cycles <= self.pcpu.horizon_cycles:
                dispatcher.handle_exit()
            if self._is_in_root_mode:
                self._take_interrupts(dispatcher.vcpu)
        if self.needs_scheduling:
            self._schedule()
        if self._is_in_root_mode or dispatcher is None:
            self.pcpu.wait(Category.IDLE)
            return False
        self.pcpu.run(deadline_cycles)
        return not (self.needs_scheduling or dispatcher.has_deferred_exit)

    def sleep(self, vcpu: VCpu) -> None:
        """The vCPU waits for an interrupt: somebody else may run."""
        assert vcpu.is_blocked
        self.needs_scheduling = True

    def wake(self, vcpu: VCpu) -> None:
        """The vCPU has got an interrupt and may run again."""
        if vcpu.is_blocked:
            vcpu.is_blocked = False
            self.needs_scheduling = True
            self.pcpu.wake(self.pcpu.clock_cycles)

    def _take_interrupts(self, vcpu: VCpu) -> None:
        """In root mode the local timer interrupts the VMM itself, without an exit."""
        if self.pcpu.acknowledge_timer():
            run_virtual_timers(vcpu)

    def _schedule(self) -> None:
        self.needs_scheduling = False
        dispatcher = self.dispatcher
        self._is_in_root_mode = dispatcher is None or dispatcher.vcpu.is_blocked
        if dispatcher is not None and not self._is_in_root_mode:
            dispatcher.enter()
