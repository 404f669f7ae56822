"""A driver domain: one domain has the NIC's only VIF, and carries the frames of all others.

    guest: OWNED, VIF_NOTIFY -------> a bit of `requests` in the backend's page, its event channel
    backend: VIF_FETCH -------------> the guest's next frame is copied to a buffer of the backend, its descriptor DONE
    backend: VIF_DELIVER -----------> the frame is copied to the guest's next receive buffer, DONE, its event channel

Guests have the function, the page and the driver of a VIF; only that nobody polls their page is another (the register
`notify`). After Xen's network back end of 2006 with copies by grant tables: a hypercall for each, and notifications
while the backend wants them. Both sides are hostile: a buffer that is not the backend's RAM, an interface that is none,
a descriptor that leads nowhere is an error of that call, or of that descriptor.

MODEL: Xen's rings lie in pages that both map, so that the backend finds requests without a hypercall. What the VMM
stores in a guest's page takes the line to memory, as a device's store does.
"""

from typing import Any

from devices.nic import vif_page
from devices.nic.vif import Descriptor, Packet, Vif, VifPort, check_mac
from vmm.cost import paths
from vmm.exits.hypercalls import UNKNOWN
from vmm.nic.event_channel import Kicker
from vmm.nic.hops import Hops
from vmm.nic.interface import Interface
from vmm.vcpu import Hypercall, VCpu

CALL_NOTIFY, CALL_FETCH, CALL_DELIVER, CALL_ADDRESS = 0x5C12, 0x5C13, 0x5C14, 0x5C15  # vif.h: VIF_CALL_*
FIRST, LAST = 1, 63  # numbers of interfaces: bits of `requests`; 0 would be that of the backend's own
INVALID, ABSENT, FULL = -22, -2, -28  # -EINVAL, -ENOENT, -ENOSPC
LENGTH_MASK = 0xFFFF


