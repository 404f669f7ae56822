"""Instructions exit when a control asks for it, with the right report, and never otherwise (SDM 3C 26.1)."""

import pytest

from emulator.engine import LEAVE
from emulator.vmx import controls as c
from emulator.vmx import fields as f
from emulator.vmx.exit_reasons import ExitReason as R
from tests.emulator.engine.rig import CODE, DATA, Rig, exits_of, guest

PIN, PROC, PROC2 = f.PIN_BASED_CONTROLS, f.PRIMARY_PROCESSOR_BASED_CONTROLS, f.SECONDARY_PROCESSOR_BASED_CONTROLS

# --- instructions that exit by one control ----------------------------------------------------------------------------

# instruction, control word, bit, reason, length, qualification
BY_CONTROL = {
    "HLT": ("hlt", PROC, c.PROC_HLT_EXITING, R.HLT, 1, 0),
    "PAUSE": ("pause", PROC, c.PROC_PAUSE_EXITING, R.PAUSE_INSTRUCTION, 2, 0),
    "RDTSC": ("rdtsc", PROC, c.PROC_RDTSC_EXITING, R.RDTSC, 2, 0),
    "RDTSCP": ("rdtscp", PROC, c.PROC_RDTSC_EXITING, R.RDTSCP, 3, 0),
    "INVLPG": ("invlpg [rbx + 0x123]", PROC, c.PROC_INVLPG_EXITING, R.INVLPG, 7, DATA + 0x123),
    "WBINVD": ("wbinvd", PROC2, c.PROC2_WBINVD_EXITING, R.WBINVD, 2, 0),
    "MOV from CR3": ("mov r9, cr3", PROC, c.PROC_CR3_STORE_EXITING, R.CR_ACCESS, 4, 3 | 1 << 4 | 9 << 8),
    "MOV to CR3": ("mov cr3, rsi", PROC, c.PROC_CR3_LOAD_EXITING, R.CR_ACCESS, 3, 3 | 6 << 8),
    "MOV from CR8": ("mov rdi, cr8", PROC, c.PROC_CR8_STORE_EXITING, R.CR_ACCESS, 4, 8 | 1 << 4 | 7 << 8),
    "MOV to CR8": ("mov cr8, rax", PROC, c.PROC_CR8_LOAD_EXITING, R.CR_ACCESS, 4, 8),
    "MOV from DR": ("mov rcx, dr2", PROC, c.PROC_MOV_DR_EXITING, R.DR_ACCESS, 3, 2 | 1 << 4 | 1 << 8),
    "MOV to DR": ("mov dr7, r10", PROC, c.PROC_MOV_DR_EXITING, R.DR_ACCESS, 4, 7 | 10 << 8),
}


def prepared(name: str, controls: bool) -> Rig:
    text, word, bit, *_ = BY_CONTROL[name]
    rig = guest(text)
    rig["rbx"], rig["rsi"], rig["r10"], rig["rax"] = DATA, rig["cr3"], 0x400, 5
    rig.set_control(PROC2, c.PROC2_ENABLE_RDTSCP)
    if controls:
        rig.set_control(word, bit)
    return rig


@pytest.mark.parametrize("name", BY_CONTROL)
def test_an_instruction_exits_where_its_control_asks(name: str) -> None:
    _, _, _, reason, length, qualification = BY_CONTROL[name]
    (seen,) = exits_of(prepared(name, True))
    assert (seen.reason, seen.rip, seen.instruction_bytes, seen.qualification) == (
        reason,
        CODE + 1,
        length,
        qualification,
    )
    assert (seen.information, seen.vectoring) == (0, 0)


@pytest.mark.parametrize("name", BY_CONTROL)
def test_an_instruction_does_not_exit_where_no_control_asks(name: str) -> None:
    rig = prepared(name, False)
    if name == "HLT":
        rig.run()
        assert (rig.exits, rig.is_halted) == ([], True)
    else:
        assert exits_of(rig) == []


