"""Guests with a sidecore: the test kernels succeed, and print the same with the flag on and off."""

import pytest

from tests.guest.running import Finished, run_plan
from vmm.boot import BootOptions, Paging, plan

MAX_CYCLES = 1_000_000_000


def run(kernel: str, paging: Paging, *, has_sidecore: bool, jumps: bool = True, slice_cycles: int = 10**9) -> Finished:
    options = BootOptions(image=kernel, paging=paging, has_sidecore=has_sidecore, jumps_spins=jumps)
    return run_plan(plan(options), max_cycles=MAX_CYCLES, slice_cycles=slice_cycles)


@pytest.mark.parametrize("paging", ["shadow", "ept"])
@pytest.mark.parametrize("kernel", ["sidecalls", "sidecall_errors", "sidecall_null", "fig1"])
def test_a_kernel_succeeds_with_a_sidecore(kernel: str, paging: Paging) -> None:
    finished = run(kernel, paging, has_sidecore=True)
    assert finished.end is not None
    assert finished.end.exit_status == 0
    assert b"PASS: all" in finished.output


@pytest.mark.parametrize("paging", ["shadow", "ept"])
def test_results_are_the_same_with_the_flag_on_and_off(paging: Paging) -> None:
    with_sidecore = run("sidecalls", paging, has_sidecore=True)
    without = run("sidecalls", paging, has_sidecore=False)
    assert with_sidecore.output == without.output
    assert with_sidecore.stats["exits"]["CPUID"]["count"] < without.stats["exits"]["CPUID"]["count"]


@pytest.mark.parametrize("kernel", ["sidecalls", "sidecall_errors"])
@pytest.mark.parametrize("paging", ["shadow", "ept"])
def test_executed_spins_and_slices_change_nothing(kernel: str, paging: Paging) -> None:
    jumped = run(kernel, paging, has_sidecore=True)
    for other in (
        run(kernel, paging, has_sidecore=True, jumps=False),
        run(kernel, paging, has_sidecore=True, slice_cycles=20_011),
    ):
        assert other.output == jumped.output
        assert other.stats["cycles"] == jumped.stats["cycles"]
        assert other.stats["exits"] == jumped.stats["exits"]
        assert other.stats["ledger"]["pcpu0"] == jumped.stats["ledger"]["pcpu0"]
