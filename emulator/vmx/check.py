"""What one VM-entry check is, and what its failure is.

A check is a row: readable name, SDM section, the VMCS fields it depends on, and a predicate that gets the processor's
capabilities and exactly those fields' values, in that order. It cannot look at anything else, so a check whose fields
did not change need not run again.
"""

from collections.abc import Callable
from dataclasses import dataclass

from emulator.vmx import controls as c
from emulator.vmx.exit_reasons import ENTRY_FAILURE, ExitReason

# Exit qualifications of a failed entry; 26.7 "VM-Entry Failures During or After Loading Guest State".
QUALIFICATION_PDPTE = 2
QUALIFICATION_NMI = 3
QUALIFICATION_LINK_POINTER = 4


@dataclass(frozen=True, slots=True)
class Check:
    """One row of a check table. `predicate(capabilities, *values of fields)` is true when the state is valid.

    `is_pure` is false when the predicate also reads memory, so the same values may pass now and fail later.
    """

    name: str
    section: str
    fields: tuple[int, ...]
    predicate: Callable[..., bool]
    qualification: int = 0
    is_pure: bool = True


@dataclass(frozen=True, slots=True)
class EntryFailure:
    """A VM entry did not happen.

    `error` is the VM-instruction error (7 or 8: VMfailValid, execution continues after VMLAUNCH or VMRESUME), or None
    when it failed as a VM exit with `exit_reason` (33 with bit 31 set) and `qualification`.
    """

    error: int | None
    exit_reason: int | None
    qualification: int
    check_name: str
    section: str

    def __str__(self) -> str:
        kind = f"VM-instruction error {self.error}" if self.error else f"exit reason {ExitReason.INVALID_STATE}"
        return f"VM entry failed ({kind}): {self.check_name} [SDM 3C {self.section}]"


def instruction_failure(check: Check, error: int) -> EntryFailure:
    """VMfailValid with `error`."""
    return EntryFailure(error, None, 0, check.name, check.section)


def guest_state_failure(check: Check) -> EntryFailure:
    """A VM exit due to invalid guest state."""
    reason = ExitReason.INVALID_STATE | ENTRY_FAILURE
    return EntryFailure(None, reason, check.qualification, check.name, check.section)


def secondary(proc: int, proc2: int) -> int:
    """The secondary controls in effect: all 0 unless "activate secondary controls" is 1 (24.6.2)."""
    return proc2 if proc & c.PROC_ACTIVATE_SECONDARY_CONTROLS else 0
