"""Single instructions where nothing exits: those the engine leaves to this project, and those it must not have."""

import pytest

from emulator.vmx import controls as c
from emulator.vmx import fields as f
from tests.emulator.engine.rig import CODE, DATA, Rig, exits_of

# instructions whose CPUID bits are not advertised; the first two would bring entropy into the guest
HIDDEN = (
    "rdrand eax", "rdseed eax", "rdpid rax", "rdfsbase rax", "invpcid rax, [rdi]", "xgetbv", "vaddps ymm0, ymm0, ymm1",
    "xsetbv", "stac", "movbe eax, [rdi]", "andn eax, ecx, edx", "adcx eax, ecx", "xsave [rdi]",
    "clflushopt [rdi]", "vmrun", "vmmcall", "vmload", "vmsave", "stgi", "clgi", "skinit", "invlpga", "rsm", "vmcall",
    "vmxoff", "getsec",
)  # fmt: skip

# All primary controls but those whose exits come between instructions.
EXITS_OF_INSTRUCTIONS = 0xFFFFFFFF & ~(
    c.PROC_INTERRUPT_WINDOW_EXITING | c.PROC_NMI_WINDOW_EXITING | c.PROC_MONITOR_TRAP_FLAG
)


@pytest.mark.parametrize("text", HIDDEN)
def test_what_cpuid_does_not_advertise_is_undefined(text: str) -> None:
    rig = Rig(f"nop\n {text}\n hlt")
    rig["rdi"] = DATA
    rig.run()
    assert rig.halted_in == 6
    assert rig.word(rig["rsp"]) == CODE + 1


# LOCK before something that writes no memory; MODEL: where nothing traps, the engine lets it pass
LOCKED = (
    "0fa2", "0f31", "0f32", "0f30", "0f01f9", "0f22d8", "0f20d8", "0f22c0", "0f20c0", "0f23c0", "0f06", "0f01f0",
    "0f01e0", "0f013f", "0f0137", "0f08", "0f09", "f4", "e410", "ec", "e610", "ee", "6c", "6e", "0f05", "0f34", "f1",
    "0f01c1", "0f33",
)  # fmt: skip


@pytest.mark.parametrize("code", LOCKED)
def test_lock_before_what_it_cannot_lock_is_undefined(code: str) -> None:
    rig = Rig(b"\x90\xf0" + bytes.fromhex(code), non_root=True)
    rig.set_control(f.PRIMARY_PROCESSOR_BASED_CONTROLS, EXITS_OF_INSTRUCTIONS)
    rig.set_control(f.SECONDARY_PROCESSOR_BASED_CONTROLS, c.PROC2_WBINVD_EXITING)
    rig.vmcs.write(f.CR0_GUEST_HOST_MASK, 0xFFFFFFFF)
    rig.vmcs.write(f.EXCEPTION_BITMAP, 1 << 6)
    rig["rdi"] = rig["rsi"] = DATA
    rig.run()
    assert [(seen.information, seen.rip) for seen in rig.exits] == [(0x80000306, CODE + 1)]


@pytest.mark.parametrize("prefix", ["", "66", "67", "2e", "40", "6667", "f2", "f3"])
@pytest.mark.parametrize(
    "code", ["0fa2", "0f31", "0f32", "0f22d8", "0f2218", "0f20d8", "0f2098", "0f21f8", "0f013f", "ee", "e410"]
)
def test_prefixes_count_to_the_length_of_an_exit(prefix: str, code: str) -> None:
    rig = Rig(bytes.fromhex(prefix + code), non_root=True)
    rig.set_control(f.PRIMARY_PROCESSOR_BASED_CONTROLS, EXITS_OF_INSTRUCTIONS)
    rig.clear_control(f.PRIMARY_PROCESSOR_BASED_CONTROLS, c.PROC_USE_IO_BITMAPS | c.PROC_USE_MSR_BITMAPS)
    rig["rdi"] = DATA
    rig.run()
    (seen,) = rig.exits
    assert seen.instruction_bytes == len(prefix + code) // 2


@pytest.mark.parametrize(
    ("mode", "base"), [("32-bit", 0), ("32-bit", 0x8000), ("32-bit", 0xFFFF0000), ("compatibility", 0x8000)]
)
def test_a_code_segments_base_counts_but_in_64_bit_mode(mode: str, base: int) -> None:
    """The instruction that exits is found, and counted, where it lies; linear addresses wrap at 4 GiB.

    MODEL: but in compatibility mode, where the engine does not wrap.
    """
    rig = Rig(b"\x90\x0f\xa2\x90\x0f\xa2\x0f\x01\xc1", bits=32 if mode == "32-bit" else 64, non_root=True)
    rig.set_segment("cs", 0x40, 0xC09B, base=base)
    rig["rip"] = CODE - base & 0xFFFFFFFF
    seen = exits_of(rig)
    assert [(e.reason, e.instruction_bytes, e.instructions) for e in seen] == [(10, 2, 1), (10, 2, 2)]
    assert rig.exits[-1].rip == CODE + 6 - base & 0xFFFFFFFF


@pytest.mark.parametrize("mode", ["32-bit", "compatibility", "64-bit"])
def test_a_data_segments_base_counts_but_in_64_bit_mode(mode: str) -> None:
    rig = Rig("outs dx, byte ptr [esi]\n hlt", bits=32 if mode == "32-bit" else 64)
    if mode == "compatibility":
        rig.set_segment("cs", 0x40, 0xC09B)
        rig.put(CODE, b"\x6e\xf4")
    rig.set_segment("ds", 0x10, 0xC093, base=0x1000)
    rig["rsi"], rig["rdx"] = DATA, 0x80
    rig.put(DATA, b"a")
    rig.put(DATA + 0x1000, b"b")
    rig.run()
    assert rig.platform.port_writes == [(0x80, 1, ord("a" if mode == "64-bit" else "b"))]
