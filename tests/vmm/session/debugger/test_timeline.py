"""`timeline` has the last events of everybody, in order of time, up to the stop, forwards and behind a way back."""

import pytest

import sidecore
from emulator.errors import ConfigError
from tests.vmm.session.debugger.worlds import outcome, undebugged, world_of
from vmm.session.debugger.debugger import Debugger
from vmm.session.debugger.recorder import EventKind
from vmm.session.debugger.views.subject import Space

BEHIND_CYCLES = 26_000_000  # the default guest has slept and been woken by then


class Counted(sidecore.ExitObserver):
    """When exits began."""

    def __init__(self) -> None:
        self.began: list[int] = []

    def exit_began(self, vcpu: sidecore.VCpu, exit: sidecore.Exit) -> None:
        self.began.append(exit.began_cycles)


@pytest.mark.parametrize("paging", ["shadow", "ept"])
def test_every_exit_is_there_with_its_entry(paging: sidecore.Paging) -> None:
    counted, world = Counted(), world_of("default", paging)
    world.hosts[0].observe(counted)
    world.run(sidecore.Limits(max_cycles=BEHIND_CYCLES))
    debugger = Debugger(world_of("default", paging))
    debugger.goto_cycle(BEHIND_CYCLES)
    events = debugger.timeline(10_000).events
    assert [event.cycles for event in events if event.kind is EventKind.EXIT] == counted.began
    assert [event.at_ps for event in events] == sorted(event.at_ps for event in events)
    assert sum(event.kind is EventKind.ENTRY for event in events) >= len(counted.began) - 1
    debugger.close()


@pytest.mark.parametrize("paging", ["native", "shadow", "ept"])
def test_a_timer_is_seen_from_the_device_to_the_guests_handler(paging: sidecore.Paging) -> None:
    debugger = Debugger(world_of("default", paging))
    debugger.goto_cycle(BEHIND_CYCLES)
    events = debugger.timeline(10_000).events
    ticks = [event.cycles for event in events if "follow_out" in event.what and event.kind is EventKind.DEVICE]
    taken = [event.cycles for event in events if event.what == "interrupt 0x20" and event.kind is EventKind.DELIVERY]
    injected = [event for event in events if event.kind is EventKind.ENTRY and "vector 0x20" in event.what]
    assert taken
    assert all(any(0 < cycle - tick < 100_000 for tick in ticks) for cycle in taken)
    assert len(injected) == (0 if paging == "native" else len(taken))
    debugger.close()


@pytest.mark.parametrize("paging", ["native", "shadow", "ept"])
def test_behind_a_way_back_it_shows_the_same_past(paging: sidecore.Paging) -> None:
    debugger = Debugger(world_of("default", paging))
    debugger.goto_cycle(3_000_000)
    debugger.stepi()
    before = debugger.timeline(200)
    debugger.goto_cycle(9_000_000)
    later = debugger.timeline(200)
    assert later.cycles > before.cycles
    debugger.return_to(debugger.stop.happening)
    assert debugger.timeline(200) == later
    debugger.goto_cycle(3_000_000)
    debugger.stepi()
    assert debugger.timeline(200) == before
    debugger.close()


def test_the_stop_is_the_last_event() -> None:
    debugger = Debugger(world_of())
    debugger.next_exit(30)
    shown = debugger.timeline(5)
    assert (len(shown.events), shown.events[-1].kind) == (5, EventKind.EXIT)
    assert shown.events[-1].cycles == shown.cycles == debugger.stop.happening.cycles
    debugger.finish()
    assert debugger.timeline(5).events[-1].kind is EventKind.ENTRY
    debugger.close()


def test_sidecalls_are_there_and_watching_them_changes_nothing() -> None:
    debugger = Debugger(world_of("sidecalls", "ept", sidecore_count=1))
    debugger.goto_cycle(5_000_000)
    events = debugger.timeline(10_000).events
    calls = [event for event in events if event.kind is EventKind.SIDECALL]
    assert {event.core for event in calls} == {1}
    assert all("waited" in event.what for event in calls)
    debugger.cont()
    assert outcome(debugger.world) == undebugged("sidecalls", "ept", sidecore_count=1)
    debugger.close()


def test_both_processors_are_in_it() -> None:
    debugger = Debugger(world_of("smp_ipi", "ept", vcpu_count=2, pcpu_count=2))
    debugger.goto_cycle(4_000_000)
    assert {event.who for event in debugger.timeline(500).events} >= {"d0v0", "d0v1"}
    debugger.close()


def test_what_was_written_has_no_past() -> None:
    debugger = Debugger(world_of())
    debugger.next_exit(30)
    debugger.store(Space.GPA, 0x1000, b"\0")
    with pytest.raises(ConfigError, match="no past"):
        debugger.timeline()
    with pytest.raises(ConfigError, match="from 1 to"):
        debugger.timeline(0)
    debugger.close()
