"""A round trip is split where its stamps are; what belongs to no probe of the flow changes nothing."""

import pytest

from benchmarks.fig4.hops import CHAIN, CLIENT, ENDS, SERVER, FlowHops, HostStamps, mean_hops_ns


def run_trip(flow: FlowHops, start_ps: int = 0, step_ps: int = 1000, left_out: tuple[str, ...] = ()) -> int:
    now_ps = start_ps
    for step in CHAIN:
        if step.stamp not in left_out:
            flow.stamp(step.host, step.stamp, now_ps)
        now_ps += step_ps
    return now_ps


def test_hops_sum_to_the_round_trip() -> None:
    flow = FlowHops(skipped=0, counted=9)
    run_trip(flow)
    assert flow.trips == 1
    assert flow.total_ps == sum(flow.sums_ps.values()) == 1000 * (len(CHAIN) - 1)
    hops = mean_hops_ns([flow], 40.0)
    assert sum(hops.values()) == pytest.approx(40.0)
    assert hops[ENDS] == pytest.approx(40.0 - (len(CHAIN) - 1))


def test_a_place_that_is_not_passed_leaves_its_time_to_the_next() -> None:
    flow = FlowHops(skipped=0, counted=9)
    run_trip(flow, left_out=("signalled", "taken", "upcalled", "scheduled", "injected"))
    assert flow.trips == 1
    assert "inject" not in flow.sums_ps
    assert flow.sums_ps["guest's interrupt and driver"] == 2 * 6000


def test_stamps_of_signals_for_others_are_left_alone() -> None:
    flow, noisy = FlowHops(skipped=0, counted=9), FlowHops(skipped=0, counted=9)
    run_trip(flow)
    now_ps = 0
    for step in CHAIN:
        noisy.stamp(step.host, step.stamp, now_ps)
        if step.stamp in ("posted", "sent"):  # the guest is woken for nothing meanwhile
            for name in ("signalled", "taken", "upcalled", "scheduled", "injected"):
                noisy.stamp(CLIENT, name, now_ps + 1)
                noisy.stamp(SERVER, name, now_ps + 1)
        now_ps += 1000
    assert noisy.sums_ps == flow.sums_ps


def test_round_trips_behind_those_that_count_are_left_out() -> None:
    flow, longer = FlowHops(skipped=1, counted=2), FlowHops(skipped=1, counted=3)
    now_ps = 0
    for step_ps in (7000, 1000, 1000, 40_000):
        for each in (flow, longer):
            end_ps = run_trip(each, now_ps, step_ps)
        now_ps = end_ps
    assert (flow.trips, longer.trips) == (2, 3)
    assert flow.total_ps == sum(flow.sums_ps.values()) == 2 * 1000 * (len(CHAIN) - 1)


def test_round_trips_of_the_warm_up_are_not_counted_and_flows_are_kept_apart() -> None:
    flows = [FlowHops(skipped=1, counted=9), FlowHops(skipped=0, counted=9)]
    hosts = [HostStamps(CLIENT, flows), HostStamps(SERVER, flows)]
    for start_ps in (0, 10**6):
        for place, step in enumerate(CHAIN):
            hosts[step.host].stamp(0, step.stamp, start_ps + 1000 * place)
    hosts[CLIENT].stamp(2, "posted", 0)  # a VIF of no flow
    assert [flow.trips for flow in flows] == [1, 0]
    carried = FlowHops(skipped=0, counted=9)
    hosts = [HostStamps(host, [carried], first=1) for host in (CLIENT, SERVER)]
    for place, step in enumerate(CHAIN):
        hosts[step.host].stamp(0, step.stamp, 1000 * place)  # of the domain that carries the frames
        hosts[step.host].stamp(1, step.stamp, 2000 * place)
    assert (carried.trips, carried.total_ps) == (1, 2000 * (len(CHAIN) - 1))
    assert mean_hops_ns(flows[1:], 1.0) == {}
