"""Claims about running benchmark guests: nothing but the run matters, and a guest that fails is one line."""

import pytest

from benchmarks.harness.guest_runs import run_all, run_guest
from benchmarks.harness.results import Run
from emulator.errors import ConfigError
from tests.benchmarks.vmexit.guest import PROFILE, results_of


def test_runs_in_several_processes_give_the_same_in_the_same_order() -> None:
    runs = [Run("vmexit", PROFILE, paging, "flat") for paging in ("native", "shadow")]
    assert run_all(runs, process_count=2) == [results_of(run.paging) for run in runs]


def test_a_guest_that_fails_is_one_line() -> None:
    with pytest.raises(
        ConfigError,
        match=r"^triple_fault on netburst-2006, native, flat timing: the guest .* 'PASS: all 2 checks' last$",
    ):
        run_guest(Run("triple_fault", PROFILE, "native", "flat"))
