"""The lines of a sidecall move between its cores as often as by hand, and a dirty line's latency counts as often.

A null sidecall: the guest's store of the request makes the line its own; the sidecore's load gets it, dirty; its store
of the answer makes it its own; the guest's load gets it, dirty. On a bus each of the four is `core.dirty_line_cycles`;
cores that share an L2 take a line that nobody has changed from there, so that only two are.
"""

import pytest

from emulator.ledger import Category
from emulator.timing.fidelity import Fidelity
from vmm.session.build import build_guest
from vmm.session.plan import plan
from vmm.session.spec import GuestSpec, HostSpec
from vmm.session.virtual_guest import VirtualGuest

GUEST, SIDECORE = range(2)
DIRTY_CYCLES, MORE_DIRTY_CYCLES = 400, 1600
DIRTY_LATENCIES = {"netburst-2006": 4, "core2-2006": 2}  # of a round trip
CALLS = 20
LEAST_PERCENT = 97  # of what the latencies add: a poll and a round of the guest's spinning end meanwhile, or do not


def run(profile: str, timing: Fidelity, dirty_cycles: int) -> tuple[VirtualGuest, int]:
    """The guest when it has ended, and how long it says that a null sidecall takes."""
    output = bytearray()
    host = HostSpec(
        profile=profile, timing=timing, sidecore_count=1, overrides=(f"core.dirty_line_cycles={dirty_cycles}",)
    )
    guest = build_guest(plan(host, GuestSpec(image="sidecall_null")), output.append)
    assert isinstance(guest, VirtualGuest)
    while guest.end is None:
        guest.advance(10**9)
    (line,) = (line for line in output.decode().splitlines() if line.startswith("~ sidecall: "))
    return guest, int(line.split()[2])


@pytest.mark.parametrize("profile", DIRTY_LATENCIES)
def test_each_core_gets_a_dirty_line_and_takes_one_for_itself_in_each_call(profile: str) -> None:
    guest, _ = run(profile, "detailed", DIRTY_CYCLES)
    hierarchy = guest.machine.timing.hierarchy
    assert hierarchy is not None
    for core in (GUEST, SIDECORE):
        transfers, upgrades = (hierarchy.counter(core, name) for name in ("dirty_transfer", "upgrade"))
        others = 12  # registration of the page, the domain's lock
        assert CALLS <= transfers <= CALLS + others
        assert CALLS - 1 <= upgrades <= CALLS + others  # nobody else has the line of the guest's first request


@pytest.mark.parametrize("timing", ["fast", "detailed"])
@pytest.mark.parametrize("profile", DIRTY_LATENCIES)
def test_a_call_takes_as_much_longer_as_its_transfers(profile: str, timing: Fidelity) -> None:
    _, cycles = run(profile, timing, DIRTY_CYCLES)
    _, more_cycles = run(profile, timing, MORE_DIRTY_CYCLES)
    expected = DIRTY_LATENCIES[profile] * (MORE_DIRTY_CYCLES - DIRTY_CYCLES)
    assert LEAST_PERCENT * expected <= 100 * (more_cycles - cycles) <= 103 * expected


@pytest.mark.parametrize("timing", ["fast", "detailed"])
@pytest.mark.parametrize("profile", DIRTY_LATENCIES)
def test_the_sidecores_transfers_are_booked_to_it(profile: str, timing: Fidelity) -> None:
    guest, _ = run(profile, timing, DIRTY_CYCLES)
    ledger = guest.machine.pcpus[SIDECORE].clock.book()
    account = ledger.account("d0", "sidecall null")
    stall_cycles = DIRTY_CYCLES - guest.machine.profile.caches.l1d_latency_cycles
    assert account[Category.COHERENCE] == CALLS * stall_cycles


@pytest.mark.parametrize("profile", DIRTY_LATENCIES)
def test_fast_and_detailed_agree_on_a_null_call(profile: str) -> None:
    (_, fast), (_, detailed) = (run(profile, timing, DIRTY_CYCLES) for timing in ("fast", "detailed"))
    assert abs(detailed - fast) * 10 <= fast
