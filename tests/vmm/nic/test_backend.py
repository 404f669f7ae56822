"""Claims about the hypercalls of a backend: frames are copied and paid for, and nobody reaches what is not his."""

from dataclasses import dataclass

import pytest

from devices.nic import vif_page
from devices.nic.vif import Vif
from devices.nic.vif_page import DONE, OWNED, RECEIVE_RING, SEND_RING
from tests.vmm.fakes import BASE_HPA, MEMORY_BYTES, Bench
from vmm.cost import paths
from vmm.guest_memory import GuestMemory
from vmm.nic.backend import (
    CALL_DELIVER,
    CALL_FETCH,
    CALL_MAC,
    CALL_NOTIFY,
    CALL_PENDING,
    INVALID,
    NO_ADDRESS,
    NOT_PERMITTED,
    hypercalls,
)
from vmm.nic.bridge import Bridge
from vmm.vcpu import VCpu

FRAME = bytes(range(200)) * 2
BACKEND, NUMBER = 0, 0  # of the domain, of the guest's VIF
GUEST_BYTES = MEMORY_BYTES // 2  # the upper half of the bench's memory, which the backend does not use
PAGE, BUFFER, MINE = 0x1000, 0x2F80, 0x3F00  # buffers cross a page
MAC = b"\x02\x5c\0\0\1\2"


@dataclass
class Port:
    memory: GuestMemory

    def is_ram(self, address: int, length_bytes: int) -> bool:
        return self.memory.is_ram(address, length_bytes)

    def read(self, address: int, length_bytes: int) -> bytes:
        return self.memory.read(address, length_bytes)

    def write(self, address: int, data: bytes) -> None:
        self.memory.write(address, data)


@dataclass
class Frontend:
    memory: GuestMemory
    vif: Vif


class Rig:
    """The backend's vCPU on a bench, and a guest beside it with a VIF."""

    def __init__(self, *, backend: int = BACKEND) -> None:
        self.bench = Bench()
        self.bridge = Bridge(now_ps=lambda: 0, on_pending=lambda: None)
        host = self.bench.domain.machine.memory
        memory = GuestMemory(host, base_hpa=BASE_HPA + GUEST_BYTES, size_bytes=GUEST_BYTES)
        vif = self.bridge.create(MAC, Port(memory))
        assert vif is not None
        assert vif.attach(PAGE)
        self.guest = Frontend(memory, vif)
        self.signalled: list[int] = []
        self.calls = hypercalls(
            self.bridge, self, is_backend=lambda number: number == backend, signal=self.signal
        )  # fmt: skip

    def of_domain(self, domain_number: int) -> Frontend | None:
        return self.guest if domain_number == self.bench.domain.number else None

    def of_vif(self, number: int) -> Frontend | None:
        return self.guest if number == NUMBER else None

    def signal(self, _vcpu: VCpu, number: int) -> None:
        self.signalled.append(number)

    def call(self, number: int, first: int = 0, second: int = 0) -> int:
        return self.calls[number](self.bench.vcpu, first, second)

    def give(self, ring: int, address: int, length: int) -> None:
        self.guest.memory.write(PAGE + ring, vif_page.pack(address, length, OWNED))

    def state(self, ring: int) -> int:
        return vif_page.unpack(self.guest.memory.read(PAGE + ring, vif_page.DESCRIPTOR_BYTES))[2]


def test_a_frame_is_fetched_from_the_guest_and_copied_at_the_cost_of_the_backend() -> None:
    rig = Rig()
    rig.guest.memory.write(BUFFER, FRAME)
    rig.give(SEND_RING, BUFFER, len(FRAME))
    assert rig.call(CALL_FETCH, MINE, NUMBER) == len(FRAME)
    assert rig.bench.domain.read(MINE, len(FRAME)) == FRAME
    assert rig.state(SEND_RING) == DONE
    assert paths.GRANT_COPY in rig.bench.meter.followed
    read = sum(size for _, size, is_write in rig.bench.meter.touched if not is_write)
    written = sum(size for _, size, is_write in rig.bench.meter.touched if is_write)
    assert (read, written) == (16 + len(FRAME), 8 + len(FRAME))
    assert rig.call(CALL_FETCH, MINE, NUMBER) == 0


