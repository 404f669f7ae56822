"""Native: the guest runs on the machine itself. No VMM, no VM exits; the board is the machine's own hardware."""

from collections.abc import Callable

from devices.cpu_pins import CpuPins
from emulator.engine import Engine
from emulator.interleave import Interleaver
from emulator.ledger import Category
from emulator.machine import Machine
from emulator.vmx import fields as f
from emulator.vmx.vmcs import Vmcs
from vmm.boot_state import write_boot_state
from vmm.domain import Domain
from vmm.loaders import BootImage
from vmm.outcome import End, EndKind
from vmm.report import ExitStats

FLAG_IF = 1 << 9


class NativeGuest:
    """A guest on core 0 of `machine`, with all of its memory from host-physical address 0."""

    def __init__(
        self, machine: Machine, image: BootImage, *, memory_bytes: int, transmit: Callable[[int], None]
    ) -> None:
        self.machine = machine
        self.pcpu = machine.pcpus[0]
        self.engine = Engine(machine.memory, self.pcpu, owner="native")
        self.vmcs = Vmcs(self.engine.vmcs)
        self.domain = Domain(
            machine,
            base_hpa=0,
            memory_bytes=memory_bytes,
            ports=machine.ports,
            mmio=machine.mmio,
            timers=machine.events,
            transmit=transmit,
            cpus=[CpuPins(on_intr=self.pcpu.set_interrupt, tsc_to_ps=self._tsc_to_ps)],
        )
        self.domain.on_end = self.engine.stop
        self.pcpu.interrupt_controller = self.domain.board.apics[0]
        self.pcpu.mmio = self.domain.cpu_mmio[0]
        self.domain.load(image)
        self.pcpu.load(self.engine)
        write_boot_state(self.engine, self.vmcs, image)
        self._interleaver = Interleaver(machine, [self])

    def _tsc_to_ps(self, tsc: int) -> int:
        return self.pcpu.tsc_to_ps(tsc, int(self.engine.shared.tsc_base))

    def advance(self, limit_cycles: int) -> None:
        """Run until the core's clock reaches `limit_cycles`, the guest ends, or only the outside could wake it."""
        self._interleaver.advance(limit_cycles, lambda: self.domain.end is not None)

    def run(self, deadline_cycles: int) -> None:
        """Run the core until the deadline."""
        if not self._is_halted():
            self.pcpu.run(deadline_cycles)
            self._look_for_end()
        if self._is_halted():
            self.pcpu.wait(Category.IDLE)

    def _is_halted(self) -> bool:
        """A pending interrupt wakes a core only if it may take it."""
        is_woken = self.engine.shared.interrupt_pending and self.vmcs.read(f.GUEST_RFLAGS) & FLAG_IF
        return bool(self.vmcs.read(f.GUEST_ACTIVITY_STATE)) and not is_woken

    def _look_for_end(self) -> None:
        if self.engine.shared.shutdown:
            self.domain.finish(End(EndKind.SHUTDOWN, detail="triple fault"))
        elif self._is_halted() and not self.vmcs.read(f.GUEST_RFLAGS) & FLAG_IF:
            self.domain.finish(End(EndKind.SHUTDOWN, detail="halted with interrupts off"))

    def run_timers(self) -> None:
        """Bring the devices to the core's time, before the outside world touches one."""
        self.machine.events.run_until(self.pcpu.now_ps)

    def exit_statistics(self) -> dict[str, ExitStats]:
        """Nothing exits without a VMM."""
        return {}
