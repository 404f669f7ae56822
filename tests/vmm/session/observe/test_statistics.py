"""Claims about exit statistics: exact while there are few different values, within a bucket and bounded after that."""

import random

import pytest

from emulator.vmx.exit_reasons import ExitReason
from tests.vmm.fakes import exited_vcpu
from vmm.session.observe.statistics import VALUES_MAX, Distribution, ExitStatistics, bucket_of
from vmm.vcpu import Exit


def nearest_rank(ordered: list[int], percent: int) -> int:
    """The definition: the smallest sample that at least `percent` % of the samples do not exceed."""
    return next(v for i, v in enumerate(ordered) if (i + 1) * 100 >= percent * len(ordered))


def distribution_of(values: list[int]) -> Distribution:
    distribution = Distribution()
    for value in values:
        distribution.add(value)
    return distribution


@pytest.mark.parametrize("count", [1, 2, 3, 9, 10, 11, 99, 100, 101, 1000])
def test_percentiles_of_few_values_are_those_of_the_sorted_list(count: int) -> None:
    seed = 1000 + count
    rng = random.Random(seed)
    values = [rng.choice((3, 7, 40, 4821, 4821, 10**9)) + rng.randrange(50) for _ in range(count)]
    stats, ordered = distribution_of(values).stats(), sorted(values)
    for percent in (50, 90, 99):
        assert stats[f"p{percent}_cycles"] == nearest_rank(ordered, percent), f"seed {seed}"  # type: ignore[literal-required]
    assert (stats["count"], stats["cycles"], stats["min_cycles"], stats["max_cycles"]) == (
        count, sum(values), ordered[0], ordered[-1],
    )  # fmt: skip
    assert stats["avg_cycles"] == sum(values) / count


def test_many_values_take_bounded_memory_and_percentiles_err_by_a_bucket_at_most() -> None:
    seed = 4
    rng = random.Random(seed)
    values = [int(rng.lognormvariate(9, 2)) for _ in range(10 * VALUES_MAX)]
    assert len(set(values)) > 3 * VALUES_MAX
    distribution = distribution_of(values)
    stats, ordered = distribution.stats(), sorted(values)
    for percent in (50, 90, 99):
        exact, got = nearest_rank(ordered, percent), stats[f"p{percent}_cycles"]  # type: ignore[literal-required]
        assert bucket_of(exact) <= got <= exact, f"seed {seed}"
    assert (stats["count"], stats["cycles"], stats["min_cycles"], stats["max_cycles"]) == (
        len(values), sum(values), ordered[0], ordered[-1],
    )  # fmt: skip
    assert len(distribution.counts) <= VALUES_MAX
    assert len(distribution._buckets) < 64 * 64


def test_one_value_more_than_the_limit_merges_and_not_one_less() -> None:
    values = [1001 * n for n in range(1, VALUES_MAX + 1)]
    at_the_limit = distribution_of(values)
    assert at_the_limit.stats()["p50_cycles"] == 1001 * VALUES_MAX // 2
    at_the_limit.add(1001 * (VALUES_MAX + 1))
    assert at_the_limit.stats()["p50_cycles"] == bucket_of(1001 * (VALUES_MAX // 2 + 1))


def test_a_bucket_is_at_most_a_64th_of_its_values_wide() -> None:
    for value in (*range(2000), 4095, 4096, 10**6, 10**9 + 7, (1 << 63) - 1):
        assert bucket_of(value) <= value
        assert value - bucket_of(value) <= value // 64
        assert bucket_of(bucket_of(value)) == bucket_of(value)
    assert [bucket_of(value) for value in range(128)] == list(range(128))


def test_asking_changes_nothing() -> None:
    values = [7 * n * n for n in range(2 * VALUES_MAX)]
    asked = Distribution()
    for value in values:
        asked.add(value)
        if value % 5003 == 0:
            first = asked.stats()
            assert asked.stats() == first
    assert asked.stats() == distribution_of(values).stats()


def test_a_percentile_is_never_below_the_least_sample() -> None:
    assert distribution_of([100_003 + n for n in range(VALUES_MAX + 1)]).stats()["p50_cycles"] >= 100_003


def test_reasons_are_apart_and_named_and_so_are_domains() -> None:
    statistics, first, second = ExitStatistics(), exited_vcpu(domain=0), exited_vcpu(domain=1)
    for reason, cycles in ((ExitReason.CPUID, 40), (ExitReason.HLT, 7), (ExitReason.CPUID, 3)):
        statistics.exit_ended(first, Exit(reason, 0, 0), cycles)
    statistics.exit_ended(second, Exit(ExitReason.HLT, 0, 0), 1)
    assert list(statistics.table(second.domain)) == ["HLT"]
    table = statistics.table(first.domain)
    assert list(table) == ["CPUID", "HLT"]
    assert (table["CPUID"]["count"], table["CPUID"]["cycles"], table["HLT"]["cycles"]) == (2, 43, 7)
