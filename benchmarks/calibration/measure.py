"""What `sidecore profiles check` measures: machines from inside a guest, beside what was published of them.

    guests `vmexit`, `mem` --run_all()--> Results --find()--> [Finding(reference, low, high), ...]

**Round trips.** The guest times a loop of CPUID (or VMCALL) by RDTSC and takes the empty loop off. Between exit and
entry the VMM does what it always does, which the published loops do not contain (vmlatency's VMM does nothing but
VMRESUME). So what the ledger booked in that round for the VMM's software (`SOFTWARE`) is taken off, and shown beside
the result. Nothing else is: TLB misses that an exit without VPID leaves behind and the guest's own instructions stay.

**Latencies.** A ring of pointers over half of a level, for DRAM over twice the last cache or more. **Reach.** A ring
with one line on each of n pages beside one over n lines without gaps: the reach lies between the last n at which pages
take no longer and the first at which they do. Both run natively, as published measurements did.

All of it is `--timing detailed`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.calibration.published import Quantity, Reference, references_of
from benchmarks.harness.curves import Curve, latency_curve, translation_curve
from benchmarks.harness.guest_runs import run_all
from benchmarks.harness.results import Fact, Result, Results, Run
from emulator.errors import ConfigError
from emulator.ledger import LABELS, Category
from emulator.profiles.profile import Profile, load_profile
from vmm.boot.loaders.memory_size import size_text
from vmm.session.spec import Paging

SOFTWARE = tuple(LABELS[number] for number in (Category.VMCS, Category.PATHS, Category.VMM_MEMORY, Category.COHERENCE))
OPERATIONS: Mapping[Quantity, str] = {"CPUID round trip": "cpuid", "VMCALL round trip": "vmcall"}
LEVELS: Mapping[Quantity, str] = {"L1 latency": "l1d", "L2 latency": "l2", "L3 latency": "l3"}
STEP_CYCLES = 0.9  # less is not another level, but the pages of the loop itself


@dataclass(frozen=True)
class Finding:
    """What was measured of a published quantity: from `low` to `high`, which are the same but for a reach."""

    reference: Reference
    low: float
    high: float
    software_cycles: float = 0  # the VMM's own, already taken off

    @property
    def error_percent(self) -> float:
        """How far the measurement is above (or below) the published value; 0 for a value between low and high."""
        published = self.reference.value
        nearest = min(max(published, self.low), self.high)
        return (nearest - published) * 100 / published

    @property
    def is_within(self) -> bool:
        """Whether that is no more than is allowed."""
        return abs(self.error_percent) <= self.reference.tolerance_percent


def measure(names: Sequence[str], overrides: tuple[str, ...]) -> list[Finding]:
    """The findings on the profiles `names`, in the order of what was published. Raises ConfigError."""
    profiles = {name: load_profile(name, overrides) for name in names}
    for name, profile in profiles.items():
        if not references_of(profile.name):
            raise ConfigError(f"nothing published is known of profile {name}; see benchmarks/calibration/published.py")
    runs = [run for name, profile in profiles.items() for run in runs_of(name, profile, overrides)]
    results = {result.run: result for result in run_all(runs)}
    findings = []
    for name, profile in profiles.items():
        exits, memory = (results[run] for run in runs_of(name, profile, overrides))
        findings += [find(reference, profile, exits, memory) for reference in references_of(profile.name)]
    return findings


def runs_of(name: str, profile: Profile, overrides: tuple[str, ...]) -> tuple[Run, Run]:
    """The two guests to run: under the VMM as that machine would, and natively."""
    paging: Paging = "ept" if profile.vmx.has_ept else "shadow"
    return (
        Run("vmexit", name, paging, "detailed", overrides),
        Run("mem", name, "native", "detailed", overrides),
    )


def find(reference: Reference, profile: Profile, exits: Results, memory: Results) -> Finding:
    """The finding on one published value."""
    quantity = reference.quantity
    if quantity in OPERATIONS:
        return find_round_trip(reference, exits, OPERATIONS[quantity])
    if quantity in ("DTLB reach", "second-level TLB reach"):
        low, beyond = reach(translation_curve(memory), is_second=quantity != "DTLB reach")
        return Finding(reference, low, beyond - 1)
    cycles = latency_cycles(latency_curve(memory), profile, quantity)
    return Finding(reference, cycles, cycles)


def find_round_trip(reference: Reference, exits: Results, operation: str) -> Finding:
    """One exit and the entry after it, without the software of the VMM in between."""
    row = exits.by_name()[operation]
    software_cycles = sum(row.account.cycles.get(category, 0) for category in SOFTWARE)
    cycles = row.value - software_cycles
    return Finding(reference, cycles, cycles, software_cycles)


def latency_cycles(curve: Curve, profile: Profile, quantity: Quantity) -> float:
    """A load that the level of `quantity` answers: the ring of half its size, for DRAM the largest of all."""
    caches = profile.caches
    if quantity in LEVELS:
        size_bytes = getattr(caches, f"{LEVELS[quantity]}_size_bytes")
        return curve[max(size for size in curve if size <= size_bytes // 2)]
    if max(curve) < 2 * max(caches.l2_size_bytes, caches.l3_size_bytes):
        raise ConfigError(
            f"the largest ring, {size_text(max(curve))}, is too small to measure memory on {profile.name}"
        )
    return curve[max(curve)]


def reach(beyond: Curve, *, is_second: bool) -> tuple[int, int]:
    """How many pages the first level of TLB holds, or the second: at least so many, and fewer than so many.

    `beyond` is what a page takes beyond a line, by their number: nothing as long as the first level holds all, then
    what it takes to find them in the second, then a walk.
    """
    first = _step(beyond, 0, 0.0)
    return _step(beyond, first[1], beyond[first[1]]) if is_second else first


def _step(curve: Curve, start: int, level: float) -> tuple[int, int]:
    """The last place from `start` on at which `curve` is at `level`, and the next; or the end and what is behind."""
    last = start
    for place in sorted(curve):
        if place >= start and abs(curve[place] - level) > STEP_CYCLES:
            return last, place
        last = max(place, start)
    return last, last + 1


def row_of(finding: Finding) -> Result:
    """A finding for a file; a reach lies between `low` and `high`, and its value is the lower."""
    reference = finding.reference
    about: dict[str, Fact] = {
        "high": finding.high,
        "published": reference.value,
        "error_percent": round(finding.error_percent, 3),
        "tolerance_percent": reference.tolerance_percent,
        "is_within": finding.is_within,
        "software_cycles": finding.software_cycles,
        "source": reference.source,
        "confidence": reference.confidence,
    }
    return Result({"profile": reference.profile}, reference.quantity, reference.unit, finding.low, about=about)
