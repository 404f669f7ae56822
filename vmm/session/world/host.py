"""A host of a script's world: described, with its guests and all that is added to it, then built."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from devices.board import PciDeviceMaker
from devices.nic.microengine import ProgramFunction
from devices.nic.nic import MICROENGINE_COUNT, Nic
from emulator.cpuid import Registers
from emulator.errors import ConfigError
from emulator.vmx.exit_reasons import NAMES
from emulator.world import Host as BuiltHost
from vmm.exits.observer import ExitObserver
from vmm.exits.table import Handler
from vmm.scheduler import Scheduler
from vmm.session.additions import NOTHING_ADDED, Additions
from vmm.session.boot_plan import HostPlan
from vmm.session.build import build_host
from vmm.session.copy import without_image
from vmm.session.observe.pcap import Capture
from vmm.session.plan import plan_host
from vmm.session.spec import GuestSpec, HostSpec
from vmm.session.world.guest import Guest
from vmm.sidecore.operations import Function, Operation
from vmm.sidecore.policy import Policy
from vmm.vcpu import Hypercall, VCpu


@dataclass(frozen=True)
class HostDescription:
    """All that a host is built from."""

    spec: HostSpec
    guests: tuple[GuestSpec, ...]
    additions: Additions = NOTHING_ADDED


class Host:
    """An emulated machine and its guests, described until it is built; from then on describing is a ConfigError."""

    def __init__(self, description: HostDescription) -> None:
        self.spec = description.spec
        self.additions = description.additions
        self.guests: list[Guest] = []
        self.plan: HostPlan | None = None  # what it is built from, once that is known
        self.is_built = False
        self._observers: list[ExitObserver] = []
        self._capture: Capture | None = None
        for spec in description.guests:
            self.add_guest(spec)

    @property
    def description(self) -> HostDescription:
        """All that it is built from."""
        return HostDescription(self.spec, tuple(guest.spec for guest in self.guests), self.additions)

    def add_guest(
        self, spec: GuestSpec | None = None, *, is_held_back: bool = False, begins_later: bool = False
    ) -> Guest:
        """One more guest; natively there is one only.

        One that is held back does not boot: see `Guest.begin_as`. One that begins later does at `Guest.begin`.
        """
        self._check_open()
        guest = Guest(spec or GuestSpec(), is_held_back=is_held_back, begins_later=begins_later)
        self.guests.append(guest)
        return guest

    def observe(self, observer: ExitObserver) -> None:
        """Tell `observer` of every VM exit."""
        self._check_open()
        self._observers.append(observer)

    def capture(self, path: str | Path) -> None:
        """Write what its network card sends and gets to a file, for tcpdump and Wireshark, whole when all have ended.

        Raises ConfigError.
        """
        self._check_open()
        self._capture = Capture(Path(path))

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

    def add_nic_program(self, microengine: int, program: ProgramFunction) -> None:
        """Let a microengine of the network card run `program`, instead of the card's own."""
        if not 0 <= microengine < MICROENGINE_COUNT:
            raise ConfigError(f"no microengine {microengine}; the card has 0 to {MICROENGINE_COUNT - 1}")
        self._add("nic_programs", microengine, program)

    def set_scheduler(self, make: Callable[[int], Scheduler[VCpu]]) -> None:
        """Let the scheduler that `make(core_count)` makes decide who runs where."""
        self._check_open()
        self.additions = replace(self.additions, scheduler=make)

    def set_sidecore_policy(self, make: Callable[[], Policy]) -> None:
        """Let the policy that `make()` makes decide when the sidecore's core runs guests."""
        self._check_open()
        self.additions = replace(self.additions, sidecore_policy=make)

    def build(self, number: int = 0) -> None:
        """Make host `number` of its world and its guests, once. Raises ConfigError for whatever is not possible."""
        if self.is_built:
            return
        specs = [guest.spec for guest in self.guests]
        plan = self.plan or plan_host(self.spec, specs, number=number, additions=self.additions)
        held = [guest.is_held_back for guest in self.guests]
        plan = replace(plan, guests=tuple(map(without_image, plan.guests, held)))
        transmits = [guest.transmit for guest in self.guests]
        all_built = build_host(plan, transmits, observers=self._observers)
        for guest, built, guest_plan in zip(self.guests, all_built, plan.guests, strict=True):
            guest.take(built, guest_plan)
        self.plan, self.is_built = plan, True
        if self._capture is not None:
            self._capture.follow(self.nic)

    def end_capture(self) -> None:
        """Write what is left to write of `capture`. Raises ConfigError."""
        if self._capture is not None:
            self._capture.close()

    @property
    def has_ended(self) -> bool:
        """Whether all its guests have."""
        return all(guest.end is not None for guest in self.guests)

    @property
    def built(self) -> BuiltHost:
        """The machine with all that runs on it."""
        return self.guests[0].built.host

    @property
    def nic(self) -> Nic:
        """Its network card, once it is built. Raises ConfigError when it has none."""
        nic = self.guests[0].built.nic
        if nic is None:
            raise ConfigError("the host has no network card; give it one, with has_nic")
        return nic

    def pause(self) -> None:
        """Let its cores stop soon, between two instructions."""
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
