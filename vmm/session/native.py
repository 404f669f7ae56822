"""Native: the guest runs on the machine itself. No VMM, no VM exits; the board is the machine's own hardware."""

from collections.abc import Callable, Sequence

from devices.cpu_pins import CpuPins
from emulator.engine import Engine
from emulator.interleave import Interleaver
from emulator.ledger import Category
from emulator.machine import Machine
from emulator.pcpu import PCpu
from emulator.vmx import fields as f
from emulator.vmx.guest_state import BLOCKING_BY_NMI
from emulator.vmx.vmcs import Vmcs
from emulator.x86 import RFLAGS_IF
from vmm.boot.boot_state import write_boot_state
from vmm.boot.loaders import BootImage
from vmm.boot.start_up import write_init_state, write_start_address
from vmm.domain import Domain
from vmm.outcome import End, EndKind
from vmm.session.stats import DutyChange, ExitStats


class NativeProcessor:
    """A core of the machine with its engine."""

    def __init__(self, machine: Machine, pcpu: PCpu) -> None:
        self.pcpu = pcpu
        self.engine = Engine(machine.memory, pcpu.platform, owner="native")
        self.vmcs = Vmcs(self.engine.vmcs)
        self.domain: Domain  # set by the guest, with whom the core shares it
        self.waits_for_start_up = False
        pcpu.load(self.engine)

    def pins(self) -> CpuPins:
        """What the board drives at this core."""
        return CpuPins(
            on_intr=self.pcpu.interrupts.set_interrupt,
            tsc_to_ps=lambda tsc: self.pcpu.clock.tsc_to_ps(tsc, int(self.engine.shared.tsc_base)),
            on_nmi=self._on_nmi,
            on_init=self.initialize,
            on_start_up=self._start_up,
        )

    def initialize(self) -> None:
        """INIT: wait for a SIPI, whatever the core does now (SDM 3A 8.4.1)."""
        if not self.waits_for_start_up:
            write_init_state(self.engine, self.vmcs)
            self.waits_for_start_up = True
            self.engine.stop()
            self.pcpu.waiting.wait(Category.IDLE, is_deaf=True)

    def _on_nmi(self) -> None:
        """An NMI: it ends a HLT whatever IF is; while the core waits for a SIPI it stays pending."""
        self.pcpu.interrupts.raise_nmi()
        if not self.waits_for_start_up and not self._is_halted():
            self.pcpu.waiting.wake_up()

    def _start_up(self, vector: int) -> None:
        """SIPI: real mode at vector << 12, if the core waits for one."""
        if self.waits_for_start_up:
            write_start_address(self.vmcs, vector)
            self.waits_for_start_up = False
            self.pcpu.waiting.wake(self.pcpu.timeline.event_cycles)

    def run(self, deadline_cycles: int) -> None:
        """Run the core until the deadline."""
        if not self._is_halted():
            self.pcpu.run(deadline_cycles)
        if self.engine.shared.shutdown:
            self.domain.finish(End(EndKind.SHUTDOWN, detail="triple fault"))
        elif self._is_halted():
            self.pcpu.waiting.wait(Category.IDLE, is_deaf=self.is_parked)

    def _is_halted(self) -> bool:
        """A pending event wakes a core only if it may take it."""
        shared = self.engine.shared
        is_woken = shared.interrupt_pending and self.vmcs.read(f.GUEST_RFLAGS) & RFLAGS_IF
        is_woken |= shared.nmi_pending and not self.vmcs.read(f.GUEST_INTERRUPTIBILITY_STATE) & BLOCKING_BY_NMI
        return bool(self.vmcs.read(f.GUEST_ACTIVITY_STATE)) and not is_woken

    @property
    def is_parked(self) -> bool:
        """Whether nothing but an INIT and a SIPI can make the core go on."""
        is_deaf = self._is_halted() and not self.vmcs.read(f.GUEST_RFLAGS) & RFLAGS_IF
        return self.waits_for_start_up or is_deaf


class NativeGuest:
    """A guest on all cores of `machine`, with all of its memory from host-physical address 0."""

    def __init__(
        self,
        machine: Machine,
        image: BootImage,
        *,
        memory_bytes: int,
        transmit: Callable[[int], None],
        devices: Sequence[str] = (),
    ) -> None:
        self.machine = machine
        self._processors = [NativeProcessor(machine, pcpu) for pcpu in machine.pcpus]
        first = self._processors[0]
        self.pcpu, self.engine, self.vmcs = first.pcpu, first.engine, first.vmcs
        self.domain = Domain(
            machine,
            base_hpa=0,
            memory_bytes=memory_bytes,
            ports=machine.ports,
            mmio=machine.mmio,
            timers=machine.events,
            transmit=transmit,
            cpus=[processor.pins() for processor in self._processors],
            devices=devices,
        )
        self.domain.on_end = self._stop
        self.domain.load(image)
        if machine.pcpu_count > 1:
            self.domain.board.interrupt_bus.carry = self._carry
        for processor, apic, mmio in zip(self._processors, self.domain.board.apics, self.domain.cpu_mmio, strict=True):
            processor.domain = self.domain
            processor.pcpu.platform.connect(apic, mmio)
            if processor is not first:
                processor.initialize()
        write_boot_state(self.engine, self.vmcs, image)
        self._interleaver = Interleaver(machine, self._processors)

    def _carry(self, deliver: Callable[[], None]) -> None:
        """What an interrupt controller sends is on its way for as long as an IPI."""
        delay_ps = self.machine.timeline.cycles_to_ps(self.machine.profile.events.ipi_receive_cycles)
        self.machine.events.schedule(self.machine.events.now_ps + delay_ps, deliver)

    def _stop(self) -> None:
        for processor in self._processors:
            processor.engine.stop()

    def advance(self, limit_cycles: int) -> None:
        """Run until the cores' clocks reach `limit_cycles`, the guest ends, or only the outside could wake one."""
        self._interleaver.advance(limit_cycles, self._is_over)

    def pause(self) -> None:
        """Return from `advance` soon, between two instructions; another goes on."""
        self._interleaver.pause()
        self._stop()

    def _is_over(self) -> bool:
        if self.domain.end is not None:
            return True
        for processor in self._processors:
            if not processor.pcpu.waiting.is_deaf or not processor.is_parked:
                return False
        self.domain.finish(End(EndKind.SHUTDOWN, detail="halted with interrupts off"))
        return True

    def run_timers(self) -> None:
        """Bring the devices to the core's time, before the outside world touches one."""
        self.machine.events.run_until(self.pcpu.clock.now_ps)

    def exit_statistics(self) -> dict[str, ExitStats]:
        """Nothing exits without a VMM."""
        return {}

    def duty_changes(self) -> list[DutyChange] | None:
        """No sidecore without a VMM."""
        return None
