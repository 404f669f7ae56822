"""The same operation by VM exit and by sidecall, as the paper's figures compare them.

    Results of one machine --by the benchmark, which knows the guest's names--> Comparison(results, (Pair, ...))

Both ways are measured in one run of one guest. What each consists of is in parts.py.
"""

from dataclasses import dataclass

from benchmarks.harness.results import Result, Results

EXIT_SUFFIX = "_exit"  # of the guest's name for what it measures by VM exit


@dataclass(frozen=True)
class Pair:
    """One operation, both ways."""

    key: str  # what files call it
    text: str  # what people call it
    exit: Result
    sidecall: Result

    @property
    def sides(self) -> tuple[Result, Result]:
        """In the order in which they are shown."""
        return self.exit, self.sidecall

    @property
    def saved_cycles(self) -> float:
        """What the sidecall takes less; below 0: more."""
        return self.exit.value - self.sidecall.value

    @property
    def improvement(self) -> float:
        """By which part the sidecall is faster; below 0: it is slower."""
        return 1 - self.sidecall.value / self.exit.value

    def rows(self) -> list[Result]:
        """What is compared, with what a sidecall gains."""
        about = {"exit": self.exit.metric, "sidecall": self.sidecall.metric, **self.exit.about}
        return [Result(self.exit.spec, "improvement", "ratio", self.improvement, about=about)]


@dataclass(frozen=True)
class Comparison:
    """What was measured both ways on one machine."""

    results: Results
    pairs: tuple[Pair, ...]

    def pair(self, key: str) -> Pair:
        """The one called `key`."""
        return next(pair for pair in self.pairs if pair.key == key)

    def rows(self) -> list[Result]:
        """Both ways of each pair, and what it gains."""
        sides = [side for pair in self.pairs for side in pair.sides]
        once = [side for number, side in enumerate(sides) if side not in sides[:number]]
        return [*once, *(row for pair in self.pairs for row in pair.rows())]
