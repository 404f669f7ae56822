"""A world that goes on from a snapshot is in nothing different from the one that was never stopped."""

from pathlib import Path

import pytest

import sidecore

MIB = 1 << 20


def describe(*, paging: sidecore.Paging = "ept", sidecores: int = 0, pcpu_count: int = 2) -> sidecore.World:
    """A host with three guests on fewer cores, and one with a single guest."""
    world = sidecore.World()
    first = world.add_host(
        sidecore.HostSpec(paging=paging, pcpu_count=pcpu_count, sidecore_count=sidecores, profile="nehalem")
    )
    for image in (
        "fpu_sse",
        "sidecall_null" if sidecores else "interrupts" if paging == "ept" else "hlt_wake",
        "paging_page_table_writes",
    ):
        first.add_guest(sidecore.GuestSpec(image=image, memory_bytes=32 * MIB))
    world.add_host(sidecore.HostSpec(paging="native")).add_guest(
        sidecore.GuestSpec(image="fpu_sse", memory_bytes=32 * MIB)
    )
    return world


def facts(world: sidecore.World) -> list[object]:
    """All that is known of its guests."""
    return [(bytes(guest.output), str(guest.end), guest.stats) for guest in world.guests]


def finished(world: sidecore.World) -> list[object]:
    assert world.run() is sidecore.Stop.ENDED
    return facts(world)


@pytest.mark.parametrize(("paging", "sidecores"), [("ept", 0), ("shadow", 0), ("shadow", 1)])
def test_hosts_with_several_guests_go_on_as_if_they_had_not_been_stopped(
    paging: sidecore.Paging, sidecores: int, tmp_path: Path
) -> None:
    whole = finished(describe(paging=paging, sidecores=sidecores))
    world = describe(paging=paging, sidecores=sidecores)
    for max_cycles in (2_000_000, 5_000_000):
        world.run(sidecore.Limits(max_cycles=max_cycles))
        saved = world.snapshot()
        assert finished(saved.clone()) == whole
    saved.write(tmp_path / "saved")
    assert finished(sidecore.World.restore(tmp_path / "saved").clone()) == whole
    assert finished(world) == whole


def test_clones_go_on_by_themselves() -> None:
    world = describe()
    world.run(sidecore.Limits(max_cycles=2_000_000))
    first, second = world.clone(), world.clone()
    at_first = facts(first)
    finished(second)
    assert facts(first) == at_first == facts(world)


def test_a_clone_has_the_same_additions_and_its_own_observers() -> None:
    class Count(sidecore.ExitObserver):
        def __init__(self) -> None:
            self.count = 0

        def exit_ended(self, vcpu: sidecore.VCpu, exit: sidecore.Exit, cycles: int) -> None:
            self.count += 1

    world = sidecore.World()
    host = world.add_host(sidecore.HostSpec(paging="ept"))
    host.add_guest(sidecore.GuestSpec(image="fpu_sse", memory_bytes=32 * MIB))
    host.add_cpuid_leaf(0x4000_0010, (1, 2, 3, 4))
    world.run(sidecore.Limits(max_cycles=2_000_000))
    before, observer = world.exit_count, Count()
    clone = world.snapshot().clone(lambda clone: clone.hosts[0].observe(observer))
    assert clone.hosts[0].additions.cpuid_leaves == {0x4000_0010: (1, 2, 3, 4)}
    clone.run()
    assert observer.count == clone.exit_count - before > 0


def test_a_file_needs_additions_for_each_host(tmp_path: Path) -> None:
    world = describe()
    world.snapshot().write(tmp_path / "saved")
    with pytest.raises(sidecore.ConfigError, match="has 2 hosts, and additions were given for 1"):
        sidecore.World.restore(tmp_path / "saved", [sidecore.Additions()])


def test_a_file_that_cannot_be_written_or_read_is_a_mistake_of_one_line(tmp_path: Path) -> None:
    missing = str(tmp_path / "none" / "file")
    with pytest.raises(sidecore.ConfigError, match="cannot write the snapshot"):
        describe().snapshot().write(missing)
    with pytest.raises(sidecore.ConfigError, match="cannot read the snapshot"):
        sidecore.World.restore(missing)


def test_a_state_without_a_form_is_named() -> None:
    world = describe()
    world.build()
    world.guests[0].built.board.pic.program = (number for number in range(3))  # type: ignore[attr-defined]
    with pytest.raises(sidecore.ConfigError, match=r"world\.guests\[0\].*\.program is a generator"):
        world.snapshot()
