"""VMX instructions of a processor: what succeeds, what fails with which number, and what each takes."""

import pytest

from emulator.ledger import LABELS, Category
from emulator.profiles.profile import load_profile
from emulator.vmx import fields as f
from emulator.vmx.check import EntryFailure
from emulator.vmx.exit_reasons import ENTRY_FAILURE, ExitReason
from emulator.vmx.instruction_errors import VmFailure
from emulator.vmx.operation import VM_FAIL_INVALID, ObservedVmxOperation, VmxOperation, vmx_operation
from emulator.vmx.vmcs import Vmcs
from tests.emulator.vmx.examples import FLAT_64, everything_allowed, make_vmcs

READ, WRITE, LOAD, ENTRY, EXIT, CPUID_EXIT = 3, 7, 101, 1201, 1009, 907  # cycles
COSTS = load_profile(
    "netburst-2006",
    [
        f"vmx.vmread_cycles={READ}", f"vmx.vmwrite_cycles={WRITE}", f"vmx.vmptrld_cycles={LOAD}",
        f"vmx.entry_cycles={ENTRY}", f"vmx.exit_cycles={EXIT}", f"vmx.exit_cycles_by_reason.CPUID={CPUID_EXIT}",
    ],
)  # fmt: skip


class FakeClock:
    def __init__(self) -> None:
        self.account = [0] * len(LABELS)


class FakePayer:
    """Who pays, and is told of charges if it `is_observed`: (category, cycles, what, parameter)."""

    def __init__(self, *, is_observed: bool = False) -> None:
        self.clock = FakeClock()
        self.vmcs_cycles = 0
        self.booked_cycles = 0
        self.is_observed = self.is_heard = is_observed
        self.told: list[tuple[int, int, str, str]] = []

    def tell(self, category: int, cycles: int, what: str, parameter: str) -> None:
        self.told.append((category, cycles, what, parameter))

    @property
    def booked(self) -> dict[int, int]:
        """Cycles by category, without zeros; their sum is what waits for the clock."""
        booked = {category: cycles for category, cycles in enumerate(self.clock.account) if cycles}
        assert sum(booked.values()) == self.booked_cycles
        return booked


def in_root(payer: FakePayer) -> VmxOperation:
    operation = vmx_operation(everything_allowed(), COSTS, payer)
    assert operation.vmxon() is None
    return operation


def with_vmcs(payer: FakePayer | None = None, **changes: int) -> tuple[VmxOperation, Vmcs]:
    """A processor whose current VMCS can be entered, but for the `changes`."""
    operation = in_root(payer or FakePayer())
    vmcs = make_vmcs(FLAT_64 | {getattr(f, name): value for name, value in changes.items()})
    assert operation.make_current(vmcs) is None
    return operation, vmcs


# --- which VMCS


def test_vmxon_in_root_operation_fails_without_a_current_vmcs() -> None:
    operation = in_root(FakePayer())
    assert operation.vmxon() == VM_FAIL_INVALID


def test_vmxon_in_root_operation_leaves_error_15_in_the_current_vmcs() -> None:
    operation, vmcs = with_vmcs()
    assert operation.vmxon() == VmFailure(15)
    assert vmcs.read(f.VM_INSTRUCTION_ERROR) == 15


def test_a_vmcs_is_current_only_in_root_operation() -> None:
    operation, vmcs = VmxOperation(everything_allowed(), COSTS, FakePayer()), Vmcs()
    assert operation.vmptrld(vmcs) == VM_FAIL_INVALID
    assert operation.current is None
    operation.vmxon()
    assert operation.vmptrld(vmcs) is None
    assert operation.current is vmcs


def test_without_a_current_vmcs_every_instruction_that_needs_one_is_vmfail_invalid() -> None:
    operation = in_root(FakePayer())
    failures = [operation.vmread(f.GUEST_RIP), operation.vmwrite(f.GUEST_RIP, 1)]
    failures += [operation.vmlaunch(), operation.vmresume()]  # type: ignore[list-item]
    assert failures == [VM_FAIL_INVALID] * 4


def test_fields_are_those_of_the_current_vmcs() -> None:
    operation, first = with_vmcs()
    second = Vmcs()
    operation.vmptrld(second)
    assert operation.vmwrite(f.GUEST_RIP, 0x1234) is None
    assert operation.vmread(f.GUEST_RIP) == operation.read(f.GUEST_RIP) == second.read(f.GUEST_RIP) == 0x1234
    assert first.read(f.GUEST_RIP) == FLAT_64[f.GUEST_RIP]


