"""Guests, cores and devices; sidecores and their slots."""

from pathlib import Path

import pytest

import sidecore
from emulator.errors import ConfigError
from tests.vmm.session.debugger.views.rig import check_view, state_bytes, stopped, subject_of, world_of
from vmm.session.debugger.views.info import cores, devices, guests
from vmm.session.debugger.views.sidecores import sidecores


@pytest.mark.parametrize(("paging", "names"), [("ept", ["d0v0", "d0v1"]), ("native", ["cpu0", "cpu1"])])
def test_processors_of_a_guest_say_what_they_do(paging: sidecore.Paging, names: list[str]) -> None:
    world = world_of("smp_ipi", paging, vcpu_count=2)
    world.run(sidecore.Limits(max_cycles=300_000))
    view = guests([[subject_of(world, "smp_ipi", number) for number in range(2)]])
    check_view(view)
    (row,) = view.guests
    assert [cpu.name for cpu in row.processors] == names
    assert [cpu.state for cpu in row.processors] == ["runs", "waits for SIPI"]
    assert row.memory_bytes == 32 << 20
    assert row.end == ""


def test_a_guest_that_has_ended_says_how() -> None:
    world = world_of("default", "ept")
    world.run()
    subject = subject_of(world)
    assert guests([[subject]]).guests[0].end == "the guest wrote to the debug-exit port: value 0"


def test_cores_say_who_is_on_them() -> None:
    world = world_of("smp_ipi", "ept", vcpu_count=2)
    world.run(sidecore.Limits(max_cycles=300_000))
    view = cores(subject_of(world))
    check_view(view)
    assert [core.does for core in view.cores] == ["runs d0v0", "waits (idle)"]
    assert view.cores[0].instructions > 0


@pytest.mark.parametrize("paging", ["shadow", "native"])
def test_devices_are_where_they_answer(paging: sidecore.Paging) -> None:
    view = devices(stopped("default", paging, 1_000_000))
    check_view(view)
    lines = view.text().splitlines()
    assert "port   3f8-3ff Ns16550" in lines
    assert "memory fee00000-fee00fff LocalApic" in lines
    assert "memory fec00000-fec00fff IoApic" in lines


# --- sidecores -------------------------------------------------------------------------------------------------------


def test_without_a_sidecore_there_is_none_to_show() -> None:
    for paging in ("ept", "native"):
        with pytest.raises(ConfigError, match="the host has no sidecore; give it one by --sidecore"):
            sidecores(stopped("default", paging, 1_000))


def test_slots_are_as_the_guest_has_filled_them() -> None:
    world = world_of("sidecalls", "shadow", sidecore_count=1)
    states = set()
    for cycles in range(1_500_000, 2_500_000, 20_011):
        world.run(sidecore.Limits(max_cycles=cycles))
        view = sidecores(subject_of(world, "sidecalls"))
        check_view(view)
        (core,) = view.cores
        assert (core.pcpu, core.is_on_duty) == (1, True)
        for page in core.pages:
            assert page.gpa % 4096 == 0
            states |= {"in service" if slot.is_in_service else slot.state for slot in page.slots}
    assert {"free", "done"} <= states
    assert states <= {"free", "posted", "done", "in service"}


def test_a_slot_with_nonsense_is_shown_as_it_is() -> None:
    world = world_of("sidecalls", "shadow", sidecore_count=1)
    world.run(sidecore.Limits(max_cycles=2_000_000))
    subject = subject_of(world, "sidecalls")
    gpa = sidecores(subject).cores[0].pages[0].gpa
    subject.memory.write(gpa, b"\xff" * 64)
    (slot, *_) = sidecores(subject).cores[0].pages[0].slots
    assert (slot.state, slot.is_closed, slot.operation) == ("state 255", True, "operation 4294967295")
    check_view(sidecores(subject))


def test_looking_at_sidecores_changes_nothing(tmp_path: Path) -> None:
    world = world_of("sidecalls", "shadow", sidecore_count=1)
    world.run(sidecore.Limits(max_cycles=2_000_000))
    before = state_bytes(world, tmp_path)
    check_view(sidecores(subject_of(world, "sidecalls")))
    assert state_bytes(world, tmp_path) == before
