"""What the time of a core is computed from, at each fidelity: `timing.h` of the engine, as a value.

    flat       every instruction is one cycle, memory is free: for teaching, and for tests of anything but time
    fast       the block-cost model, branch prediction, and for memory an allowance for each access (allowances.py)
    detailed   the block-cost model, branch prediction, and every access through TLBs and caches (hierarchy.py)
"""

from dataclasses import dataclass
from typing import get_args, Literal

from emulator.profile import Profile
from emulator.timing.allowances import Allowance
from emulator.timing.hierarchy import MemoryHierarchy
from emulator.timing.instruction_classes import Cost, costs

Fidelity = Literal["flat", "fast", "detailed"]
FIDELITIES: tuple[Fidelity, ...] = get_args(Fidelity)
DEFAULT_FIDELITY: Fidelity = "fast"


@dataclass(frozen=True, eq=False, kw_only=True)
class CoreTiming:
    """How a core of `profile` is timed. `hierarchy` has the caches of all cores, and is there when detailed."""

    fidelity: Fidelity
    profile: Profile
    costs: tuple[Cost, ...]
    allowance: Allowance
    hierarchy: MemoryHierarchy | None


def core_timing(profile: Profile, fidelity: Fidelity, *, hierarchy: MemoryHierarchy, allowance: Allowance) -> CoreTiming:
    """The timing of the cores of a machine."""
    return CoreTiming(
        fidelity=fidelity,
        profile=profile,
        costs=costs(profile),
        allowance=allowance if fidelity == "fast" else Allowance(),
        hierarchy=hierarchy if fidelity == "detailed" else None,
    )
