"""A switch between the network cards of hosts: described, then a station on the timeline, with a cable to each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from devices.switch import Switch
from emulator.errors import ConfigError
from emulator.events import PS_PER_NS
from emulator.wire import Fault
from emulator.world import World as Timeline
from vmm.session.world.host import Host
from vmm.session.world.link import CABLE_NS, Link, check_ranges

FORWARD_NS = 2000  # chosen: a small gigabit switch needs some microseconds from first bit to first bit
QUEUE_BYTES = 64 << 10  # chosen: 512 KiB of memory shared by 8 ports
GIGABIT = 10**9


@dataclass(frozen=True, kw_only=True)
class EthernetSwitch:
    """Between the hosts of these numbers, port by port. Raises ConfigError for what is not possible.

    A frame waits `forward_ns` behind its last bit, then in the queue of a port, which holds `queue_bytes`; what does
    not fit is dropped and counted. The cables are as in `Link`, each with a fault of its own.
    """

    hosts: tuple[int, ...]
    latency_ns: int = CABLE_NS
    forward_ns: int = FORWARD_NS
    queue_bytes: int = QUEUE_BYTES
    bits_per_second: int = GIGABIT
    loss_ppm: int = 0
    jitter_ns: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "hosts", tuple(self.hosts))  # a list, as JSON has it
        check_ranges(self)
        if len(set(self.hosts)) < max(2, len(self.hosts)):
            raise ConfigError("a switch joins two hosts or more, each by one cable")

    def build(self, timeline: Timeline, hosts: list[Host]) -> None:
        """Make it, with a cable to each host."""
        switch = Switch(
            len(self.hosts),
            queue_bytes=self.queue_bytes,
            forward_ns=self.forward_ns,
            bits_per_second=self.bits_per_second,
        )
        timeline.add(switch)
        for place, (number, port) in enumerate(zip(self.hosts, switch.ports, strict=True)):
            nic = hosts[number].nic
            there, here = timeline.connect(
                hosts[number].built,
                switch,
                latency_ps=self.latency_ns * PS_PER_NS,
                lead_ps=min(nic.lead_ps, switch.lead_ps),
                departures=(nic.departures, None),
                fault=Fault(self.loss_ppm, self.jitter_ns * PS_PER_NS, self.seed * len(self.hosts) + place),
            )
            nic.connect(there)
            port.connect(here)

    def saved(self) -> dict[str, Any]:
        """What a file says of it."""
        return dict(vars(self))


def check_ports(links: Sequence[Link | EthernetSwitch], numbers: Sequence[int]) -> None:
    """Raise ConfigError unless the network cards of hosts, which have one port, are free."""
    for link in links:
        joined = link.hosts if isinstance(link, EthernetSwitch) else (link.first, link.second)
        has_ports = isinstance(link, EthernetSwitch) or link.joins_nics
        if has_ports and not set(joined).isdisjoint(numbers):
            raise ConfigError("the network card of a host has one port: it takes one link, or a switch")
