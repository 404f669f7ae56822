"""What `sidecore bench fig1 --guests N` measures: sidecalls of N guests, each on a core of its own, under load.

    N domains of guest kernel `fig1`, all at once --> latency by guest; how long requests waited (queueing.py)

Every guest runs the same measurements from the same time on, so the sidecore always has as many requests as there are
guests. The machine is the profile's with as many cores as that takes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import mean, median

from benchmarks.fig1.measure import FIGURE, IMAGE
from benchmarks.fig1.queueing import Queue, Wait, percentile, queue_of, service_cycles
from benchmarks.harness.accounts import Account, Rounds
from benchmarks.harness.guest_runs import SLICE_CYCLES, Lines
from benchmarks.harness.parts import PARTS
from benchmarks.harness.results import CYCLES, Fact, Result, Row, Run, spec_of
from emulator.errors import ConfigError
from emulator.ledger import LABELS
from vmm.outcome import End, EndKind
from vmm.session.build import build_host
from vmm.session.plan import plan_host
from vmm.session.spec import GuestSpec, HostSpec, Paging
from vmm.session.virtual_guest import VirtualGuest
from vmm.sidecore.poll import Poll
from vmm.sidecore.service import Sidecore
from vmm.sidecore.slots import Served

GUEST_MEMORY_BYTES = 32 << 20
CALLS = (*((call_name, text) for _, call_name, text in FIGURE), ("pte_change", "changed entry"))
OPERATION_NAMES = {"null": "null", "cpuid": "CPUID", "pte": "PTE set", "pte_change": "PTE change"}
WARM_UP = 50  # requests of each kind that a guest sends before its first round
PERCENTS = (50, 95)
SERVICE_PARTS = {part: PARTS[part] for part in ("line transfers", "VMM software")} | {"IPIs": ("event delivery",)}


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
    """Medians by guest, of each sidecall; and every request, by sidecore and in order of service."""

    load: Load
    medians: tuple[dict[str, float], ...]
    served: tuple[tuple[Served, ...], ...] = field(repr=False)
    parts: Mapping[str, Mapping[str, float]] = field(repr=False)  # of a request, by operation: what sidecores booked
    spec: Mapping[str, Fact] = field(repr=False)

    def queues(self, name: str) -> list[Queue]:
        """How the requests of sidecall `name` waited, at each sidecore."""
        return [queue_of(served, OPERATION_NAMES[name], warm_up=WARM_UP) for served in self.served]

    def waits(self, name: str) -> list[Wait]:
        """The same of all sidecores together."""
        return [wait for queue in self.queues(name) for wait in queue.waits]

    def rows(self) -> list[Result]:
        """For a file: medians by guest, and how the requests of each sidecall waited."""
        medians = [
            Result(self.spec, name, CYCLES, value, about={"guest": guest})
            for guest, by_name in enumerate(self.medians)
            for name, value in by_name.items()
        ]
        return medians + [row for name, _ in CALLS for row in self._waiting_rows(name)]

    def _waiting_rows(self, name: str) -> list[Result]:
        waits, queues = self.waits(name), self.queues(name)
        cycles = [wait.cycles for wait in waits]
        by_guest: dict[int, list[int]] = {wait.request.domain: [] for wait in waits}
        for wait in waits:
            by_guest[wait.request.domain].append(wait.cycles)
        about: dict[str, Fact] = {"sidecall": name}

        def row(metric: str, value: float, unit: str = CYCLES, **more: Fact) -> Result:
            return Result(self.spec, metric, unit, value, about=about | more)

        return [
            *(row("wait_median", median(by_guest[guest]), guest=guest) for guest in sorted(by_guest)),
            *(row("wait_percentile", percentile(cycles, percent), percent=percent) for percent in PERCENTS),
            row("wait_max", max(cycles)),
            row("wait_mean", mean(cycles)),
            row("wait_behind_others", mean(wait.behind_cycles for wait in waits)),
            row("passed_over_max", max(wait.passed_over for wait in waits), "requests"),
            row("service", service_cycles(waits)),
            *(row("service_part", value, part=part) for part, value in self.parts[name].items()),
            *(row("utilisation", queue.utilisation, "ratio", sidecore=number) for number, queue in enumerate(queues)),
            *(
                row("served_when_first_is_done", served, "requests", sidecore=number, place=place)
                for number, queue in enumerate(queues)
                for place, served in enumerate(queue.progress())
            ),
        ]


def loads_of(run: Run, guests: int, sidecores: int) -> list[Load]:
    """One guest alone on the machine of `run`, then all of them."""
    load = Load(run.profile, guests, sidecores, run.paging, run.poll, run.overrides)
    return list(dict.fromkeys((replace(load, guests=1, sidecores=1), load)))


def run_load(load: Load) -> LoadResults:
    """Run all guests to their ends. Raises ConfigError when one does not succeed."""
    if load.guests < 1 or not 1 <= load.sidecores <= load.guests:
        raise ConfigError(f"{load.sidecores} sidecores for {load.guests} guests are not possible; give at most as many")
    core_count = load.guests + load.sidecores
    overrides = (*load.overrides, f"core.core_count={core_count}")
    host = HostSpec(
        profile=load.profile,
        overrides=overrides,
        paging=load.paging,
        sidecore_count=load.sidecores,
        poll=load.poll,
    )
    host_plan = plan_host(host, [GuestSpec(image=IMAGE, memory_bytes=GUEST_MEMORY_BYTES)] * load.guests)
    all_rounds = [Rounds(lambda: Account({}, {})) for _ in host_plan.guests]
    spec = spec_of(host, host_plan.profile.frequency_hz, IMAGE, guests=load.guests)
    all_lines = [Lines(rounds, spec) for rounds in all_rounds]
    guests = build_host(host_plan, [lines.transmit for lines in all_lines])
    for guest, rounds in zip(guests, all_rounds, strict=True):
        guest.board.post.on_code = rounds.mark
    assert isinstance(guests[0], VirtualGuest)
    hypervisor = guests[0].hypervisor
    assert hypervisor.sidecores is not None
    served: list[list[Served]] = [[] for _ in hypervisor.sidecores.cores]
    for core, requests in zip(hypervisor.sidecores.cores, served, strict=True):
        core.requests.on_served = requests.append
    hypervisor.advance(SLICE_CYCLES)
    for domain in hypervisor.domains:
        if domain.end != End(EndKind.DEBUG_EXIT):
            raise ConfigError(f"guest {domain.number} of {load.guests} did not succeed: {domain.end}")
    medians = tuple(_medians(lines.rows) for lines in all_lines)
    parts = {name: _parts(hypervisor.sidecores.cores, served, OPERATION_NAMES[name]) for name, _ in CALLS}
    return LoadResults(load, medians, tuple(map(tuple, served)), parts, spec)


def _parts(cores: Sequence[Sidecore], served: Sequence[Sequence[Served]], operation: str) -> dict[str, float]:
    """What the ledgers of `cores` have of a request for `operation`, by part."""
    count = sum(request.operation == operation for requests in served for request in requests)
    cycles = dict.fromkeys(LABELS, 0)
    for core in cores:
        for (_, activity), account in core.pcpu.clock.book().accounts.items():
            if activity == f"sidecall {operation}":
                cycles = {label: cycles[label] + spent for label, spent in zip(LABELS, account, strict=True)}
    return {part: sum(cycles[label] for label in labels) / count for part, labels in SERVICE_PARTS.items()}


def _medians(rows: Sequence[Row]) -> dict[str, float]:
    return {row.metric: row.value for row in rows if isinstance(row, Result) and row.metric in dict(CALLS)}
