"""What a benchmark's guest is run on, and what comes of it: nothing here runs anything."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

from benchmarks.harness.accounts import Account
from benchmarks.harness.measurements import Measurement, Unavailable
from emulator.timing.fidelity import Fidelity
from vmm.session.spec import Paging
from vmm.sidecore.poll import Poll


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

    def __str__(self) -> str:
        return f"{self.image} on {self.profile}, {self.paging}, {self.timing} timing"


class RunFigures(TypedDict):
    """A run in a file: what identifies it. Each benchmark adds what it measured."""

    profile: str
    overrides: list[str]
    paging: str
    timing: str
    frequency_hz: int


class BenchmarkFigures(TypedDict):
    """The file of a benchmark that runs a guest."""

    benchmark: str
    runs: Sequence[RunFigures]


@dataclass(frozen=True)
class Measured:
    """One operation: what the guest measured, and where the cycles went as the ledger has it."""

    measurement: Measurement
    account: Account = field(repr=False)

    @property
    def median(self) -> float:
        """Cycles of one operation, as the guest measured them."""
        return self.measurement.median


@dataclass(frozen=True)
class Results:
    """What the guest measured, in its order."""

    run: Run
    frequency_hz: int
    rows: tuple[Measured | Unavailable, ...]

    @property
    def measured(self) -> list[Measured]:
        """The rows without those that the machine does not allow."""
        return [row for row in self.rows if isinstance(row, Measured)]

    def figures(self) -> RunFigures:
        """What identifies the run, for a file."""
        run = self.run
        return {
            "profile": run.profile,
            "overrides": list(run.overrides),
            "paging": run.paging,
            "timing": run.timing,
            "frequency_hz": self.frequency_hz,
        }

    def named(self, name: str) -> Iterator[Measurement]:
        """The measurements called `name`, which differ in their parameters."""
        return (row.measurement for row in self.measured if row.measurement.name == name)

    def by_name(self) -> dict[str, Measured]:
        """What was measured, of a guest whose names are all different."""
        return {row.measurement.name: row for row in self.measured}
