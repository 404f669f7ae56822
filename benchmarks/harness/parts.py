"""What the latency of an operation consists of: the ledger's categories, put together to the parts that people ask for.

guest | transitions | VMCS | VMM software | line transfers | waiting      = latency
                                                               '-- meanwhile the sidecore: the same parts of its own
"""

from collections.abc import Mapping

from benchmarks.harness.accounts import OTHER_CORES, Account

PARTS: Mapping[str, tuple[str, ...]] = {
    "transitions": ("exit hardware", "entry hardware"),
    "VMCS": ("vmcs access",),
    "VMM software": ("VMM paths", "VMM memory"),
    "line transfers": ("coherence",),
    "waiting": ("spin",),
}
GUEST_PART = "guest"  # everything else on the guest's core


def parts(account: Account) -> dict[str, float]:
    """The cycles of an operation by part; they sum to what the guest's core booked."""
    own = {label: cycles for label, cycles in account.cycles.items() if not label.startswith(OTHER_CORES)}
    split = {part: sum(own.pop(label, 0.0) for label in labels) for part, labels in PARTS.items()}
    return split | {GUEST_PART: sum(own.values())}


def served_parts(account: Account) -> dict[str, float]:
    """What the sidecore did during the waiting, by part."""
    prefixed = ((part, [OTHER_CORES + label for label in labels]) for part, labels in PARTS.items())
    return {part: sum(account.cycles.get(label, 0.0) for label in labels) for part, labels in prefixed}
