"""Figure 1 under load: guests share a sidecore fairly, their waiting is explained, and what cannot be is one line."""

import json
from statistics import mean

import pytest

from benchmarks.fig1.load import CALLS, OPERATION_NAMES, Load, LoadResults, run_load
from benchmarks.fig1.queueing import service_cycles
from benchmarks.fig1.tables import load_table, waiting_table
from emulator.errors import ConfigError
from emulator.profiles.profile import load_profile
from vmm.cost import paths

PROFILE = load_profile("netburst-2006")
POLL_CYCLES = paths.POLL.cycles(PROFILE) + PROFILE.caches.l1d_latency_cycles
NAMES = tuple(name for name, _ in CALLS)


def wait_cycles(results: LoadResults, name: str) -> float:
    return next(row.value for row in results.rows() if (row.metric, row.about.get("sidecall")) == ("wait_mean", name))


def check_fairness(results: LoadResults) -> None:
    """Each guest is served in its turn, and as often as the others."""
    guests = results.load.guests // results.load.sidecores
    for name in NAMES:
        for queue in results.queues(name):
            assert len(queue.guests) == guests
            assert max(wait.passed_over for wait in queue.waits) < guests
            assert min(queue.progress()) > 0.95 * max(queue.progress())
            # Once the sidecore is free it sees a request within a look at each slot.
            assert max(wait.cycles - wait.behind_cycles for wait in queue.waits) <= guests * POLL_CYCLES


def test_two_guests_are_served_alike_and_wait_for_each_other() -> None:
    results = run_load(Load("netburst-2006", guests=2))
    first, second = results.medians
    assert all(first[name] == pytest.approx(second[name], rel=0.05) for name in first)
    check_fairness(results)
    assert max(wait.behind_cycles for name in NAMES for wait in results.waits(name)) > 50  # another was served first
    for name in NAMES:
        requests = [each for served in results.served for each in served if each.operation == OPERATION_NAMES[name]]
        served_cycles = mean(each.ended_cycles - each.began_cycles for each in requests)
        assert sum(results.parts[name].values()) == pytest.approx(served_cycles)  # the ledger, and the clock
    titles = [title for title, _ in (load_table([results]), waiting_table([results]))]
    assert "under load" in titles[0]
    assert "waited for" in titles[1]
    assert load_table([results])[1].row_count == len(NAMES)
    records = json.loads(json.dumps([row.record() for row in results.rows()]))
    assert {row["about"]["sidecall"] for row in records if row["metric"] == "wait_mean"} == set(NAMES)


@pytest.mark.slow
def test_with_two_sidecores_eight_guests_wait_at_most_half_as_long() -> None:
    """N guests that keep a sidecore busy wait (N - 1) S - Z each (S: service, Z: time between answer and request).

    With two sidecores it is (N/2 - 1) S - Z, at most the half; and what is not busy waits less.
    """
    one, two = (run_load(Load("netburst-2006", guests=8, sidecores=count)) for count in (1, 2))
    check_fairness(one)
    check_fairness(two)
    for name in NAMES:
        assert wait_cycles(two, name) < max(wait_cycles(one, name) / 2, 4 * POLL_CYCLES)
    for name in ("null", "cpuid"):
        assert one.queues(name)[0].utilisation > 0.95
        assert wait_cycles(one, name) > 3 * service_cycles(one.waits(name))
        assert wait_cycles(two, name) < wait_cycles(one, name) / 2


def test_more_sidecores_than_guests_are_refused() -> None:
    with pytest.raises(ConfigError, match="3 sidecores for 2 guests"):
        run_load(Load("netburst-2006", guests=2, sidecores=3))
