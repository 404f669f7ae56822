"""A frame that comes for a guest wakes it, in whatever way the VMM hears of it."""

import pytest

from tests.vmm.nic.rig import PS_PER_MS, frame_to, mac_of, make_rig, receiver, sender
from vmm.outcome import End, EndKind

DONE = End(EndKind.DEBUG_EXIT, 0)


@pytest.fixture(params=["shadow", "ept"])
def paging(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_frame_wakes_the_guest_by_the_interrupt(paging: str) -> None:
    rig = make_rig(paging)
    domain = rig.add(receiver(3))
    for number in range(3):
        rig.end.arrive((10 + number) * PS_PER_MS, frame_to(0))
    rig.run(20 * PS_PER_MS)
    assert domain.end == DONE
    counts = rig.counts(0)
    assert (counts["signals"], counts["upcalls"], counts["redundant"], counts["schedulings"]) == (3, 3, 0, 3)


def test_a_frame_that_the_guest_sends_goes_out_without_an_exit(paging: str) -> None:
    rig = make_rig(paging)
    domain = rig.add(sender(5, mac_of(7)))
    rig.run(20 * PS_PER_MS)
    assert domain.end == DONE
    assert [frame[:6] for frame in rig.end.sent] == [mac_of(7)] * 5


def test_a_sidecore_finds_the_frame_and_no_interrupt_comes(paging: str) -> None:
    rig = make_rig(paging, cores=2, sidecores=1, signal="sidecore")
    domain = rig.add(receiver(3))
    for number in range(3):
        rig.end.arrive((10 + number) * PS_PER_MS, frame_to(0))
    rig.run(20 * PS_PER_MS)
    assert domain.end == DONE
    counts = rig.counts(0)
    assert (counts["signals"], counts["upcalls"], counts["redundant"], counts["schedulings"]) == (3, 3, 0, 3)
    assert rig.hypervisor.vifs is not None
    assert rig.hypervisor.vifs.stats()["interrupts"] == 0
