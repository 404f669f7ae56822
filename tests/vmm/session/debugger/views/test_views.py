"""What all views keep to: they change nothing, fit the screen, and stand whatever a guest has done."""

import random
from pathlib import Path

import pytest

import sidecore
from emulator.errors import ConfigError
from emulator.timing.fidelity import Fidelity
from emulator.vmx import fields as f
from tests.vmm.session.debugger.views.rig import (
    VIEWS,
    Looker,
    check_all,
    check_view,
    looked_at,
    scramble,
    state_bytes,
    stopped,
    subject_of,
    world_of,
)
from vmm.session.debugger.views.subject import Subject

PAGINGS = ("shadow", "ept", "native")
NO_EXITS = {"exit_screen", "why", "check"}


@pytest.mark.parametrize("paging", PAGINGS)
@pytest.mark.parametrize("view", VIEWS)
def test_a_view_between_turns_changes_nothing(view: str, paging: sidecore.Paging, tmp_path: Path) -> None:
    world = world_of(paging=paging)
    world.run(sidecore.Limits(max_cycles=2_000_000))
    before = state_bytes(world, tmp_path)
    if paging == "native" and view in NO_EXITS:
        with pytest.raises(ConfigError, match="native"):
            VIEWS[view](subject_of(world))
    elif view == "sidecores":
        with pytest.raises(ConfigError, match="the host has no sidecore"):
            VIEWS[view](subject_of(world))
    else:
        check_view(VIEWS[view](subject_of(world)))
    assert state_bytes(world, tmp_path) == before


@pytest.mark.parametrize("timing", ["fast", "detailed"])
@pytest.mark.parametrize(
    ("image", "paging", "vcpu_count"),
    [
        ("paging_page_table_writes", "shadow", 1),
        ("apic", "ept", 1),
        ("interrupts", "shadow", 1),
        ("smp_tlb_shootdown", "shadow", 2),
    ],
)
def test_views_inside_exits_change_nothing(
    image: str, paging: sidecore.Paging, vcpu_count: int, timing: Fidelity, tmp_path: Path
) -> None:
    limits = sidecore.Limits(max_cycles=1_500_000)
    looker = Looker(every=7)
    alone = world_of(image, paging, timing=timing, vcpu_count=vcpu_count)
    watched = looked_at(looker, image, paging, timing=timing, vcpu_count=vcpu_count)
    alone.run(limits)
    watched.run(limits)
    assert looker.count > 50
    assert state_bytes(watched, tmp_path) == state_bytes(alone, tmp_path)


@pytest.mark.parametrize("paging", PAGINGS)
def test_a_guest_that_has_not_run_can_be_looked_at(paging: sidecore.Paging) -> None:
    world = world_of(paging=paging)
    world.build()
    check_all(subject_of(world))


@pytest.mark.parametrize("number", [-1, 1, 10**9])
def test_a_processor_that_is_not_there_is_a_mistake_of_one_line(number: int) -> None:
    world = world_of()
    world.build()
    with pytest.raises(ConfigError, match=f"no vCPU {number}; choose one from 0 to 0"):
        Subject(world.guests[0].built, number)


@pytest.mark.parametrize("paging", PAGINGS)
@pytest.mark.parametrize("seed", range(3))
def test_whatever_registers_and_tables_hold_views_stand(seed: int, paging: sidecore.Paging) -> None:
    subject = stopped("default", paging, 2_000_000)
    rng = random.Random(seed)
    for _ in range(6):
        scramble(subject, rng)
        check_all(subject)
        for reason in range(90):
            subject.vmcs.save(f.EXIT_REASON, reason)
            check_all(subject, ("why", "exit_screen", "vmcs"))
