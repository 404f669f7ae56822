"""The loop: the guest runs, exits, the exit is handled, the guest is entered again.

    core.py: run --> engine: the guest runs <---------------------------------------------.
                           | VM exit                                               RESUME |
                           v                                                              |
                        on_exit --> take --> EXIT_HANDLERS[reason] --> go_on --> enter: events, VMRESUME
                           |                                             |
                           | LEAVE: another core is behind               | LEAVE: the vCPU sleeps, or the core has
                           v                                             v        something else to do
                        core.py: the exit waits for its turn          core.py: who runs next? --> enter

The engine calls `on_exit` at a VM exit, and the guest goes on when that returns RESUME; with LEAVE `run` returns.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from emulator.engine.abi import LEAVE, RESUME, Next
from emulator.errors import ConfigError, GuestError
from emulator.vmx import controls as c
from emulator.vmx import fields as f
from emulator.vmx import interruption as i
from emulator.vmx.exit_reasons import ExitReason as R
from emulator.vmx.exit_reasons import name
from emulator.x86 import NMI_VECTOR, RFLAGS_IF
from vmm import vcpu as v
from vmm.cost import paths
from vmm.exits.observer import Observers
from vmm.exits.table import IMPOSSIBLE
from vmm.outcome import AGAIN, MOVED, NEXT, STOP, WAIT, End, EndKind, Outcome
from vmm.vcpu import EXIT_REASON_MASK, Exit, VCpu

REGISTERS_BYTES = 15 * 8  # the general registers but RSP, which the VMCS has
WINDOW_EXITING = c.PROC_INTERRUPT_WINDOW_EXITING | c.PROC_NMI_WINDOW_EXITING


class Core(v.Core, Protocol):
    """The core whose loop it is."""

    loaded: VCpu | None
    current: VCpu | None

    def sleep(self, vcpu: VCpu) -> None:
        """The vCPU waits for an interrupt: somebody else may run."""
        ...


class ExitLoop:
    """Takes the vCPUs that run on `core` through their exits."""

    WIRED = ("_exit_began", "_exit_handled", "_exit_resumed", "_exit_ended", "_entry_failed")

    def __init__(self, core: Core, handlers: Mapping[int, Callable[[VCpu], Outcome]], observers: Observers) -> None:
        self.exit_waits = False  # a VM exit of the loaded vCPU took place while another core was behind
        self._core = core
        self._handlers = handlers
        self._exit_began, self._exit_handled = observers.exit_began, observers.exit_handled
        self._exit_resumed, self._exit_ended = observers.exit_resumed, observers.exit_ended
        self._entry_failed = observers.entry_failed

    def on_exit(self) -> Next:
        """A VM exit takes place. It is handled in order of time, when no other core is behind; till then it waits."""
        core = self._core
        vcpu, meter = core.loaded, core.meter
        assert vcpu is not None
        clock_cycles = vcpu.clock[0]
        if clock_cycles > meter.clock.horizon_cycles:
            self.exit_waits = True
            return LEAVE
        self.exit_waits = False
        exit = vcpu.take_exit(clock_cycles)
        if self._exit_began:
            for tell in self._exit_began:
                tell(vcpu, exit)
        reason, vmx = exit.reason, core.operation
        vmx.leave(reason)
        meter.follow(paths.EXIT)
        meter.touch(vcpu.state_hpa, REGISTERS_BYTES, True)
        vmx.read(f.EXIT_REASON)
        try:
            handler = self._handlers[reason]
        except KeyError:
            raise _impossible(exit) from None
        outcome = handler(vcpu)
        if self._exit_handled:
            for tell_outcome in self._exit_handled:
                tell_outcome(vcpu, exit, outcome)
        if outcome is NEXT:
            vcpu.advance_rip()
        elif outcome is AGAIN:
            vcpu.reinject_interrupted_event()
        elif outcome is WAIT:
            vcpu.advance_rip()
            if not vcpu.is_injecting and not vcpu.is_woken:
                self._sleep(vcpu)
        elif outcome is not MOVED and (outcome is not STOP or vcpu.domain.end is None):
            raise _no_outcome(handler, exit, outcome)
        if core.needs_scheduling or vcpu.domain.end is not None:
            return self.give_way(vcpu)
        self.enter(vcpu)
        return RESUME

    def drop_exit(self) -> int | None:
        """The guest has ended: an exit that waits is not handled. The vector that it has acknowledged, if any."""
        waits, self.exit_waits = self.exit_waits, False
        vcpu = self._core.loaded
        if not waits or vcpu is None or vcpu.vmcs.read(f.EXIT_REASON) & EXIT_REASON_MASK != R.EXTERNAL_INTERRUPT:
            return None
        return vcpu.vmcs.read(f.VM_EXIT_INTERRUPTION_INFORMATION) & i.VECTOR_MASK

    def _sleep(self, vcpu: VCpu) -> None:
        """The vCPU sleeps until its virtual interrupt controller asks for it."""
        vcpu.is_blocked = True
        vcpu.is_parked = not vcpu.read(f.GUEST_RFLAGS) & RFLAGS_IF
        if all(other.is_parked or other.waits_for_start_up for other in vcpu.siblings):
            vcpu.domain.finish(End(EndKind.HALTED, detail="with interrupts off", cpu=vcpu.number))
            return
        vcpu.meter.follow(paths.SLEEP)
        self._core.sleep(vcpu)

    def give_way(self, vcpu: VCpu) -> Next:
        """The core decides who runs next."""
        vcpu.meter.commit()
        self._core.current = None
        if vcpu.domain.end is not None and vcpu.exit is not None:
            self._end_exit(vcpu, vcpu.exit)
        return LEAVE

    def resume(self, vcpu: VCpu) -> None:
        """The core has chosen the vCPU, which is loaded: go on with its exit, or enter it for the first time."""
        vcpu.resume_exit()
        if vcpu.exit is not None:
            for tell in self._exit_resumed:
                tell(vcpu, vcpu.exit)
        self._core.current = vcpu
        self.enter(vcpu)

    def enter(self, vcpu: VCpu) -> None:
        """Give the vCPU its events, then VMLAUNCH or VMRESUME: the exit ends with it."""
        meter, vmx = self._core.meter, self._core.operation
        if vcpu.interrupt_request or vcpu.nmi_request or vcpu.windows:
            meter.follow(paths.CHECK_EVENTS)
            _inject_events(vcpu)
            meter.follow(paths.ENTRY)
        else:
            meter.follow(paths.ENTRY_WITHOUT_EVENTS)
        meter.touch(vcpu.state_hpa, REGISTERS_BYTES, False)
        failure = vmx.vmresume() if vcpu.vmcs.is_launched else vmx.vmlaunch()
        if failure is not None:
            for tell_failure in self._entry_failed:
                tell_failure(vcpu, failure)
            raise GuestError(str(failure))
        clock_cycles = meter.commit()
        meter.clock.account = vcpu.running_account
        exit = vcpu.exit
        if exit is not None:  # `_end_exit` without the call
            vcpu.exit = None
            cycles = clock_cycles - exit.began_cycles
            for tell in self._exit_ended:
                tell(vcpu, exit, cycles)

    def _end_exit(self, vcpu: VCpu, exit: Exit) -> None:
        """An exit lasts until the next entry: that of a HLT includes the wait, as `perf kvm stat` has it."""
        vcpu.exit = None
        cycles = vcpu.shared.clock_cycles - exit.began_cycles
        for tell in self._exit_ended:
            tell(vcpu, exit, cycles)


def _inject_events(vcpu: VCpu) -> None:
    """Give the vCPU its NMI or external interrupt now, or ask for an exit when it can take it (SDM 3C 25.2)."""
    if vcpu.nmi_request and vcpu.can_take_nmi:
        vcpu.nmi_request = False
        vcpu.inject(NMI_VECTOR, i.NMI)
    if vcpu.interrupt_request and vcpu.can_take_interrupt:
        if vcpu.upcall is not None:
            vcpu.take_upcall(vcpu.upcall)
        else:
            vcpu.meter.follow(paths.INTERRUPT)
            vcpu.run_devices()
            vcpu.inject(vcpu.apic.acknowledge(), i.EXTERNAL_INTERRUPT)
            vcpu.arm_timer()
    wanted = c.PROC_INTERRUPT_WINDOW_EXITING if vcpu.interrupt_request else 0
    wanted |= c.PROC_NMI_WINDOW_EXITING if vcpu.nmi_request else 0
    if wanted != vcpu.windows:
        vcpu.windows = wanted
        proc = vcpu.read(f.PRIMARY_PROCESSOR_BASED_CONTROLS) & ~WINDOW_EXITING
        vcpu.write(f.PRIMARY_PROCESSOR_BASED_CONTROLS, proc | wanted)


def _no_outcome(handler: Callable[[VCpu], Outcome], exit: Exit, outcome: object) -> ConfigError:
    where = f"the exit handler {getattr(handler, '__qualname__', handler)!s} for {name(exit.reason)}"
    if outcome is STOP:
        return ConfigError(f"{where} returned STOP, but its guest has not ended; call vcpu.domain.finish(End(...))")
    return ConfigError(f"{where} returned {outcome!r}; let it return NEXT, AGAIN, WAIT, STOP or MOVED")


def _impossible(exit: Exit) -> GuestError:
    why = IMPOSSIBLE.get(exit.reason, "no such reason is known")
    return GuestError(f"VM exit {name(exit.reason)} at RIP {exit.rip:#x} was thought impossible: {why}")
