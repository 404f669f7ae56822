"""`sidecore bench fig1 --guests N`: what sidecalls take when N guests, each on a core of its own, share the sidecores.

    N domains of guest kernel `fig1`, all at once --> latency by guest, and how long their requests waited to be seen

Every guest runs the same measurements from the same time on, so the sidecore always has as many requests as there are
guests. The machine is the profile's with as many cores as that takes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.accounts import Account, Rounds
from benchmarks.fig1 import BARS, IMAGE
from benchmarks.guest_runs import SLICE_CYCLES, Lines
from benchmarks.measurements import Measurement
from benchmarks.text import cycles_text
from emulator.errors import ConfigError
from emulator.machine import Machine
from vmm.boot import BootOptions, Paging, plan
from vmm.hypervisor import Hypervisor, host_memory_bytes
from vmm.outcome import End, EndKind
from vmm.profile_commands import make_table
from vmm.sidecore.service import Poll
from vmm.sidecore.slots import SlotCounts

if TYPE_CHECKING:
    from rich.table import Table

GUEST_MEMORY_BYTES = 32 << 20
CALLS = tuple((call_name, text) for _, call_name, text in BARS)


@dataclass(frozen=True)
class Load:
    """What to run."""

    profile: str
    guests: int
    sidecores: int = 1
    paging: Paging = "shadow"
    poll: Poll = "spin"
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class LoadResults:
    """Medians by guest, of each sidecall; and what happened in each guest's slots."""

    load: Load
    medians: tuple[dict[str, float], ...]
    counts: tuple[SlotCounts, ...]

    @property
    def waiting_cycles(self) -> float:
        """From when a request could be seen until it was, on average."""
        return sum(c.waiting_cycles for c in self.counts) / sum(c.requests for c in self.counts)

    @property
    def waiting_max_cycles(self) -> int:
        """The longest that one waited."""
        return max(c.waiting_max_cycles for c in self.counts)

    def figures(self) -> dict[str, Any]:
        """For a file."""
        return {
            "guests": self.load.guests,
            "sidecores": self.load.sidecores,
            "profile": self.load.profile,
            "medians_cycles": list(self.medians),
            "waiting_cycles": self.waiting_cycles,
            "waiting_max_cycles": self.waiting_max_cycles,
        }


def run_load(load: Load) -> LoadResults:
    """Run all guests to their ends. Raises ConfigError when one does not succeed."""
    if load.guests < 1 or not 1 <= load.sidecores <= load.guests:
        raise ConfigError(f"{load.sidecores} sidecores for {load.guests} guests are not possible; give at most as many")
    core_count = load.guests + load.sidecores
    overrides = (*load.overrides, f"core.core_count={core_count}")
    options = BootOptions(
        image=IMAGE, profile=load.profile, overrides=overrides, paging=load.paging, memory_bytes=GUEST_MEMORY_BYTES
    )
    boot_plan = plan(options)
    memory_bytes = host_memory_bytes([GUEST_MEMORY_BYTES] * load.guests)
    machine = Machine(
        boot_plan.profile, memory_bytes=memory_bytes, pcpu_count=core_count, allowance=boot_plan.allowance
    )
    hypervisor = Hypervisor(machine, paging=load.paging, sidecore_count=load.sidecores, poll=load.poll)
    all_lines = []
    for _ in range(load.guests):
        rounds = Rounds(lambda: Account({}, {}))
        lines = Lines(rounds)
        domain = hypervisor.create_domain(boot_plan.image, memory_bytes=GUEST_MEMORY_BYTES, transmit=lines.transmit)
        domain.board.post.on_code = rounds.mark
        all_lines.append(lines)
    hypervisor.advance(SLICE_CYCLES)
    for domain in hypervisor.domains:
        if domain.end != End(EndKind.DEBUG_EXIT):
            raise ConfigError(f"guest {domain.number} of {load.guests} did not succeed: {domain.end}")
    assert hypervisor.sidecores is not None
    pages = [hypervisor.sidecores.page_of(domain) for domain in hypervisor.domains]
    medians = tuple(_medians(lines.measurements) for lines in all_lines)
    return LoadResults(load, medians, tuple(page.counts for page in pages if page is not None))


def _medians(measurements: Sequence[object]) -> dict[str, float]:
    names = {name for name, _ in CALLS}
    return {row.name: row.median for row in measurements if isinstance(row, Measurement) and row.name in names}


def load_table(all_results: Sequence[LoadResults]) -> tuple[str, "Table"]:
    """A row for each number of guests: latency of the guest that is served best to worst, and the waiting."""
    headings = (*(text for _, text in CALLS), "waits", "at most")
    table = make_table("Guests", "Sidecores", *headings, right=headings)
    for results in all_results:
        cells = []
        for name, _ in CALLS:
            medians = [median[name] for median in results.medians]
            best, worst = cycles_text(min(medians)), cycles_text(max(medians))
            cells.append(best if best == worst else f"{best} .. {worst}")
        waits = (cycles_text(results.waiting_cycles), cycles_text(results.waiting_max_cycles))
        table.add_row(str(results.load.guests), str(results.load.sidecores), *cells, *waits)
    load = all_results[0].load
    title = f"Sidecalls under load on {load.profile}, {load.paging}: median cycles, of the guests served best .. worst"
    return f"{title}\n(waits: until a request that can be seen is seen, average and longest)", table