def test_a_frame_is_delivered_to_the_guest_which_is_told() -> None:
    rig = Rig()
    rig.bench.domain.write(MINE, FRAME)
    rig.give(RECEIVE_RING, BUFFER, 2048)
    assert rig.call(CALL_DELIVER, MINE, NUMBER << 16 | len(FRAME)) == 1
    assert rig.guest.memory.read(BUFFER, len(FRAME)) == FRAME
    assert rig.signalled == [NUMBER]
    assert rig.call(CALL_DELIVER, MINE, NUMBER << 16 | len(FRAME)) == 0  # no descriptor
    assert rig.signalled == [NUMBER]
    assert rig.guest.vif.counters.receive_drops == {"no descriptor": 1}


def test_a_guest_says_that_it_has_something_and_the_backend_takes_that() -> None:
    rig = Rig()
    assert rig.call(CALL_NOTIFY) == 0
    assert rig.call(CALL_PENDING) == 1 << NUMBER
    assert rig.call(CALL_PENDING) == 0


def test_the_backend_learns_who_is_there() -> None:
    rig = Rig()
    assert rig.call(CALL_MAC, NUMBER).to_bytes(6, "little") == MAC
    assert rig.call(CALL_MAC, 63) == rig.call(CALL_MAC, 1 << 63) == 0


@pytest.mark.parametrize("number", [CALL_FETCH, CALL_DELIVER, CALL_MAC, CALL_PENDING])
def test_nobody_but_the_backend_may(number: int) -> None:
    rig = Rig(backend=7)
    rig.give(SEND_RING, BUFFER, len(FRAME))
    rig.bridge.notify(rig.guest.vif)
    assert rig.call(number, MINE, NUMBER << 16 | 64 if number == CALL_DELIVER else NUMBER) == NOT_PERMITTED
    assert rig.state(SEND_RING) == OWNED
    assert rig.bridge.take_pending() == 1


@pytest.mark.parametrize("gpa", [MEMORY_BYTES, MEMORY_BYTES - 1513, (1 << 64) - 1, 1 << 63], ids=hex)
def test_a_buffer_that_is_not_the_backends_ram_is_refused_and_nothing_is_taken(gpa: int) -> None:
    rig = Rig()
    rig.give(SEND_RING, BUFFER, len(FRAME))
    assert rig.call(CALL_FETCH, gpa, NUMBER) == NO_ADDRESS
    assert rig.call(CALL_DELIVER, gpa, NUMBER << 16 | 1514) == NO_ADDRESS
    assert rig.state(SEND_RING) == OWNED
    assert rig.guest.vif.counters.arrived == 0


@pytest.mark.parametrize(
    "packed", [NUMBER << 16, NUMBER << 16 | 13, NUMBER << 16 | 1515, NUMBER << 16 | 0xFFFF], ids=hex
)
def test_a_frame_of_no_possible_length_is_refused(packed: int) -> None:
    rig = Rig()
    rig.give(RECEIVE_RING, BUFFER, 1 << 20)
    assert rig.call(CALL_DELIVER, MINE, packed) == INVALID
    assert rig.state(RECEIVE_RING) == OWNED


@pytest.mark.parametrize("number", [1, 63, (1 << 48) - 1], ids=hex)
def test_a_vif_that_is_not_there_has_nothing_and_gets_nothing(number: int) -> None:
    rig = Rig()
    assert rig.call(CALL_FETCH, MINE, number) == 0
    assert rig.call(CALL_DELIVER, MINE, number << 16 | 64) == 0
