"""The two hosts of a point on one timeline: dom0 and n guests each, joined by ten metres of cable."""

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.fig4.setup import OWN_IMAGE, Setup
from emulator.errors import ConfigError
from guest_images.linux_vif import BRIDGE_LINE
from vmm.session.spec import GuestSpec, Limits
from vmm.session.world import Host, World

CABLE_NS = 50
BOOT_SECONDS, BOOT_SLICE_MS = 10, 1


def describe(setup: Setup, guest_of: Callable[[int, int], GuestSpec] | None = None, guests: int | None = None) -> World:
    """Not built yet. `guest_of(host, number)` instead of the setup's own guests; so many instead of all."""
    world = World()
    for number in range(2):
        host = world.add_host(setup.host(number))
        host.add_guest(setup.dom0)
        for guest in range(setup.guests if guests is None else guests):
            is_copy = guest_of is None and setup.image != OWN_IMAGE and (number, guest) != (0, 0)
            begins_later = setup.carrier == "linux" and not is_copy
            host.add_guest((guest_of or setup.guest)(number, guest), is_held_back=is_copy, begins_later=begins_later)
    world.add_link(world.hosts[0], world.hosts[1], latency_ns=CABLE_NS)
    return world


def build(world: World) -> None:
    """Make it, and where dom0 is a Linux let that boot before guests begin. Raises ConfigError."""
    world.build()
    later = [guest for guest in world.guests if guest.begins_later]
    frequency_hz = world.hosts[0].built.machine.profile.frequency_hz
    while later and not all(BRIDGE_LINE.encode() in host.guests[0].output for host in world.hosts):
        if world.cycles > frequency_hz * BOOT_SECONDS:
            raise ConfigError(f"a driver domain has not booted in {BOOT_SECONDS} s")
        world.run(Limits(max_cycles=world.cycles + frequency_hz * BOOT_SLICE_MS // 1000))
    for guest in later:
        guest.begin()


def vifs_of(host: Host) -> list[Mapping[str, Any]]:
    """The counters of each guest's interface."""
    nic = host.guests[0].built.nic_stats()
    assert nic is not None, "the host has one"
    return list((nic["vmm"]["carried"] or nic["card"]["vifs"]).values())


def received_of(host: Host) -> list[int]:
    """Frames that each guest has got."""
    return [vif["received"] for vif in vifs_of(host)]


def dropped_of(host: Host) -> int:
    """Frames that were lost there, by whatever."""
    return sum(sum(drops.values()) for vif in vifs_of(host) for drops in (vif["send_drops"], vif["receive_drops"]))
