"""A guest whose instructions are watched, all, or by turns, ends in the state of one that nobody watches."""

import random

import pytest

import sidecore

ALL = (0, (1 << 64) - 1)
GUESTS = ("default", "exceptions", "segments", "mode32", "paging_accessed_dirty", "interrupts", "syscall", "hlt_wake")


def outcome(image: str, paging: sidecore.Paging, timing: str, seed: int | None) -> tuple[str, int]:
    """A digest of all that a run leaves behind, and how many instructions were told of, in spans that come and go."""
    world = sidecore.World()
    host = world.add_host(sidecore.HostSpec(paging=paging, timing=timing))  # type: ignore[arg-type]
    guest = host.add_guest(sidecore.GuestSpec(image=image))
    world.build()
    engine, told, dice = guest.built.engine, 0, random.Random(seed)

    def tell() -> None:
        nonlocal told
        told += 1
        if dice.random() < 0.001:
            engine.watch_instructions([])

    engine.on_instruction = tell
    while not world.has_ended:
        if seed is not None:
            engine.watch_instructions([ALL])
        if world.run(sidecore.Limits(max_cycles=world.cycles + 3_000_000)) is sidecore.Stop.ASLEEP:
            break
    return world.snapshot().digest(), told


@pytest.mark.parametrize("paging", ["native", "shadow", "ept"])
@pytest.mark.parametrize("image", GUESTS)
def test_watching_instructions_changes_nothing(image: str, paging: sidecore.Paging) -> None:
    timing = random.Random(image + paging).choice(["fast", "detailed"])
    unwatched, _ = outcome(image, paging, timing, None)
    watched, told = outcome(image, paging, timing, 1)
    assert told > 1000
    assert watched == unwatched
