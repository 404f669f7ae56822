"""How many frames get through, as fast as guests can send: beside round trips, for each way of carrying frames.

    guests 0, 1 of host 1 <==== frames of one size, both ways, rings full ====> guests 0, 1 of host 2

They run kernel `vif_blast`. What is counted is what guests got while all of them were at it, between two times of the
machine; they themselves neither stop nor print.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from benchmarks.fig4.setup import Carrier, Setup, mac_text
from benchmarks.fig4.world import build, describe, dropped_of, received_of
from benchmarks.harness.processes import run_in_processes
from benchmarks.harness.results import Result
from emulator.errors import ConfigError
from emulator.ledger import Category
from guest_images import linux_vif
from guest_images.images import resolve
from vmm.session.spec import GuestSpec, Limits
from vmm.session.world import Host

IMAGE = "vif_blast"
FRAME_BYTES, FRAMES = (64, 1514), 10**9
GUESTS_MOST = 2  # they fill the wire already
BEGUN_FRAMES = 32  # that each guest has got before the counting begins
WINDOW_MS, SLICE_MS, PATIENCE_MS = 4, 1, 2000


@dataclass(frozen=True)
class Throughput:
    """What the guests of each host got, in megabits a second without preamble and gap, and of how many drops."""

    setup: Setup
    frame_bytes: int
    received_mbps: tuple[float, float]
    dropped: int
    busy: float  # cores that were not idle, on average, of host 2, since power-on

    def rows(self) -> list[Result]:
        """For a file."""
        about = [{"host": host + 1, "frame_bytes": self.frame_bytes} for host in range(2)]
        return [
            Result(self.setup.facts(), "throughput", "Mb/s", mbps, about=which)
            for which, mbps in zip(about, self.received_mbps, strict=True)
        ]


def carriers(setup: Setup) -> list[Setup]:
    """The ways to compare: the NIC without and with a sidecore, and all others that are there."""
    plain = replace(setup, sidecores=0, carrier="nic")
    ways = [plain, replace(plain, sidecores=max(1, setup.sidecores))]
    others: list[Carrier] = ["stub", "shared stub"]
    if linux_vif.recipe().directory.exists():
        others.append("linux")
    return [*ways, *(replace(plain, carrier=other) for other in others)]


def measure_throughputs(wanted: Sequence[tuple[Setup, int]]) -> Iterator[Throughput]:
    """By setup and size of the frames, as they come, in as many processes as there are processors.

    Raises ConfigError.
    """
    resolve(IMAGE)  # compiled once, and not by each process
    return run_in_processes(measure_throughput, wanted)


def measure_throughput(wanted: tuple[Setup, int]) -> Throughput:
    """Raises ConfigError when a guest gets nothing."""
    setup, frame_bytes = wanted
    world = describe(setup, partial(_blaster, setup, frame_bytes), min(setup.guests, GUESTS_MOST))
    build(world)
    per_ms = world.hosts[0].built.machine.profile.frequency_hz // 1000
    begun_ms = now_ms = world.cycles // per_ms
    while min(min(received_of(host)) for host in world.hosts) < BEGUN_FRAMES:
        now_ms += SLICE_MS
        if now_ms > begun_ms + PATIENCE_MS:
            raise ConfigError(f"{setup}: a guest has not got {BEGUN_FRAMES} frames in {PATIENCE_MS} ms")
        world.run(Limits(max_cycles=now_ms * per_ms))
    before = [sum(received_of(host)) for host in world.hosts]
    world.run(Limits(max_cycles=(now_ms + WINDOW_MS) * per_ms))
    got = [sum(received_of(host)) - count for host, count in zip(world.hosts, before, strict=True)]
    first, second = (count * frame_bytes * 8 / (WINDOW_MS * 1000) for count in got)
    dropped = sum(dropped_of(host) for host in world.hosts)
    return Throughput(setup, frame_bytes, (first, second), dropped, _busy(world.hosts[1]))


def _blaster(setup: Setup, frame_bytes: int, host: int, number: int) -> GuestSpec:
    words = f"peer={mac_text(1 - host, number)} frames={FRAMES} size={frame_bytes}"
    return replace(setup.guest(host, number), image=IMAGE, append=words)


def _busy(host: Host) -> float:
    clocks = [pcpu.clock for pcpu in host.built.machine.pcpus]
    return sum(1 - clock.book().cycles[Category.IDLE] / max(1, clock.cycles) for clock in clocks)
