"""What a run needs of a guest, whether a VMM is under it or it has the machine to itself."""

from collections.abc import Sequence
from typing import Protocol

from devices.board import Board
from devices.nic.nic import Nic
from emulator.engine import Engine
from emulator.events import EventQueue
from emulator.machine import Machine
from emulator.pcpu import PCpu
from emulator.vmx.vmcs import Vmcs
from emulator.world import Host
from vmm.outcome import End
from vmm.paging.guest_walk import Memory, PagingMode
from vmm.session.stats import DutyChange, ExitStats, NicStats


class Processor(Protocol):
    """A processor of a guest: `native.NativeProcessor`, `vcpu.VCpu`."""

    engine: Engine
    vmcs: Vmcs

    @property
    def pcpu(self) -> PCpu:
        """The core that it is on."""
        ...


class Ram(Memory, Protocol):
    """Physical memory, of which one can ask where it is."""

    def is_ram(self, address: int, length_bytes: int, /) -> bool:
        """Whether all of it is RAM."""
        ...


class Guest(Protocol):
    """A loaded guest on core `pcpu` of `machine`: `native.NativeGuest`, `virtual_guest.VirtualGuest`."""

    machine: Machine
    pcpu: PCpu
    engine: Engine
    vmcs: Vmcs  # its guest-state fields are the registers, natively too
    nic: Nic | None  # its machine's card

    @property
    def host(self) -> Host:
        """The machine with all that runs on it, as a world takes it."""
        ...

    @property
    def processors(self) -> Sequence[Processor]:
        """Its processors, by number."""
        ...

    @property
    def memory(self) -> Ram:
        """Its physical memory."""
        ...

    def mode_of(self, number: int) -> PagingMode:
        """The registers of a processor that decide how addresses translate, as the guest has them; costs nothing."""
        ...

    @property
    def end(self) -> End | None:
        """How it ended; None: it has not."""
        ...

    def finish(self, end: End) -> None:
        """End it; the first end counts."""
        ...

    @property
    def board(self) -> Board:
        """The devices it sees."""
        ...

    @property
    def timers(self) -> EventQueue:
        """The time of these devices."""
        ...

    def advance(self, limit_cycles: int) -> None:
        """Run until the core's clock reaches `limit_cycles`, the guest ends, or only the outside could wake it."""
        ...

    def pause(self) -> None:
        """Return from `advance` soon, between two instructions; another goes on."""
        ...

    def run_timers(self) -> None:
        """Bring the devices to the core's time, before the outside world touches one."""
        ...

    def exit_statistics(self) -> dict[str, ExitStats]:
        """Every VM exit so far, by the name of its reason."""
        ...

    def duty_changes(self) -> list[DutyChange] | None:
        """When a sidecore that has other duties, too, began to serve and ended; None: there is none."""
        ...

    def nic_stats(self) -> NicStats | None:
        """What the machine's network card has done, and the VMM for its interfaces; None: there is none."""
        ...
