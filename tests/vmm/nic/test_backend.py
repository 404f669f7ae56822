"""Claims about a driver domain's hypercalls: frames are copied, paid for and told; nobody reaches what is not his."""

import random
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from devices.nic import vif_page
from devices.nic.vif import Vif
from devices.nic.vif_page import BAD_ADDRESS, BAD_LENGTH, DONE, ERROR, FREE, OWNED, RECEIVE_RING, SEND_RING
from tests.vmm.fakes import BASE_HPA, MEMORY_BYTES, Bench
from vmm.cost import paths
from vmm.exits.hypercalls import UNKNOWN
from vmm.guest_memory import GuestMemory
from vmm.nic.backend import (
    ABSENT,
    CALL_ADDRESS,
    CALL_DELIVER,
    CALL_FETCH,
    CALL_NOTIFY,
    FIRST,
    FULL,
    INVALID,
    LAST,
    Backend,
)
from vmm.nic.hops import Hops

FRAME = bytes(range(200)) * 2
GUEST_BYTES = MEMORY_BYTES // 2  # the upper half of the bench's memory, which the backend does not use
OWN_PAGE, PAGE, BUFFER, MINE = 0x4000, 0x1000, 0x2F80, 0x3F00  # buffers cross a page
OWN_MAC, MAC = b"\x02\x5c\0\0\1\0", b"\x02\x5c\0\0\1\2"


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
class Interface:
    """As vmm.nic.interface has it."""

    domain_number: int
    memory: GuestMemory
    vcpus: list[Any]
    vif: Any = None
    page: Any = None
    signals: list[bool] = field(default_factory=list)

    @property
    def has_vif(self) -> bool:
        return self.vif is not None and not self.vif.is_destroyed

    def attach(self, gpa: int) -> None:
        assert self.vif.attach(gpa)
        self.page = SimpleNamespace(gpa=gpa, hpa=self.memory.hpa_of(gpa))

    def signal(self, sender: Any, taken_ps: int, *, is_news: bool = False) -> None:
        self.signals.append(is_news)


class Nic:
    """Owner of the backend's own VIF."""

    identifier_bits = 8

    def prepare(self) -> None: ...
    def begin_session(self) -> tuple[int, int]:
        return 1, 0

    def changed(self, vif: Vif) -> None: ...
    def noticed(self, vif: Vif, index: int, visible_ps: int) -> None: ...


class Rig:
    """The vCPU of a bench, which is the backend's unless `is_guest`, and a guest beside it."""

    def __init__(self, *, is_guest: bool = False) -> None:
        self.bench = bench = Bench()
        domain = bench.domain
        running = SimpleNamespace(pcpu=SimpleNamespace(clock=SimpleNamespace(now_ps=5)))
        memory = GuestMemory(domain.machine.memory, base_hpa=BASE_HPA + GUEST_BYTES, size_bytes=GUEST_BYTES)
        backend_vcpu = SimpleNamespace(domain=object()) if is_guest else bench.vcpu
        self.own = Interface(7, domain.memory, [backend_vcpu])
        self.own.vif = Vif(Nic(), 0, OWN_MAC, Port(domain.memory), is_master=lambda: True, is_promiscuous=True)
        self.backend = Backend(self.own, SimpleNamespace(running=running), Hops([]))  # type: ignore[arg-type]  # fakes
        self.own.attach(OWN_PAGE)
        self.guest = self.add(domain.number, memory, MAC)
        self.guest.attach(PAGE)

    def add(self, domain_number: int, memory: GuestMemory, mac: bytes) -> Interface:
        interface = Interface(domain_number, memory, [])
        interface.vif = self.backend.create(interface, mac, Port(memory))  # type: ignore[arg-type]  # a fake
        return interface

    def call(self, number: int, first: int = 0, second: int = 0) -> int:
        return self.backend.hypercalls()[number](self.bench.vcpu, first, second)

    def give(self, ring: int, address: int, length: int, index: int = 0) -> None:
        self.guest.memory.write(PAGE + vif_page.descriptor_at(ring, index), vif_page.pack(address, length, OWNED))

    def result(self, ring: int, index: int = 0) -> tuple[int, int]:
        """(length, state) of a descriptor of the guest."""
        at = PAGE + vif_page.descriptor_at(ring, index)
        return vif_page.unpack(self.guest.memory.read(at, vif_page.DESCRIPTOR_BYTES))[1:]

    def word(self, memory: GuestMemory, gpa: int, size_bytes: int = 4) -> int:
        return int.from_bytes(memory.read(gpa, size_bytes), "little")


