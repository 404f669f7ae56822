"""What two hosts take that exchange packets all the time, each with one core and one guest.

workstation seconds  <-- for one emulated second -->  frames both ways, of all sizes, without a pause

A second has about 300,000 of them: 2.0 Gb/s, nearly what two directions of a wire can take.
"""

import time

from benchmarks.speed.turns import TurnCost
from emulator.timing.fidelity import Fidelity
from vmm.session.spec import GuestSpec, HostSpec, Limits
from vmm.session.world import World

PROFILE = "nehalem"
TIMINGS: tuple[Fidelity, ...] = ("fast", "detailed")
MEMORY_BYTES = 64 << 20
FRAMES = 1_000_000  # more than there is time for
WARM_UP_SECONDS = 0.01  # of the emulated machines': until both send
MEASURED_SECONDS = 0.02


def measure_packets(repeat: int = 1, seconds: float = MEASURED_SECONDS) -> list[TurnCost]:
    """Time both fidelities `repeat` times: what counts is the fastest."""
    costs = []
    for timing in TIMINGS:
        took = min(_run(timing, seconds) for _ in range(repeat))
        costs.append(TurnCost(f"two hosts that exchange frames, {timing}", took / seconds))
    return costs


def _run(timing: Fidelity, seconds: float) -> float:
    """Workstation seconds."""
    world = World()
    for number in range(2):
        host = world.add_host(HostSpec(paging="ept", profile=PROFILE, has_nic=True, timing=timing))
        words = f"peer=02:5c:00:00:{1 - number:02x}:00 frames={FRAMES}"
        host.add_guest(GuestSpec(image="vif_blast", has_vif=True, append=words, memory_bytes=MEMORY_BYTES))
    world.add_link(*world.hosts)
    world.build()
    frequency_hz = world.hosts[0].built.machine.profile.frequency_hz
    world.run(Limits(max_cycles=int(WARM_UP_SECONDS * frequency_hz)))
    before = _sent_count(world)
    began = time.process_time()
    world.run(Limits(max_cycles=int((WARM_UP_SECONDS + seconds) * frequency_hz)))
    took = time.process_time() - began
    assert _sent_count(world) > before, "nobody has sent anything"
    return took


def _sent_count(world: World) -> int:
    return sum(end.sent_count for end in world.ends)
