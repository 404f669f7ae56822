"""VMX operation of one processor: what each VMX instruction does there, and what it takes.

    VMXON --> root operation --VMPTRLD--> a current VMCS: VMREAD, VMWRITE --VMLAUNCH, VMRESUME--> non-root operation
                    ^                         |  VMfail: a value, and nothing else has happened        |
                    |                         v                                                       |
                    +------------------------ + <----------------- VM exit: `leave` <-----------------+

The instructions return None when they succeed (VMsucceed), else why not: a `VmFailure`, or for guest state that cannot
be entered an `EntryFailure`, which hardware reports as a VM exit. Whoever executes them pays (`Payer`).

Source: Intel SDM volume 3, chapters 24.11, 26 and 30.
MODEL: VMPTRLD takes a `Vmcs`, not the address of its region in memory.
"""

from collections.abc import Mapping
from typing import Protocol

from emulator.ledger import Account, Category
from emulator.vmx import fields as f
from emulator.vmx.capabilities import VmxCapabilities
from emulator.vmx.check import EntryFailure
from emulator.vmx.entry_checks import EntryChecker, record_failure
from emulator.vmx.exit_reasons import NAMES
from emulator.vmx.instruction_errors import VMLAUNCH_NON_CLEAR, VMRESUME_NON_LAUNCHED, VMXON_IN_VMX_ROOT, VmFailure
from emulator.vmx.vmcs import WRITABLE, Vmcs

_SLOT = f.SLOT
_EXIT, _ENTRY = Category.EXIT, Category.ENTRY
VM_FAIL_INVALID = VmFailure(None)  # there is no current VMCS to hold a number


class Clock(Protocol):
    """The clock of the payer's core."""

    account: Account  # that is open


class Payer(Protocol):
    """Who executes VMX instructions, and has what they take booked."""

    @property
    def clock(self) -> Clock:
        """Whose open account has the charges."""
        ...

    vmcs_cycles: int  # of VMREAD and VMWRITE: not booked yet
    booked_cycles: int  # booked, not on the clock yet
    is_observed: bool  # somebody may want to know of each charge

    @property
    def is_heard(self) -> bool:
        """Whether somebody does now: `tell`."""
        ...

    def tell(self, category: int, cycles: int, what: str, parameter: str) -> None:
        """Tell who listens of a charge."""
        ...


class Costs(Protocol):
    """What the hardware takes, in cycles: `emulator.profiles.profile.Profile`."""

    @property
    def vmptrld_cycles(self) -> int:
        """VMPTRLD."""
        ...

    @property
    def vmread_cycles(self) -> int:
        """VMREAD."""
        ...

    @property
    def vmwrite_cycles(self) -> int:
        """VMWRITE."""
        ...

    @property
    def entry_cycles(self) -> int:
        """VM entry."""
        ...

    @property
    def exit_cycles(self) -> int:
        """A VM exit for a reason that is not among those of its own cost."""
        ...

    @property
    def exit_cycles_by_reason(self) -> Mapping[int, int]:
        """VM exits for other reasons."""
        ...

    def cycles_of(self, reason: int) -> int:
        """A VM exit for `reason`."""
        ...

    def parameter_of(self, reason: int) -> str:
        """The parameter that says so."""
        ...