def test_fields_that_do_not_exist_or_are_read_only_are_values_of_failure() -> None:
    operation, vmcs = with_vmcs()
    assert operation.vmread(0x7000) == VmFailure(12)
    assert operation.vmwrite(f.EXIT_REASON, 1) == VmFailure(13)
    assert vmcs.read(f.VM_INSTRUCTION_ERROR) == 13


def test_a_vmm_that_writes_a_read_only_field_by_its_constant_is_wrong() -> None:
    operation, _ = with_vmcs()
    with pytest.raises(KeyError):
        operation.write(f.EXIT_REASON, 1)


def test_vmclear_of_the_current_vmcs_leaves_none() -> None:
    operation, vmcs = with_vmcs()
    operation.vmlaunch()
    operation.vmclear(vmcs)
    assert operation.current is None
    assert not vmcs.is_launched
    assert operation.vmlaunch() == VM_FAIL_INVALID


def test_vmclear_of_another_leaves_the_current_one() -> None:
    operation, vmcs = with_vmcs()
    operation.vmlaunch()
    operation.vmclear(Vmcs())
    assert operation.current is vmcs
    assert vmcs.is_launched


def test_a_vmcs_that_was_cleared_can_be_launched_again() -> None:
    operation, vmcs = with_vmcs()
    operation.vmlaunch()
    operation.vmclear(vmcs)
    operation.vmptrld(vmcs)
    assert operation.vmlaunch() is None


# --- into the guest


def test_vmlaunch_then_vmresume() -> None:
    operation, vmcs = with_vmcs()
    assert operation.vmlaunch() is None
    assert vmcs.is_launched
    assert operation.vmresume() is None


def test_vmlaunch_of_a_launched_vmcs_is_error_4() -> None:
    operation, vmcs = with_vmcs()
    operation.vmlaunch()
    assert operation.vmlaunch() == VmFailure(4)
    assert vmcs.read(f.VM_INSTRUCTION_ERROR) == 4
    assert vmcs.is_launched


def test_vmresume_of_a_clear_vmcs_is_error_5() -> None:
    operation, vmcs = with_vmcs()
    assert operation.vmresume() == VmFailure(5)
    assert vmcs.read(f.VM_INSTRUCTION_ERROR) == 5
    assert not vmcs.is_launched


BAD = {
    "controls": ({"CR3_TARGET_COUNT": 99}, 7),
    "host state": ({"HOST_CR0": 0}, 8),
}


@pytest.mark.parametrize("changes_and_error", BAD.values(), ids=BAD)
@pytest.mark.parametrize("is_launched", [False, True])
def test_invalid_controls_and_host_state_are_vm_instruction_errors(
    changes_and_error: tuple[dict[str, int], int], is_launched: bool
) -> None:
    changes, error = changes_and_error
    payer = FakePayer()
    operation, vmcs = with_vmcs(payer, **changes)
    vmcs.is_launched = is_launched
    failure = operation.vmresume() if is_launched else operation.vmlaunch()
    assert isinstance(failure, EntryFailure)
    assert failure.error == vmcs.read(f.VM_INSTRUCTION_ERROR) == error
    assert vmcs.read(f.EXIT_REASON) == 0
    assert vmcs.is_launched is is_launched
    assert payer.booked == {}


@pytest.mark.parametrize("is_launched", [False, True])
def test_invalid_guest_state_is_a_vm_exit_for_reason_33(is_launched: bool) -> None:
    payer = FakePayer()
    operation, vmcs = with_vmcs(payer, VMCS_LINK_POINTER=1)
    vmcs.is_launched = is_launched
    failure = operation.vmresume() if is_launched else operation.vmlaunch()
    assert isinstance(failure, EntryFailure)
    assert vmcs.read(f.EXIT_REASON) == failure.exit_reason == ExitReason.INVALID_STATE | ENTRY_FAILURE
    assert vmcs.read(f.EXIT_QUALIFICATION) == 4  # the link pointer
    assert vmcs.read(f.VM_INSTRUCTION_ERROR) == 0
    assert vmcs.is_launched is is_launched
    assert payer.booked == {}


def test_what_was_repaired_can_be_entered() -> None:
    operation, _ = with_vmcs(CR3_TARGET_COUNT=99)
    assert operation.vmlaunch() is not None
    operation.write(f.CR3_TARGET_COUNT, 0)
    assert operation.vmlaunch() is None


def test_what_was_broken_since_the_last_entry_cannot_be_entered() -> None:
    operation, _ = with_vmcs()
    operation.vmlaunch()
    operation.write(f.GUEST_RFLAGS, 0)  # bit 1 is always 1
    assert isinstance(operation.vmresume(), EntryFailure)


# --- what it takes


