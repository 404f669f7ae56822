"""Hosts and guests that a script builds and runs: what `import sidecore` gives.

    World --add_host--> Host --add_guest--> Guest        descriptions: specs and what was added, nothing is made yet
      |  build(), once: plan.py, build.py                the same way as `sidecore boot`
      v
    run(Limits) --> Stop, any number of times            Guest.output, .end, .exits, .stats

A world is a value as long as nothing is built: `World.spec` says all of it, and `World(spec)` is the same world again.
"""

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from pathlib import Path
from types import FrameType

from devices.switch import Switch
from emulator.errors import ConfigError
from emulator.wire import WireEnd
from emulator.world import World as Timeline
from vmm.session.additions import Additions
from vmm.session.boot_plan import HostPlan
from vmm.session.snapshot import read_snapshot
from vmm.session.snapshot.objects import Skeleton
from vmm.session.spec import HostSpec, Limits
from vmm.session.world.guest import Guest
from vmm.session.world.host import Host, HostDescription
from vmm.session.world.link import CABLE_NS, Connect, Link
from vmm.session.world.saved import SavedWorld, check_additions, links_of, take
from vmm.session.world.switch import EthernetSwitch, check_ports


class Stop(Enum):
    """Why `World.run` came back. Only ENDED is for good."""

    ENDED = "every guest has ended"
    UNTIL = "the awaited text was seen"
    LIMIT = "a limit was reached"
    ASLEEP = "nothing is left that could wake a guest"
    PAUSED = "World.pause was called"


@dataclass(frozen=True)
class WorldSpec:
    """All that a world is built from."""

    hosts: tuple[HostDescription, ...] = ()
    links: tuple[Link | EthernetSwitch, ...] = ()


class _Built:
    """What a world is made of: the root of what a snapshot has."""

    def __init__(self, hosts: list[Host], links: list[Link | EthernetSwitch]) -> None:
        self.guests = [guest.built for host in hosts for guest in host.guests]
        self.timeline = Timeline([host.built for host in hosts])
        for link in links:
            link.build(self.timeline, hosts)


