"""The two hosts of a point on one timeline: dom0 and n guests each, joined by ten metres of cable."""

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.fig4.setup import OWN_IMAGE, Setup
from vmm.session.spec import GuestSpec
from vmm.session.world import Host, World

CABLE_NS = 50


def describe(setup: Setup, guest_of: Callable[[int, int], GuestSpec] | None = None, guests: int | None = None) -> World:
    """Not built yet. `guest_of(host, number)` instead of the setup's own guests; so many instead of all."""
    world = World()
    for number in range(2):
        host = world.add_host(setup.host(number))
        host.add_guest(setup.dom0)
        for guest in range(setup.guests if guests is None else guests):
            is_copy = guest_of is None and setup.image != OWN_IMAGE and (number, guest) != (0, 0)
            host.add_guest((guest_of or setup.guest)(number, guest), is_held_back=is_copy)
    world.add_link(world.hosts[0], world.hosts[1], latency_ns=CABLE_NS)
    return world


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
