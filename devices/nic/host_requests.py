"""What microengine programs can ask for of the host: descriptors and frames in a guest's memory, and its attention.

    send       Poll -> Fetch -> ... -> WriteBack          receive    Room -> Store -> WriteBack -> Signal

A guest can detach, or be destroyed, at any time: each is checked when it is done, and what has lost its VIF does and
counts nothing more (vif.py counted it).
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from devices.nic.chip import Chip
from devices.nic.microengine import Context, Handler
from devices.nic.requests import CHIP_HANDLERS
from devices.nic.vif import Descriptor, Packet, Vif
from devices.nic.vif_page import DESCRIPTOR_BYTES, RECEIVE_RING

RESULT_BYTES, COUNT_BYTES = 8, 4


class Poll(NamedTuple):
    """The next Descriptor in the send queues of this context's VIFs; polls them until there is one."""


class Fetch(NamedTuple):
    """The Packet that a send descriptor leads to, brought to DRAM; None: that is not RAM."""

    descriptor: Descriptor


class Room(NamedTuple):
    """The next receive Descriptor of a packet's VIF; None: there is none, and the packet is dropped and counted."""

    packet: Packet


class Store(NamedTuple):
    """Bring a packet from DRAM to where a receive descriptor leads; answers whether that is RAM.

    MODEL: the guest sees it when it gets its descriptor back, and not before.
    """

    descriptor: Descriptor
    packet: Packet


class WriteBack(NamedTuple):
    """Give a descriptor back to the guest: DONE with the length, or ERROR with the reason."""

    descriptor: Descriptor
    state: int
    value: int


class Signal(NamedTuple):
    """Tell that a packet's VIF has something."""

    packet: Packet


def _vif(context: Context, of: Descriptor | Packet) -> Vif | None:
    return context.chip.vifs.find(of.vif, of.session)


def _begin_poll(context: Context, request: Poll, at_ps: int) -> None:
    context.poller = context.chip.vifs.pollers[context.me.number]
    context.poller.poll(context, at_ps)


def _finish_poll(context: Context, request: Poll) -> Descriptor:
    descriptor: Descriptor = context.held
    context.chip.observers.stamp(descriptor.vif, "polled", context.chip.events.now_ps)
    return descriptor


def _begin_fetch(context: Context, request: Fetch, at_ps: int) -> int:
    return context.chip.dma.read(at_ps, request.descriptor.length)


def _finish_fetch(context: Context, request: Fetch) -> Packet | None:
    descriptor, vif = request.descriptor, _vif(context, request.descriptor)
    if vif is None or not vif.is_ram(descriptor.address, descriptor.length):
        return None
    frame = vif.read(descriptor.address, descriptor.length)
    context.chip.observers.stamp(vif.number, "fetched", context.chip.events.now_ps)
    return Packet(vif.number, vif.session, True, frame)


def _begin_room(context: Context, request: Room, at_ps: int) -> int:
    return at_ps if _vif(context, request.packet) is None else context.chip.dma.read(at_ps, DESCRIPTOR_BYTES)


def _finish_room(context: Context, request: Room) -> Descriptor | None:
    vif = _vif(context, request.packet)
    if vif is None:
        return None
    descriptor = vif.take(RECEIVE_RING)
    if descriptor is None:
        vif.count_drop(request.packet, "no descriptor")
    return descriptor


def _begin_store(context: Context, request: Store, at_ps: int) -> int:
    return context.chip.dma.write(at_ps, len(request.packet.frame))


def _finish_store(context: Context, request: Store) -> bool:
    descriptor, frame, vif = request.descriptor, request.packet.frame, _vif(context, request.descriptor)
    if vif is None or not vif.is_ram(descriptor.address, len(frame)):
        return False
    vif.store(descriptor, frame)
    return True


def _begin_write_back(context: Context, request: WriteBack, at_ps: int) -> int:
    is_received = request.descriptor.ring == RECEIVE_RING
    return context.chip.dma.write(at_ps, RESULT_BYTES + COUNT_BYTES * is_received)


def _finish_write_back(context: Context, request: WriteBack) -> None:
    vif = _vif(context, request.descriptor)
    if vif is not None:
        if request.descriptor.ring == RECEIVE_RING:
            context.chip.observers.stamp(vif.number, "delivered", context.chip.events.now_ps)
        vif.give_back(request.descriptor, request.state, request.value)


def _begin_signal(context: Context, request: Signal, at_ps: int) -> int:
    is_silent = context.chip.on_signal is None or _vif(context, request.packet) is None
    return at_ps if is_silent else at_ps + context.chip.signal_ps


def _finish_signal(context: Context, request: Signal) -> None:
    chip, vif = context.chip, _vif(context, request.packet)
    if vif is not None and chip.on_signal is not None:
        vif.counters.told += 1
        chip.observers.stamp(vif.number, "signalled", chip.events.now_ps)
        chip.on_signal(vif)


def _after_poll(chip: Chip) -> int:
    return chip.poll_ps


def _after_read(chip: Chip) -> int:
    return chip.dma.read_ps


def _after_write(chip: Chip) -> int:
    return chip.dma.write_ps


def _after_signal(chip: Chip) -> int:
    return chip.signal_ps


HANDLERS: Mapping[type, Handler] = MappingProxyType(
    {
        **CHIP_HANDLERS,
        Poll: Handler(_begin_poll, _finish_poll, seen_after=_after_poll),
        Fetch: Handler(_begin_fetch, _finish_fetch, is_seen=True, seen_after=_after_read),
        Room: Handler(_begin_room, _finish_room, is_seen=True, seen_after=_after_read),
        Store: Handler(_begin_store, _finish_store),
        WriteBack: Handler(_begin_write_back, _finish_write_back, is_seen=True, seen_after=_after_write),
        Signal: Handler(_begin_signal, _finish_signal, is_seen=True, seen_after=_after_signal),
    }
)