class VmxOperation:
    """The VMX instructions of one processor with `capabilities`, which take `costs`, paid by `payer`."""

    def __init__(self, capabilities: VmxCapabilities, costs: Costs, payer: Payer) -> None:
        self.is_on = False
        self._vmcs = self._no_vmcs = Vmcs()  # the current one
        self._capabilities = capabilities
        self._costs = costs
        self._payer, self._clock = payer, payer.clock
        self._read_cycles, self._write_cycles = costs.vmread_cycles, costs.vmwrite_cycles
        self._three_read_cycles = 3 * self._read_cycles
        self._entry_cycles = costs.entry_cycles
        self._exit_cycles = {reason: costs.cycles_of(reason) for reason in NAMES}

    @property
    def current(self) -> Vmcs | None:
        """The current VMCS."""
        return None if self._vmcs is self._no_vmcs else self._vmcs

    # --- which VMCS --------------------------------------------------------------------------------------------------

    def vmxon(self) -> VmFailure | None:
        """Enter VMX root operation."""
        if self.is_on:
            return VM_FAIL_INVALID if self._vmcs is self._no_vmcs else self._vmcs.fail(VMXON_IN_VMX_ROOT)
        self.is_on = True
        return None

    def vmptrld(self, vmcs: Vmcs) -> VmFailure | None:
        """Make `vmcs` the current one."""
        cycles = self._costs.vmptrld_cycles
        self._clock.account[Category.VMCS] += cycles
        self._payer.booked_cycles += cycles
        return self.make_current(vmcs)

    def make_current(self, vmcs: Vmcs) -> VmFailure | None:
        """What VMPTRLD does, for nothing: before a machine's time begins."""
        if not self.is_on:
            return VM_FAIL_INVALID
        if vmcs.checker is None:
            vmcs.checker = EntryChecker(vmcs, self._capabilities)
        self._vmcs = vmcs
        return None

    def vmclear(self, vmcs: Vmcs) -> None:
        """Its launch state becomes clear; if it was the current VMCS there is none now."""
        vmcs.clear()
        if self._vmcs is vmcs:
            self._vmcs = self._no_vmcs

    # --- its fields --------------------------------------------------------------------------------------------------

    def vmread(self, encoding: int) -> int | VmFailure:
        """VMREAD of whatever `encoding` names."""
        self._payer.vmcs_cycles += self._read_cycles
        return VM_FAIL_INVALID if self._vmcs is self._no_vmcs else self._vmcs.try_read(encoding)

    def vmwrite(self, encoding: int, value: int) -> VmFailure | None:
        """VMWRITE of whatever `encoding` names."""
        self._payer.vmcs_cycles += self._write_cycles
        return VM_FAIL_INVALID if self._vmcs is self._no_vmcs else self._vmcs.write(encoding, value)

    def read(self, field: int) -> int:
        """VMREAD of a field that software knows to exist: a VMM's own constant."""
        self._payer.vmcs_cycles += self._read_cycles
        return self._vmcs.storage[_SLOT[field]]

    def read_three(self, first: int, second: int, third: int) -> tuple[int, int, int]:
        """Three times `read`, in one call."""
        self._payer.vmcs_cycles += self._three_read_cycles
        storage = self._vmcs.storage
        return storage[_SLOT[first]], storage[_SLOT[second]], storage[_SLOT[third]]

    def write(self, field: int, value: int) -> None:
        """VMWRITE of a field that software knows to be writable: `Vmcs.write` without the call. Else KeyError."""
        self._payer.vmcs_cycles += self._write_cycles
        vmcs = self._vmcs
        slot, mask, checked_bits, dirty_bit = WRITABLE[field]
        storage = vmcs.storage
        value &= mask
        if (storage[slot] ^ value) & checked_bits:
            vmcs.dirty |= dirty_bit
        storage[slot] = value

    # --- into the guest and out of it --------------------------------------------------------------------------------

    def vmlaunch(self) -> VmFailure | EntryFailure | None:
        """Enter the guest of a VMCS that is clear."""
        vmcs = self._vmcs
        if vmcs is self._no_vmcs:
            return VM_FAIL_INVALID
        if vmcs.is_launched:
            return vmcs.fail(VMLAUNCH_NON_CLEAR)
        vmcs.is_launched = True
        failure = self.vmresume()
        vmcs.is_launched = failure is None
        return failure

    def vmresume(self) -> VmFailure | EntryFailure | None:
        """Enter the guest of a VMCS that was launched."""
        vmcs = self._vmcs
        if not vmcs.is_launched:
            return VM_FAIL_INVALID if vmcs is self._no_vmcs else vmcs.fail(VMRESUME_NON_LAUNCHED)
        if vmcs.dirty:
            assert vmcs.checker is not None
            failure = vmcs.checker.check()
            if failure is not None:
                record_failure(vmcs, failure)
                return failure
        cycles = self._entry_cycles
        self._clock.account[_ENTRY] += cycles
        self._payer.booked_cycles += cycles
        return None

    def leave(self, reason: int) -> None:
        """A VM exit for `reason` has taken place: the VMCS has what hardware saves, this is what it takes."""
        try:
            cycles = self._exit_cycles[reason]
        except KeyError:
            cycles = self._costs.exit_cycles
        self._clock.account[_EXIT] += cycles
        self._payer.booked_cycles += cycles


class ObservedVmxOperation(VmxOperation):
    """One whose payer tells others of each charge, while somebody listens."""

    SAVED_AS = "VmxOperation"

    def read(self, field: int) -> int:
        """VMREAD."""
        if self._payer.is_heard:
            what = f"VMREAD {f.FIELD_BY_ENCODING[field].name}"
            self._payer.tell(Category.VMCS, self._read_cycles, what, "vmx.vmread_cycles")
        return super().read(field)

    def read_three(self, first: int, second: int, third: int) -> tuple[int, int, int]:
        """Three VMREADs."""
        return self.read(first), self.read(second), self.read(third)

    def write(self, field: int, value: int) -> None:
        """VMWRITE."""
        if self._payer.is_heard:
            what = f"VMWRITE {f.FIELD_BY_ENCODING[field].name}"
            self._payer.tell(Category.VMCS, self._write_cycles, what, "vmx.vmwrite_cycles")
        super().write(field, value)

    def vmptrld(self, vmcs: Vmcs) -> VmFailure | None:
        """VMPTRLD."""
        self._payer.tell(Category.VMCS, self._costs.vmptrld_cycles, "VMPTRLD", "vmx.vmptrld_cycles")
        return super().vmptrld(vmcs)

    def vmresume(self) -> VmFailure | EntryFailure | None:
        """VMRESUME."""
        failure = super().vmresume()
        if failure is None:
            self._payer.tell(Category.ENTRY, self._entry_cycles, "VM entry", "vmx.entry_cycles")
        return failure

    def leave(self, reason: int) -> None:
        """A VM exit."""
        self._payer.tell(Category.EXIT, self._costs.cycles_of(reason), "VM exit", self._costs.parameter_of(reason))
        super().leave(reason)


def vmx_operation(capabilities: VmxCapabilities, costs: Costs, payer: Payer) -> VmxOperation:
    """VMX operation of a processor: a plain one, which asks nobody who listens, or one that tells."""
    return (ObservedVmxOperation if payer.is_observed else VmxOperation)(capabilities, costs, payer)
