"""A physical core of the host: a clock, a ledger, a local timer, and the engine of whatever runs on it.

    machine events (ps) ----> set_interrupt / timer ----> INTR pin ----> VM exit (VMM) or IDT (native)
                                                           |
    run(engine, deadline) -- engine.shared.clock_cycles is *the* clock while the engine is loaded

The core is also the `Platform` of its engine: ports, devices in memory, CPUID leaves and MSRs that no VMCS control
intercepts are the host machine's own. A core with a local APIC has it as its `interrupt_controller`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from emulator import cpuid
from emulator.bus import MmioBus
from emulator.engine import Engine
from emulator.events import Event
from emulator.ledger import HOST, IDLING, RUNNING, Account, Category, Ledger
from emulator.x86 import IA32_BIOS_SIGN_ID, IA32_MISC_ENABLE, IA32_PLATFORM_ID, MISC_ENABLE_MONITOR

if TYPE_CHECKING:
    from emulator.machine import Machine
    from emulator.timing.hierarchy import MemoryHierarchy

TSC_MASK = (1 << 64) - 1
# Counters of the engine (shared.h) that are part of its clock, and what they are booked as.
ENGINE_COUNTERS = (
    ("guest_cycles", Category.GUEST),
    ("memory_cycles", Category.MEMORY),
    ("walk_cycles", Category.WALKS),
    ("branch_cycles", Category.BRANCHES),
    ("event_cycles", Category.EVENTS),
)

PS_PER_NS = 1000
NO_HORIZON = 1 << 62  # a horizon that no clock reaches
LOCAL_TIMER_VECTOR = 0xEF  # the vector of this core's local timer; a VMM's own choice on real hardware

# MSRs of the host that software may read; the rest raise #GP, as hardware does for an address it does not implement.
# MODEL: writes to all but the last are dropped, those to IA32_PLATFORM_ID too.
HOST_MSRS = {
    IA32_PLATFORM_ID: 0,
    IA32_BIOS_SIGN_ID: 0,  # no microcode update loaded
    IA32_MISC_ENABLE: 1 | MISC_ENABLE_MONITOR,  # fast strings; MODEL: no bit changes anything
}

SPURIOUS_VECTOR = 0xFF  # what nobody answers at an interrupt acknowledge reads as


class InterruptController(Protocol):
    """What stands between a core and the interrupts of its machine: a local APIC."""

    cr8: int  # the task priority as MOV from and to CR8 sees it, 0 to 15

    @property
    def is_enabled(self) -> bool:
        """Whether there is one, as CPUID tells."""
        ...

    def acknowledge(self) -> int:
        """Take the pending interrupt into service; its vector."""
        ...

    def read_msr(self, index: int) -> int | None:
        """RDMSR; None: not its own."""
        ...

    def write_msr(self, index: int, value: int) -> bool:
        """WRMSR; False: not its own, or #GP."""
        ...


