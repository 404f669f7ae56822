"""The VMM around a guest: sets up the VMCS, dispatches VM exits, injects interrupts, and lets time pass in HLT.

    run --> engine --> VM exit --> EXIT_HANDLERS[reason] --> Outcome --> inject? --> entry checks --> VM entry
             ^                                                                                          |
             +------------------------------------------------------------------------------------------+

One loop, one table, one place that moves RIP.
"""

from collections.abc import Callable

from devices.cpu_pins import CpuPins
from emulator.bus import MmioBus, PortBus
from emulator.engine import Engine
from emulator.errors import GuestError
from emulator.events import EventQueue
from emulator.ledger import Category
from emulator.machine import Machine
from emulator.pcpu import HOST_MSRS
from emulator.vmx import controls as c
from emulator.vmx import fields as f
from emulator.vmx import interruption as i
from emulator.vmx.capabilities import AllowedBits
from emulator.vmx.entry_checks import EntryChecker
from emulator.vmx.exit_reasons import ExitReason as R
from emulator.vmx.exit_reasons import name
from vmm.boot_state import write_boot_state
from vmm.domain import Domain
from vmm.exit_handlers import EXIT_HANDLERS, IMPOSSIBLE
from vmm.guest_cpuid import PASSED_THROUGH_MSRS
from vmm.host_pages import HostPages
from vmm.loaders import BootImage
from vmm.outcome import End, EndKind, Outcome
from vmm.paging import Paging
from vmm.paging.ept import EptPaging
from vmm.paging.shadow import ShadowPaging
from vmm.report import ExitStats
from vmm.statistics import ExitStatistics
from vmm.trace import TraceWriter
from vmm.vcpu import FLAG_IF, VCpu

