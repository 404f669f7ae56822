"""The programs of the microengines. Each call of one is one piece of work; a context calls it again and again.

    wire --> receive --RECEIVED--> classify --DELIVER+k--> deliver --> a VIF's receive queue, signal
    wire <-- transmit <--------------TRANSMIT------------- send <-- VIFs' send queues; to VIFs here: DELIVER+k

The contexts of an engine share a program. Contexts k of `deliver` and `send` have the VIFs whose number modulo 8 is k,
so a VIF's packets keep their order; where any context takes any packet, puts keep the order of gets (Turns).

To write another: a generator function like these, which changes nothing but by what it yields, in `PROGRAMS` of a Nic.
"""

from collections.abc import Mapping
from types import MappingProxyType

from devices.nic.host_requests import Fetch, Poll, Room, Signal, Store, WriteBack
from devices.nic.microengine import Me, Program, ProgramFunction
from devices.nic.requests import Drop, FindVifs, Get, Put, Receive, Route, Sram, Transmit, Unload
from devices.nic.vif import Packet
from devices.nic.vif_page import BAD_ADDRESS, BAD_LENGTH, DONE, ERROR, FRAME_MAX_BYTES, FRAME_MIN_BYTES

RECEIVED, TRANSMIT, DELIVER = 0, 1, 8  # scratch rings; 8 of them from DELIVER on
PACKET_BYTES = 16  # of a packet's descriptor in SRAM


def receive(me: Me) -> Program:
    """A frame, from the receive buffer to DRAM."""
    received = yield Receive()
    yield Unload(received)
    yield Sram(PACKET_BYTES)
    yield Put(RECEIVED, received)


def classify(me: Me) -> Program:
    """A frame, to the VIFs that it is for."""
    received = yield Get(RECEIVED)
    packets = yield FindVifs(received)
    yield from queue(packets)


def queue(packets: tuple[Packet, ...]) -> Program:
    """Packets, to the contexts that deliver them; a full ring holds up nobody else."""
    for packet in packets:
        if not (yield Put(DELIVER + packet.vif % 8, packet, waits=False)):
            yield Drop(packet, "ring full")


def deliver(me: Me) -> Program:
    """A packet, to the memory of its guest."""
    packet = yield Get(DELIVER + me.number)
    room = yield Room(packet)
    if room is None:
        return
    if len(packet.frame) > room.length:
        yield WriteBack(room, ERROR, BAD_LENGTH)
    elif not (yield Store(room, packet)):
        yield WriteBack(room, ERROR, BAD_ADDRESS)
    else:
        yield WriteBack(room, DONE, len(packet.frame))
    yield Signal(packet)


def send(me: Me) -> Program:
    """A frame, from the memory of its guest to DRAM."""
    descriptor = yield Poll()
    if not FRAME_MIN_BYTES <= descriptor.length <= FRAME_MAX_BYTES:
        yield WriteBack(descriptor, ERROR, BAD_LENGTH)
        return
    packet = yield Fetch(descriptor)
    if packet is None:
        yield WriteBack(descriptor, ERROR, BAD_ADDRESS)
        return
    packets, is_for_wire = yield Route(packet)
    yield from queue(packets)
    if is_for_wire:
        yield Put(TRANSMIT, packet)
    yield WriteBack(descriptor, DONE, descriptor.length)


def transmit(me: Me) -> Program:
    """A packet, to the transmit buffer."""
    packet = yield Get(TRANSMIT)
    yield Transmit(packet)


PROGRAMS: Mapping[int, ProgramFunction] = MappingProxyType(  # by microengine
    {0: receive, 1: classify, 2: deliver, 3: send, 4: transmit}
)

# What each of them asks for, and nothing else: the less of it is seen outside, the fewer events the machine has.
USES: Mapping[ProgramFunction | None, tuple[type, ...]] = MappingProxyType(
    {
        receive: (Receive, Unload, Sram, Put),
        classify: (Get, FindVifs, Put, Drop),
        deliver: (Get, Room, Store, WriteBack, Signal),
        send: (Poll, Fetch, Route, Put, Drop, WriteBack),
        transmit: (Get, Transmit),
    }
)
