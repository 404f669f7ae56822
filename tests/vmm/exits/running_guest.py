"""A guest that runs and then exits, for tests of the loop, and an observer that keeps a diary."""

from typing import Any

from devices.interrupts.interrupt_bus import InterruptMessage
from devices.interrupts.lapic_registers import SVR, SVR_ENABLED
from emulator.vmx import fields as f
from emulator.vmx.exit_reasons import ExitReason as R
from tests.vmm.fakes import Bench
from vmm.exits.loop import ExitLoop
from vmm.exits.observer import ExitObserver
from vmm.outcome import NEXT, STOP, End, EndKind, Outcome
from vmm.vcpu import Exit, VCpu

RIP, LENGTH_BYTES = 0x10_0000, 3
VECTOR = 0x31


class Diary(ExitObserver):
    """Notes what it hears, under its name."""

    def __init__(self, pages: list[tuple[Any, ...]], name: str = "") -> None:
        self.pages, self.name = pages, name

    def exit_began(self, vcpu: VCpu, exit: Exit) -> None:
        self.pages.append((self.name, "began", exit.reason, exit.rip))

    def exit_handled(self, vcpu: VCpu, exit: Exit, outcome: Outcome) -> None:
        self.pages.append((self.name, "handled", outcome, vcpu.rip))

    def exit_resumed(self, vcpu: VCpu, exit: Exit) -> None:
        self.pages.append((self.name, "resumed"))

    def exit_ended(self, vcpu: VCpu, exit: Exit, cycles: int) -> None:
        self.pages.append((self.name, "ended", cycles))


class Running(Bench):
    """A guest that runs, and then exits for CPUID, whose handler returns `outcome`; `handled` are the vCPUs it got."""

    def __init__(self, outcome: Outcome = NEXT, *names: str) -> None:
        super().__init__()
        self.handled: list[VCpu] = []
        self.pages: list[tuple[Any, ...]] = []

        def handler(vcpu: VCpu) -> Outcome:
            self.handled.append(vcpu)
            if outcome is STOP:
                vcpu.domain.finish(End(EndKind.RESET))
            return outcome

        self.exits: ExitLoop = self.loop({R.CPUID: handler}, [Diary(self.pages, name) for name in names])
        self.exits.enter(self.vcpu)
        self.meter.followed.clear()
        self.meter.touched.clear()
        self.set({f.EXIT_REASON: R.CPUID, f.GUEST_RIP: RIP, f.VM_EXIT_INSTRUCTION_LENGTH: LENGTH_BYTES})

    @property
    def cycles(self) -> int:
        return int(self.engine.shared.clock_cycles)

    def read(self, field: int) -> int:
        return self.vcpu.vmcs.read(field)

    def request_interrupt(self) -> None:
        """The virtual interrupt controller asks for an interrupt with VECTOR."""
        apic = self.vcpu.apic
        apic.write(SVR, 4, SVR_ENABLED | 0xFF)
        apic.accept(InterruptMessage(vector=VECTOR))
        self.vcpu.interrupt_request = True
