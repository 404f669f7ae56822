"""A physical core of the host: what it is made of, and what it does with all of it.

    clock        cycles, what they went to, and the engine whose time it is         clock.py
    waiting      whether it executes nothing, and until when                        waiting.py
    interrupts   the INTR, NMI, INIT and SIPI pins: driven by its local APIC       interrupts.py
    platform     ports, devices in memory, CPUID and MSRs, as its engine asks       platform.py

While an engine is loaded, `engine.shared.clock_cycles` is *the* clock. A core is a pCPU in all of the emulator but
timing/, where two pCPUs may be threads of one core (timing/topology.py).
"""

from emulator import cpuid
from emulator.bus import MmioBus, PortBus
from emulator.clock import Clock
from emulator.engine import Engine
from emulator.events import PS_PER_NS
from emulator.interrupts import Interrupts
from emulator.platform import HostPlatform
from emulator.timeline import Timeline
from emulator.timing.core_timing import MachineTiming
from emulator.waiting import Waiting


class PCpu:
    """The core of `clock`, on the host's buses."""

    def __init__(
        self,
        clock: Clock,
        timeline: Timeline,
        timing: MachineTiming,
        *,
        ports: PortBus,
        mmio: MmioBus,
        cpuid_leaves: dict[tuple[int, int], cpuid.Registers],
    ) -> None:
        profile = timing.profile
        self.number = clock.number
        self.profile = profile
        self.timeline = timeline
        self.clock = clock
        self.waiting = Waiting(clock, timeline, wake_latency_ps=profile.events.mwait_wake_ns * PS_PER_NS)
        self.interrupts = Interrupts(clock, self.waiting, timeline)
        self.platform = HostPlatform(clock, timeline, profile, ports=ports, mmio=mmio, cpuid_leaves=cpuid_leaves)

    def tsc_to_ps(self, tsc: int) -> int:
        """When the core's time-stamp counter shows `tsc`; what a guest in non-root operation adds to it is no part."""
        engine = self.clock.engine
        tsc_base = 0 if engine is None or engine.shared.non_root else int(engine.shared.tsc_base)
        return self.clock.tsc_to_ps(tsc, tsc_base)

    def load(self, engine: Engine) -> None:
        """Make `engine` the one this core runs; the clock moves into it, and charges go to its owner."""
        if self.clock.engine is not engine:
            self.unload()
            engine.platform = self.platform
            self.clock.load(engine)
            self.interrupts.connect(engine)

    def unload(self) -> None:
        """Run nothing: take back the clock and the pins, and book the guest's cycles."""
        if self.clock.engine is not None:
            self.interrupts.disconnect(self.clock.engine)
        self.clock.unload()

    def run(self, deadline_cycles: int) -> None:
        """Run the loaded engine until the clock reaches the deadline or the machine's next event, or it stops."""
        clock, interrupts = self.clock, self.interrupts
        engine = clock.engine
        assert engine is not None
        clock.commit()
        due_cycles = self.timeline.next_event_cycles()
        if due_cycles is not None and due_cycles < deadline_cycles:
            deadline_cycles = due_cycles
        deadline_cycles = min(deadline_cycles, clock.rate_end_cycles)
        if interrupts.seen_from_cycles > clock.cycles:
            engine.run(min(deadline_cycles, interrupts.seen_from_cycles))
            interrupts.drive()
        else:
            engine.run(deadline_cycles)

    def bound_by(self, other: "PCpu") -> None:
        """This core has just set a time at which `other` goes on: get no further ahead of it than others may."""
        ready = other.waiting.ready_cycles
        if ready is not None:
            self.clock.bound(
                deadline_cycles=ready + self.profile.events.ipi_receive_cycles,
                horizon_cycles=ready - (other.number < self.number),
            )
