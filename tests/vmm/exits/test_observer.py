"""Observers: who overrides nothing is asked nothing, and who overrides is asked in the order given."""

import pytest

from tests.vmm.fakes import exited_vcpu
from vmm.cost.meter import Charge, Meter
from vmm.exits.observer import ExitObserver, Observers
from vmm.outcome import NEXT, Outcome
from vmm.vcpu import Exit, VCpu

EVENTS = ("exit_began", "exit_handled", "exit_resumed", "exit_ended")
AN_EXIT = Exit(10, 0x1000, 5)


class Begin(ExitObserver):
    def __init__(self, heard: list[object]) -> None:
        self.heard = heard

    def exit_began(self, vcpu: VCpu, exit: Exit) -> None:
        self.heard.append(self)


class BeginAgain(Begin):
    """Inherits what it hears of."""


class Handled(ExitObserver):
    def exit_handled(self, vcpu: VCpu, exit: Exit, outcome: Outcome) -> None:
        assert outcome is NEXT


class Charges(ExitObserver):
    def charged(self, meter: Meter, charge: Charge) -> None:
        """Hear of it."""


def asked(observers: Observers) -> list[str]:
    return [event for event in EVENTS if getattr(observers, event)]


@pytest.mark.parametrize("given", [(), (ExitObserver(),)], ids=["nobody", "one that overrides nothing"])
def test_without_overrides_nobody_is_asked(given: tuple[ExitObserver, ...]) -> None:
    observers = Observers(given)
    assert asked(observers) == []
    assert observers.listeners == []


def test_only_what_is_overridden_is_asked() -> None:
    assert asked(Observers([Begin([])])) == ["exit_began"]
    assert asked(Observers([Handled()])) == ["exit_handled"]
    assert asked(Observers([Handled(), Begin([])])) == ["exit_began", "exit_handled"]


def test_an_override_that_is_inherited_counts() -> None:
    assert asked(Observers([BeginAgain([])])) == ["exit_began"]


def test_they_are_asked_in_the_order_given() -> None:
    heard: list[object] = []
    first, second = BeginAgain(heard), Begin(heard)
    for tell in Observers([first, Handled(), second]).exit_began:
        tell(exited_vcpu(), AN_EXIT)
    assert heard == [first, second]


def test_only_who_wants_charges_listens_to_the_meter() -> None:
    listener = Charges()
    observers = Observers([Begin([]), listener])
    assert observers.listeners == [listener]


def test_who_listens_can_stop_and_begin_again() -> None:
    listener = Charges()
    observers = Observers([listener])
    for is_wanted in (True, False, False, True):
        observers.listen(listener, is_wanted)
        assert observers.listeners == is_wanted * [listener]
