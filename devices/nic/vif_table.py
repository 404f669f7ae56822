"""The VIFs of a NIC, by number and by MAC address, and who polls their send queues.

MODEL: they come and go at once; on the board the management core's program does it.
MODEL: send queues behind the NIC are read in the guest's memory all the same, in the time of SRAM.
"""

from collections.abc import Callable

from devices.nic.chip_events import ChipEvents
from devices.nic.observe import Observers
from devices.nic.polling import Poller
from devices.nic.vif import IS_GROUP, VIF_MAX, Vif, VifPort, check_mac


class VifTable:
    """Creates and finds VIFs. Poller k of `pollers` has those whose number modulo the count of pollers is k."""

    def __init__(
        self,
        events: ChipEvents,
        observers: Observers,
        *,
        identifier_bits: int,
        posting_ps: int,
        is_master: Callable[[], bool],
    ) -> None:
        """`posting_ps` passes until the device can see what a guest stores in a send descriptor."""
        self.identifier_bits = identifier_bits
        self.vifs: dict[int, Vif] = {}
        self.pollers: list[Poller] = []
        self._by_mac: dict[bytes, Vif] = {}
        self._sessions = 0
        self._events = events
        self._observers = observers
        self._posting_ps = posting_ps
        self._is_master = is_master

    def create(self, mac: bytes, port: VifPort, *, is_promiscuous: bool) -> Vif | None:
        """A VIF with the lowest free number; None: there are VIF_MAX. Raises ValueError for a MAC that cannot be."""
        check_mac(mac, self._by_mac)
        number = next((number for number in range(VIF_MAX) if number not in self.vifs), None)
        if number is None:
            return None
        vif = Vif(self, number, mac, port, is_master=self._is_master, is_promiscuous=is_promiscuous)
        self.vifs[number] = self._by_mac[mac] = vif
        return vif

    def destroy(self, vif: Vif) -> None:
        """Detach a VIF for good; its number may be another's next."""
        vif.detach()
        vif.is_destroyed = True
        if self.vifs.get(vif.number) is vif:
            del self.vifs[vif.number], self._by_mac[vif.mac]

    def find(self, number: int, session: int) -> Vif | None:
        """The VIF of a session; None: the session is over."""
        vif = self.vifs.get(number)
        return vif if vif is not None and vif.session == session else None

    def receivers(self, mac: bytes) -> list[Vif]:
        """The attached VIFs that a frame for `mac` is for, by number. One for nobody here is for promiscuous ones."""
        vif = self._by_mac.get(mac)
        if vif is not None:
            return [vif] if vif.is_attached else []
        attached = [vif for _, vif in sorted(self.vifs.items()) if vif.is_attached]
        return attached if mac[0] & IS_GROUP else [vif for vif in attached if vif.is_promiscuous]

    def is_here(self, mac: bytes) -> bool:
        """Whether that is the address of a VIF of this NIC."""
        return mac in self._by_mac

    # --- see VifOwner ------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """See VifOwner."""
        self._events.catch_up()

    def begin_session(self) -> tuple[int, int]:
        """See VifOwner."""
        self._sessions += 1
        return self._sessions, self._events.now_ps

    def changed(self, vif: Vif) -> None:
        """See VifOwner."""
        if self.pollers:
            self.pollers[vif.number % len(self.pollers)].change(vif)

    def noticed(self, vif: Vif, index: int, visible_ps: int) -> None:
        """See VifOwner."""
        self._events.catch_up()
        self._observers.stamp(vif.number, "posted", visible_ps)
        vif.visible_ps[index] = visible_ps + self._posting_ps
        if self.pollers and index == vif.send_index:
            self.pollers[vif.number % len(self.pollers)].look()
