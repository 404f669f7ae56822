"""Claims about the allowances of `fast`: they bring it near `detailed`, and fitting finds those that are shipped."""

import itertools

import pytest

from benchmarks.fit.measure import Case, fit
from emulator.profiles.profile import DEFAULT_PROFILE, shipped_profiles
from emulator.timing import allowances as table
from emulator.timing.allowances import WORKLOADS, Allowance, allowance_for
from vmm.session.spec import PAGING_MODES, Paging

ERROR_MAX = 0.15


def check(workload: str, paging: Paging) -> None:
    """`fast` is near `detailed`, and the allowance that is shipped is what fitting finds."""
    found = fit(Case(DEFAULT_PROFILE, workload, paging))
    assert abs(found.error) <= ERROR_MAX
    shipped = allowance_for(DEFAULT_PROFILE, workload, paging)
    assert shipped is not None
    assert abs(shipped.access_64ths - found.allowance.access_64ths) <= found.allowance.access_64ths // 4 + 4


@pytest.mark.parametrize("paging", PAGING_MODES)
@pytest.mark.parametrize("workload", ["kernel", "vmexit"])
def test_fast_is_near_detailed_with_the_shipped_allowance(workload: str, paging: Paging) -> None:
    check(workload, paging)


@pytest.mark.slow
@pytest.mark.parametrize(("workload", "paging"), [("mem", "shadow"), ("linux", "native"), ("linux", "shadow")])
def test_fast_is_near_detailed_in_the_long_benchmarks(workload: str, paging: Paging) -> None:
    check(workload, paging)


def test_there_is_an_allowance_for_every_shipped_profile_workload_and_paging() -> None:
    assert set(table.allowances()) == set(itertools.product(shipped_profiles(), WORKLOADS, PAGING_MODES))


def test_a_class_that_was_not_fitted_takes_the_allowance_of_test_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "allowances", lambda: {("mine", "kernel", "ept"): Allowance(5)})
    assert allowance_for("mine", "linux", "ept") == Allowance(5)
    assert allowance_for("mine", "linux", "native") is None
