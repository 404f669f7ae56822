"""Registers that are set are those that the guest goes on with, and cut off the past."""

import pytest

import sidecore
from emulator.errors import ConfigError
from emulator.x86 import GPR_NAMES
from tests.vmm.session.debugger.worlds import world_of
from vmm.session.debugger.debugger import Debugger


@pytest.mark.parametrize("paging", ["native", "shadow", "ept"])
def test_what_is_set_before_an_instruction_is_there_behind_it(paging: sidecore.Paging) -> None:
    debugger = Debugger(world_of("default", paging))
    debugger.goto_cycle(8_000_000)
    debugger.stepi(5)
    values = {name: debugger.subject.gpr(number) for number, name in enumerate(GPR_NAMES)}
    rip = debugger.subject.rip
    debugger.set("r15", 0x1122_3344_5566_7788)
    assert debugger.stepi().happening.rip != rip  # one instruction
    assert debugger.subject.gpr(15) == 0x1122_3344_5566_7788
    with pytest.raises(ConfigError, match="nothing like that before"):
        debugger.reverse_stepi()
    debugger.set("r15", values["r15"])
    debugger.set("rip", rip)
    debugger.stepi()
    assert debugger.subject.gpr(15) == values["r15"]
    debugger.close()


@pytest.mark.parametrize("paging", ["native", "shadow", "ept"])
def test_what_is_set_at_rest_is_there_later(paging: sidecore.Paging) -> None:
    debugger = Debugger(world_of("default", paging))
    debugger.goto_cycle(8_000_000)
    debugger.set("r14", 77)
    debugger.stepi()
    assert debugger.subject.gpr(14) == 77
    debugger.close()


def test_what_cannot_be_set_is_refused() -> None:
    debugger = Debugger(world_of("default", "ept"))
    debugger.stepi()
    for name, value, problem in (
        ("cr3", 0, "cannot be set"), ("rax", 1 << 64, "does not fit"), ("rip", 1 << 60, "not canonical"),
        ("rflags", 1 << 17, "cannot be"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=problem):
            debugger.set(name, value)
    debugger.next_exit()
    with pytest.raises(ConfigError, match="handler decides"):
        debugger.set("rip", 0x1000)
    debugger.close()
