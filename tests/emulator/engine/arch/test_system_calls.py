"""SYSCALL, SYSRET, SYSENTER, SYSEXIT: where they go, what they keep, and when they are refused (SDM 2B)."""

import pytest

from emulator.x86 import RFLAGS_DF, RFLAGS_IF
from tests.emulator.engine.rig import (
    CODE,
    CODE32_0,
    CODE32_3,
    CODE64_0,
    CODE64_3,
    DATA,
    DATA_0,
    HANDLERS,
    STACK3,
    Rig,
    assemble,
)

STAR, LSTAR, CSTAR, FMASK = 0xC0000081, 0xC0000082, 0xC0000083, 0xC0000084
SYSENTER_CS, SYSENTER_ESP, SYSENTER_EIP = 0x174, 0x175, 0x176
SYSRET_32, SYSRET_64 = ".byte 0x0f, 0x07", ".byte 0x48, 0x0f, 0x07"
SYSEXIT_32, SYSEXIT_64 = ".byte 0x0f, 0x35", ".byte 0x48, 0x0f, 0x35"
ENTRY = HANDLERS + 0x2000
KERNEL_STACK = DATA + 0x1000


def caller(text: str, *, cpl: int = 3, bits: int = 64, entry: str = "hlt") -> Rig:
    """A program with the system call registers set up: kernel CS 8 and SS 10h, user CS32 1Bh, SS 23h, CS64 2Bh."""
    rig = Rig(text, cpl=cpl, bits=bits)
    rig.put(ENTRY, assemble(entry, 64 if bits == 64 else 32, ENTRY))
    kernel = CODE64_0 if bits == 64 else CODE32_0
    for index, value in {
        STAR: 0x1B << 48 | CODE64_0 << 32, LSTAR: ENTRY, CSTAR: 0x99, FMASK: RFLAGS_IF | RFLAGS_DF,
        SYSENTER_CS: kernel, SYSENTER_ESP: KERNEL_STACK, SYSENTER_EIP: ENTRY,
    }.items():  # fmt: skip
        assert rig.engine.wrmsr(index, value)
    return rig


def segment(rig: Rig, name: str) -> tuple[int, ...]:
    return tuple(rig[f"{name}_{part}"] for part in ("selector", "base", "limit", "access_rights"))


@pytest.mark.parametrize("cpl", [0, 3])
def test_syscall_goes_to_lstar_with_the_return_address_and_flags_in_registers(cpl: int) -> None:
    rig = caller("nop\n syscall", cpl=cpl)
    rig["rflags"] = 0x202 | RFLAGS_DF | 1
    before = rig["rsp"]
    rig.run()
    assert (rig.is_halted, rig["rip"]) == (True, ENTRY + 1)
    assert (rig["rcx"], rig["r11"], rig["rsp"]) == (CODE + 3, 0x203 | RFLAGS_DF, before)
    assert rig["rflags"] == 3
    assert segment(rig, "cs") == (CODE64_0, 0, 0xFFFFFFFF, 0xA09B)
    assert segment(rig, "ss") == (DATA_0, 0, 0xFFFFFFFF, 0xC093)


def test_sysret_returns_to_64_bit_or_compatibility_mode() -> None:
    rig = caller("syscall\n mov eax, cs\n int3", entry=SYSRET_64)
    rig.set_gate(3, dpl=3)
    rig["rflags"] = 0x203
    rig.run()
    assert rig.halted_in == 3
    assert rig["rax"] == CODE64_3
    assert rig.words(rig["rsp"], 4)[2:] == [0x203, STACK3]
    assert segment(rig, "cs")[0] == CODE64_0
    rig = caller("syscall\n .code32\n mov eax, cs\n int3", entry=SYSRET_32)
    rig.set_gate(3, dpl=3)
    rig.run()
    assert (rig.halted_in, rig["rax"]) == (3, CODE32_3)


@pytest.mark.parametrize("name", ["SCE clear", "in compatibility mode", "in 32-bit mode"])
def test_syscall_is_undefined(name: str) -> None:
    rig = caller("syscall", bits=32 if "32" in name else 64)
    if name == "SCE clear":
        rig["efer"] &= ~1
    if name == "in compatibility mode":
        rig.set_segment("cs", CODE32_3, 0xC0FB)
    rig.run()
    assert rig.halted_in == 6


def test_sysret_is_undefined_without_sce_and_refused_in_ring_3() -> None:
    rig = caller(SYSRET_64, cpl=0)
    rig["efer"] &= ~1
    assert rig.run().halted_in == 6
    assert caller(SYSRET_64).run().halted_in == 13


@pytest.mark.parametrize("bits", [64, 32])
@pytest.mark.parametrize("cpl", [0, 3])
def test_sysenter_goes_to_its_msrs(bits: int, cpl: int) -> None:
    rig = caller("nop\n sysenter", bits=bits, cpl=cpl)
    rig["rflags"] = 0x202
    rig.run()
    assert (rig.is_halted, rig["rip"], rig["rsp"]) == (True, ENTRY + 1, KERNEL_STACK)
    assert rig["rflags"] == 2
    kernel = CODE64_0 if bits == 64 else CODE32_0
    assert segment(rig, "cs") == (kernel, 0, 0xFFFFFFFF, 0xA09B if bits == 64 else 0xC09B)
    assert segment(rig, "ss") == (kernel + 8, 0, 0xFFFFFFFF, 0xC093)


def test_sysexit_returns_to_ring_3() -> None:
    rig = caller("sysenter\n nop", entry=f"mov ecx, {STACK3}\n mov edx, {DATA}\n {SYSEXIT_32}", bits=32)
    rig.engine.wrmsr(SYSENTER_CS, 0x10B)  # user CS is 16 above, with RPL 3
    rig.put(DATA, assemble("mov eax, cs\n mov ebx, ss\n int3", 32, DATA))
    rig.set_gate(3, dpl=3)
    rig.run()
    assert rig.halted_in == 3
    assert (rig["rax"], rig["rbx"]) == (0x11B, 0x123)
    assert rig.word(rig["rsp"] + 12, 4) == STACK3


def test_sysexit_in_64_bit_mode_goes_to_either_mode() -> None:
    for suffix, selector in ((SYSEXIT_64, 0x2B), (SYSEXIT_32, 0x1B)):
        rig = caller("nop\n sysenter", entry=f"mov ecx, {STACK3}\n mov edx, {DATA}\n {suffix}")
        rig.put(DATA, b"\x8c\xc8\xcc")  # MOV EAX, CS; INT3
        rig.set_gate(3, dpl=3)
        rig.run()
        assert rig.halted_in == 3
        assert rig["rax"] == selector


@pytest.mark.parametrize("value", [0, 1, 3])
def test_a_null_sysenter_cs_refuses_both(value: int) -> None:
    rig = caller("sysenter")
    rig.engine.wrmsr(SYSENTER_CS, value)
    assert rig.run().halted_in == 13
    rig = caller(SYSEXIT_32, cpl=0)
    rig.engine.wrmsr(SYSENTER_CS, value)
    assert rig.run().halted_in == 13


def test_sysexit_is_refused_in_ring_3() -> None:
    assert caller(SYSEXIT_32).run().halted_in == 13


def test_swapgs_swaps_and_is_refused_in_ring_3() -> None:
    rig = caller("swapgs\n hlt", cpl=0)
    rig["gs_base"] = 0x1111
    rig.engine.wrmsr(0xC0000102, 0x2222)
    rig.run()
    assert (rig["gs_base"], rig.engine.rdmsr(0xC0000102)) == (0x2222, 0x1111)
    assert caller("swapgs").run().halted_in == 13