def test_a_frame_is_fetched_from_the_guest_and_copied_at_the_cost_of_the_backend() -> None:
    rig = Rig()
    rig.guest.memory.write(BUFFER, FRAME)
    rig.give(SEND_RING, BUFFER, len(FRAME))
    assert rig.call(CALL_FETCH, MINE, FIRST) == len(FRAME)
    assert rig.bench.domain.read(MINE, len(FRAME)) == FRAME
    assert rig.result(SEND_RING) == (len(FRAME), DONE)
    assert paths.GRANT_COPY in rig.bench.meter.followed
    copied = [(size, is_write) for _, size, is_write in rig.bench.meter.touched if size == len(FRAME)]
    assert copied == [(len(FRAME), False), (len(FRAME), True)]
    assert rig.guest.vif.counters.sent == 1
    assert rig.call(CALL_FETCH, MINE, FIRST) == 0


def test_a_frame_is_delivered_to_the_guest_which_is_told() -> None:
    rig = Rig()
    rig.bench.domain.write(MINE, FRAME)
    rig.give(RECEIVE_RING, BUFFER, 2048)
    assert rig.call(CALL_DELIVER, MINE, FIRST << 16 | len(FRAME)) == 0
    assert rig.guest.memory.read(BUFFER, len(FRAME)) == FRAME
    assert rig.guest.signals == [False]
    assert rig.call(CALL_DELIVER, MINE, FIRST << 16 | len(FRAME)) == FULL
    assert rig.guest.signals == [False]
    assert rig.guest.vif.counters.receive_drops == {"no descriptor": 1}


def test_a_guest_that_notifies_sets_its_bit_and_calls_the_backend_and_need_not_do_so_again() -> None:
    rig = Rig()
    wanted_at = PAGE + vif_page.NOTIFY_WANTED
    assert rig.word(rig.guest.memory, wanted_at) == 1
    assert rig.own.signals == [True]  # of the guest that has come
    assert rig.call(CALL_NOTIFY) == 0
    assert rig.word(rig.own.memory, OWN_PAGE + vif_page.REQUESTS, 8) == 1 << FIRST
    assert rig.own.signals == [True, True]
    assert rig.word(rig.guest.memory, wanted_at) == 0
    assert rig.call(CALL_FETCH, MINE, FIRST) == 0  # it has looked at all there is
    assert rig.word(rig.guest.memory, wanted_at) == 1


def test_the_backend_learns_who_is_there_and_is_called_when_that_has_changed() -> None:
    rig = Rig()
    assert rig.own.signals == [True]
    changes_at = OWN_PAGE + vif_page.CHANGES
    before = rig.word(rig.own.memory, changes_at)
    assert rig.call(CALL_ADDRESS, FIRST).to_bytes(6, "little") == MAC
    assert rig.call(CALL_ADDRESS, LAST) == rig.call(CALL_ADDRESS, 1 << 63) == ABSENT
    rig.backend.destroy(rig.guest.vif)
    rig.guest.page = None
    assert rig.word(rig.own.memory, changes_at) == before + 1
    assert rig.own.signals == [True, True]
    assert rig.call(CALL_ADDRESS, FIRST) == ABSENT


def test_there_are_as_many_interfaces_as_bits_and_each_has_its_own_address() -> None:
    rig = Rig()
    with pytest.raises(ValueError, match="taken"):
        rig.add(9, rig.guest.memory, MAC)
    with pytest.raises(ValueError, match="no MAC address"):
        rig.add(9, rig.guest.memory, b"\x01\0\0\0\0\0")
    made = [rig.add(9, rig.guest.memory, bytes((2, 0, 0, 0, 1, number))).vif for number in range(LAST)]
    assert [vif.number for vif in made[:-1]] == list(range(FIRST + 1, LAST + 1))
    assert made[-1] is None


@pytest.mark.parametrize("number", [CALL_FETCH, CALL_DELIVER, CALL_ADDRESS])
def test_nobody_but_the_backend_may(number: int) -> None:
    rig = Rig(is_guest=True)
    rig.give(SEND_RING, BUFFER, len(FRAME))
    assert rig.call(number, MINE, FIRST << 16 | 64 if number == CALL_DELIVER else FIRST) == UNKNOWN
    assert rig.result(SEND_RING)[1] == OWNED


