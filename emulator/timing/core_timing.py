"""What the time of a core is computed from, at each fidelity: `time/timing.h` of the engine, as a value.

flat       every instruction is one cycle, memory is free: for teaching, and for tests of anything but time
fast       the block-cost model, branch prediction, and for memory an allowance for each access (allowances.py)
detailed   the block-cost model, branch prediction, and every access through TLBs and caches (hierarchy.py)
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from emulator.profiles.profile import Profile
from emulator.timing.allowances import NO_ALLOWANCE, Allowance
from emulator.timing.fidelity import Fidelity
from emulator.timing.instruction_classes import Cost, costs

if TYPE_CHECKING:
    from emulator.timing.hierarchy import MemoryHierarchy


@dataclass(frozen=True, eq=False, kw_only=True)
class CoreTiming:
    """How a core of `profile` is timed; `hierarchy`, when detailed, has the caches of all cores."""

    fidelity: Fidelity
    profile: Profile
    costs: tuple[Cost, ...]
    allowance: Allowance
    hierarchy: "MemoryHierarchy | None"


class MachineTiming:
    """The timings of a machine's cores, each made when it is first asked for."""

    def __init__(self, profile: Profile, pcpu_count: int, allowance: Allowance) -> None:
        self.profile = profile
        self.pcpu_count = pcpu_count
        self.allowance = allowance
        self.hierarchy: MemoryHierarchy | None = None  # importing numba takes half a second
        self._timings: dict[Fidelity, CoreTiming] = {}

    def at(self, fidelity: Fidelity) -> CoreTiming:
        """The timing of a core at `fidelity`. Caches keep what they hold while it is another."""
        if fidelity not in self._timings:
            if fidelity == "detailed":
                from emulator.timing.hierarchy import MemoryHierarchy

                self.hierarchy = MemoryHierarchy(self.profile, self.pcpu_count)
            self._timings[fidelity] = CoreTiming(
                fidelity=fidelity,
                profile=self.profile,
                costs=costs(self.profile),
                allowance=self.allowance if fidelity == "fast" else NO_ALLOWANCE,
                hierarchy=self.hierarchy if fidelity == "detailed" else None,
            )
        return self._timings[fidelity]
