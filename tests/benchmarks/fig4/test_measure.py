"""A point of Figure 4: what has to hold whatever the model costs. The register has one bit, so few guests share it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.cli import cli
from benchmarks.fig4.isolation import isolation_ways, measure_one
from benchmarks.fig4.measure import measure_point
from benchmarks.fig4.results import PointResult
from benchmarks.fig4.setup import Carrier, Setup

SHARED = Setup(guests=3, probes=20, warm_up=3, identifier_bits=1)


@pytest.fixture(scope="module")
def shared() -> PointResult:
    return measure_point(SHARED)


def redundant(result: PointResult) -> list[int]:
    return [figures.redundant_signals for figures in result.hosts]


def test_every_flow_has_all_its_round_trips_and_hops_that_sum_to_them(shared: PointResult) -> None:
    assert [len(flow) for flow in shared.samples] == [SHARED.probes] * SHARED.guests
    assert shared.lost == 0
    assert sum(shared.hops_ns.values()) == pytest.approx(1000 * shared.mean_us)
    assert all(spent_ns > 0 for hop, spent_ns in shared.hops_ns.items() if hop not in ("inject", "schedule"))


def test_guests_that_share_a_bit_are_signalled_for_each_other_and_not_more_often_than_that(shared: PointResult) -> None:
    for figures in shared.hosts:
        assert 0 < figures.redundant_schedulings <= figures.redundant_signals < figures.signals
        assert figures.redundant_signals <= (SHARED.guests - 1) * figures.packets


def test_a_bit_for_each_guest_or_a_sidecore_leaves_no_redundant_signal() -> None:
    assert redundant(measure_point(replace(SHARED, identifier_bits=3))) == [0, 0]
    assert redundant(measure_point(replace(SHARED, sidecores=1))) == [0, 0]


@pytest.mark.parametrize("carrier", ["stub", "shared stub"])
def test_a_stub_domain_carries_all_frames_and_takes_longer_than_the_nic(carrier: Carrier, shared: PointResult) -> None:
    carried = measure_point(replace(SHARED, carrier=carrier))
    assert [len(flow) for flow in carried.samples] == [SHARED.probes] * SHARED.guests
    assert carried.lost == 0
    assert carried.median_us > shared.median_us
    assert sum(carried.hops_ns.values()) == pytest.approx(1000 * carried.mean_us)


def test_a_point_is_the_same_each_time(shared: PointResult) -> None:
    assert measure_point(SHARED) == shared


def test_the_command_writes_rows_of_every_point(tmp_path: Path) -> None:
    rows_path = tmp_path / "rows.json"
    options = ["--guests", "1", "--probes", "5", "--warm-up", "1", "--json", str(rows_path)]
    result = CliRunner().invoke(cli, ["bench", "fig4", *options, "--plot", str(tmp_path / "figure.svg")])
    assert result.exit_code == 0, result.output
    rows = json.loads(rows_path.read_text())["rows"]
    assert {row["spec"]["sidecores"] for row in rows if row["metric"] == "round_trip"} == {0, 1}
    assert "Where an average round trip goes" in result.output


def test_a_choice_that_is_none_is_one_line() -> None:
    result = CliRunner().invoke(cli, ["bench", "fig4", "--pinning", "both"])
    assert "no 'both'" in str(result.exception or result.output)


def test_a_guest_that_only_computes_loses_less_by_a_sidecore_than_by_a_shared_interrupt() -> None:
    shared, own_bit, with_one = map(measure_one, isolation_ways(replace(SHARED, guests=4, identifier_bits=1)))
    for measured in (shared, own_bit, with_one):
        assert measured.packets > 20
        assert 0 < measured.computing < measured.window
    assert shared.vmm_per_packet > own_bit.vmm_per_packet > with_one.vmm_per_packet > 0
    assert {row.metric for row in shared.rows()} == {"lost_per_packet", "vmm_per_packet", "stalls_part"}


@pytest.mark.slow
def test_at_fair_saturation_a_round_trip_is_the_queue_times_the_service_time() -> None:
    setup = Setup(guests=16, probes=40, warm_up=10, sidecores=1, pinning="one")  # one core is one queue, and full
    few, many = measure_point(setup), measure_point(replace(setup, guests=32))
    for result in (few, many):
        medians = [sorted(flow)[len(flow) // 2] for flow in result.samples]
        assert max(medians) < 1.1 * min(medians)  # nobody waits longer than others
    service_us = few.mean_us / few.setup.guests
    assert many.mean_us == pytest.approx(many.setup.guests * service_us, rel=0.05)
