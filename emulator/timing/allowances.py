"""The allowance of `fast`: what memory costs on average, fitted once to runs in which every access was simulated.

    stall = loads and stores of the code x access_64ths / 64        cycles

`allowances.toml` has a row for each profile, workload class and way of paging; `sidecore bench fit` makes it. It leaves
out all that an average leaves out: a program whose working set is not that of its class is timed wrongly.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

ALLOWANCES_PATH = Path(__file__).parent / "allowances.toml"
WORKLOADS = MappingProxyType({"kernel": "default", "linux": "linux", "mem": "mem", "vmexit": "vmexit"})
"""Workload classes, each with the guest image that stands for it."""

DEFAULT_WORKLOAD = "kernel"
LINUX_WORKLOAD = "linux"


@dataclass(frozen=True)
class Allowance:
    """Stalls in 64ths of a cycle for each load and store that the code has; what fetches stall is in it."""

    access_64ths: int = 0


NO_ALLOWANCE = Allowance()


@cache
def allowances() -> Mapping[tuple[str, str, str], Allowance]:
    """The fitted allowances by (profile, workload class, paging)."""
    rows = tomllib.loads(ALLOWANCES_PATH.read_text())["allowance"]
    return MappingProxyType({(r["profile"], r["workload"], r["paging"]): Allowance(r["access_64ths"]) for r in rows})


def allowance_for(profile: str, workload: str, paging: str) -> Allowance | None:
    """The allowance of a run; where none was fitted that of test kernels on the profile, or None."""
    return allowances().get((profile, workload, paging)) or allowances().get((profile, DEFAULT_WORKLOAD, paging))
