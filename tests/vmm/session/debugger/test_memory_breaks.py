"""Breaks on memory stop behind the instruction that accessed it, whoever that was, and say what it was and is."""

from collections.abc import Iterator

import pytest

import sidecore
from emulator.errors import ConfigError
from emulator.x86 import RSP
from tests.vmm.session.debugger.worlds import world_of
from vmm.session.debugger.console import Console
from vmm.session.debugger.debugger import Debugger
from vmm.session.debugger.happening import By, Happening, Kind
from vmm.session.debugger.pursuits import Waiter
from vmm.session.debugger.views.subject import Space
from vmm.session.debugger.watcher import EVERYWHERE


@pytest.fixture(params=["native", "shadow", "ept"])
def debugger(request: pytest.FixtureRequest) -> Iterator[Debugger]:
    """In the middle of a guest's work."""
    paging: sidecore.Paging = request.param
    made = Debugger(world_of("default", paging))
    made.goto_cycle(8_000_000)
    made.stepi()
    yield made
    made.close()


def word_below_the_stack(debugger: Debugger) -> str:
    """Which the next call, or push, stores to."""
    return f"{debugger.subject.gpr(RSP) - 8:#x}"


def test_a_store_stops_behind_its_instruction(debugger: Debugger) -> None:
    address = word_below_the_stack(debugger)
    there = debugger.stop.happening
    hpa = debugger.subject.place(Space.GVA, int(address, 0))
    assert hpa is not None
    before = debugger.subject.read_hpa(hpa, 8)
    while (access := debugger.wait_for(["write", address]).happening.access) is not None and access.old == access.new:
        pass  # of the same value, which stepping does not see
    assert access is not None
    stopped = debugger.stop.happening
    assert (stopped.kind, access.by, access.old) == (Kind.ACCESS, By.INSTRUCTION, before)
    assert debugger.subject.read_hpa(hpa, 8) == access.new
    rip, previous = debugger.subject.rip, []

    def has_changed(happening: Happening) -> bool:
        previous.append(happening.rip)
        return happening.subject is not None and happening.subject.read_hpa(hpa, 8) != before

    debugger.return_to(there)
    debugger.pursue(Waiter(frozenset({Kind.INSTRUCTION}), (EVERYWHERE,), match=has_changed))
    assert (debugger.subject.rip, previous[-2]) == (rip, access.linear)


def test_a_load_stops_and_changes_nothing(debugger: Debugger) -> None:
    access = debugger.wait_for(["read", word_below_the_stack(debugger)]).happening.access
    assert access is not None
    assert access.is_load
    assert access.is_store or access.old == access.new


def test_a_step_from_it_is_one_instruction(debugger: Debugger) -> None:
    rip = debugger.wait_for(["access", word_below_the_stack(debugger)]).happening.subject
    assert rip is not None
    before = debugger.subject.rip
    assert debugger.stepi().happening.rip != before


def test_the_way_back_leads_to_the_same_access(debugger: Debugger) -> None:
    debugger.breaks.add(["write", word_below_the_stack(debugger)], debugger)
    keys = [debugger.cont().happening.key for _ in range(3)]
    assert [debugger.reverse_cont().happening.key for _ in range(2)] == [keys[1], keys[0]]
    assert debugger.cont().happening.key == keys[1]


def test_a_step_back_is_before_the_store(debugger: Debugger) -> None:
    access = debugger.wait_for(["write", word_below_the_stack(debugger)]).happening.access
    assert access is not None
    debugger.reverse_stepi()
    assert debugger.subject.linear_rip == access.linear
    assert debugger.subject.read_hpa(access.place.hpa, 8) == access.old


def test_conditions_know_the_values(debugger: Debugger) -> None:
    words = ["access", word_below_the_stack(debugger), "if", "access", "==", "write", "and", "old", "!=", "new"]
    access = debugger.wait_for(words).happening.access
    assert access is not None
    assert access.old != access.new


def test_what_is_no_memory_is_refused(debugger: Debugger) -> None:
    for words, problem in {
        "write gpa 0xfffffffff000": "no memory is at gpa",
        "write hpa 0x1ffe 4": "lies in one page",
        "write hpa 0x1000 0": "lies in one page",
        "read 0x8000000000000000": "no memory",
        "read gva": "is no memory; give",
    }.items():
        with pytest.raises(ConfigError, match=problem):
            debugger.breaks.add(words.split(), debugger)


def test_the_next_write_is_what_a_break_there_stops_at(debugger: Debugger) -> None:
    there = debugger.stop.happening
    console = Console(debugger, lambda _text: None, lambda _data: None)
    console.answer("next-write gva rsp 4")
    found = debugger.stop.happening
    assert found.access is not None
    assert (found.access.is_store, found.access.place.size_bytes) == (True, 4)
    debugger.return_to(there)
    assert debugger.wait_for(["write", f"{debugger.subject.gpr(RSP):#x}", "4"]).happening.key == found.key
    assert "is no memory; give" in console.answer("next-write gva")
    assert "is no memory; give" in console.answer("last-write gpa 1 2 3")
