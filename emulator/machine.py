"""A host machine: memory, cores, the event queue and the buses. It owns everything; two can live in one process.

+---------------------------------- Machine ----------------------------------+
|  PCpu 0 .. n (clock in cycles)   events (ps)   ports   mmio   memory (hpa)  |
|        `--- timeline (cycles <-> ps) ---'                                   |
+-----------------------------------------------------------------------------+
"""

import os

from emulator import cpuid
from emulator.bus import MmioBus, PortBus
from emulator.clock import Clock
from emulator.events import EventQueue
from emulator.memory import HostMemory
from emulator.pcpu import PCpu
from emulator.profiles.profile import Profile
from emulator.siblings import disturbs, siblings_of
from emulator.timeline import Timeline
from emulator.timing.allowances import NO_ALLOWANCE, Allowance
from emulator.timing.core_timing import MachineTiming
from emulator.timing.fidelity import DEFAULT_FIDELITY, Fidelity
from emulator.timing.topology import places_of

# In the environment: assert at every VM exit that all cycles are booked. Tests do; it doubles what an exit takes.
CHECKS_LEDGER = "SIDECORE_CHECKS_LEDGER"


class Machine:
    """A host with `memory_bytes` of RAM and `pcpu_count` cores, timed by `profile`."""

    def __init__(
        self,
        profile: Profile,
        *,
        memory_bytes: int,
        pcpu_count: int = 1,
        timing: Fidelity = DEFAULT_FIDELITY,
        allowance: Allowance = NO_ALLOWANCE,
    ) -> None:
        self.profile = profile
        self.timing = MachineTiming(profile, pcpu_count, allowance)
        self.memory = HostMemory(memory_bytes)
        self.events = EventQueue()
        self.timeline = Timeline(self.events, profile.frequency_hz)
        self.ports = PortBus()
        self.mmio = MmioBus()
        self.cpuid_leaves = cpuid.host_leaves(f"sidecore emulated CPU ({profile.name})")
        self.pcpu_count = pcpu_count
        self.pcpus = [self._pcpu(number, timing) for number in range(pcpu_count)]
        if timing == "detailed":
            self.set_timing(timing)  # a sidecore's core never loads an engine, and has caches all the same
        if disturbs(profile.core):
            self._join_siblings()

    def _pcpu(self, number: int, fidelity: Fidelity) -> PCpu:
        clock = Clock(self.timeline, self.timing, number, fidelity=fidelity, checks_ledger=CHECKS_LEDGER in os.environ)
        return PCpu(clock, self.timeline, self.timing, ports=self.ports, mmio=self.mmio, cpuid_leaves=self.cpuid_leaves)

    def _join_siblings(self) -> None:
        """Let threads of one physical core slow each other down."""
        places = places_of(self.profile, self.pcpu_count)
        threads = [(place.core, pcpu.waiting) for place, pcpu in zip(places, self.pcpus, strict=True)]
        for pcpu in self.pcpus:
            pcpu.clock.siblings = siblings_of(self.profile.core, threads, pcpu.number)

    def set_timing(self, fidelity: Fidelity) -> None:
        """Time all cores at `fidelity` from now on; a core that runs changes at its next instruction."""
        for pcpu in self.pcpus:
            pcpu.clock.retime(fidelity)
