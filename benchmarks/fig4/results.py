"""What a point of Figure 4 measured: round trips of all flows, and of each host what its signals and cores did."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from benchmarks.fig4.setup import Setup
from benchmarks.harness.accounts import Account
from benchmarks.harness.measurements import nanoseconds
from benchmarks.harness.results import CYCLES, Fact, Result, Spread

COUNTED = ("packets", "signals", "redundant_signals", "redundant_schedulings", "drops")
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


@dataclass(frozen=True)
class HostFigures:
    """One host, from power-on to the end; `core_use` has the shares of each core's time by use."""

    packets: int  # that its guests have received
    signals: int
    redundant_signals: int  # to guests for which nothing had come
    redundant_schedulings: int  # of guests, because of these
    drops: int
    core_use: tuple[Mapping[str, float], ...] = field(repr=False)

    @property
    def redundant_per_packet(self) -> float:
        """Redundant signals for each packet."""
        return self.redundant_signals / self.packets if self.packets else 0.0

    @property
    def schedulings_per_packet(self) -> float:
        """Guests scheduled for nothing, for each packet."""
        return self.redundant_schedulings / self.packets if self.packets else 0.0


@dataclass(frozen=True)
class PointResult:
    """`samples` are cycles of the clients' clock, by flow; `hops_ns` sums to their mean."""

    setup: Setup
    frequency_hz: int
    samples: tuple[tuple[int, ...], ...] = field(repr=False)
    lost: int
    hosts: tuple[HostFigures, HostFigures]
    hops_ns: Mapping[str, float] = field(repr=False)
    emulated_seconds: float
    phase_medians_us: tuple[float, ...] = ()  # of each starting phase, when several are pooled

    @property
    def pooled(self) -> tuple[int, ...]:
        """All samples, ascending."""
        return tuple(sorted(sample for flow in self.samples for sample in flow))

    def quantile_us(self, part: float) -> float:
        """The smallest of all samples that so much of them do not exceed, in microseconds."""
        return nanoseconds(quantile(self.pooled, part), self.frequency_hz) / 1000

    @property
    def median_us(self) -> float:
        """Of all samples of all flows, as the paper pools them."""
        return self.quantile_us(0.5)

    @property
    def range_us(self) -> float:
        """The inter-quartile range."""
        return self.quantile_us(0.75) - self.quantile_us(0.25)

    @property
    def mean_us(self) -> float:
        """The average round trip."""
        return nanoseconds(sum(self.pooled) / len(self.pooled), self.frequency_hz) / 1000

    def rows(self) -> list[Result]:
        """For a file."""
        spec: dict[str, Fact] = {**self.setup.facts(), "frequency_hz": self.frequency_hz}
        pooled = tuple(float(sample) for sample in self.pooled)
        rows = [Result(spec, "round_trip", CYCLES, quantile(pooled, 0.5), Spread(pooled))]
        rows += [Result(spec, "quantile", "us", self.quantile_us(part), about={"part": part}) for part in QUANTILES]
        rows += [
            Result(spec, "flow_median", CYCLES, quantile(sorted(flow), 0.5), about={"flow": number})
            for number, flow in enumerate(self.samples)
            if flow
        ]
        rows += [Result(spec, "hop", "ns", spent_ns, about={"hop": hop}) for hop, spent_ns in self.hops_ns.items()]
        rows.append(Result(spec, "lost", "probes", self.lost))
        for host, figures in enumerate(self.hosts):
            rows += _host_rows(spec, host, figures)
        return rows


def _host_rows(spec: Mapping[str, Fact], host: int, figures: HostFigures) -> list[Result]:
    about: dict[str, Fact] = {"host": host + 1}
    rows = [Result(spec, name, "events", getattr(figures, name), about=about) for name in COUNTED]
    rows += [
        Result(
            spec, "core_use", "ratio", sum(shares.values()), account=Account(shares, {}), about={**about, "core": core}
        )
        for core, shares in enumerate(figures.core_use)
    ]
    return rows


def pool(results: Sequence[PointResult]) -> PointResult:
    """One of runs that differ in the phase of their flows alone: all samples, all counts, averages of the others."""
    first, count = results[0], len(results)
    if count == 1:
        return first
    hops = dict.fromkeys(hop for result in results for hop in result.hops_ns)
    weights = [len(result.pooled) for result in results]
    return replace(
        first,
        samples=tuple(flow for result in results for flow in result.samples),
        lost=sum(result.lost for result in results),
        hosts=(_pool_hosts([r.hosts[0] for r in results]), _pool_hosts([r.hosts[1] for r in results])),
        hops_ns={
            hop: sum(r.hops_ns.get(hop, 0.0) * weight for r, weight in zip(results, weights, strict=True))
            / sum(weights)
            for hop in hops
        },
        emulated_seconds=sum(result.emulated_seconds for result in results),
        phase_medians_us=tuple(result.median_us for result in results),
    )


def _pool_hosts(figures: Sequence[HostFigures]) -> HostFigures:
    counts: dict[str, int] = {name: sum(getattr(each, name) for each in figures) for name in COUNTED}
    cores = zip(*(each.core_use for each in figures), strict=True)
    uses = tuple({use: sum(core[use] for core in same) / len(same) for use in same[0]} for same in cores)
    return HostFigures(**counts, core_use=uses)


def quantile(ordered: Sequence[float], part: float) -> float:
    """The smallest of ascending values that the part of all does not exceed."""
    if not ordered:
        return 0.0
    return ordered[max(0, min(len(ordered) - 1, -(-int(len(ordered) * part * 10**6) // 10**6) - 1))]


def pairs_of(results: Sequence[PointResult]) -> list[tuple[PointResult, PointResult]]:
    """(without, with a sidecore) of points that are the same otherwise, in order."""
    with_one = {_key(result.setup): result for result in results if result.setup.sidecores}
    return [
        (result, with_one[_key(result.setup)])
        for result in results
        if not result.setup.sidecores and _key(result.setup) in with_one
    ]


def _key(setup: Setup) -> tuple[Fact, ...]:
    """What two points that are compared have in common."""
    left_out = ("sidecores", "poll", "fourth_runs_guests", "interrupt_core", "signal")
    return tuple(value for name, value in setup.facts().items() if name not in left_out)
