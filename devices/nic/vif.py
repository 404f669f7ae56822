"""A virtual interface: what the NIC keeps of one guest's send and receive queue.

    destroyed <--- detached ---attach(page)---> attached      each attachment is a session with its own number
                      ^------------detach-----------'

A guest's page, its descriptors and its frames are reached by the VIF's own port, which knows only that guest's memory.
What the microengines have in work carries the number of its session: after a detach it is nobody's, and is dropped.
Every descriptor and frame ends in one of the counters:

    posted  = sent + send_errors + drops of what was sent + sends_in_work
    arrived = received + receive_errors + drops of what came + receives_in_work
"""

from collections.abc import Callable, Container
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from devices.nic import vif_page
from devices.nic.vif_page import DESCRIPTOR_BYTES, RECEIVE_RING, RESULT_AT, RING_COUNT, SEND_RING
from devices.pci.dma import BusMaster, DmaPort
from emulator.x86 import PAGE_BYTES

VIF_MAX = 64
MAC_BYTES = 6
IS_GROUP = 1  # of a MAC address's first byte
ADDRESS_END = 1 << 64


def check_mac(mac: bytes, taken: Container[bytes]) -> None:
    """Raise ValueError for a MAC address that no VIF can have, or that is one of `taken`."""
    if len(mac) != MAC_BYTES or mac[0] & IS_GROUP or mac in taken:
        raise ValueError(f"{mac.hex(':')} is no MAC address for a VIF, or it is taken")


class VifPort(DmaPort, Protocol):
    """A guest's memory by guest-physical address."""

    def is_ram(self, address: int, length_bytes: int) -> bool:
        """Whether all of it is RAM; addresses have 64 bits and do not wrap."""
        ...


class VifOwner(Protocol):
    """The NIC as a VIF knows it."""

    identifier_bits: int

    def prepare(self) -> None:
        """It is about to be attached, or detached."""
        ...

    def begin_session(self) -> tuple[int, int]:
        """A number that no session had, and the time."""
        ...

    def changed(self, vif: "Vif") -> None:
        """It was attached, or detached."""
        ...

    def noticed(self, vif: "Vif", index: int, visible_ps: int) -> None:
        """A send descriptor can be seen from then on, as far as the guest is concerned."""
        ...


class Packet(NamedTuple):
    """A frame inside the network processor: its payload in DRAM and its descriptor in SRAM."""

    vif: int
    session: int
    is_sent: bool  # by the VIF; else it is for it
    frame: bytes
    arrived_ps: int = 0


class Descriptor(NamedTuple):
    """A descriptor as it was when the device read it, once."""

    vif: int
    session: int
    ring: int
    number: int
    address: int
    length: int


@dataclass
class VifCounters:
    """What happened to a VIF's descriptors and frames; drops are by cause. `signals` is the VMM's to count."""

    posted: int = 0
    sent: int = 0
    send_errors: int = 0
    arrived: int = 0
    received: int = 0
    receive_errors: int = 0
    told: int = 0  # times the host was told of it: bits set in the identifier register, messages
    signals: int = 0
    send_drops: dict[str, int] = field(default_factory=dict)
    receive_drops: dict[str, int] = field(default_factory=dict)


