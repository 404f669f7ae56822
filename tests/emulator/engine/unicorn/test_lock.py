"""LOCK where it cannot be is #UD (SDM 2A, "LOCK"), which Unicorn does not see: it lets most pass or aborts."""

import pytest

from tests.emulator.engine.rig import CODE, Rig, assemble

UD, BLOCKED_BY_NMI = 6, 8
# What has no memory destination, or no form with LOCK. The engine aborts when it translates the last four.
GOOD = ["f00103", "f00fb10b", "f00fc10b", "f08703", "f2f00103", "f00fab03", "f0ff03"]
BAD = ["f001d8", "f00f45c1", "f00faf03", "f00303", "f2f001d8", "f0f30f58c1"]
BAD += ["f00fa3c7", "f00fabc7", "f00fb3c7", "f00fbbc7"]


@pytest.mark.parametrize("bits", [64, 32])
@pytest.mark.parametrize("code", BAD)
def test_a_bad_lock_is_an_undefined_opcode_at_its_instruction(code: str, bits: int) -> None:
    rig = Rig(b"\x90\x90" + bytes.fromhex(code) + b"\xf4", bits=bits).run()
    assert rig.halted_in == UD
    assert rig.word(rig["rsp"], bits // 8) == CODE + 2
    assert rig.shared.instructions == 3  # two NOPs, and the HLT of the handler


@pytest.mark.parametrize("code", GOOD)
def test_a_good_lock_runs(code: str) -> None:
    rig = Rig(
        "nop\n lea rbx, [0x40000]\n .byte " + ", ".join(f"0x{b:02x}" for b in bytes.fromhex(code)) + "\n hlt"
    ).run()
    assert rig.halted_in is None
    assert rig.is_halted


def test_an_instruction_before_a_bad_lock_in_its_block_is_done_first() -> None:
    rig = Rig("mov eax, 7\n push rax\n .byte 0xf0, 0x0f, 0xab, 0xc7").run()
    assert rig.halted_in == UD
    assert rig["rax"] == 7


def test_an_abort_behind_an_iret_that_unblocks_nmis_is_survived() -> None:
    rig = Rig(
        "mov rax, rsp\n push 0x10\n push rax\n pushfq\n push 8\n lea rbx, [rip + 1f]\n push rbx\n iretq\n"
        "1: jmp 2f\n 2: .byte 0xf0, 0x0f, 0xab, 0xc7"
    )
    rig["interruptibility_state"] = BLOCKED_BY_NMI
    rig.run()
    assert (rig.halted_in, rig["interruptibility_state"]) == (UD, 0)


def test_any_number_of_aborts_is_survived() -> None:
    """The handler steps over the instruction; each of its executions makes Unicorn abort."""
    rig = Rig(
        "mov ebx, 200\n movq xmm1, rbx\n 1: .byte 0xf0, 0x0f, 0xa3, 0xc7\n dec ebx\n jnz 1b\n movq r13, xmm1\n hlt"
    )
    rig["cr4"] = 0x620
    rig.set_gate(UD, target=CODE + 0x100)
    rig.put(CODE + 0x100, assemble("inc r12\n add qword ptr [rsp], 4\n iretq"))
    rig.run(100_000)
    assert rig.is_halted
    assert rig["r12"] == rig["r13"] == 200
