"""Claims about a machine: conversion between cycles and picoseconds, and that two machines share nothing."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.ledger import Category
from emulator.machine import Machine
from emulator.pcpu import SPURIOUS_VECTOR
from emulator.profiles.profile import load_profile

PROFILE = load_profile("netburst-2006")


@given(st.integers(0, 10**24), st.sampled_from([1, 3, 999_999_937, 3_000_000_000, 10**12, 7 * 10**12]))
def test_a_core_is_never_early_for_an_event_nor_a_cycle_late(when_ps: int, frequency_hz: int) -> None:
    machine = Machine.__new__(Machine)
    machine.profile = replace(PROFILE, core=replace(PROFILE.core, frequency_hz=frequency_hz))
    cycles = machine.ps_to_cycles(when_ps)
    assert machine.cycles_to_ps(cycles) >= when_ps
    assert cycles == 0 or (cycles - 1) * 10**12 < when_ps * frequency_hz


@pytest.mark.parametrize(("when_ps", "cycles"), [(0, 0), (1, 1), (333, 1), (334, 2), (1000, 3), (1001, 4)])
def test_at_3_ghz_a_cycle_is_333_and_a_third_ps(when_ps: int, cycles: int) -> None:
    assert Machine(PROFILE, memory_bytes=4096).ps_to_cycles(when_ps) == cycles


def test_machines_share_nothing() -> None:
    first, second = (Machine(PROFILE, memory_bytes=8192, pcpu_count=2) for _ in range(2))
    first.memory.write(0, b"x")
    first.pcpus[0].charge(Category.EXIT, 1000)
    first.events.schedule(5, lambda: None)
    assert second.memory.read(0, 1) == b"\0"
    assert second.pcpus[0].clock_cycles == first.pcpus[1].clock_cycles == 0
    assert second.events.next_ps() is None
    assert [pcpu.number for pcpu in first.pcpus] == [0, 1]


def test_an_acknowledge_that_nobody_answers_reads_the_spurious_vector() -> None:
    machine = Machine(PROFILE, memory_bytes=4096)
    assert machine.pcpus[0].interrupt_vector() == SPURIOUS_VECTOR
