"""Hosts whose network cards a link joins: probes go there and back, exact whatever the slices and after a snapshot."""

from pathlib import Path
from typing import Any

import pytest

import sidecore
from emulator.timing.fidelity import Fidelity
from tests.vmm.session import tiny_kernels as tiny

MIB = 1 << 20
PROBES, WARMUP = 12, 2


def describe(
    *, sidecores: int = 0, loss_ppm: int = 0, latency_ns: int = 500, seed: int = 0, timing: Fidelity = "fast"
) -> sidecore.World:
    """A client on one host, a server on the other."""
    world = sidecore.World()
    for number, role in enumerate(("client", "server")):
        host = world.add_host(
            sidecore.HostSpec(paging="ept", profile="nehalem", has_nic=True, sidecore_count=sidecores, timing=timing)
        )
        words = f"role={role} peer=02:5c:00:00:{1 - number:02x}:00 probes={PROBES} warmup={WARMUP} quiet_ms=2"
        host.add_guest(sidecore.GuestSpec(image="psapp", has_vif=True, append=words, memory_bytes=32 * MIB))
    world.add_link(*world.hosts, latency_ns=latency_ns, loss_ppm=loss_ppm, seed=seed)
    return world


def facts(world: sidecore.World) -> list[object]:
    return [(bytes(guest.output), str(guest.end), guest.stats) for guest in world.guests]


def finished(world: sidecore.World, slice_cycles: int = 50_000_000) -> list[object]:
    assert world.run(sidecore.Limits(slice_cycles=slice_cycles)) is sidecore.Stop.ENDED
    return facts(world)


def samples_of(world: sidecore.World) -> list[int]:
    """The round trips of the client, in cycles."""
    words = world.guests[0].output.decode().split("psapp samples")[1].split()
    return [int(text, 16) for text in words[2 : 2 + PROBES]]


def test_every_probe_is_answered_and_the_figures_are_in_the_statistics() -> None:
    world = describe()
    finished(world)
    client, server = world.guests
    assert f"sent {PROBES + WARMUP} answered {PROBES + WARMUP} lost 0".encode() in client.output
    sent = client.stats["nic"]["card"]["vifs"][0]["sent"]
    assert sent == server.stats["nic"]["card"]["vifs"][0]["received"] >= PROBES + WARMUP
    assert client.stats["nic"]["vmm"]["signal"] == "interrupt"


