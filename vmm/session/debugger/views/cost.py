"""What an exit costs: its charges with their sources and the running sum, and where it lies among those of its kind."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from emulator.ledger import LABELS
from emulator.profiles.profile import Profile
from vmm.cost.meter import Charge
from vmm.session.debugger.views.values import COLUMNS, View, cut, lines_text, wrapped
from vmm.session.report.explain_table import source_texts

BUCKETS_MAX = 12
CATEGORY_COLUMNS, NUMBER_COLUMNS = 16, 9
WHAT_COLUMNS = COLUMNS - CATEGORY_COLUMNS - 2 * NUMBER_COLUMNS - 8
BAR_COLUMNS = 40


@dataclass(frozen=True)
class CostLine:
    """A charge. `sources` are numbers of the list of sources, from 1."""

    category: str
    what: str
    cycles: int
    sum_cycles: int
    parameter: str
    sources: tuple[int, ...]


@dataclass(frozen=True)
class Bucket:
    """How many exits took from `low_cycles` up to, not including, `high_cycles`."""

    low_cycles: int
    high_cycles: int
    count: int


@dataclass(frozen=True)
class Cost(View):
    """The account of an exit so far, and the exits of its kind before."""

    lines: tuple[CostLine, ...]
    cycles: int
    sources: tuple[str, ...]
    histogram: tuple[Bucket, ...]

    def text(self) -> str:
        """A line for each charge, the sources, the histogram."""
        lines = []
        for line in self.lines:
            marks = ",".join(map(str, line.sources))
            what = cut(line.what, WHAT_COLUMNS)
            numbers = f"{line.cycles:>{NUMBER_COLUMNS},}{line.sum_cycles:>{NUMBER_COLUMNS},}"
            lines.append(
                f"{cut(line.category, CATEGORY_COLUMNS - 1):<{CATEGORY_COLUMNS}}{what:<{WHAT_COLUMNS}}{numbers}"
                + (f" [{marks}]" if marks else "")
            )
        lines.append(f"{self.cycles:,} cycles")
        for number, source in enumerate(self.sources, 1):
            lines += wrapped(f"[{number}]", source.split(), indent=5)
        return lines_text(lines + histogram_lines(self.histogram, self.cycles))


def cost(charges: Sequence[Charge], profile: Profile, costs: Iterable[int] = ()) -> Cost:
    """The charges of an exit, and the cycles of those of its kind before, in any order."""
    sources: dict[str, int] = {}
    lines, total = [], 0
    for charge in charges:
        total += charge.cycles
        numbers = tuple(sources.setdefault(text, len(sources) + 1) for text in source_texts(charge, profile))
        category = LABELS[charge.category]
        lines.append(CostLine(category, charge.what, charge.cycles, total, charge.parameter, numbers))
    return Cost(tuple(lines), total, tuple(sources), histogram(costs))


def histogram(costs: Iterable[int]) -> tuple[Bucket, ...]:
    """Costs in at most BUCKETS_MAX buckets, of the same width, a power of two."""
    values = sorted(costs)
    if not values:
        return ()
    width = 1
    while values[-1] // width - values[0] // width >= BUCKETS_MAX:
        width *= 2
    counts: dict[int, int] = {}
    for value in values:
        counts[value // width] = counts.get(value // width, 0) + 1
    numbers = range(values[0] // width, values[-1] // width + 1)
    return tuple(Bucket(number * width, (number + 1) * width, counts.get(number, 0)) for number in numbers)


def histogram_lines(buckets: Sequence[Bucket], cycles: int) -> list[str]:
    """A bar for each bucket, and a mark at the one that `cycles` lie in."""
    most = max((bucket.count for bucket in buckets), default=0)
    lines = ["", f"the {sum(bucket.count for bucket in buckets):,} of its kind before, by cycles:"] if buckets else []
    for bucket in buckets:
        bar = "#" * -(-bucket.count * BAR_COLUMNS // most)
        mark = " <-" if bucket.low_cycles <= cycles < bucket.high_cycles else ""
        lines.append(f"{bucket.low_cycles:>13,} {bucket.count:>9,} {bar}{mark}")
    return lines
