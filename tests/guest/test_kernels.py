"""Every test kernel succeeds natively and under the VMM, and prints the same in all modes (but for measurements)."""

from functools import cache

import pytest

from emulator.timing.fidelity import Fidelity
from guest_images.images import ImageEntry, entry_of, standalone_kernels
from tests.guest.running import MODES, Finished, run_plan
from vmm.outcome import EndKind
from vmm.session.plan import plan
from vmm.session.spec import GuestSpec, HostSpec, Paging

MAX_CYCLES = 20_000_000_000
MEMORY_BYTES = 256 << 20  # what the kernels are written for (guest_images/README.md)
END_KINDS = {
    "debug exit": EndKind.DEBUG_EXIT,
    "shutdown": EndKind.SHUTDOWN,
    "triple fault": EndKind.TRIPLE_FAULT,
}
KERNELS = list(standalone_kernels())


@cache
def run_kernel(name: str, paging: Paging, cpus: int = 1, timing: Fidelity = "fast") -> Finished:
    entry = entry_of(name)
    guest = GuestSpec(image=name, memory_bytes=entry.memory_mib << 20, vcpu_count=cpus, devices=entry.devices)
    return run_plan(plan(HostSpec(paging=paging, timing=timing), guest), max_cycles=MAX_CYCLES)


def claims(finished: Finished) -> list[str]:
    """The lines that are the same everywhere."""
    lines = finished.output.decode("ascii").splitlines()
    return [line for line in lines if not line.startswith("~")]


@pytest.mark.parametrize("paging", MODES)
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_a_kernel_succeeds_and_prints_the_same_in_every_mode(kernel: ImageEntry, paging: Paging) -> None:
    finished = run_kernel(kernel.name, paging, kernel.cpus)
    lines = claims(finished)
    assert lines[-1].startswith("PASS: "), "\n".join(line for line in lines if not line.startswith("PASS"))
    assert finished.end is not None
    assert finished.end.kind is END_KINDS[kernel.ends_by]
    assert finished.end.exit_status == (6 if kernel.ends_by == "triple fault" else 0)
    assert lines == claims(run_kernel(kernel.name, "native", kernel.cpus))


@pytest.mark.slow
@pytest.mark.parametrize("timing", ["flat", "detailed"])
@pytest.mark.parametrize("kernel", [entry for entry in KERNELS if entry.name != "mem"], ids=lambda entry: entry.name)
def test_a_kernel_prints_the_same_at_every_fidelity(kernel: ImageEntry, timing: Fidelity) -> None:
    if timing == "detailed" and kernel.cpus > 2:
        pytest.skip("the default profile has two cores")
    finished = run_kernel(kernel.name, "shadow", kernel.cpus, timing)
    assert claims(finished) == claims(run_kernel(kernel.name, "shadow", kernel.cpus))


@pytest.mark.parametrize("paging", MODES)
def test_devices_and_cpus_see_the_same_memory_when_every_access_is_simulated(paging: Paging) -> None:
    finished = run_kernel("dma", paging, timing="detailed")
    assert claims(finished) == claims(run_kernel("dma", paging))


@pytest.mark.parametrize("paging", MODES)
def test_runs_are_equal_however_they_are_sliced_when_every_access_is_simulated(paging: Paging) -> None:
    specs = (HostSpec(paging=paging, timing="detailed"), GuestSpec(image="default", memory_bytes=MEMORY_BYTES))
    whole = run_kernel("default", paging, timing="detailed")
    assert run_plan(plan(*specs), max_cycles=MAX_CYCLES, slice_cycles=50_021) == whole


@pytest.mark.parametrize("paging", MODES)
@pytest.mark.parametrize(("name", "cpus"), [("default", 1), ("smp_ipi", 4), ("smp_lock", 4)])
def test_runs_are_equal_however_they_are_sliced(name: str, cpus: int, paging: Paging) -> None:
    boot_plan = plan(HostSpec(paging=paging), GuestSpec(image=name, memory_bytes=MEMORY_BYTES, vcpu_count=cpus))
    whole = run_kernel(name, paging, cpus)
    for slice_cycles in (50_021, 7_000_003):
        assert run_plan(boot_plan, max_cycles=MAX_CYCLES, slice_cycles=slice_cycles) == whole


@pytest.mark.parametrize("paging", MODES)
def test_the_ledger_adds_up_to_the_clock(paging: Paging) -> None:
    stats = run_kernel("default", paging).stats
    assert sum(stats["ledger"]["pcpu0"].values()) == stats["cycles"]


@pytest.mark.parametrize("paging", ["shadow", "ept"])
@pytest.mark.parametrize("name", ["smp_ipi", "smp_lock"])
def test_four_vcpus_can_share_two_cores(name: str, paging: Paging) -> None:
    finished = run_plan(
        plan(HostSpec(paging=paging, pcpu_count=2), GuestSpec(image=name, memory_bytes=MEMORY_BYTES, vcpu_count=4)),
        max_cycles=MAX_CYCLES,
    )
    assert claims(finished) == claims(run_kernel(name, paging, 4))
