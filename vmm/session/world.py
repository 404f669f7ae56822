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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from types import FrameType
from typing import Any

from devices.board import PciDeviceMaker
from emulator.cpuid import Registers
from emulator.errors import ConfigError
from emulator.vmx.exit_reasons import NAMES
from vmm.exits.observer import ExitObserver
from vmm.exits.table import Handler
from vmm.outcome import End
from vmm.scheduler import Scheduler
from vmm.session.additions import NOTHING_ADDED, Additions
from vmm.session.boot_plan import HostPlan
from vmm.session.build import build_host
from vmm.session.guest import Guest as BuiltGuest
from vmm.session.plan import plan_host
from vmm.session.run import collect_stats
from vmm.session.saved_world import SavedWorld, check_additions, take
from vmm.session.snapshot import read_snapshot
from vmm.session.snapshot.objects import Skeleton
from vmm.session.spec import GuestSpec, HostSpec, Limits
from vmm.session.stats import ExitStats, RunStats
from vmm.sidecore.operations import Function, Operation
from vmm.sidecore.policy import Policy
from vmm.vcpu import Hypercall, VCpu


class Stop(Enum):
    """Why `World.run` came back. Only ENDED is for good."""

    ENDED = "every guest has ended"
    UNTIL = "the awaited text was seen"
    LIMIT = "a limit was reached"
    ASLEEP = "nothing is left that could wake a guest"
    PAUSED = "World.pause was called"


@dataclass(frozen=True)
class HostDescription:
    """All that a host is built from."""

    spec: HostSpec
    guests: tuple[GuestSpec, ...]
    additions: Additions = NOTHING_ADDED


@dataclass(frozen=True)
class WorldSpec:
    """All that a world is built from."""

    hosts: tuple[HostDescription, ...] = ()


class Guest:
    """A guest of a host; it is there when the world is built."""

    def __init__(self, spec: GuestSpec) -> None:
        self.spec = spec
        self.output = bytearray()  # all it has printed on its serial line
        self._built: BuiltGuest | None = None
        self._awaited = b""
        self._has_printed_it = False

    @property
    def built(self) -> BuiltGuest:
        """Its registers, memory and devices. Raises ConfigError before the world is built."""
        if self._built is None:
            raise ConfigError("the guest is not built yet; call build() or run() of its world first")
        return self._built

    @property
    def end(self) -> End | None:
        """How it ended; None: it has not."""
        return None if self._built is None else self._built.end

    @property
    def exits(self) -> dict[str, ExitStats]:
        """Its VM exits so far, by the name of their reason; natively there are none."""
        return self.built.exit_statistics()

    @property
    def stats(self) -> RunStats:
        """What it and its host cost so far, as in the file of `sidecore boot --stats`; no workstation time."""
        return collect_stats(self.built, 0.0)

    def exit_table(self) -> str:
        """Its VM exits, as `sidecore boot` shows them."""
        from vmm.session.report.summary import exit_table
        from vmm.session.report.tables import table_text

        return table_text(exit_table(self.stats, with_cycles=True))

    def send(self, keys: bytes) -> None:
        """Type on its serial line."""
        self.built.run_timers()
        self.built.board.uart.receive(keys)

    def transmit(self, byte: int) -> None:
        """The guest sent `byte` on its serial line."""
        self.output.append(byte)
        if self._awaited and self.output.endswith(self._awaited):
            self._has_printed_it = True
            self.built.pause()

    def take(self, built: BuiltGuest) -> None:
        """It is built."""
        self._built = built

    def await_text(self, text: str | None) -> None:
        """Pause when it has printed `text` from now on."""
        self._awaited, self._has_printed_it = (text or "").encode(), False

    @property
    def has_printed_it(self) -> bool:
        """Whether it has printed the awaited text."""
        return self._has_printed_it


