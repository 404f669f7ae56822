"""What microengine programs can ask for inside the network processor: `answer = yield Request(...)`.

    Compute, Scratch, Sram, Dram     time, and a unit's
    Get, Put                         a scratch ring
    Receive, Unload, Transmit        the port
    FindVifs, Route, Drop            tables and counters

Host_requests.py has those that reach the host. To add one: a NamedTuple, two functions, a row in a table of handlers;
snapshots know what is in there.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from devices.nic.chip import Chip
from devices.nic.mac import Received
from devices.nic.microengine import Context, Handler
from devices.nic.vif import IS_GROUP, MAC_BYTES, Packet, Vif

VIF_ENTRY_BYTES = 16  # of the table in SRAM: a MAC address and a VIF


class Compute(NamedTuple):
    """So many instructions more than a step has usually."""

    instructions: int


class Scratch(NamedTuple):
    """Read or write the scratchpad."""

    length_bytes: int


class Sram(NamedTuple):
    """Read or write SRAM."""

    length_bytes: int


class Dram(NamedTuple):
    """Read or write DRAM."""

    length_bytes: int


class Get(NamedTuple):
    """The first entry of a ring; waits for one. What one program gets keeps its order in what it puts."""

    ring: int


class Put(NamedTuple):
    """Put an entry into a ring; answers whether it is in. Waits for room, unless `waits` is False."""

    ring: int
    entry: Any
    waits: bool = True


class Receive(NamedTuple):
    """The first frame in RBUF, a Received; waits for one."""


class Unload(NamedTuple):
    """Move a frame from RBUF to DRAM."""

    received: Received


class Transmit(NamedTuple):
    """Have a packet moved from DRAM to TBUF, from where it leaves; waits for room, but not for the move."""

    packet: Packet


class FindVifs(NamedTuple):
    """Packets for the VIFs that a frame is for, a tuple: one; all, if it is for a group; none, and it is counted."""

    received: Received


class Route(NamedTuple):
    """Where a VIF's packet goes: a tuple of packets for VIFs here, and whether the wire gets it. It counts as sent."""

    packet: Packet


class Drop(NamedTuple):
    """Count that a packet ends here, and why."""

    packet: Packet
    cause: str


def _begin_compute(context: Context, request: Compute, at_ps: int) -> int:
    return at_ps + context.chip.instructions_ps(request.instructions)


def _begin_scratch(context: Context, request: Scratch, at_ps: int) -> int:
    return context.chip.scratch.request(at_ps, request.length_bytes)


def _begin_sram(context: Context, request: Sram, at_ps: int) -> int:
    return context.chip.sram.request(at_ps, request.length_bytes)


def _begin_dram(context: Context, request: Dram, at_ps: int) -> int:
    return context.chip.dram.request(at_ps, request.length_bytes)


def _begin_get(context: Context, request: Get, at_ps: int) -> None:
    context.chip.rings[request.ring].get(context, at_ps)


def _begin_put(context: Context, request: Put, at_ps: int) -> int | None:
    ring = context.chip.rings[request.ring]
    if not context.is_turn():
        return None
    if not ring.is_full:
        context.held = True
        return ring.begin_put(at_ps)
    context.held = False
    if request.waits:
        ring.wait_for_room(context)
        return None
    return at_ps


def _finish_put(context: Context, request: Put) -> bool:
    if context.held:
        context.chip.rings[request.ring].put(request.entry)
    return bool(context.held)


def _begin_receive(context: Context, request: Receive, at_ps: int) -> None:
    context.chip.mac.get(context, at_ps)


def _begin_unload(context: Context, request: Unload, at_ps: int) -> int:
    return context.chip.dram.request(at_ps, len(request.received.frame))


def _finish_unload(context: Context, request: Unload) -> None:
    context.chip.mac.free(request.received.frame)


def _begin_transmit(context: Context, request: Transmit, at_ps: int) -> int | None:
    packet, mac = request.packet, context.chip.mac
    if not context.is_turn() or not mac.has_room(packet.frame, context):
        return None
    mac.send(packet.frame, packet.vif, context.chip.dram.request(at_ps, len(packet.frame)))
    return at_ps


def _begin_look_up(context: Context, request: FindVifs | Route, at_ps: int) -> int:
    return context.chip.sram.request(at_ps, VIF_ENTRY_BYTES)


def _finish_find(context: Context, request: FindVifs) -> tuple[Packet, ...]:
    frame, arrived_ps = request.received
    vifs = context.chip.vifs.receivers(frame[:MAC_BYTES])
    if not vifs:
        context.chip.mac.count_drop("no VIF")
    return _packets_for(context, vifs, frame, arrived_ps)


def _finish_route(context: Context, request: Route) -> tuple[tuple[Packet, ...], bool]:
    packet, vifs = request.packet, context.chip.vifs
    sender = vifs.find(packet.vif, packet.session)
    if sender is None:
        return (), False
    sender.count_sent()
    mac = packet.frame[:MAC_BYTES]
    if mac[0] & IS_GROUP:
        others = [vif for vif in vifs.receivers(mac) if vif is not sender]
        return _packets_for(context, others, packet.frame, context.chip.events.now_ps), True
    if not vifs.is_here(mac):
        return (), True
    return _packets_for(context, vifs.receivers(mac), packet.frame, context.chip.events.now_ps), False


def _packets_for(context: Context, vifs: Sequence[Vif], frame: bytes, arrived_ps: int) -> tuple[Packet, ...]:
    chip = context.chip
    for vif in vifs:
        vif.count_arrived()
        chip.observers.stamp(vif.number, "arrived", arrived_ps)
        chip.observers.stamp(vif.number, "classified", chip.events.now_ps)
    return tuple(Packet(vif.number, vif.session, False, frame) for vif in vifs)


def _begin_drop(context: Context, request: Drop, at_ps: int) -> int:
    return at_ps


def _finish_drop(context: Context, request: Drop) -> None:
    vif = context.chip.vifs.find(request.packet.vif, request.packet.session)
    if vif is not None:
        vif.count_drop(request.packet, request.cause)


def _nothing(context: Context, request: object) -> None:
    return None


def _held(context: Context, request: object) -> Any:
    """What the context was handed."""
    return context.held


def _after_dram(chip: Chip) -> int:
    return chip.dram.latency_ps


CHIP_HANDLERS: Mapping[type, Handler] = MappingProxyType(
    {
        Compute: Handler(_begin_compute, _nothing, gives_way=False),
        Scratch: Handler(_begin_scratch, _nothing),
        Sram: Handler(_begin_sram, _nothing),
        Dram: Handler(_begin_dram, _nothing),
        Get: Handler(_begin_get, _held),
        Put: Handler(_begin_put, _finish_put),
        Receive: Handler(_begin_receive, _held),
        Unload: Handler(_begin_unload, _finish_unload),
        Transmit: Handler(_begin_transmit, _nothing, seen_after=_after_dram),
        FindVifs: Handler(_begin_look_up, _finish_find),
        Route: Handler(_begin_look_up, _finish_route),
        Drop: Handler(_begin_drop, _finish_drop),
    }
)
