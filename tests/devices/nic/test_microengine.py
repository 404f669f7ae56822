"""Contexts of a microengine: one at a time, each until it asks for something."""

from collections.abc import Mapping
from typing import Any

import pytest

from devices.nic.board import load_board
from devices.nic.microengine import Me, Program, ProgramFunction
from devices.nic.nic import Nic
from devices.nic.programs import PROGRAMS, RECEIVED, TRANSMIT
from devices.nic.requests import Compute, Dram, Get, Put, Receive, Scratch, Sram, Unload
from emulator.events import EventQueue

# 600 MHz: a swap takes 5 ns, a step 25 ns
SWAP_PS, STEP_PS, SCRATCH_PS, SRAM_PS, DRAM_PS = 5_000, 25_000, 100_000, 150_000, 200_000


def make(programs: Mapping[int, Any]) -> tuple[EventQueue, Nic]:
    events = EventQueue()
    return events, Nic(events, load_board(), programs=programs, batches=False)


def contexts(nic: Nic, number: int = 0) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = nic.stats()["microengines"][number]["contexts"]
    return found


def one_then_sleep(me: Me) -> Program:
    yield Scratch(480)
    yield Get(15)


def test_a_context_runs_until_it_asks_a_unit_and_the_next_is_swapped_in() -> None:
    events, nic = make({0: one_then_sleep})
    events.run_until(SWAP_PS + 8 * (SWAP_PS + STEP_PS))
    assert [context["executing_ps"] for context in contexts(nic)] == [SWAP_PS + STEP_PS] * 8
    assert [context["waiting_ps"] for context in contexts(nic)] == [
        SWAP_PS + number * (SWAP_PS + STEP_PS) for number in range(8)
    ]
    assert nic.stats()["units"]["scratch"]["requests"] == 8


def test_a_context_that_was_answered_waits_until_the_engine_is_free() -> None:
    """The first is answered while another executes, and goes on behind those that were ready before."""
    seen: list[tuple[int, int]] = []

    def program(me: Me) -> Program:
        if me.number == 0:
            yield Scratch(1)
            seen.append((me.number, 1))
            yield Get(15)
        yield Compute(600)  # a microsecond, without giving way
        seen.append((me.number, 0))
        yield Get(15)

    events, nic = make({0: program})
    events.run_until(10_000_000)
    assert seen == [*((number, 0) for number in range(1, 8)), (0, 1)]
    assert contexts(nic)[0]["swaps"] == 2


def test_memory_takes_its_latency_and_bytes() -> None:
    at_ps: list[int] = []
    events = EventQueue()

    def program(me: Me) -> Program:
        if me.number == 0:
            yield Scratch(240)
            at_ps.append(events.now_ps)
            yield Sram(240)
            at_ps.append(events.now_ps)
            yield Dram(350)
            at_ps.append(events.now_ps)
        yield Get(15)

    Nic(events, load_board(), programs={0: program}, batches=False)
    events.run_until(10_000_000)
    begun = SWAP_PS + SWAP_PS + STEP_PS
    scratch = begun + SCRATCH_PS + 100_000
    busy = SWAP_PS + 8 * (SWAP_PS + STEP_PS)  # the others are swapped in, and sleep
    scratch = max(scratch, busy)
    sram = scratch + SWAP_PS + STEP_PS + SRAM_PS + 100_000
    assert at_ps == [scratch, sram, sram + SWAP_PS + STEP_PS + DRAM_PS + 100_000]


def test_contexts_that_take_what_comes_put_it_in_the_order_in_which_they_took_it() -> None:
    """A program that takes longer for every second frame, on eight contexts: the order stays."""

    def slow_for_some(me: Me) -> Program:
        received = yield Receive()
        yield Unload(received)
        if received.frame[-1] % 2:
            yield Sram(5000)
        if received.frame[-1] % 3:
            yield Put(RECEIVED, received)

    taken: list[int] = []

    def collect(me: Me) -> Program:
        received = yield Get(RECEIVED)
        taken.append(received.frame[-1])
        yield Scratch(4)

    events = EventQueue()
    nic = Nic(events, load_board(), programs={0: slow_for_some, 1: collect})
    for number in range(60):
        nic._chip.mac.receive(bytes(59) + bytes([number]))
        events.run_until(events.now_ps + 672_000)
    events.run_until(events.now_ps + 100_000_000)
    assert taken == [number for number in range(60) if number % 3]


def test_who_puts_into_a_full_ring_waits_until_somebody_gets() -> None:
    is_open = [False]

    def fill(me: Me) -> Program:
        yield Put(TRANSMIT, 1)

    def drain(me: Me) -> Program:
        if not is_open[0]:
            yield Scratch(4)
            return
        yield Get(TRANSMIT)

    events = EventQueue()
    nic = Nic(events, load_board(["ring_words=16"]), programs={0: fill, 1: drain})
    events.run_until(20_000_000)
    assert nic.stats()["rings"][TRANSMIT] == {"puts": 8, "depth": 8, "depth_max": 8}
    is_open[0] = True
    events.run_until(40_000_000)
    assert nic.stats()["rings"][TRANSMIT]["puts"] > 100
    assert nic.stats()["rings"][TRANSMIT]["depth_max"] == 8


def nothing(me: Me) -> Program:
    return
    yield


def only_computes(me: Me) -> Program:
    yield Compute(5)


@pytest.mark.parametrize("program", [nothing, only_computes])
def test_a_program_that_never_gives_way_is_an_error(program: ProgramFunction) -> None:
    events, _ = make({0: program})
    with pytest.raises(RuntimeError, match=f"program '{program.__name__}' of a microengine ends without giving way"):
        events.run_until(1_000_000)


def test_a_program_that_yields_something_else_is_an_error() -> None:
    def wrong(me: Me) -> Program:
        yield 7

    events, _ = make({0: wrong})
    with pytest.raises(RuntimeError, match="program 'wrong' of a microengine yielded 7"):
        events.run_until(1_000_000)


def test_engines_without_a_program_are_idle() -> None:
    _, nic = make(PROGRAMS)
    assert sorted(nic.stats()["microengines"]) == [0, 1, 2, 3, 4]