class World:
    """Hosts on one timeline."""

    def __init__(self, spec: WorldSpec | None = None) -> None:
        spec = spec or WorldSpec()
        self.hosts = [Host(description) for description in spec.hosts]
        self.links: list[Link | EthernetSwitch] = list(spec.links)
        self._is_interrupted = self._is_paused = False
        self._built: _Built | None = None
        self._skeleton: Skeleton | None = None

    @property
    def spec(self) -> WorldSpec:
        """All that it is built from."""
        return WorldSpec(tuple(host.description for host in self.hosts), tuple(self.links))

    def add_host(self, spec: HostSpec | None = None) -> Host:
        """One more host."""
        self._check_open()
        host = Host(HostDescription(spec or HostSpec(), ()))
        self.hosts.append(host)
        return host

    def add_link(
        self, first: Host, second: Host, *, latency_ns: int = CABLE_NS, bits_per_second: int | None = None,
        loss_ppm: int = 0, jitter_ns: int = 0, seed: int = 0, connect: Connect | None = None,
    ) -> Link:  # fmt: skip
        """A wire between two hosts of this world, or, without `connect`, their network cards; see `Link`.

        Raises ConfigError.
        """
        self._check_open()
        numbers = self._numbers_of((first, second), "a link joins two hosts of one world")
        if connect is None:
            check_ports(self.links, numbers)
        link = Link(
            first=numbers[0], second=numbers[1], latency_ns=latency_ns, bits_per_second=bits_per_second,
            loss_ppm=loss_ppm, jitter_ns=jitter_ns, seed=seed, joins_nics=connect is None, connect=connect,
        )  # fmt: skip
        self.links.append(link)
        return link

    def add_switch(self, *hosts: Host, **values: int) -> EthernetSwitch:
        """A switch between the network cards of hosts of this world, with values as `EthernetSwitch` has them.

        Raises ConfigError.
        """
        self._check_open()
        numbers = self._numbers_of(hosts, "a switch joins hosts of one world")
        check_ports(self.links, numbers)
        switch = EthernetSwitch(hosts=tuple(numbers), **values)
        self.links.append(switch)
        return switch

    def _numbers_of(self, hosts: Sequence[Host], otherwise: str) -> list[int]:
        if not all(host in self.hosts for host in hosts):
            raise ConfigError(otherwise)
        return [self.hosts.index(host) for host in hosts]

    @property
    def switches(self) -> list[Switch]:
        """The switches, once they are built: what their ports have counted."""
        stations = () if self._built is None else self._built.timeline.hosts
        return [station for station in stations if isinstance(station, Switch)]

    @property
    def ends(self) -> list[WireEnd]:
        """The ends of links' and switches' cables, once they are built: what each has sent, and lost."""
        return [] if self._built is None else self._built.timeline.ends

    def build(self) -> None:
        """Make all of it, once. Raises ConfigError."""
        if self._built is not None:
            return
        if not self.hosts or not all(host.guests for host in self.hosts):
            raise ConfigError("a world needs a host, and each host a guest; see World.add_host and Host.add_guest")
        for number, host in enumerate(self.hosts):
            host.build(number)
        self._built = _Built(self.hosts, self.links)
        self._skeleton = Skeleton(self._built, "world")

    def _check_open(self) -> None:
        if self._built is not None:
            raise ConfigError("the world is built already; describe all of it before it runs")

    @property
    def guests(self) -> list[Guest]:
        """All guests of all hosts."""
        return [guest for host in self.hosts for guest in host.guests]

    @property
    def cycles(self) -> int:
        """How far it has come, by the clock of the first host's cores."""
        now_ps = max(host.built.machine.pcpus[0].clock.now_ps for host in self.hosts)
        assert self._built is not None, "its hosts are built"
        return self._to_cycles(max(now_ps, self._built.timeline.now_ps))

    @property
    def exit_count(self) -> int:
        """VM exits of all guests so far."""
        return sum(stats["count"] for guest in self.guests for stats in guest.exits.values())

    @property
    def has_run(self) -> bool:
        """Whether a guest has executed anything."""
        return any(pcpu.clock.instructions for host in self.hosts for pcpu in host.built.machine.pcpus)

    @property
    def has_ended(self) -> bool:
        """Whether every guest has."""
        return all(host.has_ended for host in self.hosts)

    def pause(self) -> None:
        """Let `run` return soon, between two instructions: from an observer, or another thread."""
        self._is_paused = True
        self._pause()

    def _pause(self) -> None:
        if self._built is not None:
            self._built.timeline.pause()
            for host in self.hosts:
                host.pause()

    # --- as it was ---------------------------------------------------------------------------------------------------

    @staticmethod
    def of_plans(links: Sequence[Link | EthernetSwitch], plans: Sequence[HostPlan]) -> "World":
        """The world whose hosts are built from `plans`, with links between them."""
        guests = [tuple(guest.spec for guest in plan.guests) for plan in plans]
        pairs = zip(plans, guests, strict=True)
        hosts = tuple(HostDescription(plan.spec, specs, plan.additions) for plan, specs in pairs)
        world = World(WorldSpec(hosts, tuple(links)))
        for host, plan in zip(world.hosts, plans, strict=True):
            host.plan = plan
        return world

    @staticmethod
    def restore(path: str | Path, additions: Sequence[Additions] | None = None) -> "SavedWorld[World]":
        """The world that was written to `path`; `additions` to each host, if it had any. Raises ConfigError."""
        snapshot = read_snapshot(Path(path))
        if additions is not None:
            check_additions(snapshot, len(additions))
            snapshot = replace(snapshot, additions=tuple(additions))
        return SavedWorld(snapshot, partial(World.of_plans, links_of(snapshot)))

    def snapshot(self) -> "SavedWorld[World]":
        """All of it as it is now; not while it runs. Raises ConfigError for what has no form, with its place."""
        self.build()
        plans = [host.plan for host in self.hosts if host.plan is not None]
        outputs = [bytes(guest.output) for guest in self.guests]
        return SavedWorld(take(plans, self.links, self.skeleton, outputs), partial(World.of_plans, self.links))

    def clone(self) -> "World":
        """Another world that is as this one is now."""
        return self.snapshot().clone()

    @property
    def skeleton(self) -> Skeleton:
        """Its objects, as they were when it was built."""
        assert self._skeleton is not None, "it is not built"
        return self._skeleton

    def give_outputs(self, outputs: Sequence[bytes]) -> None:
        """What its guests have printed so far."""
        for guest, output in zip(self.guests, outputs, strict=True):
            guest.output[:] = output

    # --- running -----------------------------------------------------------------------------------------------------

    def run(self, limits: Limits | None = None) -> Stop:
        """Build what is not built, and run until every guest has ended or a limit is reached; then it can go on.

        A guest that does what is not modelled ends, and it alone: see `Guest.report`. Raises ConfigError. Ctrl-C pauses
        it: KeyboardInterrupt.
        """
        limits = limits or Limits()
        self.build()
        guests, self._is_paused = self.guests, False
        for guest in guests:
            guest.await_text(limits.until)
        started = time.perf_counter()
        with self._interruptible():
            while True:
                is_awake = self._advance(limits)
                if self._is_interrupted:
                    raise KeyboardInterrupt
                if any(guest.has_printed_it for guest in guests):
                    return Stop.UNTIL
                if self.has_ended:
                    for host in self.hosts:
                        host.end_capture()
                    return Stop.ENDED
                if self._is_paused:
                    return Stop.PAUSED
                if not is_awake:
                    return Stop.ASLEEP
                if limits.max_cycles is not None and self._has_reached(limits.max_cycles):
                    return Stop.LIMIT
                if limits.max_seconds is not None and time.perf_counter() - started >= limits.max_seconds:
                    return Stop.LIMIT

    def _advance(self, limits: Limits) -> bool:
        """Run a slice of the first host's cycles; False when it came no further, and nothing could wake anybody."""
        assert self._built is not None
        timeline = self._built.timeline
        limit_cycles = self._to_cycles(timeline.now_ps) + limits.slice_cycles
        if limits.max_cycles is not None:
            limit_cycles = min(limit_cycles, limits.max_cycles)
        limit_ps = self._to_ps(limit_cycles)
        if limit_ps > timeline.now_ps:
            timeline.advance(limit_ps)
        was_paused = self._is_paused or any(guest.has_printed_it for guest in self.guests)
        return was_paused or timeline.now_ps >= limit_ps

    def _has_reached(self, cycles: int) -> bool:
        """Whether all hosts have got there, by the first one's clock. One that has ended has."""
        assert self._built is not None
        return self._built.timeline.now_ps >= self._to_ps(cycles)

    def _to_cycles(self, when_ps: int) -> int:
        return self.hosts[0].built.machine.timeline.ps_to_cycles(when_ps)

    def _to_ps(self, cycles: int) -> int:
        return self.hosts[0].built.machine.timeline.cycles_to_ps(cycles)

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        self._is_interrupted = True
        self._pause()

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """While guests run, Ctrl-C waits for a place between two instructions."""
        self._is_interrupted = False
        if threading.current_thread() is not threading.main_thread():  # nobody else may set handlers
            yield
            return
        previous = signal.signal(signal.SIGINT, self._interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, previous)
