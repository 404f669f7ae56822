"""Who watches VM exits: statistics, traces, explanations, save points, a debugger. One seat for all.

    VM exit ----> exit_began ----> handler ----> exit_handled ----> entry ----> exit_ended ----> the guest
                       |  charged, committed: each charge meanwhile  ^
                       '---- the vCPU sleeps, or another is run -----' exit_resumed

An observer overrides what it wants to hear of. What nobody overrides costs nothing: the loop has a list for each.
Charges are many: who wants them at times only says so (`Observers.listen`), and they cost next to nothing meanwhile.
Observers change nothing, and nothing they do takes the guest's time.
"""

from collections.abc import Callable, Sequence
from typing import Any

from emulator.vmx.check import EntryFailure
from emulator.vmx.instruction_errors import VmFailure
from vmm.cost.meter import Charge, Meter
from vmm.outcome import Outcome
from vmm.vcpu import Exit, VCpu


class ExitObserver:
    """Hears of every VM exit of every vCPU on a machine."""

    def seated(self, seats: "Observers") -> None:
        """It is among those of a machine now."""

    def exit_began(self, vcpu: VCpu, exit: Exit) -> None:
        """A VM exit has taken place; nothing is charged yet."""

    def exit_handled(self, vcpu: VCpu, exit: Exit, outcome: Outcome) -> None:
        """The handler has returned; RIP has not moved yet."""

    def exit_resumed(self, vcpu: VCpu, exit: Exit) -> None:
        """The vCPU has slept, or given way, and a core goes on with its exit."""

    def exit_ended(self, vcpu: VCpu, exit: Exit, cycles: int) -> None:
        """The guest goes on, or its domain has ended. The exit took `cycles`, sleep included."""

    def entry_failed(self, vcpu: VCpu, failure: VmFailure | EntryFailure) -> None:
        """The VM entry has failed; the guest ends with that."""

    def charged(self, meter: Meter, charge: Charge) -> None:
        """A charge to the open account of the meter's core."""

    def committed(self, meter: Meter) -> None:
        """All charges are on the core's clock."""


class Observers:
    """The observers of a machine, by what they want to hear of, in the order given."""

    def __init__(self, observers: Sequence[ExitObserver] = ()) -> None:
        self.exit_began: list[Callable[[VCpu, Exit], None]] = _who("exit_began", observers)
        self.exit_handled: list[Callable[[VCpu, Exit, Outcome], None]] = _who("exit_handled", observers)
        self.exit_resumed: list[Callable[[VCpu, Exit], None]] = _who("exit_resumed", observers)
        self.exit_ended: list[Callable[[VCpu, Exit, int], None]] = _who("exit_ended", observers)
        self.entry_failed: list[Callable[[VCpu, VmFailure | EntryFailure], None]] = _who("entry_failed", observers)
        self.listeners = [observer for observer in observers if _overrides(observer, "charged")]  # of charges, now

    def listen(self, observer: ExitObserver, is_wanted: bool) -> None:
        """Let `observer` hear of charges from now on, or of none."""
        if is_wanted != (observer in self.listeners):
            (self.listeners.append if is_wanted else self.listeners.remove)(observer)


def _who(event: str, observers: Sequence[ExitObserver]) -> list[Any]:
    return [getattr(observer, event) for observer in observers if _overrides(observer, event)]


def _overrides(observer: ExitObserver, event: str) -> bool:
    return getattr(type(observer), event) is not getattr(ExitObserver, event)
