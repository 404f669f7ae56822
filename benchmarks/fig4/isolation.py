"""What packets of others cost a guest that only computes, and shares a core with their receivers (section III).

    core of host 2:  | compute | interrupt, VMM | receiver k | VMM | compute ...       as the core's ledger has it
                     '- lost to compute: all but its own instructions -'

The receivers are Figure 4's servers, all on this core, which takes the NIC's interrupt. Without BOOST they would get it
once in the 30 ms of a slice; so there is BOOST. With `detailed` timing the
guest's stalls show what others did to its caches.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from benchmarks.fig4.setup import OWN_MEMORY_BYTES, Setup
from benchmarks.fig4.world import describe, received_of
from benchmarks.harness.processes import run_in_processes
from benchmarks.harness.results import Result
from emulator.ledger import HOST, RUNNING, Category
from guest_images.images import resolve
from vmm.session.spec import GuestSpec, Limits

IMAGE, WORDS = "compute", "rounds=100000 iterations=1000 set_kib=8"
WARM_UP_MS, WINDOW_MS = 40, 20
THINK_US = 1000  # flows that do not rest leave nothing of the core
STALLS = (Category.MEMORY, Category.WALKS)


@dataclass(frozen=True)
class Isolation:
    """The core in the window, in cycles; `packets` were received by others than the guest that computes."""

    setup: Setup
    packets: int
    window: int
    computing: int  # by the guest: its instructions and their stalls
    stalls: int  # of these
    receiving: int  # the receivers' own instructions
    idle: int

    @property
    def vmm_per_packet(self) -> float:
        """What is neither a guest's nor idle: exits, signals, scheduling."""
        return (self.window - self.computing - self.receiving - self.idle) / max(1, self.packets)

    @property
    def lost_per_packet(self) -> float:
        """What the guest that computes has not got of its core."""
        return (self.window - self.computing) / max(1, self.packets)

    @property
    def stalls_part(self) -> float:
        """Of its own time."""
        return self.stalls / max(1, self.computing)

    def rows(self) -> list[Result]:
        """For a file."""
        spec = self.setup.facts()
        values = {"lost_per_packet": self.lost_per_packet, "vmm_per_packet": self.vmm_per_packet}
        rows = [Result(spec, name, "cycles", value) for name, value in values.items()]
        return [*rows, Result(spec, "stalls_part", "ratio", self.stalls_part)]


def isolation_ways(setup: Setup) -> list[Setup]:
    """By the shared interrupt, by one with a bit for each guest, by a sidecore."""
    plain = replace(
        setup, sidecores=0, carrier="nic", interrupt_core="guests", pinning="one", has_boost=True, think_us=THINK_US
    )
    return [plain, replace(plain, identifier_bits=max(setup.guests, 8)), replace(plain, sidecores=1)]


def measure_isolation(setups: Sequence[Setup]) -> Iterator[Isolation]:
    """As they come, in as many processes as there are processors. Raises ConfigError."""
    resolve(IMAGE)  # compiled once, and not by each process
    return run_in_processes(measure_one, setups)


def measure_one(setup: Setup) -> Isolation:
    """Raises ConfigError."""
    core = setup.guest_cores[0]
    world = describe(setup)
    world.hosts[1].add_guest(GuestSpec(image=IMAGE, memory_bytes=OWN_MEMORY_BYTES, append=WORDS, cores=(core,)))
    world.build()
    host = world.hosts[1]
    clock = host.built.machine.pcpus[core].clock
    owner = f"d{len(host.guests) - 1}v0"
    per_ms = host.built.machine.profile.frequency_hz // 1000
    world.run(Limits(max_cycles=WARM_UP_MS * per_ms))
    before, packets, began = clock.book().accounts, sum(received_of(host)), clock.cycles
    before = {key: list(account) for key, account in before.items()}
    world.run(Limits(max_cycles=(WARM_UP_MS + WINDOW_MS) * per_ms))
    spent = {
        key: [now - then for now, then in zip(account, before.get(key, [0] * len(account)), strict=True)]
        for key, account in clock.book().accounts.items()
    }
    own = spent[owner, RUNNING]
    others = [account for (who, what), account in spent.items() if what == RUNNING and who not in (owner, HOST)]
    return Isolation(
        setup,
        packets=sum(received_of(host)) - packets,
        window=clock.cycles - began,
        computing=sum(own),
        stalls=sum(own[category] for category in STALLS),
        receiving=sum(map(sum, others)),
        idle=sum(account[Category.IDLE] for account in spent.values()),
    )
