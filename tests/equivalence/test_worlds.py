"""Guests on several hosts of one world end as each does alone, with wires between their hosts or without."""

import json
from itertools import pairwise

import pytest

from emulator.events import PS_PER_SECOND
from emulator.wire import WireEnd
from emulator.world import World
from tests.vmm.session.snapshot.saved_runs import finish, plan_of
from vmm.session.boot_plan import BootPlan
from vmm.session.build import build_guest
from vmm.session.run import collect_stats
from vmm.session.snapshot.contents import Contents
from vmm.session.snapshot.objects import Skeleton

SLICE_PS = PS_PER_SECOND // 100
WIRES_PS = (None, 1_000_000, 200_000)  # latencies; no wire, one microsecond, less than an IPI takes

Ended = tuple[bytes, str]


def alone(plan: BootPlan) -> Ended:
    """A guest's output and statistics on a host of its own."""
    output = bytearray()
    stats = finish(build_guest(plan, output.append))
    return bytes(output), stats


def together(plans: list[BootPlan], latency_ps: int | None, slice_ps: int) -> list[Ended]:
    """The same of guests in one world, whose hosts are in a row."""
    outputs = [bytearray() for _ in plans]
    guests = [build_guest(plan, output.append) for plan, output in zip(plans, outputs, strict=True)]
    world = World([guest.host for guest in guests])
    if latency_ps is not None:
        for one, other in pairwise(guests):
            world.connect(one.host, other.host, latency_ps=latency_ps)
    while not world.is_over:
        world.advance(world.now_ps + slice_ps)
    stats = [json.dumps(collect_stats(guest, 0.0), sort_keys=True) for guest in guests]
    return [(bytes(output), text) for output, text in zip(outputs, stats, strict=True)]


@pytest.mark.parametrize("latency_ps", WIRES_PS)
def test_guests_on_hosts_of_different_frequencies_end_as_each_does_alone(latency_ps: int | None) -> None:
    plans = [
        plan_of("hlt_wake", "native"),
        plan_of("fpu_sse", "ept", profile="haswell"),
        plan_of("interrupts", "shadow", profile="xeon-2.8-ht-2006"),
    ]
    assert together(plans, latency_ps, SLICE_PS) == [alone(plan) for plan in plans]


@pytest.mark.parametrize("latency_ps", [None, 1_000_000, 400_000])
def test_guests_of_several_processors_do_too(latency_ps: int | None) -> None:
    plans = [plan_of("smp_ipi", paging, vcpu_count=2) for paging in ("native", "ept")]
    assert together(plans, latency_ps, SLICE_PS) == [alone(plan) for plan in plans]


def test_no_wire_is_too_short_to_go_on() -> None:
    plans = [plan_of("smp_ipi", paging, vcpu_count=2) for paging in ("native", "shadow")]
    assert all(b"PASS: all" in output for output, _ in together(plans, 10_000, SLICE_PS))


def linked() -> tuple[World, WireEnd, WireEnd]:
    """Two guests whose hosts a slow wire joins; what arrives is typed on their serial lines."""
    plans = [plan_of("hlt_wake", "ept"), plan_of("interrupts", "native", profile="haswell")]
    guests = [build_guest(plan, bytearray().append) for plan in plans]
    world = World([guest.host for guest in guests])
    ends = world.connect(guests[0].host, guests[1].host, latency_ps=40_000_000, bits_per_second=10**9)
    for guest, end in zip(guests, ends, strict=True):
        end.on_receive = guest.board.uart.receive
    return world, *ends


def test_a_world_with_frames_on_its_wires_goes_on_from_its_contents() -> None:
    (world, one, other), (again, *_) = linked(), linked()
    skeletons = [Skeleton(world), Skeleton(again)]
    world.advance(100_000_000)
    one.send(b"on its way", world.now_ps)
    world.advance(150_000_000)
    other.send(b"not carried yet", world.now_ps)
    Contents.take(skeletons[0]).put(skeletons[1])
    for each in (world, again):
        each.advance(PS_PER_SECOND // 500)
    ended = [Contents.take(skeleton).document for skeleton in skeletons]
    assert ended[0] == ended[1]
    assert one.free_ps == 100_000_000 + len(b"on its way") * 8 * 1000


def test_slices_of_a_world_change_nothing() -> None:
    plans = [plan_of("smp_lock", "ept", vcpu_count=2), plan_of("fpu_sse", "native", profile="haswell")]
    whole = together(plans, 300_000, PS_PER_SECOND)
    assert together(plans, 300_000, 12_345_678) == whole
    assert together(plans[::-1], 300_000, 123_456_789) == whole[::-1]
