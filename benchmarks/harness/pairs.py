"""The same operation by VM exit and by sidecall, as the paper's figures compare them.

    Results of one machine --by the benchmark, which knows the guest's names--> Comparison(results, (Pair, ...))

Both ways are measured in one run of one guest. What each consists of is in parts.py.
"""

from dataclasses import dataclass
from typing import TypedDict

from benchmarks.harness.measurements import Statistics
from benchmarks.harness.parts import parts, served_parts
from benchmarks.harness.results import Measured, Results, RunFigures

EXIT_SUFFIX = "_exit"  # of the guest's name for what it measures by VM exit


class SideFigures(Statistics):
    """One way in a file; what the sidecore did is of a sidecall, and 0 of a VM exit."""

    parts_cycles: dict[str, float]
    sidecore_cycles: dict[str, float]
    exits: dict[str, float]


class PairFigures(TypedDict):
    """A pair in a file."""

    exit: SideFigures
    sidecall: SideFigures
    improvement: float


class ComparisonFigures(RunFigures):
    """What identifies a run with a sidecore, in a file."""

    poll: str


@dataclass(frozen=True)
class Pair:
    """One operation, both ways."""

    key: str  # what files call it
    text: str  # what people call it
    exit: Measured
    sidecall: Measured

    @property
    def sides(self) -> tuple[Measured, Measured]:
        """In the order in which they are shown."""
        return self.exit, self.sidecall

    @property
    def saved_cycles(self) -> float:
        """What the sidecall takes less; below 0: more."""
        return self.exit.median - self.sidecall.median

    @property
    def improvement(self) -> float:
        """By which part the sidecall is faster; below 0: it is slower."""
        return 1 - self.sidecall.median / self.exit.median

    def figures(self, frequency_hz: int) -> PairFigures:
        """All of it for a file."""
        exit_figures, call_figures = (_side_figures(side, frequency_hz) for side in self.sides)
        return {"exit": exit_figures, "sidecall": call_figures, "improvement": self.improvement}


def _side_figures(side: Measured, frequency_hz: int) -> SideFigures:
    return {
        **side.measurement.statistics(frequency_hz),
        "parts_cycles": parts(side.account),
        "sidecore_cycles": served_parts(side.account),
        "exits": dict(side.account.exits),
    }


@dataclass(frozen=True)
class Comparison:
    """What was measured both ways on one machine."""

    results: Results
    pairs: tuple[Pair, ...]

    def pair(self, key: str) -> Pair:
        """The one called `key`."""
        return next(pair for pair in self.pairs if pair.key == key)

    def figures(self) -> ComparisonFigures:
        """What identifies the run, for a file."""
        return {**self.results.figures(), "poll": self.results.run.poll}

    def pair_figures(self) -> dict[str, PairFigures]:
        """The pairs for a file, by key."""
        return {pair.key: pair.figures(self.results.frequency_hz) for pair in self.pairs}
