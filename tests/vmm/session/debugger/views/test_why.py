"""Why exits take place: every reason has a row, and the row names the control, the bit or the entry."""

import pytest

import sidecore
from emulator.errors import ConfigError
from emulator.vmx import controls as c
from emulator.vmx import fields as f
from emulator.vmx.exit_reasons import ExitReason as R
from emulator.x86 import RCX, RDX
from tests.vmm.session.debugger.views.rig import Looker, looked_at, stopped, world_of
from vmm.exits.table import EXIT_HANDLERS
from vmm.session.debugger.views.subject import Subject
from vmm.session.debugger.views.why import CAUSES, Cause, cause_of, why
from vmm.vcpu import Exit


def causes(image: str, paging: sidecore.Paging, cycles: int) -> dict[str, list[Cause]]:
    """The causes of a kernel's exits, by reason."""
    found: dict[str, list[Cause]] = {}

    def look(subject: Subject, _exit: Exit) -> None:
        cause = why(subject)
        found.setdefault(cause.reason, []).append(cause)

    looked_at(Looker(look=look), image, paging).run(sidecore.Limits(max_cycles=cycles))
    return found


def details(cause: Cause) -> str:
    return " ".join(cause.details)


def test_every_reason_that_is_handled_has_a_row() -> None:
    assert set(EXIT_HANDLERS) <= set(CAUSES)


def test_a_reason_without_a_row_says_why_no_guest_makes_it() -> None:
    assert cause_of(stopped("default", "ept", 1_000), R.BUS_LOCK).control.startswith("a control of later processors")


def test_shadow_faults_are_told_by_the_entry_that_is_missing() -> None:
    texts = {details(cause) for cause in causes("paging_page_table_writes", "shadow", 3_000_000)["EXCEPTION_NMI"]}
    for words in (
        "The guest's PML4E[0] is not accessed yet, so it has no shadow.",
        "The guest's PDE[0] is not dirty yet, so its shadow is read-only.",
        "is a page table of the guest, so it is write-protected.",
        "is empty: not filled yet, or dropped since.",
    ):
        assert any(words in text for text in texts), words
    assert all(text.startswith("Error code ") for text in texts)
    assert not any("allow it now" in text or "other rights" in text for text in texts)


def test_faults_of_the_guests_own_are_told_from_the_vmms() -> None:
    texts = [details(cause) for cause in causes("paging_permissions", "shadow", 3_000_000)["EXCEPTION_NMI"]]
    assert any("The guest's own tables forbid it: #PF, error code" in text for text in texts)


def test_a_device_is_the_reason_in_both_pagings() -> None:
    shadow = causes("apic", "shadow", 1_000_000)["EXCEPTION_NMI"]
    assert any("A device answers at gpa 0xfee000f0, so there is no shadow entry." in details(c) for c in shadow)
    (first, *_) = causes("apic", "ept", 1_000_000)["EPT_VIOLATION"]
    assert first.control == "EPT PTE[0], W is 0"
    assert first.place.startswith("entry 0x0 at hpa ")
    assert "PML4E[0]" in details(first)
    assert "A device answers there" in details(first)


def test_a_bit_of_the_msr_bitmap_is_where_it_is_in_memory() -> None:
    subject = stopped("default", "ept", 1_000_000)
    bitmap = subject.read(f.MSR_BITMAP_ADDRESS)
    subject.engine.gpr[RCX] = 0xC000_0080
    subject.vmcs.save(f.EXIT_REASON, R.MSR_WRITE)
    cause = why(subject)
    assert cause.summary() == "use MSR bitmaps (primary processor-based controls, bit 28)"
    assert f"bit 0 of the byte at hpa {bitmap + 0xC10:#x}" in details(cause)
    subject.engine.gpr[RCX] = 0x4000_0000
    assert why(subject).control == "an MSR outside of the MSR bitmaps"
    subject.vmcs.save(f.MSR_BITMAP_ADDRESS, 1 << 40)
    subject.engine.gpr[RCX] = 0x10
    assert "(no memory)" in details(why(subject))


