"""Registers as text: flags by name, both values of what the VMM hides, the mode."""

from emulator.vmx import fields as f
from emulator.x86 import CR0_PE, EFER_LMA, RFLAGS_VM
from tests.vmm.session.debugger.views.rig import stopped
from vmm.session.debugger.views.registers import mode_text, registers


def test_flags_have_names_and_the_rip_its_symbol() -> None:
    subject = stopped("default", "ept", 2_000_000)
    subject.vmcs.save(f.GUEST_RFLAGS, 0x3A83)
    subject.vmcs.save(f.GUEST_RIP, 0x100611)
    shown = registers(subject)
    assert shown.flags == ("OF", "IF", "SF", "CF", "IOPL=3")
    assert shown.rip_symbol == "print_list+0x41"
    assert "rflags 3a83 [OF IF SF CF IOPL=3]" in shown.text()


def test_shadow_paging_hides_a_cr3_and_both_are_shown() -> None:
    subject = stopped("default", "shadow", 2_000_000)
    cr3 = next(register for register in registers(subject).control if register.name == "cr3")
    assert subject.shadow is not None
    assert cr3.value == subject.shadow.mode.cr3
    assert cr3.hardware == subject.read(f.GUEST_CR3) != cr3.value
    assert f"cr3  {cr3.value:x}   (the processor has {cr3.hardware:x})" in registers(subject).text()


def test_natively_there_is_only_one_value() -> None:
    assert "the processor has" not in registers(stopped("default", "native", 2_000_000)).text()


def test_each_mode_has_its_name() -> None:
    subject = stopped("default", "native", 2_000_000)
    assert mode_text(subject) == "64-bit mode"
    subject.vmcs.save(f.GUEST_CS_ACCESS_RIGHTS, 0xC09B)
    assert mode_text(subject) == "compatibility mode, 32 bits"
    subject.vmcs.save(f.GUEST_IA32_EFER, subject.read(f.GUEST_IA32_EFER) & ~EFER_LMA)
    assert mode_text(subject) == "protected mode, 32 bits"
    subject.vmcs.save(f.GUEST_RFLAGS, RFLAGS_VM)
    assert mode_text(subject) == "virtual-8086 mode"
    subject.vmcs.save(f.GUEST_CR0, subject.read(f.GUEST_CR0) & ~CR0_PE)
    assert mode_text(subject) == "real mode"


def test_json_has_hexadecimal_text_for_registers_and_numbers_for_counts() -> None:
    values = registers(stopped("default", "ept", 2_000_000)).json()
    assert values["general"]["rax"].startswith("0x")
    assert isinstance(values["cycles"], int)
    assert values["segments"][1]["name"] == "CS"