def test_a_longer_cable_makes_round_trips_longer_by_twice_its_length() -> None:
    cycles = []
    for latency_ns in (500, 500_500):
        world = describe(latency_ns=latency_ns)
        finished(world)
        cycles.append(sorted(samples_of(world))[PROBES // 2])
    frequency_hz = world.guests[0].stats["frequency_hz"]
    assert 0.98e-3 < (cycles[1] - cycles[0]) / frequency_hz < 1.02e-3


@pytest.mark.parametrize("slice_cycles", [10_007, 1_000_003])
def test_slices_change_nothing(slice_cycles: int) -> None:
    assert finished(describe(), slice_cycles) == finished(describe())


@pytest.mark.parametrize("slice_cycles", [50_000_000, 70_001])
def test_in_detail_probes_are_answered_too_later_and_the_same_in_any_slices(slice_cycles: int) -> None:
    """What the card has written is in no cache (MODEL: emulator/dma.py)."""
    detailed, fast = describe(timing="detailed"), describe()
    facts_of_both = finished(detailed, slice_cycles)
    finished(fast)
    assert f"sent {PROBES + WARMUP} answered {PROBES + WARMUP} lost 0".encode() in detailed.guests[0].output
    assert sorted(samples_of(detailed))[PROBES // 2] > sorted(samples_of(fast))[PROBES // 2]
    assert facts_of_both == finished(describe(timing="detailed"), 1_234_567)


def test_both_hosts_go_on_from_a_snapshot_as_if_they_had_not_been_stopped(tmp_path: Path) -> None:
    whole = finished(describe())
    world = describe()
    for max_cycles in (3_000_000, 7_300_000):
        world.run(sidecore.Limits(max_cycles=max_cycles))
        saved = world.snapshot()
        assert finished(saved.clone()) == whole
    saved.write(tmp_path / "saved")
    assert finished(sidecore.World.restore(tmp_path / "saved").clone()) == whole
    assert finished(world) == whole


def test_lost_frames_are_the_same_in_every_run() -> None:
    assert finished(describe(loss_ppm=200_000, seed=3)) == finished(describe(loss_ppm=200_000, seed=3))


def test_a_link_between_hosts_without_cards_is_a_mistake_of_one_line(tmp_path: Path) -> None:
    kernel = tiny.write_kernel(tmp_path, tiny.HALT)
    world = sidecore.World()
    for has_nic in (True, False):
        host = world.add_host(sidecore.HostSpec(paging="ept", has_nic=has_nic))
        host.add_guest(sidecore.GuestSpec(kernel=kernel, memory_bytes=16 * MIB))
    world.add_link(*world.hosts)
    with pytest.raises(sidecore.ConfigError, match="the host has no network card; give it one, with has_nic"):
        world.build()
    with pytest.raises(sidecore.ConfigError, match="a network card paces its frames itself"):
        sidecore.Link(first=0, second=1, bits_per_second=10**9, joins_nics=True)


def test_a_program_of_a_script_takes_the_place_of_one_of_the_card() -> None:
    world = sidecore.World()
    host = world.add_host(sidecore.HostSpec(has_nic=True))
    with pytest.raises(sidecore.ConfigError, match="no microengine 8; the card has 0 to 7"):
        host.add_nic_program(8, print)  # type: ignore[arg-type]  # no program
    host.add_nic_program(1, print)  # type: ignore[arg-type]  # never called: no host is built
    assert list(host.additions.nic_programs) == [1]


def around_a_switch() -> sidecore.World:
    """A client and a server, and a second client, of a third host, of the same server's second guest."""
    world = sidecore.World()
    roles = ([("client", "02:5c:00:00:01:00")], [("server", ""), ("server", "")], [("client", "02:5c:00:00:01:01")])
    for guests in roles:
        host = world.add_host(sidecore.HostSpec(paging="ept", profile="nehalem", has_nic=True))
        for role, peer in guests:
            words = f"role={role} peer={peer or '02:5c:00:00:00:00'} probes={PROBES} warmup={WARMUP} quiet_ms=2"
            host.add_guest(sidecore.GuestSpec(image="psapp", has_vif=True, append=words, memory_bytes=32 * MIB))
    world.add_switch(*world.hosts)
    return world


def test_a_switch_joins_the_cards_of_three_hosts() -> None:
    world = around_a_switch()
    whole = finished(world)
    for client in (world.guests[0], world.guests[3]):
        assert f"sent {PROBES + WARMUP} answered {PROBES + WARMUP} lost 0".encode() in client.output
    (switch,) = world.switches
    assert all(port.counts.received >= PROBES + WARMUP for port in switch.ports)
    assert not any(port.counts.queue_drops or port.counts.malformed_drops for port in switch.ports)
    assert finished(around_a_switch(), 100_003) == whole


def test_a_card_has_one_port() -> None:
    world = sidecore.World()
    hosts = [world.add_host(sidecore.HostSpec(has_nic=True)) for _ in range(3)]
    world.add_link(hosts[0], hosts[1])
    for add in (lambda: world.add_link(hosts[1], hosts[2]), lambda: world.add_switch(*hosts)):
        with pytest.raises(sidecore.ConfigError, match="has one port: it takes one link, or a switch"):
            add()


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"queue_bytes": 0}, "a queue of 0 bytes is not possible"),
        ({"loss_ppm": 10**6 + 1}, "a loss of 1000001 in a million is not possible"),
        ({"hosts": (0, 0)}, "a switch joins two hosts or more"),
    ],
    ids=str,
)
def test_an_impossible_switch_is_a_mistake_of_one_line(values: dict[str, Any], line: str) -> None:
    with pytest.raises(sidecore.ConfigError, match=line):
        sidecore.EthernetSwitch(**{"hosts": (0, 1), **values})
