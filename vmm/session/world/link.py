"""A link between two hosts: described first, then a wire whose ends devices are connected to."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from emulator.errors import ConfigError
from emulator.events import PS_PER_NS
from emulator.wire import WireEnd
from emulator.world import World as Timeline
from vmm.session.world.host import Host

LATENCY_MAX_NS = 10**12
BITS_MAX_PER_SECOND = 10**15
Connect = Callable[[WireEnd, Host, WireEnd, Host], None]


@dataclass(frozen=True, kw_only=True)
class Link:
    """Between the hosts of two numbers. Raises ConfigError for what is not possible.

    `connect(end, host, other end, other host)` is called when the hosts are built: it gives `send` of an end to a
    device, and a method of the device to `on_receive`.
    """

    first: int
    second: int
    latency_ns: int  # from the last bit that is sent to its arrival
    bits_per_second: int | None = None  # None: a frame takes no time of its own
    connect: Connect | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.latency_ns <= LATENCY_MAX_NS:
            raise ConfigError(f"a link's latency of {self.latency_ns} ns is not possible; give 1 to {LATENCY_MAX_NS}")
        if self.bits_per_second is not None and not 1 <= self.bits_per_second <= BITS_MAX_PER_SECOND:
            raise ConfigError(f"{self.bits_per_second} bits per second are not possible; give 1 to 10**15")
        if self.first == self.second:
            raise ConfigError("a link joins two hosts, not one with itself")

    def build(self, timeline: Timeline, hosts: list[Host]) -> None:
        """Make the wire."""
        one, other = hosts[self.first], hosts[self.second]
        ends = timeline.connect(
            one.built, other.built, latency_ps=self.latency_ns * PS_PER_NS, bits_per_second=self.bits_per_second
        )
        if self.connect is not None:
            self.connect(ends[0], one, ends[1], other)

    def saved(self) -> dict[str, Any]:
        """What a file can say of it: all but the code."""
        return {name: getattr(self, name) for name in ("first", "second", "latency_ns", "bits_per_second")}
