"""Native: the guest's kernel is the first program of the PC. No VMM, no VM exits."""

from collections.abc import Sequence

from devices.nic.nic import Nic
from devices.pc import Pc
from emulator.engine import Engine
from emulator.errors import GuestError
from emulator.interleave import Interleaver
from emulator.ledger import Category
from emulator.machine import Machine
from emulator.memory import HostMemory
from emulator.pcpu import PCpu
from emulator.vmx import fields as f
from emulator.vmx.guest_state import BLOCKING_BY_NMI
from emulator.vmx.vmcs import Vmcs
from emulator.x86 import RFLAGS_IF
from vmm.boot.boot_state import boot_memory, write_boot_state
from vmm.boot.loaders import BootImage
from vmm.boot.start_up import write_init_state, write_start_address
from vmm.outcome import End, Ending, EndKind
from vmm.paging.guest_walk import PagingMode
from vmm.session.stats import DutyChange, ExitStats, NicStats


class NativeProcessor:
    """A core of the machine with its engine; the guest ends with a triple fault."""

    def __init__(self, machine: Machine, pcpu: PCpu, ending: Ending) -> None:
        self.pcpu = pcpu
        self.engine = Engine(machine.memory, pcpu.platform, owner="native")
        self.vmcs = Vmcs(self.engine.vmcs)
        self._ending = ending
        self.waits_for_start_up = False
        pcpu.load(self.engine)
        pcpu.interrupts.executor = self

    def on_init(self) -> None:
        """INIT: wait for a SIPI, whatever the core does now (SDM 3A 8.4.1)."""
        if not self.waits_for_start_up:
            write_init_state(self.engine, self.vmcs)
            self.waits_for_start_up = True
            self.engine.stop()
            self.pcpu.waiting.wait(Category.IDLE, is_deaf=True)

    def on_nmi(self) -> None:
        """An NMI: it ends a HLT whatever IF is; while the core waits for a SIPI it stays pending."""
        if not self.waits_for_start_up and not self._is_halted():
            self.pcpu.waiting.wake_up()

    def on_start_up(self, vector: int) -> None:
        """SIPI: real mode at vector << 12, if the core waits for one."""
        if self.waits_for_start_up:
            write_start_address(self.vmcs, vector)
            self.waits_for_start_up = False
            self.pcpu.waiting.wake(self.pcpu.timeline.event_cycles)

    def run(self, deadline_cycles: int) -> None:
        """Run the core until the deadline."""
        try:
            if not self._is_halted():
                self.pcpu.run(deadline_cycles)
        except GuestError as error:
            self._ending.finish(End(EndKind.GUEST_ERROR, detail=str(error), cpu=self.pcpu.number))
        if self.engine.shared.shutdown:
            self._ending.finish(End(EndKind.TRIPLE_FAULT, detail="triple fault", cpu=self.pcpu.number))
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
    """A guest on all cores of `pc`, whose board's outputs end it by `ending`."""

    def __init__(self, pc: Pc, image: BootImage, ending: Ending) -> None:
        self.machine = machine = pc.machine
        self.board, self.timers = pc.board, machine.events
        self.nic: Nic | None = None
        self._ending = ending
        self._processors = [NativeProcessor(machine, pcpu, ending) for pcpu in machine.pcpus]
        first = self._processors[0]
        self.pcpu, self.engine, self.vmcs = first.pcpu, first.engine, first.vmcs
        ending.on_end = self._stop
        for hpa, data in boot_memory(image, machine.pcpu_count, has_messages=pc.board.pci.has_messages):
            machine.memory.write(hpa, data)
        for processor in self._processors[1:]:
            processor.on_init()
        write_boot_state(self.engine, self.vmcs, image)
        self.interleaver = Interleaver(machine, self._processors)

    @property
    def host(self) -> "NativeGuest":
        """The machine with all that runs on it."""
        return self

    @property
    def processors(self) -> Sequence[NativeProcessor]:
        """The machine's cores."""
        return self._processors

    @property
    def memory(self) -> HostMemory:
        """The machine's."""
        return self.machine.memory

    def mode_of(self, number: int) -> PagingMode:
        """See `Guest`."""
        read = self._processors[number].vmcs.read
        return PagingMode(read(f.GUEST_CR0), read(f.GUEST_CR3), read(f.GUEST_CR4), read(f.GUEST_IA32_EFER))

    @property
    def end(self) -> End | None:
        """How it ended, if it has."""
        return self._ending.end

    def finish(self, end: End) -> None:
        """End it; the first end counts."""
        self._ending.finish(end)

    def _stop(self) -> None:
        for processor in self._processors:
            processor.engine.stop()

    def advance(self, limit_cycles: int) -> None:
        """Run until the cores' clocks reach `limit_cycles`, the guest ends, or only the outside could wake one."""
        self.interleaver.advance(limit_cycles, self.is_over)

    def pause(self) -> None:
        """Return from `advance` soon, between two instructions; another goes on."""
        self.interleaver.pause()
        self._stop()

    def is_over(self) -> bool:
        """Whether the guest has ended, or no core can be woken any more: then it ends here."""
        if self.end is not None:
            return True
        for processor in self._processors:
            if not processor.pcpu.waiting.is_deaf or not processor.is_parked:
                return False
        self.finish(End(EndKind.HALTED, detail="with interrupts off"))
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

    def nic_stats(self) -> NicStats | None:
        """No card without a VMM."""
        return None