class Backend:
    """The domain that has interface `own` on the NIC, and the interfaces it carries for."""

    identifier_bits = 1  # of no register: they interrupt nobody

    def __init__(self, own: Interface, kicker: Kicker, hops: Hops) -> None:
        self.own = own
        self._kicker = kicker
        self._hops = hops
        self._interfaces: dict[int, Interface] = {}
        self._sessions = 0
        self._changes = 0

    def create(self, interface: Interface, mac: bytes, port: VifPort) -> Vif | None:
        """A VIF for a guest; None: there are as many as there are bits. Raises ValueError for a MAC as Nic does."""
        check_mac(mac, {other.vif.mac for other in self._interfaces.values() if other.has_vif})
        number = next((n for n in range(FIRST, LAST + 1) if not self._has(n)), None)
        if number is None:
            return None
        self._interfaces[number] = interface
        return Vif(self, number, mac, port, is_master=self._is_master, is_promiscuous=False)

    def destroy(self, vif: Vif) -> None:
        """End a VIF."""
        vif.detach()
        vif.is_destroyed = True

    def _has(self, number: int) -> bool:
        return number in self._interfaces and self._interfaces[number].has_vif

    def _is_master(self) -> bool:
        return True

    # --- see VifOwner ------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """See VifOwner."""

    def begin_session(self) -> tuple[int, int]:
        """See VifOwner."""
        self._sessions += 1
        return self._sessions, 0

    def changed(self, vif: Vif) -> None:
        """See VifOwner: the backend is called to look which interfaces there are; the guest may notify."""
        self._changes = self._changes + 1 & 0xFFFF_FFFF
        if vif.is_attached:
            vif.write(vif.page_gpa + vif_page.NOTIFY_WANTED, (1).to_bytes(4, "little"))
        if self.own.page is not None:
            self.own.vif.write(self.own.page.gpa + vif_page.CHANGES, self._changes.to_bytes(4, "little"))
            if self._kicker.running is not None:  # else the domain has ended, and its frames with it
                self._signal(self.own, is_news=True)

    def noticed(self, vif: Vif, index: int, visible_ps: int) -> None:
        """See VifOwner: the guest notifies by itself."""
        self._hops.stamp(vif.number, "posted", visible_ps)

    # --- hypercalls: (vCPU, RDI, RSI) -> RAX -------------------------------------------------------------------------

    def hypercalls(self) -> dict[int, Hypercall]:
        """By number."""
        return {
            CALL_NOTIFY: self.notify,
            CALL_FETCH: self.fetch,
            CALL_DELIVER: self.deliver,
            CALL_ADDRESS: self.address,
        }

    def notify(self, vcpu: VCpu, _first: int, _second: int) -> int:
        """A guest has given away send descriptors."""
        interface = next((i for i in self._interfaces.values() if i.domain_number == vcpu.domain.number), None)
        own, page = self.own, None if interface is None else interface.page
        if interface is None or page is None or own.page is None:
            return ABSENT
        vcpu.meter.follow(paths.NOTIFY)
        interface.vif.write(page.gpa + vif_page.NOTIFY_WANTED, bytes(4))
        requests = int.from_bytes(own.vif.read(own.page.gpa + vif_page.REQUESTS, 8), "little")
        requests |= 1 << interface.vif.number
        own.vif.write(own.page.gpa + vif_page.REQUESTS, requests.to_bytes(8, "little"))
        vcpu.meter.touch(own.page.hpa + vif_page.REQUESTS, 8, True)
        self._signal(own, is_news=True)
        return 0

    def address(self, vcpu: VCpu, number: int, _second: int) -> int:
        """The MAC address of an interface, byte 0 lowest."""
        if not self._is_backend(vcpu):
            return UNKNOWN
        vif = self._attached(number)
        return ABSENT if vif is None else int.from_bytes(vif.mac, "little")

    def fetch(self, vcpu: VCpu, gpa: int, number: int) -> int:
        """Copy the next frame that a guest sends to the backend's `gpa`; its length, 0 when there is none."""
        if not self._is_backend(vcpu):
            return UNKNOWN
        vif = self._attached(number)
        if vif is None:
            return ABSENT
        if not self.own.vif.is_ram(gpa, vif_page.FRAME_MAX_BYTES):
            return INVALID
        for _ in range(vif_page.RING_COUNT):
            descriptor = self._take(vcpu, vif, vif_page.SEND_RING)
            if descriptor is None:
                if self._wants_notice(vif):
                    return 0
                continue  # it came meanwhile
            length = descriptor.length
            if not vif_page.FRAME_MIN_BYTES <= length <= vif_page.FRAME_MAX_BYTES:
                vif.give_back(descriptor, vif_page.ERROR, vif_page.BAD_LENGTH)
            elif not vif.is_ram(descriptor.address, length):
                vif.give_back(descriptor, vif_page.ERROR, vif_page.BAD_ADDRESS)
            else:
                self._copy(vcpu, vif, descriptor.address, self.own.vif, gpa, length)
                vif.give_back(descriptor, vif_page.DONE, length)
                vif.count_sent()
                self._hops.stamp(number, "fetched", vcpu.pcpu.clock.now_ps)
                return length
        return 0

    def deliver(self, vcpu: VCpu, gpa: int, number_and_length: int) -> int:
        """Copy a frame from the backend's `gpa` to a guest's next receive buffer; RSI: number << 16 | length."""
        if not self._is_backend(vcpu):
            return UNKNOWN
        number, length = number_and_length >> 16, number_and_length & LENGTH_MASK
        vif = self._attached(number)
        if vif is None:
            return ABSENT
        if not vif_page.FRAME_MIN_BYTES <= length <= vif_page.FRAME_MAX_BYTES or not self.own.vif.is_ram(gpa, length):
            return INVALID
        vif.count_arrived()
        descriptor = self._take(vcpu, vif, vif_page.RECEIVE_RING)
        if descriptor is None:
            frame = self.own.vif.read(gpa, length)
            vif.count_drop(Packet(number, vif.session, False, frame), "no descriptor")
            return FULL
        result = 0
        if descriptor.length < length:
            vif.give_back(descriptor, vif_page.ERROR, vif_page.BAD_LENGTH)
            result = INVALID
        elif not vif.is_ram(descriptor.address, length):
            vif.give_back(descriptor, vif_page.ERROR, vif_page.BAD_ADDRESS)
            result = INVALID
        else:
            self._copy(vcpu, self.own.vif, gpa, vif, descriptor.address, length)
            vif.give_back(descriptor, vif_page.DONE, length)
            self._hops.stamp(number, "delivered", vcpu.pcpu.clock.now_ps)
        self._signal(self._interfaces[number], is_news=False)
        return result

    def stats(self) -> dict[int, dict[str, Any]]:
        """Counters by number of the interface."""
        return {number: vars(interface.vif.counters) for number, interface in self._interfaces.items()}

    # --- parts of them -----------------------------------------------------------------------------------------------

    def _signal(self, interface: Interface, *, is_news: bool) -> None:
        """The core whose hypercall it is sends the signal."""
        sender = self._kicker.running
        assert sender is not None, "a hypercall is a core's"
        interface.signal(sender, sender.pcpu.clock.now_ps, is_news=is_news)

    def _is_backend(self, vcpu: VCpu) -> bool:
        return bool(self.own.vcpus) and vcpu.domain is self.own.vcpus[0].domain and self.own.page is not None

    def _attached(self, number: int) -> Vif | None:
        interface = self._interfaces.get(number)
        return None if interface is None or interface.page is None else interface.vif

    def _take(self, vcpu: VCpu, vif: Vif, ring: int) -> Descriptor | None:
        """The next descriptor, read at the backend's cost."""
        vcpu.meter.follow(paths.GRANT_COPY)
        index = vif.send_index if ring == vif_page.SEND_RING else vif.receive_index
        hpa = self._interfaces[vif.number].memory.hpa_of(vif.page_gpa + vif_page.descriptor_at(ring, index))
        vcpu.meter.touch(hpa, vif_page.DESCRIPTOR_BYTES, True)
        return vif.take(ring)

    def _wants_notice(self, vif: Vif) -> bool:
        """Ask the guest to notify; False: it has given away a descriptor meanwhile."""
        vif.write(vif.page_gpa + vif_page.NOTIFY_WANTED, (1).to_bytes(4, "little"))
        at = vif.page_gpa + vif_page.descriptor_at(vif_page.SEND_RING, vif.send_index)
        return vif_page.unpack(vif.read(at, vif_page.DESCRIPTOR_BYTES))[2] != vif_page.OWNED

    def _copy(self, vcpu: VCpu, source: Vif, from_gpa: int, target: Vif, to_gpa: int, length_bytes: int) -> None:
        """Copy, word by word through the core's caches."""
        for vif, gpa, is_write in ((source, from_gpa, False), (target, to_gpa, True)):
            memory = self.own.memory if vif is self.own.vif else self._interfaces[vif.number].memory
            vcpu.meter.touch(memory.hpa_of(gpa), length_bytes, is_write)
        target.write(to_gpa, source.read(from_gpa, length_bytes))
        vcpu.meter.commit()
