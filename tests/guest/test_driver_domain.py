"""A driver domain that is a Linux: the kernel's own bridge joins the NIC's only interface with those of the guests."""

from dataclasses import replace

import pytest

import sidecore
from guest_images import linux_vif
from guest_images.linux_vif import BRIDGE_LINE, HOLDING_LINE
from tests.guest.test_vif_kernels import figures, samples_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not linux_vif.recipe().directory.exists(), reason="sidecore images build linux-vif makes it"),
]

MIB = 1 << 20
HOST = sidecore.HostSpec(has_nic=True, profile="nehalem", paging="ept", pcpu_count=2, scheduler="credit")
LINUX = sidecore.GuestSpec(image="linux-vif", append="hold quiet", has_vif=True, memory_bytes=32 * MIB, cores=(1,))
DRIVER = replace(LINUX, append="driver_domain quiet", is_backend=True, cores=(0,))
PSAPP = replace(LINUX, image="psapp")
STEP_CYCLES, MOST_CYCLES = 20_000_000, 15 * 10**9
PROBES, WARM_UP = 40, 5


def client(peer: str) -> sidecore.GuestSpec:
    return replace(PSAPP, append=f"role=client peer={peer} probes={PROBES} warmup={WARM_UP}")


def server(peer: str) -> sidecore.GuestSpec:
    return replace(PSAPP, append=f"role=server peer={peer}")


def booted(host: sidecore.HostSpec, *guests: tuple[sidecore.GuestSpec, ...]) -> sidecore.World:
    """Two hosts, each with a driver domain that is ready, and guests that have yet to begin."""
    world = sidecore.World()
    for specs in guests:
        described = world.add_host(host)
        described.add_guest(DRIVER)
        for spec in specs:
            described.add_guest(spec, begins_later=True)
    world.add_link(*world.hosts)
    world.build()
    drivers = [each.guests[0] for each in world.hosts]
    advance(world, lambda: all(BRIDGE_LINE.encode() in driver.output for driver in drivers))
    return world


def advance(world: sidecore.World, is_over) -> None:  # type: ignore[no-untyped-def]
    while not is_over() and world.cycles < MOST_CYCLES:
        world.run(sidecore.Limits(max_cycles=world.cycles + STEP_CYCLES))
    assert is_over(), [bytes(guest.output).decode() for guest in world.guests]


def guests_of(world: sidecore.World) -> list[sidecore.Guest]:
    return [guest for host in world.hosts for guest in host.guests[1:]]


def begin(world: sidecore.World) -> None:
    for guest in guests_of(world):
        guest.begin()


def frames_of(host: sidecore.Host) -> list[int]:
    """What guests that have an interface there have got through it."""
    stats = host.guests[0].built.nic_stats()
    assert stats is not None
    return [counters["received"] for counters in stats["vmm"]["carried"].values()]


def ask(world: sidecore.World, line: str) -> str:
    """What the first driver domain says when it is told to run `line` and end."""
    driver = world.hosts[0].guests[0]
    driver.send(line.encode() + b"\n")
    advance(world, lambda: driver.end is not None)
    output = bytes(driver.output).decode().replace("\r", "")
    return output[output.index(BRIDGE_LINE) :]


def test_probes_go_between_guests_of_two_hosts_and_of_one_and_each_clone_gives_the_same() -> None:
    """Guest k of host h has the address 02:5c:00:00:0h:0k, as 0 is the driver domain."""
    here = (client("02:5c:00:00:01:01"), client("02:5c:00:00:00:03"), server("02:5c:00:00:00:02"))
    world = booted(HOST, here, (server("02:5c:00:00:00:01"),))
    begin(world)
    while min(frames_of(world.hosts[0])) < PROBES // 4:  # of each guest
        world.run(sidecore.Limits(max_cycles=world.cycles + STEP_CYCLES // 40))
    assert all(guest.end is None for guest in guests_of(world))
    worlds = [world, world.clone()]
    for each in worlds:
        advance(each, lambda each=each: all(guest.end is not None for guest in guests_of(each)))
        for guest in guests_of(each):
            assert guest.output.decode().splitlines()[-1].startswith("PASS: "), guest.output.decode()
        for guest in guests_of(each)[:2]:
            counts = figures(guest, "psapp client:")
            assert (counts["answered"], counts["lost"], counts["damaged"]) == (PROBES + WARM_UP, 0, 0)
            assert len(samples_of(guest.output.decode().splitlines())) == PROBES
    assert [guest.output for guest in world.guests] == [guest.output for guest in worlds[1].guests]
    shown = ask(world, "cat /proc/net/dev; brctl show")
    assert all(f"guest{number}:" in shown for number in (1, 2, 3))


@pytest.mark.parametrize(
    ("words", "is_carried"), [("", True), (" from=02:5c:00:00:01:00", False)], ids=["own", "false"]
)
def test_a_frame_that_says_it_is_from_another_is_dropped_and_counted(words: str, is_carried: bool) -> None:
    hostile = replace(PSAPP, image="vif_hostile", append=f"rounds=0 peer=02:5c:00:00:01:01{words}")
    world = booted(HOST, (hostile,), ())
    begin(world)
    (guest,) = guests_of(world)
    advance(world, lambda: guest.end is not None)
    shown = ask(world, "cat /proc/net/dev").splitlines()
    (received,) = ([int(number) for number in line.split()[1:9]] for line in shown if line.startswith("guest1:"))
    assert (received[1], received[2]) == (int(is_carried), int(not is_carried))  # packets, errors
    assert world.hosts[1].nic.stats()["mac"]["arrived"] == int(is_carried)


def test_ping_and_http_work_between_linux_guests_over_two_linux_driver_domains() -> None:
    world = booted(replace(HOST, paging="shadow"), (LINUX,), (LINUX,))
    begin(world)
    advance(world, lambda: all(HOLDING_LINE.encode() in guest.output for guest in guests_of(world)))
    here, there = guests_of(world)
    here.send(b"sleep 1; ping -c 3 10.0.1.2; wget -q -O got http://10.0.1.2/file; md5sum <got\n")
    there.send(b"dd if=/dev/zero of=file bs=1024 count=200 2>/dev/null; md5sum <file; httpd -h /root; sleep 9\n")
    advance(world, lambda: here.end is not None)
    assert b"3 packets transmitted, 3 packets received, 0% packet loss" in here.output
    sums = [line for guest in (here, there) for line in guest.output.decode().splitlines() if line.endswith("  -")]
    assert len(sums) == 2
    assert len(set(sums)) == 1
