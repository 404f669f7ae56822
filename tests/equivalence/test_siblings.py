"""Claims about guests on hyperthreads: siblings slow each other down, and slices and snapshots change nothing of it."""

from pathlib import Path

import pytest

import sidecore
from emulator.ledger import LABELS, Category

LOOP = bytes.fromhex("b900000800 ffc9 75fc e6f4")  # mov ecx, 0x80000; 1: dec ecx; jnz 1b; out 0xf4, al
HALT = bytes.fromhex("faf4")  # cli; hlt
SIBLING = LABELS[Category.SIBLING]


def describe(folder: Path, *cores: int, code: bytes = LOOP, paging: sidecore.Paging = "ept") -> sidecore.World:
    """A guest on each of `cores`; 0 and 2 are threads of one core, and 1 and 3."""
    (folder / "loop.bin").write_bytes(LOOP)
    (folder / "other.bin").write_bytes(code)
    world = sidecore.World()
    host = world.add_host(
        sidecore.HostSpec(paging=paging, profile="xeon-2.8-ht-2006", pcpu_count=4, scheduler="credit")
    )
    for number, core in enumerate(cores):
        kernel = folder / f"{'other' if number else 'loop'}.bin@0x100000:64"
        host.add_guest(sidecore.GuestSpec(kernel=kernel, memory_bytes=16 << 20, cores=(core,)))
    return world


def finished(world: sidecore.World, slice_cycles: int = 50_000_000) -> list[object]:
    assert world.run(sidecore.Limits(slice_cycles=slice_cycles)) is sidecore.Stop.ENDED
    return [(str(guest.end), guest.stats) for guest in world.guests]


def cycles_of(world: sidecore.World, core: int) -> tuple[int, int]:
    """What the guest's own instructions took on a core, and what a sibling added."""
    finished(world)
    owner = world.guests[0].stats["accounts"][f"pcpu{core}"]["d0v0"]["running"]
    return owner["guest"], owner.get(SIBLING, 0)


def test_a_guest_beside_one_that_works_takes_longer_and_beside_one_that_is_halted_no_longer(tmp_path: Path) -> None:
    alone, nothing = cycles_of(describe(tmp_path, 0, 1), 0)
    beside, added = cycles_of(describe(tmp_path, 0, 2), 0)
    assert nothing < 2000  # until the cores that have no guest have found that out
    assert beside == alone
    assert 0.59 * alone < added <= 0.61 * alone
    _, little = cycles_of(describe(tmp_path, 0, 2, code=HALT), 0)
    assert little < 0.1 * added


@pytest.mark.parametrize("paging", ["shadow", "ept"])
@pytest.mark.parametrize("slice_cycles", [997, 40_001])
def test_slices_change_nothing(slice_cycles: int, paging: sidecore.Paging, tmp_path: Path) -> None:
    whole = finished(describe(tmp_path, 0, 2, 1, paging=paging))
    assert finished(describe(tmp_path, 0, 2, 1, paging=paging), slice_cycles) == whole


def test_a_snapshot_changes_nothing(tmp_path: Path) -> None:
    whole = finished(describe(tmp_path, 0, 2))
    world = describe(tmp_path, 0, 2)
    world.run(sidecore.Limits(max_cycles=300_007))
    assert finished(world.snapshot().clone()) == whole
    assert finished(world) == whole


def test_a_sidecore_that_polls_costs_its_sibling_a_little_and_one_in_mwait_nothing() -> None:
    took = {}
    for core, poll in ((0, "spin"), (1, "spin"), (1, "mwait")):
        world = sidecore.World()
        host = world.add_host(
            sidecore.HostSpec(
                profile="xeon-2.8-ht-2006", pcpu_count=3, sidecore_count=1, scheduler="credit",
                poll="mwait" if poll == "mwait" else "spin",
            )
        )  # fmt: skip
        host.add_guest(sidecore.GuestSpec(image="sidecalls", memory_bytes=32 << 20, cores=(core,)))
        world.run()
        ledger = world.guests[0].stats["ledger"][f"pcpu{core}"]
        took[core, poll] = ledger.get(SIBLING, 0) / sum(ledger.values())
    assert took[0, "spin"] < 0.001
    assert took[0, "spin"] < took[1, "mwait"] < took[1, "spin"] < 0.1
