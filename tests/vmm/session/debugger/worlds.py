"""Worlds to debug, and what becomes of them when nobody does."""

from functools import cache

import sidecore


def world_of(image: str = "default", paging: sidecore.Paging = "ept", **values: object) -> sidecore.World:
    """A host with one guest. `values`: fields of specs."""
    guest_fields = {"vcpu_count", "memory_bytes", "append"}
    guest = {name: value for name, value in values.items() if name in guest_fields}
    host = {name: value for name, value in values.items() if name not in guest_fields}
    world = sidecore.World()
    built = world.add_host(sidecore.HostSpec(paging=paging, **host))  # type: ignore[arg-type]
    built.add_guest(sidecore.GuestSpec(image=image, **guest))  # type: ignore[arg-type]
    return world


@cache
def undebugged(image: str, paging: sidecore.Paging, **values: object) -> tuple[str, int, int, bytes]:
    """Digest of the state at its end, cycles, VM exits, output."""
    return outcome(_ended(world_of(image, paging, **values)))


def _ended(world: sidecore.World) -> sidecore.World:
    world.run()
    return world


def outcome(world: sidecore.World) -> tuple[str, int, int, bytes]:
    """The same of a world that somebody has run."""
    return world.snapshot().digest(), world.cycles, world.exit_count, bytes(world.guests[0].output)
