"""Statistics of VM exits by reason, from the start of an exit to the next entry (as `perf kvm stat` has them).

    add(cycles) --> counts by value --more than VALUES_MAX different values--> counts by bucket (log-linear)

Few values are kept as they are, so percentiles are exact; many are merged into buckets 1/64 wide or narrower, of which
the smallest value stands for all. Count, sum, least and most are always exact, and memory is bounded.
"""

from emulator.vmx.exit_reasons import name
from vmm.domain import Domain
from vmm.exits.observer import ExitObserver
from vmm.session.stats import ExitStats
from vmm.vcpu import Exit, VCpu

VALUES_MAX = 4096
BUCKET_BITS = 7  # of a value that are kept: a bucket is 2^-6 to 2^-7 of its values wide
REASON_BITS = 16  # of an exit reason
PERCENTS = (50, 90, 99)


class Distribution:
    """Samples of one quantity: whole numbers from 0."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}  # by value, of the samples since the last merge
        self._buckets: dict[int, int] = {}  # by smallest value
        self._bucket_sum = 0  # of the samples in buckets
        self._bucket_limits: tuple[int, ...] = ()  # their least and most

    def add(self, value: int) -> None:
        """One sample."""
        counts = self.counts
        if value in counts:
            counts[value] += 1
        else:
            counts[value] = 1
            if len(counts) > VALUES_MAX:
                self._merge()

    def _merge(self) -> None:
        self._bucket_sum, *limits = self._totals()
        self._bucket_limits = tuple(limits)
        for value, count in self.counts.items():
            bucket = bucket_of(value)
            self._buckets[bucket] = self._buckets.get(bucket, 0) + count
        self.counts.clear()

    def _totals(self) -> tuple[int, int, int]:
        """Sum, least and most of all samples; there must be one."""
        total = self._bucket_sum + sum(value * count for value, count in self.counts.items())
        seen = (*self.counts, *self._bucket_limits)
        return total, min(seen), max(seen)

    def stats(self) -> ExitStats:
        """All figures; there must be a sample. A percentile is the least value that so many samples do not exceed."""
        total, least, most = self._totals()
        counts = dict(self.counts)
        if self._buckets:
            counts = dict(self._buckets)
            for value, count in self.counts.items():
                counts[bucket_of(value)] = counts.get(bucket_of(value), 0) + count
        count = sum(counts.values())
        p50, p90, p99 = (max(least, _percentile(counts, -(-count * percent // 100))) for percent in PERCENTS)
        return {
            "count": count, "cycles": total, "min_cycles": least, "max_cycles": most, "avg_cycles": total / count,
            "p50_cycles": p50, "p90_cycles": p90, "p99_cycles": p99,
        }  # fmt: skip


def bucket_of(value: int) -> int:
    """The smallest value of `value`'s bucket: all but its BUCKET_BITS most significant bits cleared."""
    shift = max(0, value.bit_length() - BUCKET_BITS)
    return value >> shift << shift


def _percentile(counts: dict[int, int], rank: int) -> int:
    """The `rank`-th smallest sample."""
    seen = 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= rank:
            return value
    raise AssertionError("there are fewer samples")


class ExitStatistics(ExitObserver):
    """Per domain and exit reason: the cycles outside the guest."""

    def __init__(self) -> None:
        self._rows: dict[int, Distribution] = {}  # by number of the domain << REASON_BITS | reason

    def exit_ended(self, vcpu: VCpu, exit: Exit, cycles: int) -> None:
        """Book one exit."""
        key = vcpu.domain.number << REASON_BITS | exit.reason
        try:
            row = self._rows[key]
        except KeyError:
            row = self._rows[key] = Distribution()
        counts = row.counts
        if cycles in counts:  # most exits: Distribution.add without the call
            counts[cycles] += 1
        else:
            row.add(cycles)

    def table(self, domain: Domain) -> dict[str, ExitStats]:
        """The statistics of a domain by name of the reason."""
        rows = {key: row for key, row in sorted(self._rows.items()) if key >> REASON_BITS == domain.number}
        return {name(key & (1 << REASON_BITS) - 1): row.stats() for key, row in rows.items()}