def test_ports_exit_by_the_control_or_by_bits_of_the_bitmaps() -> None:
    subject = stopped("default", "ept", 1_000_000)
    subject.vmcs.save(f.EXIT_REASON, R.IO_INSTRUCTION)
    subject.vmcs.save(f.EXIT_QUALIFICATION, 0x7FFF << 16 | 1)  # two bytes, one in each bitmap
    assert why(subject).summary() == "unconditional I/O exiting (primary processor-based controls, bit 24)"
    primary = subject.read(f.PRIMARY_PROCESSOR_BASED_CONTROLS)
    subject.vmcs.save(f.PRIMARY_PROCESSOR_BASED_CONTROLS, primary | c.PROC_USE_IO_BITMAPS)
    subject.vmcs.save(f.IO_BITMAP_A_ADDRESS, 0x1000)
    subject.vmcs.save(f.IO_BITMAP_B_ADDRESS, 0x2000)
    subject.host_memory.write(0x1FFF, b"\x80")
    subject.host_memory.write(0x2000, b"\x00")
    assert why(subject).details == ("Port 0x7fff: I/O bitmap A, bit 7 of the byte at hpa 0x1fff (0x80).",)


def test_a_write_of_a_control_register_names_the_bits_that_the_host_owns() -> None:
    subject = stopped("default", "shadow", 1_000_000)
    subject.vmcs.save(f.EXIT_REASON, R.CR_ACCESS)
    subject.vmcs.save(f.EXIT_QUALIFICATION, RDX << 8)
    subject.engine.gpr[RDX] = subject.read(f.CR0_READ_SHADOW) ^ 0x4000_0000
    assert "they differ in CD." in details(why(subject))
    subject.engine.gpr[RDX] = subject.read(f.CR0_READ_SHADOW)
    assert "the handler has changed it since" in details(why(subject))
    subject.vmcs.save(f.EXIT_QUALIFICATION, 2 << 4)  # CLTS
    subject.vmcs.save(f.CR0_GUEST_HOST_MASK, 8)
    subject.vmcs.save(f.CR0_READ_SHADOW, 8)
    assert "they differ in TS." in details(why(subject))


def test_a_load_of_cr3_may_be_a_target_value() -> None:
    subject = stopped("default", "shadow", 1_000_000)
    subject.vmcs.save(f.EXIT_REASON, R.CR_ACCESS)
    subject.vmcs.save(f.EXIT_QUALIFICATION, RDX << 8 | 3)
    subject.engine.gpr[RDX] = 0x5000
    subject.vmcs.save(f.CR3_TARGET_COUNT, 1 << 31)  # hostile: there are four
    subject.vmcs.save(f.CR3_TARGET_VALUE_3, 0x7000)
    cause = why(subject)
    assert cause.summary() == "CR3-load exiting (primary processor-based controls, bit 15)"
    assert "CR3-target values: 0x0, 0x0, 0x0, 0x7000." in details(cause)
    assert cause.otherwise.endswith("or with 0x5000 among the CR3-target values.")


def test_an_interrupt_tells_who_asked() -> None:
    subject = stopped("default", "ept", 1_000_000)
    subject.vmcs.save(f.EXIT_REASON, R.EXTERNAL_INTERRUPT)
    subject.vmcs.save(f.VM_EXIT_INTERRUPTION_INFORMATION, 0x8000_00EF)
    cause = why(subject)
    assert cause.summary() == "external-interrupt exiting (pin-based controls, bit 0)"
    assert details(cause) == "Vector 0xef, acknowledged by the exit: the core's local timer."


def test_there_is_no_reason_without_an_exit() -> None:
    with pytest.raises(ConfigError, match="a native guest has no VM exits; choose shadow or ept"):
        why(stopped("default", "native", 1_000_000))
    world = world_of()
    world.build()
    with pytest.raises(ConfigError, match="the guest has not run yet"):
        why(Subject(world.guests[0].built))