@pytest.mark.parametrize("name", BY_CONTROL)
def test_every_other_control_leaves_an_instruction_alone(name: str) -> None:
    """Set all bits of the table but its own."""
    rig = prepared(name, False)
    _, word, bit, *_ = BY_CONTROL[name]
    for other_word in (PROC, PROC2):
        bits = sum({row[2] for row in BY_CONTROL.values() if row[1] == other_word and (row[1], row[2]) != (word, bit)})
        rig.set_control(other_word, bits)
    rig.on_exit = lambda seen: LEAVE
    rig.run()
    assert [seen.reason for seen in rig.exits] == ([] if name == "HLT" else [R.VMCALL])


@pytest.mark.parametrize("name", BY_CONTROL)
def test_without_secondary_controls_their_bits_mean_nothing(name: str) -> None:
    _, word, *_ = BY_CONTROL[name]
    rig = prepared(name, True)
    rig.clear_control(PROC, c.PROC_ACTIVATE_SECONDARY_CONTROLS)
    rig.on_exit = lambda seen: LEAVE
    rig.run()
    if name == "RDTSCP":
        assert (rig.exits, rig.halted_in) == ([], 6)  # not enabled: #UD
    else:
        assert rig.exits[0].reason == (R.VMCALL if word == PROC2 else BY_CONTROL[name][3])


ALWAYS = {
    "CPUID": ("cpuid", R.CPUID, 2), "INVD": ("invd", R.INVD, 2), "VMCALL": ("vmcall", R.VMCALL, 3),
    "VMXOFF": ("vmxoff", R.VMXOFF, 3), "VMLAUNCH": ("vmlaunch", R.VMLAUNCH, 3), "VMRESUME": ("vmresume", R.VMRESUME, 3),
    "VMREAD": ("vmread rax, rcx", R.VMREAD, 3), "VMWRITE": ("vmwrite rcx, rax", R.VMWRITE, 3),
    "VMPTRLD": ("vmptrld [rdi]", R.VMPTRLD, 3), "VMPTRST": ("vmptrst [rdi]", R.VMPTRST, 3),
    "VMCLEAR": ("vmclear [rdi]", R.VMCLEAR, 4), "VMXON": ("vmxon [rdi]", R.VMXON, 4),
    "INVEPT": ("invept rax, [rdi]", R.INVEPT, 5), "INVVPID": ("invvpid rax, [rdi]", R.INVVPID, 5),
}  # fmt: skip


@pytest.mark.parametrize("name", ALWAYS)
def test_some_instructions_always_exit_and_never_without_a_vmm(name: str) -> None:
    text, reason, length = ALWAYS[name]
    rig = Rig("nop\n" + text, non_root=True).run()
    (seen,) = rig.exits
    assert (seen.reason, seen.rip, seen.instruction_bytes) == (reason, CODE + 1, length)
    native = Rig("nop\n" + text + "\n hlt").run()
    assert native.exits == []
    assert native.halted_in == (None if name in ("CPUID", "INVD") else 6)


@pytest.mark.parametrize(
    "text", ["invd", "hlt", "mov rax, cr0", "mov cr8, rax", "wbinvd", "invlpg [rbx]", "wrmsr", "rdmsr", "mov dr7, rax"]
)
def test_privileged_instructions_fault_before_they_exit(text: str) -> None:
    rig = guest(text, cpl=3)
    rig.set_control(PROC, sum({row[2] for row in BY_CONTROL.values() if row[1] == PROC}))
    rig.set_control(PROC2, c.PROC2_WBINVD_EXITING)
    rig.clear_control(PROC, c.PROC_USE_MSR_BITMAPS)
    rig.vmcs.write(f.EXCEPTION_BITMAP, 1 << 13)
    rig.run()
    (seen,) = rig.exits
    assert (seen.reason, seen.information, seen.error_code) == (R.EXCEPTION_NMI, 0x80000B0D, 0)
