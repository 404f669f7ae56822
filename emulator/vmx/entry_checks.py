"""Runs the VM-entry checks: all of them, or only those that what was written since the last entry can affect.

    CONTROL_CHECKS --> HOST_CHECKS --> GUEST_CHECKS --> entry           the first that fails decides
       error 7            error 8        exit reason 33

`check_entry` is the literal reading of the SDM's chapter 26. `EntryChecker` gives the same answer faster, by two facts:
a check sees nothing but its declared fields, and hardware only saves guest state that would pass.

Source: Intel SDM volume 3, chapter 26 "VM Entries".
MODEL: MSR areas are not modelled: their placement is checked, but no MSR is loaded, so no entry fails with reason 34.
MODEL: error 26 (events blocked by MOV SS in the VMM) cannot happen: the VMM is not machine code.
"""

from collections.abc import Callable
from operator import itemgetter

from emulator.vmx import fields as f
from emulator.vmx.capabilities import VmxCapabilities
from emulator.vmx.check import Check, EntryFailure, guest_state_failure, instruction_failure
from emulator.vmx.control_checks import CONTROL_CHECKS
from emulator.vmx.guest_checks import GUEST_CHECKS, PdpteReader, pdpte_memory_check
from emulator.vmx.host_checks import HOST_CHECKS
from emulator.vmx.instruction_errors import INVALID_CONTROL_FIELDS, INVALID_HOST_STATE
from emulator.vmx.vmcs import CHECKED_BITS, Vmcs

_MEMORY_LIMIT = 256  # remembered plans, and passed states per plan
_RIP_SLOT = f.SLOT[f.GUEST_RIP]
_RFLAGS_SLOT = f.SLOT[f.GUEST_RFLAGS]

_Values = Callable[[memoryview], tuple[int, ...]]
_BoundCheck = tuple[Callable[..., bool], _Values, EntryFailure]


def bind_checks(read_pdptes: PdpteReader | None) -> list[tuple[Check, EntryFailure]]:
    """Every check in SDM order with the failure it causes.

    Without `read_pdptes` the PDPTEs that PAE paging without EPT takes from memory are not checked.
    """
    guest_checks = (*GUEST_CHECKS, pdpte_memory_check(read_pdptes)) if read_pdptes else GUEST_CHECKS
    return [
        *((check, instruction_failure(check, INVALID_CONTROL_FIELDS)) for check in CONTROL_CHECKS),
        *((check, instruction_failure(check, INVALID_HOST_STATE)) for check in HOST_CHECKS),
        *((check, guest_state_failure(check)) for check in guest_checks),
    ]


def check_entry(
    vmcs: Vmcs, capabilities: VmxCapabilities, read_pdptes: PdpteReader | None = None
) -> EntryFailure | None:
    """Run all checks in SDM order: the first failure, or None when the entry is valid."""
    for check, failure in bind_checks(read_pdptes):
        if not check.predicate(capabilities, *map(vmcs.read, check.fields)):
            return failure
    return None


def record_failure(vmcs: Vmcs, failure: EntryFailure) -> None:
    """Leave in `vmcs` what hardware reports: the VM-instruction error, or exit reason and qualification."""
    if failure.exit_reason is None:
        vmcs.save(f.VM_INSTRUCTION_ERROR, failure.error or 0)
    else:
        vmcs.save(f.EXIT_REASON, failure.exit_reason)
        vmcs.save(f.EXIT_QUALIFICATION, failure.qualification)


class EntryChecker:
    """The checks of one VMCS on one processor, run incrementally.

    Costs on the 2-core development machine: nothing written that matters 0.05 us; an interrupt injected 0.7 us; CR3
    written 1 us; all fields written but with values that passed before 3 us, otherwise 70 us.
    """

    def __init__(self, vmcs: Vmcs, capabilities: VmxCapabilities, read_pdptes: PdpteReader | None = None) -> None:
        """Check `vmcs` for a processor with `capabilities`; `read_pdptes` as for `bind_checks`."""
        self._vmcs = vmcs
        self._capabilities = capabilities
        self._checks = bind_checks(read_pdptes)
        self._plans: dict[int, _Plan] = {}

    def check(self) -> EntryFailure | None:
        """The first failing check, or None; then what was written so far counts as checked."""
        vmcs = self._vmcs
        dirty = vmcs.dirty
        if not dirty:
            return None
        plan = self._plans.get(dirty) or self._make_plan(dirty)
        failure = plan.run(vmcs.storage, self._capabilities)
        if failure is None:
            vmcs.dirty = 0
        return failure

    def _make_plan(self, dirty: int) -> "_Plan":
        """The checks that a VMCS with these dirty slots needs."""
        needed = [row for row in self._checks if any(dirty >> f.SLOT[field] & 1 for field in row[0].fields)]
        if len(self._plans) >= _MEMORY_LIMIT:
            self._plans.clear()
        plan = self._plans[dirty] = _Plan(needed)
        return plan


class _Plan:
    """The checks for one set of dirty fields, and the values of those checks' fields that passed before.

    RIP and RFLAGS differ at every entry, but only their `CHECKED_BITS` count, and those repeat.
    """

    def __init__(self, rows: list[tuple[Check, EntryFailure]]) -> None:
        used = {field for check, _ in rows for field in check.fields}
        self._checks: list[_BoundCheck] = [
            (check.predicate, _values_of(check.fields), failure) for check, failure in rows if check.is_pure
        ]
        self._impure_checks: list[_BoundCheck] = [
            (check.predicate, _values_of(check.fields), failure) for check, failure in rows if not check.is_pure
        ]
        self._values = _values_of(tuple(sorted(used - {f.GUEST_RIP, f.GUEST_RFLAGS})))
        self._rip_mask = CHECKED_BITS[f.GUEST_RIP] if f.GUEST_RIP in used else 0
        self._rflags_mask = CHECKED_BITS[f.GUEST_RFLAGS] if f.GUEST_RFLAGS in used else 0
        self._passed: set[tuple[object, ...]] = set()

    def run(self, storage: memoryview, capabilities: VmxCapabilities) -> EntryFailure | None:
        """The first failing check, or None. Impure checks come last in SDM order, too."""
        state = (
            self._values(storage),
            storage[_RIP_SLOT] & self._rip_mask,
            storage[_RFLAGS_SLOT] & self._rflags_mask,
        )
        if state not in self._passed:
            failure = _first_failure(self._checks, storage, capabilities)
            if failure is not None:
                return failure
            if len(self._passed) >= _MEMORY_LIMIT:
                self._passed.clear()
            self._passed.add(state)
        return _first_failure(self._impure_checks, storage, capabilities) if self._impure_checks else None


def _first_failure(
    checks: list[_BoundCheck], storage: memoryview, capabilities: VmxCapabilities
) -> EntryFailure | None:
    for predicate, values, failure in checks:
        if not predicate(capabilities, *values(storage)):
            return failure
    return None


def _values_of(encodings: tuple[int, ...]) -> _Values:
    """A fast getter of the values of `encodings` from a VMCS's storage."""
    slots = tuple(f.SLOT[encoding] for encoding in encodings)
    match slots:  # itemgetter returns a tuple for two items and more
        case ():
            return lambda storage: ()
        case (slot,):
            return lambda storage: (storage[slot],)
        case _:
            return itemgetter(*slots)
