"""The hypervisor: it has a machine to itself, and runs domains on its cores.

    Machine: pCPU 0 .. n          Hypervisor                      Domain 0 .. m: memory, board, timers
       |                             |                               |
    Interleaver: who is behind --> Core (one per pCPU) --> Dispatcher (one per vCPU) --> VCpu: VMCS, registers, paging

Host memory: the VMM's own (page tables, bitmaps) from 0, the guests' above it.
"""

from collections.abc import Callable

from emulator.bus import PortBus
from emulator.engine import Engine
from emulator.events import EventQueue
from emulator.interleave import Interleaver
from emulator.machine import Machine
from vmm.boot_state import write_boot_state
from vmm.core import Core
from vmm.dispatch import Dispatcher
from vmm.domain import Domain
from vmm.host_pages import HostPages
from vmm.loaders import BootImage
from vmm.paging import Paging
from vmm.paging.ept import EptPaging
from vmm.paging.shadow import ShadowPaging
from vmm.report import ExitStats
from vmm.statistics import ExitStatistics
from vmm.trace import TraceWriter
from vmm.vcpu import VCpu
from vmm.vmcs_setup import msr_bitmap, set_up_vmcs

GUEST_ALIGNMENT = 2 << 20  # large host pages can then back large guest pages
VMM_MEMORY_BYTES = 48 << 20  # below the guest: page tables, bitmaps
PAGINGS: dict[str, Callable[[Domain, HostPages], Paging]] = {"shadow": ShadowPaging, "ept": EptPaging}


class VirtualGuest:
    """A guest in VMX non-root mode on core 0 of `machine`, under the VMM with the given way of paging."""

    def __init__(
        self,
        machine: Machine,
        image: BootImage,
        *,
        memory_bytes: int,
        transmit: Callable[[int], None],
        paging: str = "shadow",
        trace: TraceWriter | None = None,
    ) -> None:
        self.machine = machine
        self.pcpu = machine.pcpus[0]
        self.engine = Engine(machine.memory, self.pcpu)
        self._statistics = ExitStatistics()
        self.domain = Domain(
            machine,
            base_hpa=VMM_MEMORY_BYTES,
            memory_bytes=memory_bytes,
            ports=PortBus(),
            timers=EventQueue(),
            transmit=transmit,
            on_intr=self._on_intr,
        )
        self.domain.on_end = self.engine.stop
        self.domain.load(image)
        self.pages = HostPages(machine.memory, 0, VMM_MEMORY_BYTES)
        self.vcpu = VCpu(self.domain, self.pcpu, self.engine)
        self.vmcs = self.vcpu.vmcs
        self.vcpu.paging = PAGINGS[paging](self.domain, self.pages)
        write_boot_state(self.engine, self.vcpu.vmcs, image)
        self.core = Core(self.pcpu)
        self.core.add(Dispatcher(self.vcpu, self._statistics, trace))
        set_up_vmcs(self.vcpu, msr_bitmap(machine.memory, self.pages))
        self._interleaver = Interleaver(machine, [self.core])

    @staticmethod
    def host_memory_bytes(memory_bytes: int) -> int:
        """Host memory that a guest of `memory_bytes` needs, with the VMM's own."""
        return VMM_MEMORY_BYTES + memory_bytes

    def advance(self, limit_cycles: int) -> None:
        """Run until the core's clock reaches `limit_cycles`, the guest ends, or only the outside could wake it."""
        self._interleaver.advance(limit_cycles, lambda: self.domain.end is not None)

    def run_timers(self) -> None:
        """Bring the devices to the core's time, before the outside world touches one."""
        self.domain.timers.run_until(self.pcpu.now_ps)

    def exit_statistics(self) -> dict[str, ExitStats]:
        """Every VM exit so far, by the name of its reason."""
        return self._statistics.table()

    def _on_intr(self, is_asserted: bool) -> None:
        self.vcpu.interrupt_request = is_asserted
        if is_asserted:
            self.core.wake(self.vcpu)
