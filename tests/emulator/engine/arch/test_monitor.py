"""MONITOR and MWAIT: exits, their priority, and what they do where they do not exit (SDM 2B; 3C 26.1, 28.2.1)."""

import pytest

from emulator.engine import LEAVE
from emulator.vmx import controls as c
from emulator.vmx import fields as f
from emulator.vmx.exit_reasons import ExitReason as R
from tests.emulator.engine.rig import CODE, DATA, Rig, exits_of, guest

PROC = f.PRIMARY_PROCESSOR_BASED_CONTROLS
NOT_CANONICAL = 1 << 60


def ring0(text: str) -> Rig:
    rig = guest(text)
    rig["rax"], rig["rcx"], rig["rdx"] = DATA, 0, 0
    return rig


@pytest.mark.parametrize(
    ("text", "control", "reason"),
    [
        ("monitor", c.PROC_MONITOR_EXITING, R.MONITOR_INSTRUCTION),
        ("mwait", c.PROC_MWAIT_EXITING, R.MWAIT_INSTRUCTION),
    ],
)
def test_each_exits_where_its_control_asks_whatever_its_operands(text: str, control: int, reason: int) -> None:
    rig = ring0(text)
    rig["rax"], rig["rcx"] = NOT_CANONICAL, 0xFFFF_FFFF
    rig.set_control(PROC, control)
    (seen,) = exits_of(rig)
    assert (seen.reason, seen.rip, seen.instruction_bytes, seen.qualification) == (reason, CODE + 1, 3, 0)


def test_mwait_tells_whether_a_monitor_is_armed() -> None:
    rig = ring0("monitor\n mwait")
    rig.set_control(PROC, c.PROC_MWAIT_EXITING)
    (seen,) = exits_of(rig)
    assert (seen.reason, seen.qualification) == (R.MWAIT_INSTRUCTION, 1)


def test_an_exit_in_between_disarms_it() -> None:
    rig = ring0("monitor\n cpuid\n mwait")
    rig.set_control(PROC, c.PROC_MWAIT_EXITING)
    assert [(seen.reason, seen.qualification) for seen in exits_of(rig)] == [(R.CPUID, 0), (R.MWAIT_INSTRUCTION, 0)]


def test_where_nothing_asks_for_an_exit_both_go_on() -> None:
    assert exits_of(ring0("monitor\n mwait\n mwait")) == []


FAULTS = {  # instruction, RAX, ECX -> interruption information, error code of the exit it is seen by
    "extensions of MONITOR": ("monitor", DATA, 1, 0x80000B0D),
    "extensions of MWAIT": ("mwait", DATA, 1, 0x80000B0D),
    "an address that is not canonical": ("monitor", NOT_CANONICAL, 0, 0x80000B0D),
    "a page that is not there": ("monitor", 0x7F00_0000_0000, 0, 0x80000B0E),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults(name: str) -> None:
    text, rax, rcx, information = FAULTS[name]
    rig = ring0(text)
    rig["rax"], rig["rcx"] = rax, rcx
    rig.vmcs.write(f.EXCEPTION_BITMAP, 1 << 13 | 1 << 14)
    rig.on_exit = lambda seen: LEAVE
    rig.run()
    (seen,) = rig.exits
    assert (seen.reason, seen.information, seen.rip) == (R.EXCEPTION_NMI, information, CODE + 1)
    assert seen.qualification == (rax if information & 0xFF == 14 else 0)


@pytest.mark.parametrize("text", ["monitor", "mwait"])
def test_outside_ring_0_both_are_undefined_before_they_exit(text: str) -> None:
    rig = guest(text, cpl=3)
    rig.set_control(PROC, c.PROC_MONITOR_EXITING | c.PROC_MWAIT_EXITING)
    rig.run()
    assert (rig.exits, rig.halted_in) == ([], 6)
