"""Conditions of breaks: only names that are needed are looked up; what is none is refused before it is used."""

import pytest

from emulator.errors import ConfigError
from tests.vmm.session.debugger.worlds import world_of
from vmm.session.debugger.conditions import NAMES, Condition
from vmm.session.debugger.debugger import Debugger


@pytest.fixture(scope="module")
def at_cpuid() -> Debugger:
    debugger = Debugger(world_of())
    debugger.wait_for(["exit", "CPUID"])
    return debugger


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("reason == 'CPUID' and not false", True), ("n * 2", 14), ("max(vcpu, 3)", 3), ("f'{cpl}'", "0"),
        ("port == 0x64", None), ("cpl == 3 and port == 0x64", False), ("cpl == 0 or port == 0x64", True),
        ("into", "in"), ("[cpl, domain][1]", 0),
    ],
)  # fmt: skip
def test_names_are_looked_up_as_far_as_they_are_needed(at_cpuid: Debugger, text: str, value: object) -> None:
    assert Condition(text).value(at_cpuid.stop.happening, at_cpuid.subject, 7) == value


def test_each_name_can_be_asked_for(at_cpuid: Debugger) -> None:
    for name in NAMES:
        Condition(name).value(at_cpuid.stop.happening, at_cpuid.subject, 1)


def test_what_cannot_be_computed_does_not_hold(at_cpuid: Debugger) -> None:
    for text in ("rip()", "cpl / 0", "rip[0]", "1 << (1 << 70)"):
        with pytest.raises(ConfigError, match="cannot be computed"):
            Condition(text).value(at_cpuid.stop.happening, at_cpuid.subject)
        assert not Condition(text).holds(at_cpuid.stop.happening, at_cpuid.subject, 1)


@pytest.mark.parametrize(
    "text",
    ["", "nowhere", "rip.real", "(rip := 3)", "{rip for rip in (1, 2)}", "[rip for rip in (1, 2)]", "lambda: 1",
     "2 ** 99", "print(1)", "__import__", "rip if", "(" * 400 + ")" * 400, "1" + "+1" * 600],
)  # fmt: skip
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        Condition(text)
