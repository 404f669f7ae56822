"""Claims about which cores guests run on."""

from pathlib import Path

import pytest

import sidecore
from vmm.scheduler.credit import CreditScheduler
from vmm.scheduler.pinned import PinnedScheduler
from vmm.session.spec import SchedulerName

LOOP = bytes.fromhex("b900000200 ffc9 75fc e6f4")  # mov ecx, 0x20000; 1: dec ecx; jnz 1b; out 0xf4, al


def run(folder: Path, *cores: tuple[int, ...] | None, scheduler: SchedulerName | None = None) -> sidecore.World:
    """A host of four cores with a guest for each of `cores`."""
    (folder / "loop.bin").write_bytes(LOOP)
    world = sidecore.World()
    host = world.add_host(sidecore.HostSpec(paging="ept", pcpu_count=4, scheduler=scheduler))
    kernel = folder / "loop.bin@0x100000:64"
    for allowed in cores:
        host.add_guest(sidecore.GuestSpec(kernel=kernel, memory_bytes=16 << 20, cores=allowed))
    assert world.run() is sidecore.Stop.ENDED
    return world


def busy_cores(world: sidecore.World) -> list[set[str]]:
    """Where each guest has run."""
    accounts = world.guests[0].stats["accounts"]
    owners = [f"d{number}v0" for number in range(len(world.guests))]
    return [{core for core, owned in accounts.items() if owner in owned} for owner in owners]


def scheduler_of(world: sidecore.World) -> object:
    return world.hosts[0].built.scheduler  # type: ignore[attr-defined]  # no native host


@pytest.mark.parametrize("scheduler", [None, "pinned", "credit", "credit-boost"])
def test_a_guest_runs_on_the_cores_it_may_run_on(scheduler: SchedulerName | None, tmp_path: Path) -> None:
    world = run(tmp_path, (3,), (2, 1), scheduler=scheduler)
    first, second = busy_cores(world)
    assert first == {"pcpu3"}
    assert second <= {"pcpu1", "pcpu2"}


def test_guests_that_have_to_share_a_core_share_it(tmp_path: Path) -> None:
    world = run(tmp_path, (2,), (2,))
    assert busy_cores(world) == [{"pcpu2"}, {"pcpu2"}]
    assert isinstance(scheduler_of(world), CreditScheduler)
    assert isinstance(scheduler_of(run(tmp_path, (2,), None)), PinnedScheduler)


def test_only_credit_boost_lets_who_wakes_come_first(tmp_path: Path) -> None:
    for scheduler, has_boost in (("credit", False), ("credit-boost", True)):
        world = run(tmp_path, None, scheduler=scheduler)  # type: ignore[arg-type]  # they are names
        assert vars(scheduler_of(world))["_has_boost"] is has_boost
