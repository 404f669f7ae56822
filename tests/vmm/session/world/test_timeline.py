"""Going back: what is run again from the nearest snapshot is what was run."""

import pytest

import sidecore

MIB = 1 << 20


def timeline(*, paging: sidecore.Paging = "shadow", every_cycles: int = 1_000_000) -> sidecore.Timeline:
    world = sidecore.World()
    host = world.add_host(sidecore.HostSpec(paging=paging))
    host.add_guest(sidecore.GuestSpec(image="fpu_sse", memory_bytes=32 * MIB))
    return sidecore.Timeline(world, every_cycles=every_cycles)


def facts(world: sidecore.World) -> list[object]:
    return [(bytes(guest.output), str(guest.end), guest.stats) for guest in world.guests]


@pytest.mark.parametrize("paging", ["shadow", "ept", "native"])
def test_a_cycle_that_is_sought_is_that_of_a_run_to_it(paging: sidecore.Paging) -> None:
    past = timeline(paging=paging)
    assert past.run() is sidecore.Stop.ENDED
    for cycle in (3_100_000, 1, 2_500_000):
        direct = timeline(paging=paging).world
        direct.run(sidecore.Limits(max_cycles=cycle))
        assert facts(past.seek(cycle=cycle)) == facts(direct)


def test_whatever_the_snapshots_on_the_way() -> None:
    found = []
    for every_cycles in (300_000, 10**9):
        past = timeline(every_cycles=every_cycles)
        past.run()
        found.append([facts(past.seek(exit=number)) for number in (1, 77, 200)])
    assert found[0] == found[1]


def test_an_exit_that_is_sought_has_just_ended() -> None:
    past = timeline()
    past.run()
    for number in (1, 2, 50, past.world.exit_count - 1):
        assert past.seek(exit=number).exit_count == number


def test_a_world_that_was_sought_goes_on_to_the_same_end() -> None:
    past = timeline()
    past.run()
    again = past.seek(exit=100)
    assert again.run() is sidecore.Stop.ENDED
    assert facts(again) == facts(past.world)


def test_a_run_on_the_timeline_is_that_of_its_world() -> None:
    past, world = timeline(every_cycles=250_000), timeline().world
    past.run(sidecore.Limits(max_cycles=3_000_000))
    assert past.run() is world.run() is sidecore.Stop.ENDED
    assert facts(past.world) == facts(world)


@pytest.mark.parametrize(
    ("wanted", "line"),
    [
        ({}, "either a cycle or an exit"),
        ({"cycle": 1, "exit": 1}, "either a cycle or an exit"),
        ({"cycle": 10**12}, r"there is no cycle 1000000000000 in the past; give a number from 1 to \d+"),
        ({"exit": 0}, r"there is no exit 0 in the past"),
        ({"cycle": -1}, r"there is no cycle -1 in the past"),
    ],
    ids=str,
)
def test_what_is_not_in_the_past_is_a_mistake_of_one_line(wanted: dict[str, int], line: str) -> None:
    past = timeline()
    past.run(sidecore.Limits(max_cycles=1_000_000))
    with pytest.raises(sidecore.ConfigError, match=line):
        past.seek(**wanted)


def test_what_was_before_the_timeline_is_not_in_its_past() -> None:
    world = timeline().world
    world.run(sidecore.Limits(max_cycles=2_000_000))
    past = sidecore.Timeline(world, every_cycles=500_000)
    begin, exits = world.cycles, world.exit_count
    past.run()
    with pytest.raises(sidecore.ConfigError, match=f"no cycle 1000000 in the past; give a number from {begin} to"):
        past.seek(cycle=1_000_000)
    with pytest.raises(sidecore.ConfigError, match=f"no exit {exits} in the past; give a number from {exits + 1} to"):
        past.seek(exit=exits)
    assert past.seek(exit=exits + 1).exit_count == exits + 1
    assert past.seek(cycle=begin).cycles == begin


def test_a_world_that_has_ended_has_no_timeline() -> None:
    world = timeline().world
    world.run()
    with pytest.raises(sidecore.ConfigError, match="has ended already"):
        sidecore.Timeline(world)


def test_the_seconds_of_a_run_are_not_counted_anew_at_each_snapshot() -> None:
    assert timeline(every_cycles=1_000).run(sidecore.Limits(max_seconds=0.2)) is sidecore.Stop.LIMIT
