"""Each VM-entry check fails alone, with its own name; and running few of them is as good as running all."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.vmx import fields as f
from emulator.vmx.capabilities import EPT_CAP_ACCESSED_DIRTY, VmxCapabilities, with_ept, without_ept
from emulator.vmx.check import QUALIFICATION_LINK_POINTER, QUALIFICATION_NMI, QUALIFICATION_PDPTE
from emulator.vmx.control_checks import CONTROL_CHECKS
from emulator.vmx.entry_checks import EntryChecker, bind_checks, check_entry, record_failure
from emulator.vmx.exit_reasons import ENTRY_FAILURE, ExitReason
from emulator.vmx.guest_checks import GUEST_CHECKS
from emulator.vmx.host_checks import HOST_CHECKS
from emulator.vmx.interruption import EXTERNAL_INTERRUPT, HARDWARE_EXCEPTION, NMI, Interruption
from emulator.vmx.vmcs import CHECKED_BITS
from tests.emulator.vmx.examples import (
    EPT_64,
    EPT_PAE_32,
    EXAMPLES,
    FLAT_64,
    PAE_32,
    REAL_MODE,
    VIRTUAL_8086,
    State,
    everything_allowed,
    make_vmcs,
)
from tests.emulator.vmx.violations import CONTROL_VIOLATIONS, GUEST_VIOLATIONS, HOST_VIOLATIONS, Violation

VIOLATIONS = CONTROL_VIOLATIONS | HOST_VIOLATIONS | GUEST_VIOLATIONS
ACCESSED_DIRTY = "EPT accessed and dirty flags must not be enabled when the processor has none"
ALL_ONES = (1 << 64) - 1


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_valid(name: str) -> None:
    vmcs = make_vmcs(EXAMPLES[name])
    assert check_entry(vmcs, everything_allowed()) is None
    assert check_entry(vmcs, with_ept()) is None


@pytest.mark.parametrize("state", [FLAT_64, PAE_32, VIRTUAL_8086])
def test_shadow_paging_examples_are_valid_without_ept(state: State) -> None:
    assert check_entry(make_vmcs(state), without_ept()) is None


def test_paged_real_mode_is_for_processors_that_have_it_and_keeps_paging_on() -> None:
    state = REAL_MODE | {f.PRIMARY_PROCESSOR_BASED_CONTROLS: FLAT_64[f.PRIMARY_PROCESSOR_BASED_CONTROLS]}
    paged, unpaged = make_vmcs(state | {f.GUEST_CR0: 0x8000_0020}), make_vmcs(state | {f.GUEST_CR0: 0x20})
    with_it = replace(without_ept(), has_paged_real_mode=True, physical_address_bits=40)
    assert check_entry(paged, with_it) is None
    assert check_entry(unpaged, with_it) is not None
    assert check_entry(paged, replace(with_it, has_paged_real_mode=False)) is not None


def test_ept_is_refused_without_ept() -> None:
    failure = check_entry(make_vmcs(EPT_64), without_ept())
    assert failure is not None
    assert failure.error == 7


def test_every_check_has_a_violation_and_a_unique_name() -> None:
    names = [check.name for check, _ in bind_checks(None)]
    assert len(names) == len(set(names))
    assert set(VIOLATIONS) | {ACCESSED_DIRTY} == set(names)
    assert list(CONTROL_VIOLATIONS) == [check.name for check in CONTROL_CHECKS if check.name != ACCESSED_DIRTY]
    assert {check.name for check in HOST_CHECKS} == set(HOST_VIOLATIONS)
    assert {check.name for check in GUEST_CHECKS} == set(GUEST_VIOLATIONS)


@pytest.mark.parametrize(("name", "violation"), VIOLATIONS.items())
def test_a_violated_check_fails_by_its_name(name: str, violation: Violation) -> None:
    base, changes = violation
    assert check_entry(make_vmcs(base), everything_allowed()) is None
    failure = check_entry(make_vmcs(base | changes), everything_allowed())
    assert failure is not None
    assert failure.check_name == name
    assert name in str(failure)
    if name in GUEST_VIOLATIONS:
        assert (failure.error, failure.exit_reason) == (None, ExitReason.INVALID_STATE | ENTRY_FAILURE)
        assert failure.section.startswith("26.3.1.")
    else:
        assert (failure.error, failure.exit_reason) == (7 if name in CONTROL_VIOLATIONS else 8, None)
        assert failure.section.startswith("26.2.1." if name in CONTROL_VIOLATIONS else "26.2.")


@pytest.mark.parametrize(("name", "violation"), VIOLATIONS.items())
def test_incremental_checks_see_a_violation_written_after_a_valid_entry(name: str, violation: Violation) -> None:
    base, changes = violation
    vmcs = make_vmcs(base)
    checker = EntryChecker(vmcs, everything_allowed())
    assert checker.check() is None
    for encoding, value in changes.items():
        vmcs.write(encoding, value)
    failure = checker.check()
    assert failure is not None
    assert failure.check_name == name
    assert checker.check() == failure  # a failed entry forgives nothing
    for encoding in changes:
        vmcs.write(encoding, base.get(encoding, 0))
    assert checker.check() is None
    for encoding, value in changes.items():  # a state that passed must not excuse one that differs in these fields
        vmcs.write(encoding, value)
    assert checker.check() == failure


@pytest.mark.parametrize(
    ("field", "bits", "allowed"),
    [
        (f.GUEST_CS_ACCESS_RIGHTS, 0xF, {9, 11, 13, 15}),
        (f.GUEST_SS_ACCESS_RIGHTS, 0xF, {3, 7}),
        (f.GUEST_DS_ACCESS_RIGHTS, 0xF, {1, 3, 5, 7, 11, 15}),
        (f.GUEST_TR_ACCESS_RIGHTS, 0xF, {11}),
        (f.GUEST_PENDING_DEBUG_EXCEPTIONS, 0xF, set(range(16))),
        (f.GUEST_PENDING_DEBUG_EXCEPTIONS, 0xF000, {0, 0x1000, 0x4000, 0x5000}),
        (f.GUEST_INTERRUPTIBILITY_STATE, 0x1F, {0, 1, 2, 8, 9, 10}),
        (f.GUEST_IA32_EFER, 0xF00, {0x500, 0xD00}),
        (f.GUEST_ACTIVITY_STATE, 7, {0, 1, 2, 3}),
        (f.EPT_POINTER, 7, {0, 6}),
    ],
)
def test_exactly_these_values_of_the_bits_are_valid(field: int, bits: int, allowed: set[int]) -> None:
    valid = set()
    for value in range(bits + 1):
        if value & ~bits == 0:
            vmcs = make_vmcs(EPT_64 | {field: EPT_64.get(field, 0) & ~bits | value})
            if check_entry(vmcs, with_ept()) is None:
                valid.add(value)
    assert valid == allowed


def test_ept_accessed_dirty_flags_need_the_capability() -> None:
    vmcs = make_vmcs(EPT_64 | {f.EPT_POINTER: EPT_64[f.EPT_POINTER] | 1 << 6})
    assert check_entry(vmcs, replace(with_ept(), ept_vpid_cap=with_ept().ept_vpid_cap | EPT_CAP_ACCESSED_DIRTY)) is None
    failure = check_entry(vmcs, with_ept())  # the page walks of this processor have none
    assert failure is not None
    assert (failure.check_name, failure.error) == (ACCESSED_DIRTY, 7)


@pytest.mark.parametrize(
    ("name", "qualification"),
    [
        ("reserved bits of guest PDPTE2 must be 0 for PAE paging with EPT", QUALIFICATION_PDPTE),
        ("an NMI must not be injected with blocking by STI", QUALIFICATION_NMI),
        ("the VMCS link pointer must be FFFFFFFF_FFFFFFFFH", QUALIFICATION_LINK_POINTER),
        ("guest CR0 must have the bits fixed in VMX operation", 0),
    ],
)
def test_qualification_of_a_failed_entry(name: str, qualification: int) -> None:
    base, changes = GUEST_VIOLATIONS[name]
    vmcs = make_vmcs(base | changes)
    failure = check_entry(vmcs, everything_allowed())
    assert failure is not None
    assert failure.qualification == qualification
    record_failure(vmcs, failure)
    assert vmcs.read(f.EXIT_REASON) == 0x8000_0021
    assert vmcs.read(f.EXIT_QUALIFICATION) == qualification


def test_an_instruction_failure_is_recorded_in_the_instruction_error_field() -> None:
    vmcs = make_vmcs(FLAT_64 | {f.HOST_RIP: 1 << 47})
    failure = check_entry(vmcs, with_ept())
    assert failure is not None
    record_failure(vmcs, failure)
    assert (vmcs.read(f.VM_INSTRUCTION_ERROR), vmcs.read(f.EXIT_REASON)) == (8, 0)


def test_pdptes_in_memory_are_checked_for_pae_without_ept() -> None:
    memory = {0x2000: (1, 0, 0, 0), 0x3020: (1, 1 | 1 << 1, 0, 0)}

    def read_pdptes(gpa: int) -> tuple[int, ...]:
        return memory[gpa]

    vmcs = make_vmcs(PAE_32)
    checker = EntryChecker(vmcs, with_ept(), read_pdptes)
    assert checker.check() is None
    vmcs.write(f.GUEST_CR3, 0x3020)
    failure = checker.check()
    assert failure is not None
    assert failure.qualification == QUALIFICATION_PDPTE
    assert check_entry(vmcs, with_ept(), read_pdptes) == failure
    memory[0x3020] = (1, 1, 0, 0)
    assert checker.check() is None
    memory[0x3020] = (1 << 1 | 1, 1, 0, 0)
    vmcs.write(f.GUEST_CR3, 0x2000)
    assert checker.check() is None
    vmcs.write(f.GUEST_CR3, 0x3020)
    assert checker.check() is not None  # values that passed before do not excuse what memory holds now
    assert check_entry(make_vmcs(EPT_PAE_32 | {f.GUEST_CR3: 0x3020}), with_ept(), read_pdptes) is None


@pytest.mark.parametrize(
    ("activity", "event", "is_allowed"),
    [
        (1, Interruption(32, EXTERNAL_INTERRUPT), True),
        (1, Interruption(1, HARDWARE_EXCEPTION), True),
        (1, Interruption(6, HARDWARE_EXCEPTION), False),
        (2, Interruption(2, NMI), True),
        (2, Interruption(18, HARDWARE_EXCEPTION), True),
        (2, Interruption(1, HARDWARE_EXCEPTION), False),
        (3, Interruption(2, NMI), False),
        (3, Interruption(2, NMI, is_valid=False), True),
    ],
)
def test_events_wake_only_from_the_states_that_allow_them(activity: int, event: Interruption, is_allowed: bool) -> None:
    vmcs = make_vmcs(FLAT_64 | {f.GUEST_ACTIVITY_STATE: activity, f.VM_ENTRY_INTERRUPTION_INFORMATION: event.pack()})
    assert (check_entry(vmcs, with_ept()) is None) == is_allowed


def test_writes_that_no_check_looks_at_leave_nothing_to_do() -> None:
    vmcs = make_vmcs(FLAT_64)
    assert EntryChecker(vmcs, with_ept()).check() is None
    vmcs.write(f.GUEST_RIP, FLAT_64[f.GUEST_RIP] + 2)
    vmcs.write(f.GUEST_RSP, ALL_ONES)
    vmcs.write(f.GUEST_RFLAGS, FLAT_64[f.GUEST_RFLAGS] | 1)
    assert vmcs.dirty == 0
    vmcs.write(f.GUEST_RFLAGS, 2)
    assert vmcs.dirty == 1 << f.SLOT[f.GUEST_RFLAGS]


@pytest.mark.parametrize("field", CHECKED_BITS)
@pytest.mark.parametrize("name", EXAMPLES)
def test_unchecked_bits_never_change_the_outcome(field: int, name: str) -> None:
    states = [
        EXAMPLES[name],
        *(base | changes for base, changes in GUEST_VIOLATIONS.values() if base is EXAMPLES[name]),
    ]
    for state in states:
        expected = check_entry(make_vmcs(state), everything_allowed())
        flipped = make_vmcs(state | {field: state.get(field, 0) ^ ~CHECKED_BITS[field]})
        assert check_entry(flipped, everything_allowed()) == expected


_FIELDS = sorted({encoding for check, _ in bind_checks(None) for encoding in check.fields})
_KNOWN_VALUES = {
    encoding: sorted(
        {state.get(encoding, 0) for state in EXAMPLES.values()}
        | {(base | changes).get(encoding, 0) for base, changes in VIOLATIONS.values()}
    )
    for encoding in _FIELDS
}
_write = st.sampled_from(_FIELDS).flatmap(
    lambda encoding: st.tuples(
        st.just(encoding),
        st.one_of(st.sampled_from(_KNOWN_VALUES[encoding]), st.integers(0, ALL_ONES)),
    )
)
_switch = st.sampled_from(sorted(EXAMPLES))
_steps = st.lists(st.tuples(st.lists(_write, max_size=3), _switch, st.booleans()), max_size=8)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(start=_switch, steps=_steps, capabilities=st.sampled_from([everything_allowed(), with_ept(), without_ept()]))
def test_incremental_equals_full(
    start: str, steps: list[tuple[list[tuple[int, int]], str, bool]], capabilities: VmxCapabilities
) -> None:
    vmcs = make_vmcs(EXAMPLES[start])
    checker = EntryChecker(vmcs, capabilities)
    for writes, hardware_state, undo in steps:
        before = [(encoding, vmcs.read(encoding)) for encoding, _ in writes]
        for encoding, value in writes:
            vmcs.write(encoding, value)
        outcome = checker.check()
        assert outcome == check_entry(vmcs, capabilities)
        if outcome is None:
            _exit_with_other_valid_state(vmcs.storage, EXAMPLES[hardware_state], capabilities)
        elif undo:
            for encoding, value in reversed(before):
                vmcs.write(encoding, value)


def _exit_with_other_valid_state(storage: memoryview, state: State, capabilities: VmxCapabilities) -> None:
    """What an exit does: guest state and the 'IA-32e mode guest' control change behind VMWRITE's back, validly."""
    saved = storage.tolist()
    for encoding, value in state.items():
        if f.FIELD_BY_ENCODING[encoding].kind == "guest" or encoding == f.VM_ENTRY_CONTROLS:
            storage[f.SLOT[encoding]] = value
    probe = make_vmcs({})
    probe.storage[:] = storage
    if check_entry(probe, capabilities) is not None:
        for slot, value in enumerate(saved):
            storage[slot] = value


def test_a_thousand_different_writes_keep_the_plans_bounded() -> None:
    vmcs = make_vmcs(FLAT_64)
    checker = EntryChecker(vmcs, with_ept())
    guest_fields = [field.encoding for field in f.FIELDS if field.kind == "guest"]
    for number in range(1000):
        for bit in range(10):
            if number >> bit & 1:
                encoding = guest_fields[bit * 3]
                vmcs.write(encoding, vmcs.read(encoding) ^ 1)
                vmcs.write(encoding, vmcs.read(encoding) ^ 1)
        vmcs.write(f.GUEST_CR3, number << 12)
        assert checker.check() is None
    assert len(checker._plans) <= 256
