"""Claims about the time of a machine: conversion between cycles and picoseconds, and which cycle an event is in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.events import EventQueue
from emulator.timeline import Timeline


@given(st.integers(0, 10**24), st.sampled_from([1, 3, 999_999_937, 3_000_000_000, 10**12, 7 * 10**12]))
def test_a_core_is_never_early_for_an_event_nor_a_cycle_late(when_ps: int, frequency_hz: int) -> None:
    timeline = Timeline(EventQueue(), frequency_hz)
    cycles = timeline.ps_to_cycles(when_ps)
    assert timeline.cycles_to_ps(cycles) >= when_ps
    assert cycles == 0 or (cycles - 1) * 10**12 < when_ps * frequency_hz


@pytest.mark.parametrize(("when_ps", "cycles"), [(0, 0), (1, 1), (333, 1), (334, 2), (1000, 3), (1001, 4)])
def test_at_3_ghz_a_cycle_is_333_and_a_third_ps(when_ps: int, cycles: int) -> None:
    assert Timeline(EventQueue(), 3_000_000_000).ps_to_cycles(when_ps) == cycles


def test_the_next_event_is_known_by_its_cycle_whatever_is_scheduled_or_cancelled() -> None:
    timeline = Timeline(EventQueue(), 3_000_000_000)
    assert timeline.next_event_cycles() is None
    later = timeline.events.schedule(2000, lambda: None)
    assert timeline.next_event_cycles() == 6
    sooner = timeline.events.schedule(334, lambda: None)
    assert timeline.next_event_cycles() == 2
    timeline.events.cancel(sooner)
    assert timeline.next_event_cycles() == 6
    timeline.events.run_until(later.when_ps)
    assert timeline.next_event_cycles() is None
    assert timeline.event_cycles == 6
