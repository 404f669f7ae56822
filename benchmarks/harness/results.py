"""What a benchmark's guest is run on, and what comes of it: nothing here runs anything.

    Run --guest_runs.py--> Results: rows of one schema      Result(spec, metric, unit, value, spread, account)

Whatever a benchmark measures is a row: tables, plots and files (outputs.py) are made from rows.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from benchmarks.harness.accounts import Account
from benchmarks.harness.measurements import Measurement, Unavailable
from emulator.timing.fidelity import Fidelity
from vmm.session.spec import GuestSpec, HostSpec, Paging
from vmm.sidecore.poll import Poll

Fact = str | int | float | bool
CYCLES = "cycles"
PARAMETER_NAMES = {  # of what guests measure, by the guest's name
    "load_latency": ("size_bytes", "stride_bytes"),
    "page_latency": ("pages",),
    "read_bandwidth": ("size_bytes",),
    "write_bandwidth": ("size_bytes",),
    "copy_bandwidth": ("size_bytes",),
    "ctx": ("laps",),
    "ctx_exit": ("laps",),
}


@dataclass(frozen=True)
class Spread:
    """The samples of a value, ascending; each is the mean of `operations`."""

    samples: tuple[float, ...] = ()
    operations: int = 1

    @property
    def quartiles(self) -> tuple[float, float]:
        """The quarter of the samples that is lowest lies below the first, the highest above the second."""
        rank = (len(self.samples) - 1) // 4
        return self.samples[rank], self.samples[-1 - rank]


@dataclass(frozen=True)
class Result:
    """One value of one metric. `about` tells it from others of the same metric, and says what else is known of it."""

    spec: Mapping[str, Fact] = field(repr=False)  # what was measured: names and values of specs, the clock
    metric: str
    unit: str
    value: float
    spread: Spread = field(default=Spread(), repr=False)
    account: Account = field(default=Account({}, {}), repr=False)  # where the cycles went
    about: Mapping[str, Fact] = field(default_factory=dict)

    @property
    def parameters(self) -> tuple[int, ...]:
        """What the guest was told, in its order."""
        return tuple(int(self.about[name]) for name in PARAMETER_NAMES.get(self.metric, ()))

    def record(self) -> dict[str, object]:
        """The row in a file."""
        found: dict[str, object] = {"spec": dict(self.spec), "metric": self.metric, "unit": self.unit}
        found |= {"value": self.value, "about": dict(self.about)}
        if self.spread.samples:
            low, high = self.spread.quartiles
            samples = self.spread.samples
            spread = {"min": samples[0], "q1": low, "q3": high, "max": samples[-1], "samples": list(samples)}
            found["spread"] = spread | {"operations_per_sample": self.spread.operations}
        if self.account.cycles or self.account.exits:
            found["account"] = {"cycles": dict(self.account.cycles), "exits": dict(self.account.exits)}
        return found


@dataclass(frozen=True)
class Missing:
    """A metric that the machine does not allow."""

    spec: Mapping[str, Fact] = field(repr=False)
    metric: str
    reason: str

    def record(self) -> dict[str, object]:
        """The row in a file."""
        about = {"unavailable": self.reason}
        return {"spec": dict(self.spec), "metric": self.metric, "unit": CYCLES, "value": None, "about": about}


Row = Result | Missing


@dataclass(frozen=True)
class Run:
    """What to run."""

    image: str
    profile: str
    paging: Paging
    timing: Fidelity
    overrides: tuple[str, ...] = ()
    has_sidecore: bool = False
    poll: Poll = "spin"  # how the sidecore waits

    @property
    def host(self) -> HostSpec:
        """The machine. Raises ConfigError."""
        return HostSpec(
            profile=self.profile,
            overrides=self.overrides,
            paging=self.paging,
            timing=self.timing,
            sidecore_count=int(self.has_sidecore),
            poll=self.poll,
        )

    @property
    def guest(self) -> GuestSpec:
        """The guest."""
        return GuestSpec(image=self.image)

    def __str__(self) -> str:
        return f"{self.image} on {self.profile}, {self.paging}, {self.timing} timing"


def spec_of(host: HostSpec, frequency_hz: int, image: str, **more: Fact) -> dict[str, Fact]:
    """What identifies rows of a guest on a host, by the names of the specs' fields."""
    return {
        "image": image,
        "profile": host.profile,
        "overrides": " ".join(host.overrides),
        "paging": host.paging,
        "timing": host.timing,
        "sidecore_count": host.sidecore_count,
        "poll": host.poll,
        "frequency_hz": frequency_hz,
        **more,
    }


def row_of(spec: Mapping[str, Fact], measurement: Measurement, account: Account) -> Result:
    """What a guest measured, and where the cycles went as the ledger has it."""
    names = PARAMETER_NAMES.get(measurement.name, ())
    return Result(
        spec,
        measurement.name,
        CYCLES,
        measurement.median,
        Spread(measurement.samples, measurement.operations),
        account,
        dict(zip(names, measurement.parameters, strict=True)),
    )


def missing_of(spec: Mapping[str, Fact], unavailable: Unavailable) -> Missing:
    """What a guest could not measure."""
    return Missing(spec, unavailable.name, unavailable.reason)


@dataclass(frozen=True)
class Results:
    """What the guest measured, in its order."""

    run: Run
    frequency_hz: int
    rows: tuple[Row, ...]

    @property
    def measured(self) -> list[Result]:
        """The rows without those that the machine does not allow."""
        return [row for row in self.rows if isinstance(row, Result)]

    def named(self, name: str) -> Iterator[Result]:
        """The rows of metric `name`, which differ in their parameters."""
        return (row for row in self.measured if row.metric == name)

    def by_name(self) -> dict[str, Result]:
        """What was measured, of a guest whose names are all different."""
        return {row.metric: row for row in self.measured}
