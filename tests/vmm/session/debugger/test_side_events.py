"""Breaks on sidecalls, on events of devices and on entries that fail: found, told, and found again on the way back."""

from collections.abc import Iterator

import pytest

import sidecore
from emulator.errors import ConfigError
from emulator.vmx import fields as f
from emulator.vmx.exit_reasons import ExitReason
from tests.vmm.session.debugger.worlds import outcome, undebugged, world_of
from vmm.outcome import NEXT, Outcome
from vmm.session.debugger.debugger import Debugger
from vmm.session.debugger.happening import Kind
from vmm.session.debugger.stop_text import stop_text
from vmm.session.debugger.stop_view import stop_view
from vmm.vcpu import VCpu

PAGINGS: list[sidecore.Paging] = ["shadow", "ept"]


@pytest.fixture(params=PAGINGS)
def debugger(request: pytest.FixtureRequest) -> Iterator[Debugger]:
    """Of a guest that asks a sidecore."""
    made = Debugger(world_of("sidecalls", request.param, sidecore_count=1))
    yield made
    made.close()


def test_a_sidecall_is_seen_when_it_is_taken_and_when_it_is_done(debugger: Debugger) -> None:
    taken = debugger.wait_for(["sidecall", "cpuid"]).happening
    assert (taken.kind, taken.what) == (Kind.SIDECALL, "CPUID")
    assert taken.due_cycles <= taken.cycles
    assert "takes the sidecall CPUID of d0" in stop_text(debugger)
    done = debugger.wait_for(["sidecall", "cpuid", "after"]).happening
    assert (done.kind, done.what, done.ordinal) == (Kind.SERVED, "CPUID", taken.ordinal)
    assert done.cycles > taken.cycles


def test_the_way_back_leads_to_the_same_sidecalls(debugger: Debugger) -> None:
    for words in ("sidecall", "sidecall after if what != 'null'"):
        debugger.breaks.add(words.split(), debugger)
    keys = [debugger.cont().happening.key for _ in range(6)]
    back = [debugger.reverse_cont().happening.key for _ in range(5)]
    assert back == keys[-2::-1]
    assert debugger.cont().happening.key == keys[1]
    debugger.breaks.by_number.clear()
    debugger.cont()
    assert outcome(debugger.world) == undebugged("sidecalls", debugger.subject.paging, sidecore_count=1)


def test_what_no_sidecore_offers_is_refused(debugger: Debugger) -> None:
    with pytest.raises(ConfigError, match=r"no sidecall 'cpui'; .*CPUID"):
        debugger.breaks.add(["sidecall", "cpui"], debugger)
    other = Debugger(world_of())
    with pytest.raises(ConfigError, match="no sidecore"):
        other.breaks.add(["sidecall"], other)
    other.close()


@pytest.mark.parametrize("paging", ["native", *PAGINGS])
def test_events_of_a_device_stop_each_time_and_are_found_again(paging: sidecore.Paging) -> None:
    debugger = Debugger(world_of("interrupts", paging))
    debugger.breaks.add(["event", "counter"], debugger)
    stops = [debugger.cont().happening for _ in range(4)]
    assert all(stop.kind is Kind.EVENT and "Counter" in stop.what and stop.due_cycles <= stop.cycles for stop in stops)
    assert len({stop.key for stop in stops}) == len(stops)
    assert "is about to happen" in stop_text(debugger)
    assert stop_view(debugger).what == stops[-1].what
    assert [debugger.reverse_cont().happening.key for _ in range(3)] == [stop.key for stop in stops[-2::-1]]
    debugger.return_to(stops[2])
    assert any(event.what in stops[2].what for event in debugger.timeline(3).events)
    debugger.breaks.by_number.clear()
    debugger.cont()
    assert outcome(debugger.world) == undebugged("interrupts", paging)
    debugger.close()


def break_entry(vcpu: VCpu) -> Outcome:
    """RFLAGS bit 1 is always 1 (SDM 3C 26.3.1.4)."""
    vcpu.write(f.GUEST_RFLAGS, 0)
    return NEXT


@pytest.mark.parametrize("paging", PAGINGS)
def test_an_entry_that_fails_stops_and_names_the_check(paging: sidecore.Paging) -> None:
    world = sidecore.World()
    host = world.add_host(sidecore.HostSpec(paging=paging))
    host.add_exit_handler(ExitReason.CPUID, break_entry)
    host.add_guest(sidecore.GuestSpec(image="default"))
    debugger = Debugger(world)
    debugger.breaks.add(["entry-failure"], debugger)
    failed = debugger.cont().happening
    assert failed.kind is Kind.FAILED
    assert "RFLAGS" in failed.what
    assert failed.exit is not None
    assert failed.exit.reason == ExitReason.CPUID
    assert "RFLAGS" in stop_text(debugger)
    assert debugger.reverse_next_exit().happening.exits == failed.exits
    assert debugger.cont().happening.key == failed.key
    with pytest.raises(ConfigError, match="where the guest stands"):
        debugger.set("rax", 1)
    assert debugger.cont().happening.kind is Kind.END
    debugger.close()
