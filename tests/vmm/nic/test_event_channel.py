"""The event channel alone: what it stores, whom it calls, what it counts."""

from typing import cast

import pytest

from emulator.timing.shared_lines import SharedLines
from tests.vmm.fakes import Bench
from vmm.core import Sender
from vmm.cost import paths
from vmm.nic.event_channel import EventChannel
from vmm.nic.hops import Hops
from vmm.nic.page import VifPage
from vmm.vcpu import UPCALL, VCpu

PAGE_GPA, VECTOR = 0x3000, 0x70


class Recorder:
    """A hypervisor that only notes, and wakes."""

    def __init__(self, core: Sender) -> None:
        self.running: Sender | None = core
        self.kicked: list[VCpu] = []
        self.hops: list[str] = []

    def kick(self, vcpu: VCpu) -> None:
        self.kicked.append(vcpu)
        vcpu.is_blocked = False

    def stamp(self, _vif_number: int, hop: str, _now_ps: int) -> None:
        self.hops.append(hop)


class Rig:
    """A channel of the bench's domain."""

    def __init__(self, vector: int = VECTOR) -> None:
        self.bench = Bench()
        self.sender = cast(Sender, self.bench.core)
        self.host = Recorder(self.sender)
        pcpu = self.bench.core.pcpu
        self.channel = EventChannel(self.host, SharedLines(pcpu.profile, 1), Hops([self.host]), 3)
        self.channel.vector = vector
        self.page = VifPage(self.bench.domain.memory, self.bench.siblings, PAGE_GPA)

    def signal(self, delivered: int) -> None:
        self.channel.signal(self.page, delivered, self.sender)

    def store(self, offset: int, value: int) -> None:
        self.bench.domain.write(PAGE_GPA + offset, value.to_bytes(4, "little"))

    def count(self, name: str) -> int:
        return int(getattr(self.channel.counts, name))


def test_a_signal_sets_pending_and_asks_for_an_upcall() -> None:
    rig = Rig()
    rig.signal(1)
    vcpu = rig.bench.vcpu
    assert rig.page.is_pending
    assert (vcpu.upcall, vcpu.interrupt_request) == (rig.channel, UPCALL)
    assert rig.host.kicked == [vcpu]


def test_the_sender_pays_for_it() -> None:
    rig = Rig()
    before_cycles = rig.bench.core.pcpu.clock.cycles
    rig.signal(1)
    profile = rig.bench.core.pcpu.profile
    least_cycles = paths.SET_EVENT.cycles(profile) + paths.UPCALL.cycles(profile) + profile.instructions.locked_cycles
    assert rig.bench.core.pcpu.clock.cycles - before_cycles >= least_cycles


def test_what_is_pending_already_is_merged_and_calls_nobody() -> None:
    rig = Rig()
    rig.signal(1)
    rig.signal(2)
    assert len(rig.host.kicked) == 1
    assert (rig.count("signals"), rig.count("merged"), rig.count("upcalls")) == (2, 1, 1)


@pytest.mark.parametrize("masked", [1, 0x8000_0000, 0xFFFF_FFFF])
def test_a_guest_that_masks_is_not_called_but_finds_it_pending(masked: int) -> None:
    rig = Rig()
    rig.store(4, masked)
    rig.signal(1)
    assert rig.page.is_pending
    assert not rig.host.kicked
    assert rig.count("masked") == 1


def test_a_signal_without_a_frame_since_the_last_is_redundant_and_so_is_what_it_wakes() -> None:
    rig = Rig()
    vcpu = rig.bench.vcpu
    for delivered, redundant in ((1, 0), (1, 1), (2, 1)):
        rig.store(0, 0)
        vcpu.is_blocked = True
        rig.signal(delivered)
        assert vcpu.woken_by is rig.channel
        vcpu.woken_by.scheduled(vcpu)
        assert rig.count("redundant") == rig.count("redundant_schedulings") == redundant
    assert rig.count("schedulings") == 3


def test_a_guest_that_runs_is_not_woken() -> None:
    rig = Rig()
    rig.signal(1)
    assert rig.bench.vcpu.woken_by is None


def test_without_a_vector_the_function_sends_its_message() -> None:
    rig = Rig(vector=0)
    sent: list[str] = []
    rig.channel.send_message = lambda: sent.append("message")
    rig.signal(1)
    assert sent == ["message"]
    assert rig.bench.vcpu.upcall is None


def test_an_upcall_that_is_forgotten_is_not_injected_and_leaves_the_controllers_request() -> None:
    rig = Rig()
    vcpu = rig.bench.vcpu
    vcpu.interrupt_request = 1
    rig.signal(1)
    assert vcpu.interrupt_request == 1 | UPCALL
    rig.channel.forget(vcpu)
    assert (vcpu.upcall, vcpu.interrupt_request) == (None, 1)


def test_the_hops_are_told_in_order() -> None:
    rig = Rig()
    vcpu = rig.bench.vcpu
    vcpu.is_blocked = True
    rig.signal(1)
    rig.channel.scheduled(vcpu)
    vcpu.take_upcall(rig.channel)
    assert rig.host.hops == ["upcalled", "scheduled", "injected"]
    assert rig.bench.injected is not None
    assert rig.bench.injected.vector == VECTOR