class Host:
    """An emulated machine and its guests, described until it is built; from then on describing is a ConfigError."""

    def __init__(self, description: HostDescription) -> None:
        self.spec = description.spec
        self.additions = description.additions
        self.guests: list[Guest] = []
        self.plan: HostPlan | None = None  # what it is built from, once that is known
        self.is_built = False
        self._observers: list[ExitObserver] = []
        for spec in description.guests:
            self.add_guest(spec)

    @property
    def description(self) -> HostDescription:
        """All that it is built from."""
        return HostDescription(self.spec, tuple(guest.spec for guest in self.guests), self.additions)

    def add_guest(self, spec: GuestSpec | None = None) -> Guest:
        """One more guest; natively there is one only."""
        self._check_open()
        guest = Guest(spec or GuestSpec())
        self.guests.append(guest)
        return guest

    def observe(self, observer: ExitObserver) -> None:
        """Tell `observer` of every VM exit."""
        self._check_open()
        self._observers.append(observer)

    def add_exit_handler(self, reason: int, handler: Handler) -> None:
        """Handle VM exits for `reason` by `handler(vcpu) -> Outcome`, instead of the VMM's own."""
        if reason not in NAMES:
            raise ConfigError(f"{reason} is no exit reason; take one of sidecore.ExitReason")
        self._add("exit_handlers", reason, handler)

    def add_hypercall(self, number: int, function: Hypercall) -> None:
        """Answer VMCALL with RAX = `number` by `function(vcpu, rdi, rsi) -> rax`."""
        self._add("hypercalls", number, function)

    def add_cpuid_leaf(self, leaf: int, registers: Registers) -> None:
        """Answer CPUID of `leaf`, above 0x40000000, with (EAX, EBX, ECX, EDX)."""
        self._add("cpuid_leaves", leaf, registers)

    def add_sidecall(self, number: int, name: str, function: Function) -> None:
        """Let sidecores serve requests for `number` by `function(worker, arguments) -> Answer`, booked as `name`."""
        self._add("sidecalls", number, Operation(name, function))

    def add_device(self, name: str, make: PciDeviceMaker) -> None:
        """Let guests have `name` among their devices: `make(events)` makes one, with a PciFunction as `function`."""
        self._add("devices", name, make)

    def set_scheduler(self, make: Callable[[int], Scheduler[VCpu]]) -> None:
        """Let the scheduler that `make(core_count)` makes decide who runs where."""
        self._check_open()
        self.additions = replace(self.additions, scheduler=make)

    def set_sidecore_policy(self, make: Callable[[], Policy]) -> None:
        """Let the policy that `make()` makes decide when the sidecore's core runs guests."""
        self._check_open()
        self.additions = replace(self.additions, sidecore_policy=make)

    def build(self) -> None:
        """Make the machine and its guests, once. Raises ConfigError for whatever is not possible."""
        if self.is_built:
            return
        plan = self.plan or plan_host(self.spec, [guest.spec for guest in self.guests], additions=self.additions)
        transmits = [guest.transmit for guest in self.guests]
        for guest, built in zip(self.guests, build_host(plan, transmits, observers=self._observers), strict=True):
            guest.take(built)
        self.plan, self.is_built = plan, True

    @property
    def cycles(self) -> int:
        """The clock of its first core."""
        return self.guests[0].built.pcpu.clock.cycles

    @property
    def has_ended(self) -> bool:
        """Whether all its guests have."""
        return all(guest.end is not None for guest in self.guests)

    def advance(self, limit_cycles: int) -> bool:
        """Run until its clocks are at `limit_cycles`; False when it came no further and nothing could wake a guest."""
        self.guests[0].built.advance(limit_cycles)
        was_paused = any(guest.has_printed_it for guest in self.guests)
        return was_paused or self.has_ended or self.cycles >= limit_cycles

    def pause(self) -> None:
        """Return from `advance` soon."""
        self.guests[0].built.pause()

    def _add(self, kind: str, key: Any, value: Any) -> None:
        self._check_open()
        table = getattr(self.additions, kind)
        if key in table:
            raise ConfigError(f"{key!r} was added already")
        changes: dict[str, Any] = {kind: {**table, key: value}}
        self.additions = replace(self.additions, **changes)

    def _check_open(self) -> None:
        if self.is_built:
            raise ConfigError("the host is built already; describe all of it before the world runs")