def test_each_instruction_is_paid_for() -> None:
    payer = FakePayer()
    operation, vmcs = with_vmcs(payer)
    operation.vmptrld(vmcs)
    assert payer.booked == {Category.VMCS: LOAD}
    operation.vmlaunch()
    operation.vmresume()
    assert payer.booked == {Category.VMCS: LOAD, Category.ENTRY: 2 * ENTRY}
    operation.leave(ExitReason.CPUID)
    operation.leave(ExitReason.HLT)
    hlt = COSTS.cycles_of(ExitReason.HLT)
    assert payer.booked == {Category.VMCS: LOAD, Category.ENTRY: 2 * ENTRY, Category.EXIT: CPUID_EXIT + hlt}
    assert payer.told == []


def test_a_reason_without_a_cost_of_its_own_takes_what_exits_take() -> None:
    payer = FakePayer()
    in_root(payer).leave(ExitReason.TRIPLE_FAULT)
    assert payer.booked == {Category.EXIT: EXIT}


@pytest.mark.parametrize("is_observed", [False, True])
def test_vmread_and_vmwrite_are_charged_and_booked_later(is_observed: bool) -> None:
    payer = FakePayer(is_observed=is_observed)
    operation, _ = with_vmcs(payer)
    operation.read(f.GUEST_RIP)
    operation.read(f.GUEST_RSP)
    operation.write(f.GUEST_RIP, 0)
    assert payer.vmcs_cycles == 2 * READ + WRITE
    operation.vmread(f.GUEST_RIP)
    operation.vmwrite(f.GUEST_RIP, 0)
    assert payer.vmcs_cycles == 3 * READ + 2 * WRITE
    assert payer.booked == {}


@pytest.mark.parametrize("is_observed", [False, True])
def test_three_vmreads_at_once_are_three_vmreads(is_observed: bool) -> None:
    payer = FakePayer(is_observed=is_observed)
    operation, vmcs = with_vmcs(payer)
    vmcs.save(f.GUEST_RIP, 3)
    vmcs.save(f.VM_EXIT_INSTRUCTION_LENGTH, 7)
    vmcs.save(f.GUEST_RSP, 9)
    assert operation.read_three(f.GUEST_RIP, f.VM_EXIT_INSTRUCTION_LENGTH, f.GUEST_RSP) == (3, 7, 9)
    assert payer.vmcs_cycles == 3 * READ
    assert [what for _, _, what, _ in payer.told] == is_observed * [
        "VMREAD GUEST_RIP",
        "VMREAD VM_EXIT_INSTRUCTION_LENGTH",
        "VMREAD GUEST_RSP",
    ]


# --- who is told


def test_only_an_observed_payer_is_told() -> None:
    assert type(vmx_operation(everything_allowed(), COSTS, FakePayer())) is VmxOperation
    observed = vmx_operation(everything_allowed(), COSTS, FakePayer(is_observed=True))
    assert type(observed) is ObservedVmxOperation


def test_an_observed_payer_pays_the_same_and_is_told_of_each() -> None:
    payer = FakePayer(is_observed=True)
    operation, vmcs = with_vmcs(payer)
    operation.vmptrld(vmcs)
    operation.read(f.GUEST_RIP)
    operation.write(f.GUEST_RSP, 0)
    operation.vmlaunch()
    operation.leave(ExitReason.CPUID)
    operation.leave(ExitReason.TRIPLE_FAULT)
    operation.vmresume()
    assert payer.told == [
        (Category.VMCS, LOAD, "VMPTRLD", "vmx.vmptrld_cycles"),
        (Category.VMCS, READ, "VMREAD GUEST_RIP", "vmx.vmread_cycles"),
        (Category.VMCS, WRITE, "VMWRITE GUEST_RSP", "vmx.vmwrite_cycles"),
        (Category.ENTRY, ENTRY, "VM entry", "vmx.entry_cycles"),
        (Category.EXIT, CPUID_EXIT, "VM exit", "vmx.exit_cycles_by_reason.CPUID"),
        (Category.EXIT, EXIT, "VM exit", "vmx.exit_cycles"),
        (Category.ENTRY, ENTRY, "VM entry", "vmx.entry_cycles"),
    ]
    booked = payer.booked[Category.VMCS] + payer.vmcs_cycles
    assert booked == LOAD + READ + WRITE
    assert payer.booked[Category.ENTRY] == 2 * ENTRY
    assert payer.booked[Category.EXIT] == CPUID_EXIT + EXIT


def test_nobody_is_told_of_an_entry_that_fails() -> None:
    payer = FakePayer(is_observed=True)
    operation, _ = with_vmcs(payer, CR3_TARGET_COUNT=99)
    operation.vmlaunch()
    assert payer.told == []
