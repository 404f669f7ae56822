"""The guest `vmexit`, run once for all tests of a process."""

from functools import cache

from benchmarks.harness.guest_runs import run_guest
from benchmarks.harness.results import Results, Run
from emulator.timing.fidelity import Fidelity
from vmm.session.spec import Paging

PROFILE = "netburst-2006"
PAGINGS: tuple[Paging, ...] = ("native", "shadow", "ept")


@cache
def results_of(paging: Paging, timing: Fidelity = "flat") -> Results:
    return run_guest(Run("vmexit", PROFILE, paging, timing))