class World:
    """Hosts on one timeline."""

    def __init__(self, spec: WorldSpec | None = None) -> None:
        self.hosts = [Host(description) for description in (spec or WorldSpec()).hosts]
        self._is_interrupted = self._is_paused = False
        self._skeleton: Skeleton | None = None

    @property
    def spec(self) -> WorldSpec:
        """All that it is built from."""
        return WorldSpec(tuple(host.description for host in self.hosts))

    def add_host(self, spec: HostSpec | None = None) -> Host:
        """One more host."""
        host = Host(HostDescription(spec or HostSpec(), ()))
        self.hosts.append(host)
        return host

    def build(self) -> None:
        """Make all hosts that are not made yet. Raises ConfigError."""
        if self._skeleton is None:
            for host in self.hosts:
                host.build()
            self._skeleton = Skeleton([guest.built for guest in self.guests], "world.guests")

    @property
    def guests(self) -> list[Guest]:
        """All guests of all hosts."""
        return [guest for host in self.hosts for guest in host.guests]

    @property
    def cycles(self) -> int:
        """The clock of the first host's first core."""
        return self.hosts[0].cycles

    @property
    def exit_count(self) -> int:
        """VM exits of all guests so far."""
        return sum(stats["count"] for guest in self.guests for stats in guest.exits.values())

    @property
    def has_ended(self) -> bool:
        """Whether every guest has."""
        return all(host.has_ended for host in self.hosts)

    def pause(self) -> None:
        """Let `run` return soon, between two instructions: from an observer, or another thread."""
        self._is_paused = True
        for host in self.hosts:
            host.pause()

    # --- as it was ---------------------------------------------------------------------------------------------------

    @staticmethod
    def of_plans(plans: Sequence[HostPlan]) -> "World":
        """The world whose hosts are built from `plans`."""
        guests = [tuple(guest.spec for guest in plan.guests) for plan in plans]
        pairs = zip(plans, guests, strict=True)
        world = World(WorldSpec(tuple(HostDescription(plan.spec, specs, plan.additions) for plan, specs in pairs)))
        for host, plan in zip(world.hosts, plans, strict=True):
            host.plan = plan
        return world

    @staticmethod
    def restore(path: Path, additions: Sequence[Additions] | None = None) -> "SavedWorld[World]":
        """The world that was written to `path`; `additions` to each host, if it had any. Raises ConfigError."""
        snapshot = read_snapshot(path)
        if additions is not None:
            check_additions(snapshot, len(additions))
            snapshot = replace(snapshot, additions=tuple(additions))
        return SavedWorld(snapshot, World.of_plans)

    def snapshot(self) -> "SavedWorld[World]":
        """All of it as it is now; not while it runs. Raises ConfigError for what has no form, with its place."""
        self.build()
        plans = [host.plan for host in self.hosts if host.plan is not None]
        return SavedWorld(take(plans, self.skeleton, [bytes(guest.output) for guest in self.guests]), World.of_plans)

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

        Raises ConfigError, or GuestError when a guest did what is not modelled. Ctrl-C pauses it: KeyboardInterrupt.
        """
        limits = limits or Limits()
        self.build()
        guests, self._is_paused = self.guests, False
        for guest in guests:
            guest.await_text(limits.until)
        started = time.perf_counter()
        with self._interruptible():
            while True:
                awake = [host for host in self.hosts if not host.has_ended and self._advance(host, limits)]
                if self._is_interrupted:
                    raise KeyboardInterrupt
                if any(guest.has_printed_it for guest in guests):
                    return Stop.UNTIL
                if self._is_paused:
                    return Stop.PAUSED
                if all(guest.end is not None for guest in guests):
                    return Stop.ENDED
                if not awake:
                    return Stop.ASLEEP
                if all(host.has_ended or _is_at(host, limits.max_cycles) for host in awake):
                    return Stop.LIMIT
                if limits.max_seconds is not None and time.perf_counter() - started >= limits.max_seconds:
                    return Stop.LIMIT

    @staticmethod
    def _advance(host: Host, limits: Limits) -> bool:
        limit_cycles = host.cycles + limits.slice_cycles
        return host.advance(limit_cycles if limits.max_cycles is None else min(limit_cycles, limits.max_cycles))

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        self._is_interrupted = True
        for host in self.hosts:
            host.pause()

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


def _is_at(host: Host, max_cycles: int | None) -> bool:
    return max_cycles is not None and host.cycles >= max_cycles
