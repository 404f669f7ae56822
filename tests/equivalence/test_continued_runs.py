"""A run that goes on from a snapshot is the run that was never stopped, byte for byte."""

import random
from pathlib import Path
from typing import Any

import pytest

from tests.vmm.session.snapshot.saved_runs import Run, continued, cut, plan_of, whole
from vmm.session.boot_plan import BootPlan
from vmm.session.option_values import Switch
from vmm.session.snapshot import SaveableGuest, read_snapshot, write_snapshot
from vmm.session.spec import PAGING_MODES

SEED = 20060516


def check(boot_plan: BootPlan, folder: Path, points: int, *, by_file: bool = False) -> None:
    reference: Run = whole(boot_plan, folder)
    chance = random.Random(SEED)
    for at_cycles in sorted(chance.randrange(reference.cycles // 50, reference.cycles) for _ in range(points)):
        snapshot, output, trace = cut(boot_plan, at_cycles, folder)
        if by_file:
            write_snapshot(snapshot, folder / "file")
            snapshot = read_snapshot(folder / "file")
        assert continued(snapshot, output, trace, folder) == reference, f"seed {SEED}, cut at {at_cycles}"


@pytest.mark.parametrize("paging", PAGING_MODES)
@pytest.mark.parametrize("image", ["fpu_sse", "self_modifying_code", "debug_registers"])
def test_a_run_continued_from_a_file_is_the_run_that_was_not_stopped(image: str, paging: str, tmp_path: Path) -> None:
    check(plan_of(image, paging), tmp_path, 3, by_file=True)


@pytest.mark.slow
@pytest.mark.parametrize("paging", PAGING_MODES)
@pytest.mark.parametrize(
    "image",
    [
        "interrupts",
        "mode32",
        "v86",
        "paging_32bit",
        "paging_page_table_writes",
        "apic",
        "hlt_wake",
        "mmio",
        "task_switches",
    ],
)
def test_whatever_kernel_runs(image: str, paging: str, tmp_path: Path) -> None:
    check(plan_of(image, paging), tmp_path, 5)


@pytest.mark.parametrize("timing", ["flat", "detailed"])
def test_at_every_fidelity(timing: str, tmp_path: Path) -> None:
    check(plan_of("fpu_sse", "shadow", timing=timing), tmp_path, 2)


@pytest.mark.parametrize("paging", PAGING_MODES)
@pytest.mark.parametrize("image", ["smp_tlb_shootdown", "smp_ipi"])
def test_with_two_processors(image: str, paging: str, tmp_path: Path) -> None:
    check(plan_of(image, paging, vcpu_count=2), tmp_path, 2)


def test_with_a_pci_device_that_the_guest_has_moved(tmp_path: Path) -> None:
    check(plan_of("pci", "ept", devices=("edu",)), tmp_path, 4)


def test_with_processors_that_share_a_core(tmp_path: Path) -> None:
    check(plan_of("smp_lock", "ept", vcpu_count=2, pcpu_count=1), tmp_path, 2)


@pytest.mark.parametrize("paging", ["shadow", "ept"])
@pytest.mark.parametrize("image", ["sidecall_null", "sidecalls", "sidecall_errors"])
def test_with_a_sidecore(image: str, paging: str, tmp_path: Path) -> None:
    check(plan_of(image, paging, sidecore_count=1), tmp_path, 3, by_file=True)


@pytest.mark.parametrize(
    "options",
    [
        {"poll": "mwait"},
        {"jumps_spins": False},
        {"sidecore_policy": "when-idle"},
        {"sidecore_policy": "always-on", "timing": "detailed"},
        {"sidecore_switches": (Switch(3_000_000, False), Switch(4_000_000, True))},
        {"vcpu_count": 2},
    ],
    ids=str,
)
def test_with_every_kind_of_sidecore(options: dict[str, Any], tmp_path: Path) -> None:
    profile = {"profile": "nehalem"} if "vcpu_count" in options else {}
    image = "sidecall_smp" if "vcpu_count" in options else "sidecalls"
    check(plan_of(image, "shadow", sidecore_count=1, **options, **profile), tmp_path, 3)


def test_a_continued_run_can_be_saved_again(tmp_path: Path) -> None:
    boot_plan = plan_of("fpu_sse", "shadow")
    reference = whole(boot_plan, tmp_path)
    first, output, _ = cut(boot_plan, reference.cycles // 3, tmp_path)
    again = SaveableGuest.clone(first, output.append)
    again.guest.advance(reference.cycles * 2 // 3)
    run = continued(again.snapshot(), output, "", tmp_path)
    assert (run.stats, run.output) == (reference.stats, reference.output)


def test_a_snapshot_changes_nothing_in_the_guest_it_is_taken_of(tmp_path: Path) -> None:
    boot_plan = plan_of("fpu_sse", "ept")
    snapshot, output, trace = cut(boot_plan, 3_000_000, tmp_path)
    continued(snapshot, bytearray(), trace, tmp_path)  # runs on its own copy of memory
    assert continued(snapshot, output, trace, tmp_path) == whole(boot_plan, tmp_path)