@pytest.mark.parametrize("gpa", [MEMORY_BYTES, MEMORY_BYTES - 1513, (1 << 64) - 1, 1 << 63], ids=hex)
def test_a_buffer_that_is_not_the_backends_ram_is_refused_and_nothing_is_taken(gpa: int) -> None:
    rig = Rig()
    rig.give(SEND_RING, BUFFER, len(FRAME))
    assert rig.call(CALL_FETCH, gpa, FIRST) == INVALID
    assert rig.call(CALL_DELIVER, gpa, FIRST << 16 | 1514) == INVALID
    assert rig.result(SEND_RING)[1] == OWNED
    assert rig.guest.vif.counters.arrived == 0


@pytest.mark.parametrize("length", [0, 13, 1515, 0xFFFF])
def test_a_frame_of_no_possible_length_is_refused(length: int) -> None:
    rig = Rig()
    rig.give(RECEIVE_RING, BUFFER, 1 << 20)
    assert rig.call(CALL_DELIVER, MINE, FIRST << 16 | length) == INVALID
    assert rig.result(RECEIVE_RING)[1] == OWNED


@pytest.mark.parametrize("number", [0, FIRST + 1, LAST, LAST + 1, (1 << 48) - 1], ids=hex)
def test_an_interface_that_is_not_there_has_nothing_and_gets_nothing(number: int) -> None:
    rig = Rig()
    assert rig.call(CALL_FETCH, MINE, number) == ABSENT
    assert rig.call(CALL_DELIVER, MINE, number << 16 | 64) == ABSENT


def test_malformed_descriptors_are_answered_and_the_next_frame_is_fetched() -> None:
    rig = Rig()
    rig.give(SEND_RING, BUFFER, 13)
    rig.give(SEND_RING, (1 << 64) - 8, 64, index=1)
    rig.give(SEND_RING, BUFFER, 64, index=2)
    assert rig.call(CALL_FETCH, MINE, FIRST) == 64
    errors = [(BAD_LENGTH, ERROR), (BAD_ADDRESS, ERROR)]
    assert [rig.result(SEND_RING, index) for index in range(3)] == [*errors, (64, DONE)]
    assert rig.guest.vif.counters.send_errors == 2
    rig.give(RECEIVE_RING, BUFFER, 32)
    rig.give(RECEIVE_RING, GUEST_BYTES - 32, 2048, index=1)
    assert [rig.call(CALL_DELIVER, MINE, FIRST << 16 | 64) for _ in range(2)] == [INVALID, INVALID]
    assert [rig.result(RECEIVE_RING, index) for index in range(2)] == errors
    assert rig.guest.signals == [False, False]


def test_whatever_both_sides_write_only_their_own_memory_changes_and_every_frame_is_counted() -> None:
    rng, rig = random.Random(20261130), Rig()
    values = (0, 13, 14, 64, 1514, 1515, GUEST_BYTES - 64, GUEST_BYTES, (1 << 64) - 16, BUFFER, 1 << 63)
    host, end_hpa = rig.bench.domain.machine.memory, BASE_HPA + MEMORY_BYTES
    beyond = bytes(host.read(end_hpa, 4096))
    below = bytes(host.read(BASE_HPA - 4096, 4096))
    for _ in range(2000):
        ring, index = rng.choice((SEND_RING, RECEIVE_RING)), rng.randrange(vif_page.RING_COUNT)
        state = rng.choice((FREE, OWNED, OWNED, DONE, 0xFFFF_FFFF))
        words = vif_page.pack(rng.choice(values) & (1 << 64) - 1, rng.choice(values) & 0xFFFF_FFFF, state)
        rig.guest.memory.write(PAGE + vif_page.descriptor_at(ring, index), words)
        rig.call(
            rng.choice((CALL_FETCH, CALL_DELIVER, CALL_NOTIFY)),
            rng.choice(values),
            rng.choice((FIRST, FIRST << 16 | 64)),
        )
    counters = rig.guest.vif.counters
    assert bytes(host.read(end_hpa, 4096)) == beyond
    assert bytes(host.read(BASE_HPA - 4096, 4096)) == below
    assert counters.posted == counters.sent + counters.send_errors
    assert counters.arrived == counters.received + counters.receive_errors + sum(counters.receive_drops.values())
