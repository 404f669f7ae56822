"""Virtual interfaces that no device serves: a domain, the backend, carries their frames, by the VMM's hands.

    guest's send queue ----fetch----> the backend's buffer --> its own VIF on the NIC, or another guest's
    guest's receive queue <--deliver-- the backend's buffer

To its guest such a VIF is like any other: page, descriptors, errors and counters are the same (devices/nic/vif.py does
the work on its queues). The guest says by hypercall that it has something to send; until the backend takes it, it need
not say so again.
"""

from collections.abc import Callable
from typing import NamedTuple

from devices.nic.vif import IS_GROUP, MAC_BYTES, VIF_MAX, Packet, Vif, VifPort
from devices.nic.vif_page import (
    BAD_ADDRESS,
    BAD_LENGTH,
    DONE,
    ERROR,
    FRAME_MAX_BYTES,
    FRAME_MIN_BYTES,
    RECEIVE_RING,
    RING_COUNT,
    SEND_RING,
    descriptor_at,
)

MALFORMED_MAX = RING_COUNT  # descriptors that one `fetch` answers: a guest may give them without an end


class Carried(NamedTuple):
    """A frame that was in a guest's buffer at `address`, or is now; empty: the descriptor was an error."""

    address: int
    frame: bytes
    descriptor_gpa: int


def _is_master() -> bool:
    """The VMM may always."""
    return True


class Bridge:
    """The VIFs, by number. `now_ps` tells the time; `on_pending` is called when a guest has something, and none had."""

    identifier_bits = VIF_MAX

    def __init__(self, now_ps: Callable[[], int], on_pending: Callable[[], None]) -> None:
        self.vifs: dict[int, Vif] = {}
        self._pending: dict[int, None] = {}  # numbers of VIFs that have something to send
        self._sessions = 0
        self._now_ps = now_ps
        self._on_pending = on_pending

    def create(self, mac: bytes, port: VifPort) -> Vif | None:
        """A VIF with the lowest free number; None: there are VIF_MAX. Raises ValueError for a MAC that cannot be."""
        if len(mac) != MAC_BYTES or mac[0] & IS_GROUP or any(vif.mac == mac for vif in self.vifs.values()):
            raise ValueError(f"{mac.hex(':')} is no MAC address for a VIF, or it is taken")
        number = next((number for number in range(VIF_MAX) if number not in self.vifs), None)
        if number is None:
            return None
        vif = self.vifs[number] = Vif(self, number, mac, port, is_master=_is_master, is_promiscuous=False)
        return vif

    def destroy(self, vif: Vif) -> None:
        """Detach a VIF for good; its number may be another's next."""
        vif.detach()
        vif.is_destroyed = True
        if self.vifs.get(vif.number) is vif:
            del self.vifs[vif.number]
            self._pending.pop(vif.number, None)

    # --- for guests --------------------------------------------------------------------------------------------------

    def notify(self, vif: Vif) -> None:
        """The guest says that it has something to send."""
        if not vif.is_attached:
            return
        was_idle = not self._pending
        self._pending[vif.number] = None
        if was_idle:
            self._on_pending()

    # --- for the backend ---------------------------------------------------------------------------------------------

    def take_pending(self) -> int:
        """Which VIFs have had something to send since the last time, a bit for each number."""
        bits = sum(1 << number for number in self._pending)
        self._pending.clear()
        return bits

    def fetch(self, number: int) -> Carried | None:
        """The next frame of a VIF's send queue; None: there is none. Malformed descriptors are answered and counted."""
        vif = self.vifs.get(number)
        if vif is None or not vif.is_attached:
            return None
        for _ in range(MALFORMED_MAX):
            descriptor = vif.take(SEND_RING)
            if descriptor is None:
                return None
            if not FRAME_MIN_BYTES <= descriptor.length <= FRAME_MAX_BYTES:
                vif.give_back(descriptor, ERROR, BAD_LENGTH)
            elif not vif.is_ram(descriptor.address, descriptor.length):
                vif.give_back(descriptor, ERROR, BAD_ADDRESS)
            else:
                frame = vif.read(descriptor.address, descriptor.length)
                vif.give_back(descriptor, DONE, descriptor.length)
                vif.count_sent()
                return Carried(descriptor.address, frame, vif.page_gpa + descriptor_at(SEND_RING, descriptor.number))
        self._pending[number] = None  # there may be more
        return None

    def deliver(self, number: int, frame: bytes) -> Carried | None:
        """Put a frame into a VIF's receive queue; None: dropped, and counted. Else its guest has to look."""
        vif = self.vifs.get(number)
        if vif is None or not vif.is_attached:
            return None
        vif.count_arrived()
        descriptor = vif.take(RECEIVE_RING)
        if descriptor is None:
            vif.count_drop(Packet(number, vif.session, False, frame), "no descriptor")
            return None
        descriptor_gpa = vif.page_gpa + descriptor_at(RECEIVE_RING, descriptor.number)
        if len(frame) > descriptor.length:
            vif.give_back(descriptor, ERROR, BAD_LENGTH)
        elif not vif.is_ram(descriptor.address, len(frame)):
            vif.give_back(descriptor, ERROR, BAD_ADDRESS)
        else:
            vif.write(descriptor.address, frame)
            vif.give_back(descriptor, DONE, len(frame))
            return Carried(descriptor.address, frame, descriptor_gpa)
        return Carried(descriptor.address, b"", descriptor_gpa)

    # --- see VifOwner ------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """See VifOwner."""

    def begin_session(self) -> tuple[int, int]:
        """See VifOwner."""
        self._sessions += 1
        return self._sessions, self._now_ps()

    def changed(self, vif: Vif) -> None:
        """See VifOwner."""
        self._pending.pop(vif.number, None)

    def noticed(self, vif: Vif, index: int, visible_ps: int) -> None:
        """See VifOwner. Nobody polls: the guest says so itself."""
