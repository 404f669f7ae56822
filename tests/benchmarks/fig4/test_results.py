"""Samples of all flows are pooled; a point is compared with the same with a sidecore; what cannot be is one line."""

from dataclasses import replace

import pytest

from benchmarks.fig4.map import THINK_US, VARIANTS, regimes
from benchmarks.fig4.results import pairs_of, pool, quantile
from benchmarks.fig4.setup import INTERRUPT_CORES, Setup, mac_text, setup_of
from benchmarks.fig4.tables import carriers_table, map_table, tables
from benchmarks.fig4.throughput import Throughput, carriers
from emulator.errors import ConfigError
from tests.benchmarks.fig4.points import point


def test_quantiles_are_of_all_samples_of_all_flows() -> None:
    result = point(Setup(guests=2), (1000, 3000), (2000, 4000))
    assert result.pooled == (1000, 2000, 3000, 4000)
    assert (result.median_us, result.range_us) == (2.0, 2.0)
    assert result.mean_us == 2.5
    assert sum(result.hops_ns.values()) == pytest.approx(2500)


@pytest.mark.parametrize(("part", "value"), [(0.0, 1), (0.25, 25), (0.5, 50), (0.95, 95), (0.99, 99), (1.0, 100)])
def test_a_quantile_is_the_smallest_value_that_so_many_do_not_exceed(part: float, value: int) -> None:
    assert quantile(range(1, 101), part) == value


def test_a_point_is_compared_with_the_same_point_with_a_sidecore() -> None:
    setups = [Setup(guests=n, sidecores=s) for n in (1, 8) for s in (0, 1)]
    results = [point(setup, (1000 * (1 + number),)) for number, setup in enumerate([*setups, Setup(guests=16)])]
    assert [(one.setup, two.setup) for one, two in pairs_of(results)] == [
        (setups[0], setups[1]),
        (setups[2], setups[3]),
    ]


def test_phases_are_pooled_and_their_medians_kept() -> None:
    setup = Setup(guests=1)
    pooled = pool([point(setup, (1000, 1000), redundant=4), point(replace(setup, phase=1), (3000, 3000))])
    assert pooled.setup == setup
    assert pooled.phase_medians_us == (1.0, 3.0)
    assert pooled.hosts[0].packets == 200
    assert pooled.hosts[0].redundant_per_packet == 0.02
    assert sum(pooled.hosts[0].core_use[0].values()) == pytest.approx(1.0)
    assert sum(pooled.hops_ns.values()) == pytest.approx(2000)


def test_tables_and_rows_have_every_point() -> None:
    results = [point(Setup(guests=4, sidecores=s), (1000, 2000), (3000,)) for s in (0, 1)]
    shown = tables(results)
    assert [table.row_count for _, table in shown][:3] == [2, 4, 8]
    assert shown[-1][1].row_count == 1
    assert map_table([("default", results[0], results[1])])[1].row_count == 1
    rows = results[0].rows()
    assert {row.metric for row in rows} >= {
        "round_trip",
        "quantile",
        "flow_median",
        "hop",
        "redundant_signals",
        "core_use",
    }
    assert all(row.record()["spec"]["guests"] == 4 for row in rows)  # type: ignore[index]  # a mapping


def test_the_nic_is_compared_with_stub_domains() -> None:
    ways = [way for way in carriers(Setup(guests=2)) if way.carrier != "linux"]  # which is there if it has been built
    assert [way.signals for way in ways] == ["interrupt, 8 bits", "sidecore, spin", "stub", "shared stub"]
    compared = [(point(way, (1000,)), [Throughput(way, 64, (90.0, 80.0), 0, 1.5)]) for way in ways]
    assert carriers_table(compared)[1].row_count == 4
    assert [row.value for row in compared[0][1][0].rows()] == [90.0, 80.0]


def test_the_map_changes_one_thing_at_a_time_and_has_a_control() -> None:
    found = list(regimes(Setup(guests=16)))
    assert len(found) == len(THINK_US) * len(INTERRUPT_CORES) + len(VARIANTS) + 1
    for _, without, with_one in found:
        assert (without.sidecores, with_one.sidecores) == (0, 1)
    assert found[-1][1].identifier_bits == 16


def test_guests_of_a_flow_name_each_other_and_share_the_two_cores() -> None:
    setup = Setup(guests=3, sidecores=1)
    client, server = setup.guest(0, 2), setup.guest(1, 2)
    assert client.mac == mac_text(0, 2)
    assert f"peer={client.mac}" in server.append
    assert f"peer={server.mac}" in client.append
    assert client.cores == setup.guest_cores == (1, 2)
    assert replace(setup, pinning="split").guest(0, 1).cores == (2,)
    assert replace(setup, dom0_core=1).guest_cores == (0, 2)
    assert replace(setup, sidecores=0, fourth_runs_guests=True).guest_cores == (1, 2, 3)


@pytest.mark.parametrize(
    "options",
    [{"guests": 0}, {"guests": 65}, {"guests": 1, "sidecores": 3}, {"guests": 1, "sidecores": 2, "dom0_core": 2}],
)
def test_what_is_not_possible_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        Setup(**options)  # type: ignore[arg-type]  # only numbers


def test_a_choice_that_is_none_is_named() -> None:
    options = {"interrupt_core": "dom1", "pinning": "shared", "send_queues": "guest", "signal": "auto"}
    with pytest.raises(ConfigError, match="--interrupt-core: no 'dom1'"):
        setup_of(guest="own", poll="spin", timing="fast", **options)
