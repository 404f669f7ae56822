"""A sidecore that comes and goes: no interrupt comes while it serves, and nothing is ever lost."""

from tests.vmm.nic.rig import PS_PER_MS, frame_to, make_rig, receiver
from vmm.outcome import End, EndKind
from vmm.scheduler.credit import CreditScheduler
from vmm.sidecore.policy import Sample

FRAMES = 20


class Alternating:
    """Serves every other two milliseconds."""

    period_us = 2000

    def wants_sidecore(self, sample: Sample) -> bool:
        return sample.now_ps // (2 * PS_PER_MS) % 2 == 0


def test_every_frame_wakes_the_guest_whoever_tells_it() -> None:
    rig = make_rig("ept", cores=2, signal="sidecore", policy=Alternating(), scheduler=CreditScheduler(2))
    domain = rig.add(receiver(FRAMES))
    for frame in range(FRAMES):
        rig.end.arrive(20 * PS_PER_MS + frame * PS_PER_MS, frame_to(0))
    rig.run(60 * PS_PER_MS)
    assert domain.end == End(EndKind.DEBUG_EXIT, 0)
    assert rig.hypervisor.dynamic_sidecore is not None
    assert len(rig.hypervisor.dynamic_sidecore.changes) > 4
    assert rig.hypervisor.vifs is not None
    interrupts = rig.hypervisor.vifs.stats()["interrupts"]
    assert 0 < interrupts < FRAMES
    assert rig.counts(0)["upcalls"] == FRAMES
