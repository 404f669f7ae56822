"""What `sidecore bench fit` measures: the allowances of `fast`, and how far it is then from `detailed`.

    run `fast` with an allowance of one cycle   -> how many loads and stores its code has
    run `detailed`                              -> what they stalled
    allowance = stalls / accesses; run `fast` with it -> cycles beside those of `detailed`

A row for each workload class, profile and way of paging. Only stalls are fitted: everything else is the same model.
"""

import multiprocessing
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from emulator.errors import ConfigError
from emulator.timing.allowances import WORKLOADS, Allowance
from guest_images.linux import READY_LINE
from vmm.session.boot_plan import BootPlan
from vmm.session.console import Console
from vmm.session.plan import plan
from vmm.session.run import run
from vmm.session.spec import GuestSpec, HostSpec, Limits, Outside, Paging
from vmm.session.stats import RunStats

if TYPE_CHECKING:
    pass

STALLS = ("memory stalls", "page walks", "coherence", "VMM memory")  # the ledger's labels of what `fast` averages


@dataclass(frozen=True)
class Case:
    """What is fitted: a workload class on a profile under a way of paging."""

    profile: str
    workload: str
    paging: Paging


@dataclass(frozen=True)
class Fit:
    """The allowance, and the cycles of the run it came from and of `fast` with it; both without idle time."""

    case: Case
    allowance: Allowance
    detailed_cycles: int
    fast_cycles: int

    @property
    def error(self) -> float:
        """How far `fast` is from `detailed`, as a part of it."""
        return self.fast_cycles / self.detailed_cycles - 1


def fit(case: Case) -> Fit:
    """Run the workload of `case` three times. Raises ConfigError when the profile or the guest cannot be had."""
    image = WORKLOADS[case.workload]
    until = READY_LINE if image == "linux" else None
    host = HostSpec(profile=case.profile, paging=case.paging, timing="detailed")
    detailed_plan = plan(host, GuestSpec(image=image), Limits(until=until), Outside(allow_input=False))
    fast_plan = replace(detailed_plan, host=replace(detailed_plan.host, spec=replace(host, timing="fast")))
    detailed = _stats(detailed_plan)
    counted = _stats(_with_allowance(fast_plan, Allowance(access_64ths=64)))
    accesses = _labelled(counted, "memory stalls")
    stalls = sum(_labelled(detailed, label) for label in STALLS) - _labelled(counted, "VMM memory")
    allowance = Allowance(round(64 * max(stalls, 0) / max(accesses, 1)))
    fast = _stats(_with_allowance(fast_plan, allowance))
    return Fit(case, allowance, _busy_cycles(detailed), _busy_cycles(fast))


def _with_allowance(plan_: BootPlan, allowance: Allowance) -> BootPlan:
    return replace(plan_, host=replace(plan_.host, allowance=allowance))


def _stats(plan_: BootPlan) -> RunStats:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        until = plan_.limits.until
        with Console(until=until.encode() if until else None, allow_input=False, stdout_fd=nowhere) as console:
            result = run(plan_, console)
    finally:
        os.close(nowhere)
    if result.end.exit_status != 0:
        raise ConfigError(f"{plan_.guest.spec.image} under {plan_.host.spec.paging} did not end well: {result.end}")
    return result.stats


def _labelled(stats: RunStats, label: str) -> int:
    return sum(int(ledger[label]) for ledger in stats["ledger"].values())


def _busy_cycles(stats: RunStats) -> int:
    return sum(sum(ledger.values()) for ledger in stats["ledger"].values()) - _labelled(stats, "idle")


def fit_all(cases: Sequence[Case]) -> list[Fit]:
    """Fit every case, on all processors."""
    if len(cases) == 1:
        return [fit(cases[0])]
    with multiprocessing.get_context("spawn").Pool(min(len(cases), os.cpu_count() or 1)) as pool:
        return pool.map(fit, cases, chunksize=1)