class Vif:
    """One virtual interface, number `number` of `owner`, with `mac` and the memory behind `port`."""

    def __init__(
        self,
        owner: VifOwner,
        number: int,
        mac: bytes,
        port: VifPort,
        *,
        is_master: Callable[[], bool],
        is_promiscuous: bool,
    ) -> None:
        self.number = number
        self.mac = mac
        self.port = port
        self.counters = VifCounters()
        self.session = 0  # 0: detached
        self.page_gpa = 0
        self.is_destroyed = False
        self.send_index = self.receive_index = 0
        self.sends_in_work = self.receives_in_work = 0
        self._stored: dict[int, tuple[int, bytes]] = {}  # address and frame, by number of the descriptor
        self.visible_ps: list[int | None] = [None] * RING_COUNT  # since when a send descriptor may be the device's
        self.is_promiscuous = is_promiscuous
        self.on_delivered: Callable[[Vif, int], None] | None = None
        self.on_attached: Callable[[Vif], None] | None = None
        self.on_detached: Callable[[Vif], None] | None = None
        self._owner = owner
        self._master = BusMaster(is_master)
        self._master.port = port

    @property
    def is_attached(self) -> bool:
        """Whether the device works on its queues."""
        return self.session != 0

    @property
    def bit(self) -> int:
        """Its bit of the identifier register."""
        return self.number % self._owner.identifier_bits

    @property
    def next_visible_ps(self) -> int | None:
        """Since when the next send descriptor may be the device's; None: it is not."""
        return self.visible_ps[self.send_index]

    def attach(self, page_gpa: int) -> bool:
        """Begin to work on the queues in the guest's page there, from descriptor 0 on. False: refused."""
        self.detach()
        self._owner.prepare()
        if self.is_destroyed or page_gpa % PAGE_BYTES or not self.is_ram(page_gpa, PAGE_BYTES):
            return False
        self.session, now_ps = self._owner.begin_session()
        self.page_gpa = page_gpa
        self.send_index = self.receive_index = 0
        ring = self.read(page_gpa + SEND_RING, RING_COUNT * DESCRIPTOR_BYTES)
        self.visible_ps = [now_ps if state == vif_page.OWNED else None for state in vif_page.states(ring)]
        self._owner.changed(self)
        if self.on_attached is not None:
            self.on_attached(self)
        return True

    def detach(self) -> None:
        """Leave the queues alone from now on; what is in work is dropped and counted."""
        if not self.is_attached:
            return
        self._owner.prepare()
        self.session = 0
        if self.sends_in_work:
            self._count_drops(self.counters.send_drops, "detached", self.sends_in_work)
        if self.receives_in_work:
            self._count_drops(self.counters.receive_drops, "detached", self.receives_in_work)
        self.sends_in_work = self.receives_in_work = 0
        self._stored.clear()
        self._owner.changed(self)
        if self.on_detached is not None:
            self.on_detached(self)

    def notice_send(self, index: int, visible_ps: int) -> None:
        """The guest's store that gives send descriptor `index` to the device can be seen from `visible_ps` on."""
        if self.is_attached:
            self._owner.noticed(self, index % RING_COUNT, visible_ps)

    # --- for the network processor -----------------------------------------------------------------------------------

    def is_ram(self, address: int, length_bytes: int) -> bool:
        """Whether all of it is the guest's RAM."""
        return address + length_bytes <= ADDRESS_END and self.port.is_ram(address, length_bytes)

    def read(self, address: int, length_bytes: int) -> bytes:
        """Bytes of the guest."""
        return self._master.read(address, length_bytes)

    def write(self, address: int, data: bytes) -> None:
        """Store in the guest's memory."""
        self._master.write(address, data)

    def take(self, ring: int) -> Descriptor | None:
        """The next descriptor of a ring, which is in work from now on; None: it is not the device's."""
        is_send = ring == SEND_RING
        index = self.send_index if is_send else self.receive_index
        at = self.page_gpa + vif_page.descriptor_at(ring, index)
        address, length, state = vif_page.unpack(self.read(at, DESCRIPTOR_BYTES))
        if is_send:
            self.visible_ps[index] = None  # the guest's next store says when to look again
        if state != vif_page.OWNED:
            return None
        if is_send:
            self.send_index = (index + 1) % RING_COUNT
            self.counters.posted += 1
            self.sends_in_work += 1
        else:
            self.receive_index = (index + 1) % RING_COUNT
        return Descriptor(self.number, self.session, ring, index, address, length)

    def store(self, descriptor: Descriptor, frame: bytes) -> None:
        """What is in the guest's memory when it gets the descriptor back."""
        self._stored[descriptor.number] = descriptor.address, frame

    def give_back(self, descriptor: Descriptor, state: int, value: int) -> None:
        """Write what has become of a descriptor of this session; `value` is the length, or why it is an error."""
        if descriptor.ring == RECEIVE_RING and descriptor.number in self._stored:
            self.write(*self._stored.pop(descriptor.number))
        at = self.page_gpa + vif_page.descriptor_at(descriptor.ring, descriptor.number)
        self.write(at + RESULT_AT, vif_page.pack_result(value, state))
        if descriptor.ring == RECEIVE_RING:
            self.receives_in_work -= 1
            if state == vif_page.DONE:
                self.counters.received += 1
            else:
                self.counters.receive_errors += 1
            given_back = self.counters.received + self.counters.receive_errors
            self.write(self.page_gpa + vif_page.RECEIVED, vif_page.pack_word(given_back))
            if self.on_delivered is not None:
                self.on_delivered(self, descriptor.number)
        elif state == vif_page.ERROR:
            self.sends_in_work -= 1
            self.counters.send_errors += 1

    def count_arrived(self) -> None:
        """A frame is for this VIF, and in work from now on."""
        self.counters.arrived += 1
        self.receives_in_work += 1

    def count_sent(self) -> None:
        """A frame of this VIF leaves."""
        self.counters.sent += 1
        self.sends_in_work -= 1

    def count_drop(self, packet: Packet, cause: str) -> None:
        """A packet of this session ends here."""
        if packet.is_sent:
            self.sends_in_work -= 1
        else:
            self.receives_in_work -= 1
        self._count_drops(self.counters.send_drops if packet.is_sent else self.counters.receive_drops, cause, 1)

    def _count_drops(self, drops: dict[str, int], cause: str, count: int) -> None:
        drops[cause] = drops.get(cause, 0) + count
