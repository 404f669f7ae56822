"""What a backend domain, and the guests whose frames it carries, ask of the VMM: hypercalls by RAX, (RDI, RSI).

    NOTIFY   by a guest: it has something to send                                      --> 0
    PENDING  by the backend, as the others: which VIFs have, a bit for each number      --> bits, taken by this
    FETCH    (buffer of FRAME_ROOM_BYTES, VIF): the next frame it sends                 --> length; 0: none
    DELIVER  (buffer, VIF << 16 | length): a frame it gets                              --> 1; 0: dropped
    MAC      (VIF): its address, byte 0 in bits 7:0                                     --> address; 0: no such VIF

Anybody else gets -EPERM, a buffer that is no RAM -EFAULT, a wrong length -EINVAL. Copying is the caller's time: a path,
and the words that it touches in both domains (Xen's GNTTABOP_copy).

MODEL: no grants: the VMM knows who carries whose frames, and that is the right to copy them.
"""

from collections.abc import Callable
from typing import Protocol

from devices.nic.vif import Vif
from devices.nic.vif_page import DESCRIPTOR_BYTES, FRAME_MAX_BYTES, FRAME_MIN_BYTES, RESULT_AT
from emulator.x86 import PAGE_BYTES
from vmm.cost import paths
from vmm.guest_memory import GuestMemory
from vmm.nic.bridge import Bridge, Carried
from vmm.vcpu import Hypercall, VCpu

CALL_NOTIFY, CALL_FETCH, CALL_DELIVER, CALL_MAC, CALL_PENDING = 0x5C12, 0x5C13, 0x5C14, 0x5C15, 0x5C16
NOT_PERMITTED, NO_ADDRESS, INVALID = -1, -14, -22  # -EPERM, -EFAULT, -EINVAL
FRAME_ROOM_BYTES = 1536
LENGTH_MASK = 0xFFFF


class Frontend(Protocol):
    """The interface of a guest that the backend serves: `interface.Interface`."""

    memory: GuestMemory

    @property
    def vif(self) -> Vif:
        """Its VIF, of the bridge."""
        ...


class Frontends(Protocol):
    """Who has which VIF of the bridge."""

    def of_domain(self, domain_number: int) -> Frontend | None:
        """The interface of a domain, if the backend serves it."""
        ...

    def of_vif(self, number: int) -> Frontend | None:
        """The interface that has VIF `number`."""
        ...


def hypercalls(
    bridge: Bridge, frontends: Frontends, *, is_backend: Callable[[int], bool], signal: Callable[[VCpu, int], None]
) -> dict[int, Hypercall]:
    """By number. `is_backend` gets a domain's number; `signal(vCPU, VIF)` tells a guest that it has frames."""
    calls = _Calls(bridge, frontends, is_backend, signal)
    return {
        CALL_NOTIFY: calls.notify,
        CALL_FETCH: calls.fetch,
        CALL_DELIVER: calls.deliver,
        CALL_MAC: calls.mac,
        CALL_PENDING: calls.pending,
    }


class _Calls:
    """(vCPU, RDI, RSI) -> RAX."""

    def __init__(
        self,
        bridge: Bridge,
        frontends: Frontends,
        is_backend: Callable[[int], bool],
        signal: Callable[[VCpu, int], None],
    ) -> None:
        self._bridge = bridge
        self._frontends = frontends
        self._is_backend = is_backend
        self._signal = signal

    def notify(self, vcpu: VCpu, _first: int, _second: int) -> int:
        """The guest has something to send."""
        frontend = self._frontends.of_domain(vcpu.domain.number)
        if frontend is None:
            return NOT_PERMITTED
        vcpu.meter.follow(paths.SEND_EVENT)
        vcpu.meter.commit()
        self._bridge.notify(frontend.vif)
        return 0

    def pending(self, vcpu: VCpu, _first: int, _second: int) -> int:
        """Which VIFs have something to send."""
        return self._bridge.take_pending() if self._may(vcpu) else NOT_PERMITTED

    def mac(self, vcpu: VCpu, number: int, _second: int) -> int:
        """The address of a VIF."""
        if not self._may(vcpu):
            return NOT_PERMITTED
        frontend = self._frontends.of_vif(number)
        return 0 if frontend is None else int.from_bytes(frontend.vif.mac, "little")

    def fetch(self, vcpu: VCpu, gpa: int, number: int) -> int:
        """The next frame of a VIF."""
        if not self._may(vcpu):
            return NOT_PERMITTED
        memory = vcpu.domain.memory
        if not memory.is_ram(gpa, FRAME_ROOM_BYTES):
            return NO_ADDRESS
        frontend = self._frontends.of_vif(number)
        carried = None if frontend is None else self._bridge.fetch(number)
        if frontend is None or carried is None:
            return 0
        self._pay(vcpu, frontend, carried, gpa, is_fetch=True)
        memory.write(gpa, carried.frame)
        for at, length_bytes in _pieces(gpa, len(carried.frame)):
            vcpu.paging.guest_memory_written(vcpu.meter, at, length_bytes)
        return len(carried.frame)

    def deliver(self, vcpu: VCpu, gpa: int, packed: int) -> int:
        """A frame for a VIF."""
        if not self._may(vcpu):
            return NOT_PERMITTED
        number, length_bytes = packed >> 16, packed & LENGTH_MASK
        memory = vcpu.domain.memory
        if not FRAME_MIN_BYTES <= length_bytes <= FRAME_MAX_BYTES:
            return INVALID
        if not memory.is_ram(gpa, length_bytes):
            return NO_ADDRESS
        frontend = self._frontends.of_vif(number)
        carried = None if frontend is None else self._bridge.deliver(number, memory.read(gpa, length_bytes))
        if frontend is None or carried is None:
            return 0
        self._pay(vcpu, frontend, carried, gpa, is_fetch=False)
        vcpu.meter.commit()
        self._signal(vcpu, number)
        return 1

    def _may(self, vcpu: VCpu) -> bool:
        return self._is_backend(vcpu.domain.number)

    def _pay(self, vcpu: VCpu, frontend: Frontend, carried: Carried, gpa: int, *, is_fetch: bool) -> None:
        """A descriptor read and written back, and the frame read in one domain and written in the other."""
        meter = vcpu.meter
        meter.follow(paths.GRANT_COPY)
        descriptor_hpa = frontend.memory.hpa_of(carried.descriptor_gpa)
        meter.touch(descriptor_hpa, DESCRIPTOR_BYTES, False)
        meter.touch(descriptor_hpa + RESULT_AT, DESCRIPTOR_BYTES - RESULT_AT, True)
        places = ((frontend.memory, carried.address, not is_fetch), (vcpu.domain.memory, gpa, is_fetch))
        for memory, start_gpa, is_write in places:
            for at, piece_bytes in _pieces(start_gpa, len(carried.frame)):
                meter.touch(memory.hpa_of(at), piece_bytes, is_write)


def _pieces(gpa: int, length_bytes: int) -> list[tuple[int, int]]:
    """[gpa, gpa + length_bytes) cut at page boundaries."""
    pieces = []
    while length_bytes > 0:
        piece_bytes = min(length_bytes, PAGE_BYTES - gpa % PAGE_BYTES)
        pieces.append((gpa, piece_bytes))
        gpa, length_bytes = gpa + piece_bytes, length_bytes - piece_bytes
    return pieces
