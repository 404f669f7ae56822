"""What a run cost, as one plain dict: for the summary, the statistics file, and tools.

    {"cycles": 1200, "instructions": 800, "guest_seconds": 0.5, "host_seconds": 1.25, "frequency_hz": 2_400_000_000,
     "exits": {"CPUID": {"count": 3, "cycles": 900, "min_cycles": 200, "avg_cycles": 300.0, "max_cycles": 400,
                         "p50_cycles": 300, "p90_cycles": 400, "p99_cycles": 400}},
     "ledger": {"pcpu0": {"guest": 300, "exit hardware": 900}},
     "accounts": {"pcpu0": {"vcpu0": {"running": {"guest": 300}, "CPUID": {"exit hardware": 900}}}},
     "duty_changes": [{"cycle": 300000, "serves": true}],          # only with a sidecore that has other duties, too
     "nic": {"card": {"vifs": ...}, "vmm": {"signal": "interrupt", "interrupts": 7, ...}}}        # only with a card

`cycles` and all below `exits`, `ledger` and `accounts` are time of the emulated machine; `host_seconds` is the
workstation's. `accounts` splits the ledger by whose time it was and what it was used for. What `nic` has is said by
`Nic.stats` (devices/nic) and `Vifs.stats` (vmm/nic).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict


class ExitStats(TypedDict):
    """One exit reason."""

    count: int
    cycles: int
    min_cycles: int
    max_cycles: int
    avg_cycles: float
    p50_cycles: int
    p90_cycles: int
    p99_cycles: int


class DutyChange(TypedDict):
    """From `cycle` on the dynamic sidecore serves, or runs guests."""

    cycle: int
    serves: bool


class NicStats(TypedDict):
    """A network card: what it has done, and what the VMM has for its interfaces."""

    card: Mapping[str, Any]
    vmm: Mapping[str, Any]


class RunStats(TypedDict):
    """A whole run; see the module docstring."""

    cycles: int
    instructions: int
    guest_seconds: float
    host_seconds: float
    frequency_hz: int
    exits: Mapping[str, ExitStats]
    ledger: Mapping[str, Mapping[str, int]]
    accounts: Mapping[str, Mapping[str, Mapping[str, Mapping[str, int]]]]
    duty_changes: NotRequired[Sequence[DutyChange]]
    nic: NotRequired[NicStats]
