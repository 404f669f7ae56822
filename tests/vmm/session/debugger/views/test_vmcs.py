"""Fields of the VMCS: by name, decoded, and those that differ."""

import pytest

from emulator.errors import ConfigError
from emulator.vmx import fields as f
from tests.vmm.session.debugger.views.rig import stopped
from vmm.session.debugger.views.subject import Subject
from vmm.session.debugger.views.vmcs import changed, field_named, fields_of


@pytest.fixture(scope="module")
def subject() -> Subject:
    return stopped("default", "shadow", 2_000_000)


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("GUEST_RIP", f.GUEST_RIP),
        ("guest_rip", f.GUEST_RIP),
        ("rip", f.GUEST_RIP),
        ("exit_qual", f.EXIT_QUALIFICATION),
        ("exit-reason", f.EXIT_REASON),
        ("primary", f.PRIMARY_PROCESSOR_BASED_CONTROLS),
        ("cr0_mask", f.CR0_GUEST_HOST_MASK),
        ("cr4_read", f.CR4_READ_SHADOW),
        ("idt_vec_inf", f.IDT_VECTORING_INFORMATION),
        ("cr3", f.GUEST_CR3),
        ("host_rsp", f.HOST_RSP),
    ],
)
def test_a_name_may_be_short(name: str, field: int) -> None:
    assert field_named(name).encoding == field


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ripp", "no VMCS field 'ripp'"),
        ("", "no VMCS field ''"),
        ("_", "no VMCS field '_'"),
        ("exit", "'exit' may be one of several fields: EOI_EXIT_BITMAP_0|VM_EXIT"),
    ],
)
def test_a_wrong_name_is_a_mistake_of_one_line(name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        field_named(name)
    assert "\n" not in str(caught.value)


def test_a_group_is_one_of_the_four(subject: Subject) -> None:
    assert {field.group for field in fields_of(subject, "host").fields} == {"host"}
    assert {field.group for field in fields_of(subject, "exit i").fields} == {"exit information"}
    assert [field.name for field in fields_of(subject, with_zeros=True).fields].count("GUEST_RIP") == 1
    assert len(fields_of(subject, with_zeros=True).fields) == f.SLOT_COUNT


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        (f.PIN_BASED_CONTROLS, 0x29, "PIN_BASED_CONTROLS 29 EXTERNAL_INTERRUPT_EXITING NMI_EXITING VIRTUAL_NMIS"),
        (f.EXIT_REASON, 0x8000_0021, "EXIT_REASON 80000021 VM entry failed: INVALID_STATE"),
        (f.VM_ENTRY_INTERRUPTION_INFORMATION, 0x8000_0B0E, "exception #PF, error code 0x2 (supervisor write"),
        (f.IDT_VECTORING_INFORMATION, 0x8000_0202, "IDT_VECTORING_INFORMATION 80000202 NMI"),
        (f.VM_EXIT_INTERRUPTION_INFORMATION, 0x8000_00EF, "external interrupt vector 0xef"),
        (f.GUEST_INTERRUPTIBILITY_STATE, 9, "GUEST_INTERRUPTIBILITY_STATE 9 blocking by NMI blocking by STI"),
        (f.GUEST_ACTIVITY_STATE, 1, "GUEST_ACTIVITY_STATE 1 halted"),
        (f.GUEST_CS_ACCESS_RIGHTS, 0xA0FB, "GUEST_CS_ACCESS_RIGHTS a0fb code64 dpl 3"),
        (f.EXCEPTION_BITMAP, 0x4002, "EXCEPTION_BITMAP 4002 vector 1 vector 14"),
        (f.HOST_RIP, 0x100611, "HOST_RIP 100611 <print_list+0x41>"),
        (f.TSC_OFFSET, 5, "TSC_OFFSET 5"),
    ],
)  # fmt: skip
def test_values_are_said_in_words(subject: Subject, field: int, value: int, text: str) -> None:
    before, error = subject.read(field), subject.read(f.VM_ENTRY_EXCEPTION_ERROR_CODE)
    subject.vmcs.save(field, value)
    subject.vmcs.save(f.VM_ENTRY_EXCEPTION_ERROR_CODE, 2)
    shown = " ".join(fields_of(subject, f.FIELD_BY_ENCODING[field].name).text().split())
    subject.vmcs.save(field, before)
    subject.vmcs.save(f.VM_ENTRY_EXCEPTION_ERROR_CODE, error)
    assert text in shown


def test_changes_are_both_values(subject: Subject) -> None:
    before = subject.words()
    assert changed(subject, before).text() == "no field has changed"
    subject.vmcs.save(f.GUEST_RFLAGS, 0x46)
    shown = changed(subject, before)
    assert [field.name for field in shown.fields] == ["GUEST_RFLAGS"]
    assert shown.text() == f"GUEST_RFLAGS {before[f.SLOT[f.GUEST_RFLAGS]]:x} -> 46 ZF PF"
