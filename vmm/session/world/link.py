"""A link between two hosts: described first, then a wire whose ends network cards or other devices are connected to."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from emulator.errors import ConfigError
from emulator.events import PS_PER_NS
from emulator.wire import PARTS, Fault, WireEnd
from emulator.world import World as Timeline
from vmm.session.world.host import Host

CABLE_NS = 500  # 100 m of cable, the most for gigabit Ethernet, at 5 ns for each
LATENCY_MAX_NS = 10**12
BITS_MAX_PER_SECOND = 10**15
QUEUE_MAX_BYTES = 1 << 30
SEED_MAX = (1 << 32) - 1
Connect = Callable[[WireEnd, Host, WireEnd, Host], None]
_RANGES = (  # field, what it is called, least, most
    ("forward_ns", "forwarding in {} ns", 1, LATENCY_MAX_NS),
    ("queue_bytes", "a queue of {} bytes", 1, QUEUE_MAX_BYTES),
    ("latency_ns", "a latency of {} ns", 1, LATENCY_MAX_NS),
    ("bits_per_second", "a rate of {} bits per second", 1, BITS_MAX_PER_SECOND),
    ("loss_ppm", "a loss of {} in a million", 0, PARTS),
    ("jitter_ns", "a jitter of {} ns", 0, LATENCY_MAX_NS),
    ("seed", "a seed of {}", 0, SEED_MAX),
)


def check_ranges(described: object) -> None:
    """Check the values of a link or a switch one by one. Raises ConfigError."""
    for name, called, least, most in _RANGES:
        value = getattr(described, name, None)
        if value is not None and not least <= value <= most:
            raise ConfigError(f"{called.format(value)} is not possible; give {least} to {most}")


@dataclass(frozen=True, kw_only=True)
class Link:
    """Between the hosts of two numbers. Raises ConfigError for what is not possible.

    `connect(end, host, other end, other host)` is called when the hosts are built: it gives `send` of an end to a
    device, and a method of the device to `on_receive`. With `joins_nics` the hosts' network cards are connected, which
    pace frames themselves. Of a million frames `loss_ppm` are lost, and each is up to `jitter_ns` late, as `seed` says.
    """

    first: int
    second: int
    latency_ns: int = CABLE_NS  # from the last bit that is sent to its arrival
    bits_per_second: int | None = None  # None: a frame takes no time of its own
    loss_ppm: int = 0
    jitter_ns: int = 0
    seed: int = 0
    joins_nics: bool = False
    connect: Connect | None = None

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.first == self.second:
            raise ConfigError("a link joins two hosts, not one with itself")
        if self.joins_nics and self.bits_per_second is not None:
            raise ConfigError("a network card paces its frames itself: leave out bits_per_second")

    def build(self, timeline: Timeline, hosts: list[Host]) -> None:
        """Make the wire."""
        one, other = hosts[self.first], hosts[self.second]
        nics = [host.nic for host in (one, other)] if self.joins_nics else []
        ends = timeline.connect(
            one.built,
            other.built,
            latency_ps=self.latency_ns * PS_PER_NS,
            bits_per_second=self.bits_per_second,
            lead_ps=min((nic.lead_ps for nic in nics), default=0),
            departures=(one.nic.departures, other.nic.departures) if self.joins_nics else (None, None),
            fault=Fault(self.loss_ppm, self.jitter_ns * PS_PER_NS, self.seed),
        )
        for nic, end in zip(nics, ends, strict=False):
            nic.connect(end)
        if self.connect is not None:
            self.connect(ends[0], one, ends[1], other)

    def saved(self) -> dict[str, Any]:
        """What a file can say of it: all but the code."""
        return {name: value for name, value in vars(self).items() if name != "connect"}