class PCpu:
    """Core `number` of `machine`."""

    def __init__(self, machine: "Machine", number: int) -> None:
        self.machine = machine
        self.number = number
        self.ledger = Ledger()
        self.account: Account = self.ledger.account(HOST, IDLING)  # what charges go to now
        self._instructions = 0  # retired on this core before the engine was loaded
        self._booked = [0] * len(ENGINE_COUNTERS)  # of the loaded engine's counters: a block that is left gives back
        self._engine: Engine | None = None
        self._clock_cycles = 0
        self._charged_cycles = 0  # not on the engine's clock yet
        self._l1d_latency_cycles = machine.profile.caches.l1d_latency_cycles
        self._wake_latency_ps = machine.profile.events.mwait_wake_ns * PS_PER_NS
        self._hierarchy: MemoryHierarchy | None = None  # while `detailed`
        self._coherence_cycles = 0  # of its counter, booked
        self._timer: Event | None = None
        self._timer_fired = False
        self._ipi_pending = False
        self._intr_asserted = False  # level of the board's interrupt wire
        self._msrs = dict(HOST_MSRS)
        self._cr8 = 0  # of a core without a local APIC
        self._nmi_pending = False  # while no engine is loaded
        self.mmio = MmioBus(behind=machine.mmio)  # devices in memory, and in front those that only this core sees
        self.interrupt_controller: InterruptController | None = None
        self._waits_as: int | None = None  # what its time is booked as while the core waits; None: it runs
        self._wake_cycles: int | None = None
        self._ends_by_interrupt = False
        self._skip: Callable[[int], None] | None = None  # jumps over a guest's spinning up to a clock
        self._intr_from_cycles = 0  # the guest does not see the INTR pin before: its spinning was jumped over
        self._horizon_cycles = NO_HORIZON

    # --- clock ---------------------------------------------------------------------------------------------------

    @property
    def clock_cycles(self) -> int:
        """The core's clock now."""
        clock_cycles = self._clock_cycles if self._engine is None else int(self._engine.shared.clock_cycles)
        return clock_cycles + self._charged_cycles

    @property
    def now_ps(self) -> int:
        """The core's clock in picoseconds since power-on."""
        return self.machine.cycles_to_ps(self.clock_cycles)

    @property
    def horizon_cycles(self) -> int:
        """Up to here no other core is behind: see interleave.py."""
        return self._horizon_cycles

    @horizon_cycles.setter
    def horizon_cycles(self, cycles: int) -> None:
        self._horizon_cycles = cycles
        if self._engine is not None:
            self._engine.shared.horizon_cycles = cycles

    def load(self, engine: Engine) -> None:
        """Make `engine` the one this core runs; the clock moves into it, and charges go to its owner."""
        if self._engine is engine:
            return
        self.unload()
        engine.platform = self
        shared = engine.shared
        shared.clock_cycles = self._clock_cycles
        shared.horizon_cycles = self._horizon_cycles
        shared.instructions = 0
        self._booked = [0] * len(ENGINE_COUNTERS)
        for counter, _ in ENGINE_COUNTERS:
            setattr(shared, counter, 0)
        self._engine = engine
        self.retime()
        self.account = self.ledger.account(engine.owner, RUNNING)
        shared.nmi_pending, self._nmi_pending = self._nmi_pending, False
        self._drive_intr()

    def retime(self) -> None:
        """Take the machine's fidelity; it may have changed."""
        timing = self.machine.timing.at(self.machine.fidelity)
        self._hierarchy = timing.hierarchy
        if self._engine is not None:
            self._engine.set_timing(timing, self.number)

    def unload(self) -> None:
        """Take the clock back and book the guest's cycles."""
        if self._engine is not None:
            self.book()
            self._clock_cycles = int(self._engine.shared.clock_cycles)
            self._instructions += int(self._engine.shared.instructions)
            self._nmi_pending = bool(self._engine.shared.nmi_pending)
            self._engine.shared.interrupt_pending = self._engine.shared.nmi_pending = 0  # the pins are the core's
            self._engine = None
        else:
            self.commit()
        self.account = self.ledger.account(HOST, IDLING)

    def book(self) -> Ledger:
        """The ledger, with the guest's cycles up to now."""
        self.commit()
        if self._engine is not None:
            shared = self._engine.shared
            account = self.ledger.account(self._engine.owner, RUNNING)
            for number, (counter, category) in enumerate(ENGINE_COUNTERS):
                now = getattr(shared, counter)
                account[category] += now - self._booked[number]
                self._booked[number] = now
            self._book_coherence(account)
        return self.ledger

    def _book_coherence(self, account: Account) -> None:
        """The engine counts stalls for lines that another core has among those of memory."""
        if self._hierarchy is not None:
            coherence_cycles = self._hierarchy.counter(self.number, "coherence_cycles")
            account[Category.MEMORY] -= coherence_cycles - self._coherence_cycles
            account[Category.COHERENCE] += coherence_cycles - self._coherence_cycles
            self._coherence_cycles = coherence_cycles

    @property
    def instructions(self) -> int:
        """Instructions that guests have retired on this core."""
        return self._instructions + (0 if self._engine is None else int(self._engine.shared.instructions))

    def charge(self, category: int, cycles: int) -> None:
        """Book `cycles`; the engine's clock has them after `commit`."""
        self.account[category] += cycles
        self._charged_cycles += cycles

    def touch(self, hpa: int, size_bytes: int, is_write: bool) -> int:
        """Charge the VMM's access to [hpa, hpa + size_bytes) of host memory; returns the cycles it takes.

        Word by word, each at least a hit of the first-level cache; `detailed` adds what the core's caches say.
        MODEL: a store takes as long as a load, and the VMM's own translations are always in the TLB.
        """
        cycles = (size_bytes + 7 >> 3) * self._l1d_latency_cycles
        self.account[Category.VMM_MEMORY] += cycles
        hierarchy = self._hierarchy
        if hierarchy is not None:
            before_cycles = hierarchy.counter(self.number, "coherence_cycles")  # the guest's may not be booked yet
            stall_cycles = hierarchy.access(self.number, hpa, size_bytes, is_write, self.clock_cycles)
            transfer_cycles = hierarchy.counter(self.number, "coherence_cycles") - before_cycles
            self._coherence_cycles += transfer_cycles
            self.account[Category.VMM_MEMORY] += stall_cycles - transfer_cycles
            self.account[Category.COHERENCE] += transfer_cycles
            cycles += stall_cycles
        self._charged_cycles += cycles
        return cycles

    def commit(self, booked_cycles: int = 0) -> None:
        """Put what was charged, and `booked_cycles` that others have booked, on the clock.

        To be called before time matters to anybody else, and before the engine goes on.
        """
        if self._engine is None:
            self._clock_cycles += self._charged_cycles + booked_cycles
        else:
            self._engine.shared.clock_cycles += self._charged_cycles + booked_cycles
        self._charged_cycles = 0

    def check_ledger(self) -> None:
        """Assert that every cycle of the clock is booked, and none twice."""
        self.commit()
        booked_cycles = self.ledger.total_cycles
        if self._engine is not None:
            booked_cycles += sum(getattr(self._engine.shared, counter) for counter, _ in ENGINE_COUNTERS)
            booked_cycles -= sum(self._booked)
        assert booked_cycles == self.clock_cycles, f"booked {booked_cycles} of {self.clock_cycles} cycles"

    # --- waiting: time that is jumped over -----------------------------------------------------------------------

    def wait(self, category: int, *, is_deaf: bool = False) -> None:
        """Execute nothing from now on until `wake`: halted (IDLE), or polling what another core will write (SPIN).

        An interrupt ends IDLE unless the core `is_deaf`; one that is pending already ends it at once.
        """
        self._waits_as, self._wake_cycles = category, None
        self._ends_by_interrupt = category == Category.IDLE and not is_deaf
        if self._ends_by_interrupt and self._is_intr_pending:
            self.wake(self.clock_cycles)

    def spin(self, skip: Callable[[int], None]) -> None:
        """The loaded guest does nothing but spin from now on, until `end_spin` or an interrupt.

        `skip(clock)` jumps over the rounds that end before the clock; the guest executes the last ones.
        """
        self._waits_as, self._wake_cycles, self._skip = Category.SPIN, None, skip

    @property
    def is_deaf(self) -> bool:
        """Whether the core waits, and no interrupt ends it."""
        return self._waits_as is not None and not self._ends_by_interrupt

    @property
    def is_spinning(self) -> bool:
        """Whether a guest's spinning is jumped over now."""
        return self._skip is not None

    def end_spin(self, when_cycles: int) -> None:
        """Let a guest that spins go on when the clock shows `when_cycles`."""
        if self._skip is not None:
            self.wake(when_cycles)

    def wake(self, when_cycles: int) -> None:
        """End the wait, if there is one, when the clock shows `when_cycles`; of several times the earliest counts."""
        if self._waits_as is not None:
            when_cycles = max(when_cycles, self.clock_cycles)
            self._wake_cycles = when_cycles if self._wake_cycles is None else min(self._wake_cycles, when_cycles)

    @property
    def ready_cycles(self) -> int | None:
        """When the core can go on: now, or when it wakes; None: nobody has said when."""
        return self.clock_cycles if self._waits_as is None else self._wake_cycles

    def pass_time(self, until_cycles: int) -> None:
        """Let a core that waits do so until its clock shows `until_cycles`, or until it wakes."""
        if self._waits_as is not None:
            end = until_cycles if self._wake_cycles is None else min(until_cycles, self._wake_cycles)
            if self._skip is not None:
                self._skip(end)
                return
            cycles = max(0, end - self.clock_cycles)
            self.ledger.account(HOST, IDLING)[self._waits_as] += cycles
            self.commit(cycles)

    def end_wait(self) -> None:
        """The core goes on: it has waited until its wake time."""
        if self._waits_as is not None:
            assert self._wake_cycles is not None
            self.pass_time(self._wake_cycles)
            self._waits_as = self._wake_cycles = self._skip = None

    def run(self, deadline_cycles: int) -> None:
        """Run the loaded engine until the clock reaches the deadline or the machine's next event, or it stops."""
        assert self._engine is not None
        self.commit()
        due_cycles = self.machine.next_event_cycles()
        if due_cycles is not None and due_cycles < deadline_cycles:
            deadline_cycles = due_cycles
        if self._intr_from_cycles > self.clock_cycles:
            self._engine.run(min(deadline_cycles, self._intr_from_cycles))
            self._drive_intr()
        else:
            self._engine.run(deadline_cycles)

    def tsc_to_ps(self, tsc: int, tsc_base: int) -> int:
        """When a time-stamp counter that is `tsc_base` ahead of the clock shows `tsc`, or showed it last."""
        clock_cycles = self.clock_cycles
        return self.machine.cycles_to_ps(max(0, clock_cycles + tsc - (clock_cycles + tsc_base & TSC_MASK)))

    # --- interrupts ----------------------------------------------------------------------------------------------

    def set_interrupt(self, is_asserted: bool) -> None:
        """The level of the INTR pin, driven by the board's interrupt controller."""
        self._intr_asserted = is_asserted
        self._drive_intr()

    def raise_nmi(self) -> None:
        """An edge at the NMI pin; one waits at most. What it ends, a `wait`, is for others to say."""
        if self._engine is None:
            self._nmi_pending = True
        else:
            self._engine.shared.nmi_pending = 1

    @property
    def _is_intr_pending(self) -> bool:
        return self._intr_asserted or self._timer_fired or self._ipi_pending

    def _drive_intr(self) -> None:
        is_pending = self._is_intr_pending
        if is_pending and self._skip is not None:
            self._intr_from_cycles = self.machine.ps_to_cycles(self.machine.events.now_ps)
            self.wake(self._intr_from_cycles)
        if self._engine is not None:
            self._engine.shared.interrupt_pending = is_pending and self._intr_from_cycles <= self.clock_cycles
        if is_pending and self._ends_by_interrupt:
            self.wake_up()

    def wake_up(self) -> None:
        """End the wait because of what happens now."""
        self.wake(self.machine.ps_to_cycles(self.machine.events.now_ps + self._wake_latency_ps))

    def arm_timer(self, when_ps: int | None) -> None:
        """Set the local timer to interrupt at `when_ps`, or never; the earlier setting is forgotten."""
        if self._timer is not None and self._timer.callback is not None and self._timer.when_ps == when_ps:
            return
        self.machine.events.cancel(self._timer)
        self._timer = None if when_ps is None else self.machine.events.schedule(when_ps, self._on_timer)
        self.bound_by_events()

    def _on_timer(self) -> None:
        self._timer = None
        self._timer_fired = True
        self._drive_intr()

    def acknowledge_timer(self) -> bool:
        """Whether the local timer has fired since last asked; lowers its request."""
        fired, self._timer_fired = self._timer_fired, False
        self._drive_intr()
        return fired

    def send_ipi(self, target: "PCpu") -> None:
        """Interrupt another core. MODEL: `ipi_receive_cycles` has the receiver's entry to its handler in it, too."""
        profile = self.machine.profile
        self.charge(Category.EVENTS, profile.events.ipi_send_cycles)
        self.commit()
        arrival_ps = self.machine.cycles_to_ps(self.clock_cycles + profile.events.ipi_receive_cycles)
        self.machine.events.schedule(arrival_ps, target.receive_ipi)
        self.bound_by_events()

    def receive_ipi(self) -> None:
        """Another core's interrupt arrives."""
        self._ipi_pending = True
        self._drive_intr()

    def acknowledge_ipi(self) -> bool:
        """Whether an IPI has arrived since last asked; lowers its request."""
        arrived, self._ipi_pending = self._ipi_pending, False
        self._drive_intr()
        return arrived

    def bound_by_events(self) -> None:
        """Let the running engine stop no later than the machine's next event, which may wake another core."""
        next_cycles = self.machine.next_event_cycles()
        if self._engine is not None and next_cycles is not None:
            shared = self._engine.shared
            shared.deadline_cycles = min(int(shared.deadline_cycles), next_cycles)
            if self.machine.pcpu_count > 1:
                self.horizon_cycles = min(self.horizon_cycles, next_cycles)

    def bound_by(self, other: "PCpu") -> None:
        """This core has just set a time at which `other` goes on: get no further ahead of it than others may."""
        ready = other.ready_cycles
        if self._engine is not None and ready is not None:
            shared = self._engine.shared
            lookahead_cycles = self.machine.profile.events.ipi_receive_cycles
            self.horizon_cycles = min(self.horizon_cycles, ready - (other.number < self.number))
            shared.deadline_cycles = min(int(shared.deadline_cycles), ready + lookahead_cycles)

    # --- Platform: what the core asks of the host when nothing exits ---------------------------------------------

    def port_read(self, port: int, size_bytes: int) -> int:
        """IN from the host's bus."""
        self.charge(Category.PORT, self.machine.profile.port_access_cycles)
        self.commit()
        self.machine.events.run_until(self.now_ps)
        value = self.machine.ports.read(port, size_bytes)
        self.bound_by_events()
        return value

    def port_write(self, port: int, size_bytes: int, value: int) -> None:
        """OUT to the host's bus."""
        self.charge(Category.PORT, self.machine.profile.port_access_cycles)
        self.commit()
        self.machine.events.run_until(self.now_ps)
        self.machine.ports.write(port, size_bytes, value)
        self.bound_by_events()

    def _mmio_cycles(self, hpa: int) -> int:
        """What an access without RAM takes: the core's local APIC is on its own bus, and near."""
        profile = self.machine.profile
        return profile.events.apic_access_cycles if self.mmio.is_own(hpa) else profile.core.mmio_access_cycles

    def mmio_read(self, hpa: int, size_bytes: int) -> int:
        """A load from where there is no RAM. MODEL: the time is that at the end of the basic block."""
        self.charge(Category.PORT, self._mmio_cycles(hpa))
        self.commit()
        self.machine.events.run_until(self.now_ps)
        value = self.mmio.read(hpa, size_bytes)
        self.bound_by_events()
        return value

    def mmio_write(self, hpa: int, size_bytes: int, value: int) -> None:
        """A store to where there is no RAM."""
        self.charge(Category.PORT, self._mmio_cycles(hpa))
        self.commit()
        self.machine.events.run_until(self.now_ps)
        self.mmio.write(hpa, size_bytes, value)
        self.bound_by_events()

    def cr8_read(self) -> int:
        """MOV from CR8."""
        return self._cr8 if self.interrupt_controller is None else self.interrupt_controller.cr8

    def cr8_write(self, value: int) -> None:
        """MOV to CR8 of a value from 0 to 15."""
        if self.interrupt_controller is None:
            self._cr8 = value
        else:
            self.interrupt_controller.cr8 = value

    def cpuid(self, leaf: int, subleaf: int) -> cpuid.Registers:
        """CPUID of this core."""
        registers = cpuid.look_up(self.machine.cpuid_leaves, leaf, subleaf)
        if leaf != 1:
            return registers
        controller = self.interrupt_controller
        return cpuid.with_apic(registers, self.number, is_enabled=controller is not None and controller.is_enabled)

    def msr_read(self, index: int) -> int | None:
        """RDMSR of an MSR the engine does not keep."""
        if index in self._msrs:
            return self._msrs[index]
        self.machine.events.run_until(self.now_ps)
        return None if self.interrupt_controller is None else self.interrupt_controller.read_msr(index)

    def msr_write(self, index: int, value: int) -> bool:
        """WRMSR of an MSR the engine does not keep: the few that exist can be written."""
        if index in self._msrs:
            self._msrs[index] = value if index == IA32_MISC_ENABLE else self._msrs[index]
            return True
        if self.interrupt_controller is None:
            return False
        self.machine.events.run_until(self.now_ps)
        is_valid = self.interrupt_controller.write_msr(index, value)
        self.bound_by_events()
        return is_valid

    def interrupt_vector(self) -> int:
        """Interrupt acknowledge cycle."""
        if self._timer_fired:
            self.acknowledge_timer()
            return LOCAL_TIMER_VECTOR
        return SPURIOUS_VECTOR if self.interrupt_controller is None else self.interrupt_controller.acknowledge()
