"""Linux with the driver of a VIF: psapp, ping, nc and HTTP between two hosts, and clones of one snapshot."""

from dataclasses import replace

import pytest

import sidecore
from guest_images import linux_vif
from guest_images.linux_vif import HOLDING_LINE
from tests.guest.test_vif_kernels import MACS, figures, samples_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not linux_vif.recipe().directory.exists(), reason="sidecore images build linux-vif makes it"),
]

HOST = sidecore.HostSpec(has_nic=True, profile="nehalem", paging="ept")
GUEST = sidecore.GuestSpec(image="linux-vif", append="hold quiet", has_vif=True, memory_bytes=32 << 20)
ADDRESSES = ("10.0.0.1", "10.0.1.1")
STEP_CYCLES, MAX_CYCLES = 20_000_000, 15_000_000_000
HOSTS = [replace(HOST, paging="shadow"), HOST, replace(HOST, sidecore_count=1)]


def held(host: sidecore.HostSpec = HOST) -> sidecore.World:
    """Two hosts, each with a guest that has booted and waits for a line."""
    world = sidecore.World()
    for _ in range(2):
        world.add_host(host).add_guest(GUEST)
    world.add_link(*world.hosts)
    world.build()
    advance(world, lambda: all(HOLDING_LINE.encode() in guest.output for guest in world.guests))
    return world


def advance(world: sidecore.World, is_over) -> None:  # type: ignore[no-untyped-def]
    while not is_over() and world.cycles < MAX_CYCLES:
        world.run(sidecore.Limits(max_cycles=world.cycles + STEP_CYCLES))


def tell(world: sidecore.World, *lines: str) -> list[str]:
    """Each guest is told its line, and runs it to its end; what it prints from then on."""
    for guest, line in zip(world.guests, lines, strict=True):
        guest.send(line.encode() + b"\n")
    advance(world, lambda: world.has_ended)
    outputs = [bytes(guest.output).decode().replace("\r", "") for guest in world.guests]
    assert world.has_ended, outputs
    return [output[output.index(HOLDING_LINE) :] for output in outputs]


@pytest.mark.parametrize("host", HOSTS, ids=["shadow", "ept", "sidecore"])
def test_psapp_times_round_trips_and_the_driver_counts_its_frames(host: sidecore.HostSpec) -> None:
    world = held(host)
    client, server = tell(
        world, f"psapp role=client peer={MACS[1]} probes=60 warmup=5; psapp role=statistics", "psapp role=server"
    )
    assert "sidecore: status 0\n" in client
    assert "sidecore: status 0\n" in server
    counts = figures(world.guests[0], "psapp client:")
    assert (counts["sent"], counts["answered"], counts["damaged"]) == (65, 65, 0)
    assert counts["tsc_khz"] == pytest.approx(world.guests[0].stats["frequency_hz"] / 1000, rel=0.01)
    assert len(samples_of(client.splitlines())) == 60
    assert "~ driver vif at 0000:00:02.0\n" in client
    sent = figures(world.guests[0], "device_sent")["device_sent"]
    assert 66 <= sent == world.guests[0].stats["nic"]["card"]["vifs"][0]["sent"]


def test_ping_nc_and_http_work_between_guests() -> None:
    here = "ping -c 3 PEER; wget -q -O got http://PEER/file; md5sum <got; echo hello | nc PEER 77"
    there = "dd if=/dev/zero of=file bs=1024 count=200 2>/dev/null; md5sum <file; httpd -h /root; nc -l -p 77"
    client, server = tell(held(), "sleep 1; " + here.replace("PEER", ADDRESSES[1]), there)
    assert "3 packets transmitted, 3 packets received, 0% packet loss" in client
    (sum_here,), (sum_there,) = (
        [line for line in output.splitlines() if line.endswith("  -")] for output in (client, server)
    )
    assert sum_here == sum_there
    assert "\nhello\n" in server


def test_clones_of_one_snapshot_go_on_each_as_it_is_told() -> None:
    saved = held().snapshot()
    lines = [(f"psapp role=client peer={MACS[1]} probes={probes} warmup=2", "psapp role=server") for probes in (5, 9)]
    outputs = [tell(saved.clone(), *pair)[0] for pair in (*lines, lines[0])]
    assert [len(samples_of(output.splitlines())) for output in outputs] == [5, 9, 5]
    assert outputs[0] == outputs[2]


def test_a_client_that_is_done_goes_on_until_it_is_asked() -> None:
    world = held()
    world.guests[0].send(f"psapp role=client peer={MACS[1]} probes=20 warmup=2 keep=1\n".encode())
    world.guests[1].send(b"psapp role=server\n")
    advance(world, lambda: b"psapp ready" in world.guests[0].output)
    before = world.guests[1].stats["nic"]["card"]["vifs"][0]["sent"]
    world.run(sidecore.Limits(max_cycles=world.cycles + STEP_CYCLES))
    assert world.guests[1].stats["nic"]["card"]["vifs"][0]["sent"] > before + 50
    world.guests[0].send(b"\n")
    advance(world, lambda: world.has_ended)
    assert len(samples_of(bytes(world.guests[0].output).decode().splitlines())) == 20
    assert figures(world.guests[0], "psapp client:")["answered"] == 22
