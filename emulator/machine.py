"""A host machine: memory, cores, the event queue and the buses. It owns everything; two can live in one process.

+---------------------------------- Machine ----------------------------------+
|  PCpu 0 .. n (clock in cycles)   events (ps)   ports   mmio   memory (hpa)  |
+-----------------------------------------------------------------------------+
1 cycle = 10^12 / frequency_hz ps; conversions round so that a core is never early for an event.
"""

from emulator import cpuid
from emulator.bus import MmioBus, PortBus
from emulator.events import PS_PER_SECOND, EventQueue
from emulator.memory import HostMemory
from emulator.pcpu import PCpu
from emulator.profiles.profile import Profile
from emulator.timing.allowances import NO_ALLOWANCE, Allowance
from emulator.timing.core_timing import DEFAULT_FIDELITY, Fidelity, MachineTiming


class Machine:
    """A host with `memory_bytes` of RAM and `pcpu_count` cores, timed by `profile`."""

    checks_ledger = False  # assert at every VM exit that all cycles are booked; tests do, it doubles what an exit takes

    def __init__(
        self,
        profile: Profile,
        *,
        memory_bytes: int,
        pcpu_count: int = 1,
        timing: Fidelity = DEFAULT_FIDELITY,
        allowance: Allowance = NO_ALLOWANCE,
        memory_file: int | None = None,
    ) -> None:
        """`memory_file`: see HostMemory."""
        self.profile = profile
        self.timing = MachineTiming(profile, pcpu_count, allowance)
        self.fidelity = timing
        self.memory = HostMemory(memory_bytes, file=memory_file)
        self.events = EventQueue()
        self.ports = PortBus()
        self.mmio = MmioBus()
        self.cpuid_leaves = cpuid.host_leaves(f"sidecore emulated CPU ({profile.name})")
        self.pcpu_count = pcpu_count
        self._next_event_ps: int | None = None  # and its cycle: asked for at every turn, and most often the same
        self._next_event_cycles: int | None = None
        self.pcpus = [PCpu(self, number) for number in range(pcpu_count)]

    def set_timing(self, fidelity: Fidelity) -> None:
        """Time all cores at `fidelity` from now on; a core that runs changes at its next instruction."""
        self.fidelity = fidelity
        for pcpu in self.pcpus:
            pcpu.retime()

    def cycles_to_ps(self, cycles: int) -> int:
        """When a core's clock shows `cycles`, rounded down."""
        return cycles * PS_PER_SECOND // self.profile.frequency_hz

    def ps_to_cycles(self, when_ps: int) -> int:
        """The first cycle of a core at or after `when_ps`."""
        return -(-when_ps * self.profile.frequency_hz // PS_PER_SECOND)

    def next_event_cycles(self) -> int | None:
        """When the next event is due by a core's clock, or None when nothing is scheduled."""
        next_ps = self.events.next_ps()
        if next_ps != self._next_event_ps:
            self._next_event_ps = next_ps
            self._next_event_cycles = None if next_ps is None else self.ps_to_cycles(next_ps)
        return self._next_event_cycles