GUEST_ALIGNMENT = 2 << 20  # large host pages can then back large guest pages
VMM_MEMORY_BYTES = 48 << 20  # below the guest: page tables, bitmaps
EXIT_REASON_MASK = 0xFFFF
WITH_GPA = (R.EPT_VIOLATION, R.EPT_MISCONFIG)  # exits that save GUEST_PHYSICAL_ADDRESS
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
        self._shared = self.engine.shared  # while this core runs the engine, the core's clock is here
        self._statistics = ExitStatistics()
        self._trace = trace
        self._window_is_open = False  # interrupt-window exiting is set
        self._exit_in_progress = (0, 0, 0)  # reason, clock at the exit, RIP
        self.domain = Domain(
            machine,
            base_hpa=VMM_MEMORY_BYTES,
            memory_bytes=memory_bytes,
            ports=PortBus(),
            mmio=MmioBus(),
            timers=EventQueue(),
            transmit=transmit,
            cpus=[CpuPins(on_intr=self._on_intr, tsc_to_ps=self.pcpu.tsc_to_ps)],
        )
        self.domain.on_end = self.engine.stop
        self.domain.load(image)
        self.pages = HostPages(machine.memory, 0, VMM_MEMORY_BYTES)
        self.vcpu = VCpu(self.domain, self.pcpu, self.engine)
        self.vmcs = self.vcpu.vmcs
        self.vcpu.paging = PAGINGS[paging](self.domain, self.pages)
        self.pcpu.load(self.engine)
        self._set_up_vmcs(image)
        self.engine.on_exit = self._on_exit
        self.engine.shared.non_root = 1
        self._prepare_entry()

    @staticmethod
    def host_memory_bytes(memory_bytes: int) -> int:
        """Host memory that a guest of `memory_bytes` needs, with the VMM's own."""
        return VMM_MEMORY_BYTES + memory_bytes

    # --- running -----------------------------------------------------------------------------------------------------

    def advance(self, limit_cycles: int) -> None:
        """Run until the core's clock reaches `limit_cycles`, the guest ends, or only the outside could wake it."""
        pcpu, events, vcpu = self.pcpu, self.machine.events, self.vcpu
        while self.domain.end is None and pcpu.clock_cycles < limit_cycles:
            if vcpu.is_blocked:
                self._wake_if_interrupted()
            next_ps = events.next_ps()
            if next_ps is None and vcpu.is_blocked:
                return
            deadline = limit_cycles if next_ps is None else min(limit_cycles, self.machine.ps_to_cycles(next_ps))
            if vcpu.is_blocked:
                pcpu.idle_until(deadline)
            elif deadline > pcpu.clock_cycles:
                pcpu.run(deadline)
            events.run_until(pcpu.now_ps)

    def _wake_if_interrupted(self) -> None:
        """The VMM is in root mode while its vCPU sleeps: the local timer interrupts it there, without an exit."""
        if self.pcpu.acknowledge_timer():
            self.vcpu.run_devices()
            self.vcpu.arm_timer()
        if self.vcpu.interrupt_request:
            self.vcpu.is_blocked = False
            self._prepare_entry()
            self._book_exit()

    def run_timers(self) -> None:
        """Bring the devices to the core's time, before the outside world touches one."""
        self.domain.timers.run_until(self.pcpu.now_ps)

    def exit_statistics(self) -> dict[str, ExitStats]:
        """Every VM exit so far, by the name of its reason."""
        return self._statistics.table()

    # --- VM exits ----------------------------------------------------------------------------------------------------

    def _on_exit(self) -> None:
        """Called by the engine at a VM exit; when it returns the guest goes on, or the engine stops."""
        vcpu = self.vcpu
        began = self._shared.clock_cycles
        reason = vcpu.read(f.EXIT_REASON) & EXIT_REASON_MASK
        vcpu.charge(Category.EXIT, self.machine.profile.cycles_of(reason))
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
        self._prepare_entry()
        if not vcpu.is_blocked:
            self._book_exit()

    def _book_exit(self) -> None:
        """An exit lasts until the next entry: that of a HLT includes the wait, as `perf kvm stat` has it."""
        reason, began, rip = self._exit_in_progress
        cycles = self._shared.clock_cycles - began
        self._statistics.add(reason, cycles)
        if self._trace is not None:
            vmcs = self.vmcs
            self._trace.exit(
                began,
                cycles,
                pcpu=self.pcpu.number,
                vcpu=self.vcpu.number,
                reason=name(reason),
                rip=rip,
                qualification=vmcs.read(f.EXIT_QUALIFICATION),
                information=vmcs.read(f.VM_EXIT_INTERRUPTION_INFORMATION) if reason == R.EXCEPTION_NMI else 0,
                gpa=vmcs.read(f.GUEST_PHYSICAL_ADDRESS) if reason in WITH_GPA else 0,
            )

    def _block(self) -> None:
        """The vCPU sleeps until its virtual interrupt controller asks for it."""
        if not self.vcpu.read(f.GUEST_RFLAGS) & FLAG_IF:
            self.domain.finish(End(EndKind.SHUTDOWN, detail="halted with interrupts off"))
        self.vcpu.is_blocked = True
        self.engine.stop()

    def _prepare_entry(self) -> None:
        """Inject what is pending, check the VMCS, and charge the VM entry."""
        vcpu = self.vcpu
        if vcpu.interrupt_request or self._window_is_open:
            self._inject_interrupt()
        if not vcpu.is_blocked and self.domain.end is None:
            failure = self._entry_checker.check()
            if failure is not None:
                raise GuestError(str(failure))
            vcpu.vmcs.is_launched = True
            vcpu.charge(Category.ENTRY, self.machine.profile.entry_cycles)
        vcpu.commit_cycles()

    def _inject_interrupt(self) -> None:
        """Give the vCPU its external interrupt now, or ask for an exit when it can take one (SDM 3C 25.2)."""
        vcpu = self.vcpu
        if vcpu.interrupt_request and vcpu.can_take_interrupt:
            vcpu.inject(vcpu.apic.acknowledge(), i.EXTERNAL_INTERRUPT)
        wanted = vcpu.interrupt_request
        if wanted != self._window_is_open:
            self._window_is_open = wanted
            proc = vcpu.read(f.PRIMARY_PROCESSOR_BASED_CONTROLS) & ~c.PROC_INTERRUPT_WINDOW_EXITING
            vcpu.write(f.PRIMARY_PROCESSOR_BASED_CONTROLS, proc | (c.PROC_INTERRUPT_WINDOW_EXITING if wanted else 0))

    def _on_intr(self, is_asserted: bool) -> None:
        self.vcpu.interrupt_request = is_asserted

    # --- set-up ------------------------------------------------------------------------------------------------------

    def _set_up_vmcs(self, image: BootImage) -> None:
        """Fill the VMCS for the first VM entry (SDM 3C 31.6, "Preparation and Launching a Virtual Machine")."""
        vcpu, capabilities = self.vcpu, self.vcpu.paging.capabilities()
        self._entry_checker = EntryChecker(vcpu.vmcs, capabilities)
        write_boot_state(self.engine, vcpu.vmcs, image)

        def control(field: int, allowed: AllowedBits, wanted: int) -> None:
            vcpu.write(field, allowed.adjust(wanted))

        processor = c.PROC_CR8_LOAD_EXITING | c.PROC_CR8_STORE_EXITING
        processor |= c.PROC_HLT_EXITING | c.PROC_UNCONDITIONAL_IO_EXITING | c.PROC_USE_MSR_BITMAPS
        if vcpu.paging.name == "shadow":
            processor |= c.PROC_INVLPG_EXITING | c.PROC_CR3_LOAD_EXITING | c.PROC_CR3_STORE_EXITING
        else:
            processor |= c.PROC_ACTIVATE_SECONDARY_CONTROLS
        control(f.PIN_BASED_CONTROLS, capabilities.pin, c.PIN_EXTERNAL_INTERRUPT_EXITING)
        control(f.PRIMARY_PROCESSOR_BASED_CONTROLS, capabilities.proc, processor)
        control(f.VM_EXIT_CONTROLS, capabilities.exit, c.EXIT_HOST_ADDRESS_SPACE_SIZE | c.EXIT_SAVE_IA32_EFER)
        control(f.VM_ENTRY_CONTROLS, capabilities.entry, c.ENTRY_IA32E_MODE_GUEST | c.ENTRY_LOAD_IA32_EFER)
        vcpu.write(f.MSR_BITMAP_ADDRESS, self._msr_bitmap())
        vcpu.write(f.VMCS_LINK_POINTER, (1 << 64) - 1)
        vcpu.write(f.GUEST_DR7, 0x400)
        for field, value in HOST_STATE:
            vcpu.write(field, value)
        vcpu.msrs = dict(HOST_MSRS)  # a guest reads what the host has
        vcpu.paging.start(vcpu)

    def _msr_bitmap(self) -> int:
        """A page that lets only `PASSED_THROUGH_MSRS` pass (SDM 3C 24.6.9)."""
        hpa, memory = self.pages.allocate(), self.machine.memory
        memory.write(hpa, b"\xff" * 4096)
        for index in PASSED_THROUGH_MSRS:
            for quarter in (0x000, 0x800):  # reads, writes
                at = hpa + quarter + (0x400 if index >= 0xC000_0000 else 0) + (index & 0x1FFF) // 8
                memory.write(at, bytes([memory.read(at, 1)[0] & ~(1 << (index & 7))]))
        return hpa


# The VMM is Python, not machine code of the host: host state only has to be valid (SDM 3C 26.2.2, 26.2.3).
HOST_STATE = (
    (f.HOST_CR0, 0x8000_0031),
    (f.HOST_CR3, 0),
    (f.HOST_CR4, 0x2020),
    (f.HOST_CS_SELECTOR, 0x8),
    (f.HOST_SS_SELECTOR, 0x10),
    (f.HOST_TR_SELECTOR, 0x18),
    (f.HOST_IA32_EFER, 0x500),
)
