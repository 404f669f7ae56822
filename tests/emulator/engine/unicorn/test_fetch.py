"""Fetches across pages: a page that cannot be fetched faults when its instruction is due, not before (SDM 3A 4.7).

The engine translates whole blocks, so it asks for the page behind while the instructions before it have not run yet.
"""

import pytest

from emulator.engine import FLUSH_ALL, LEAVE
from emulator.vmx import controls as c
from emulator.vmx import fields as f
from tests.emulator.engine.rig import CODE, DATA, EPT, HANDLERS, NX, P, Rig, U, W, assemble

END = CODE + 0x1000  # the next page is not there


def at_the_edge(text: str, bytes_before: int | None = None, **changes: object) -> Rig:
    """`text` ends where its page does, or `bytes_before` of it lie before the edge."""
    code = assemble(text)
    rig = Rig(b"", **changes)  # type: ignore[arg-type]
    rig["rip"] = END - (len(code) if bytes_before is None else bytes_before)
    rig.put(rig["rip"], code)
    rig.set_page(END, 0)
    rig["rdi"] = DATA
    return rig


def test_what_lies_before_the_edge_is_done() -> None:
    rig = at_the_edge("mov eax, 7\n mov [rdi], eax\n nop")
    rig.run()
    assert (rig.halted_in, rig.shared.cr2) == (14, END)
    assert rig.word(rig["rsp"] + 8) == END
    assert rig.word(DATA, 4) == 7
    assert rig.shared.instructions == 3 + 1


@pytest.mark.parametrize("bytes_before", range(1, 5))
def test_an_instruction_across_the_edge_faults_at_itself_with_the_address_behind(bytes_before: int) -> None:
    rig = at_the_edge("nop\n mov eax, 0x11223344", 1 + bytes_before)
    rig.run()
    assert (rig.halted_in, rig.shared.cr2) == (14, END)
    assert rig.word(rig["rsp"] + 8) == END - bytes_before
    assert rig.shared.instructions == 1 + 1


def test_a_fault_before_the_edge_comes_first() -> None:
    rig = at_the_edge("nop\n xor ecx, ecx\n div ecx\n nop")
    rig.run()
    assert rig.halted_in == 0
    assert rig.word(rig["rsp"]) == END - 3


def test_an_exit_before_the_edge_comes_first_and_its_state_can_be_entered() -> None:
    rig = at_the_edge("nop\n cpuid\n nop", non_root=True)
    rig.vmcs.write(f.EXCEPTION_BITMAP, 1 << 14)
    rig.on_exit = lambda seen: rig.step_over(seen) if seen.reason == 10 else LEAVE
    rig.run()
    assert [(seen.reason, seen.rip) for seen in rig.exits] == [(10, END - 3), (0, END)]
    assert rig["interruptibility_state"] == 0


def test_a_page_that_the_handler_maps_is_run() -> None:
    rig = at_the_edge("inc ebx\n inc ebx\n inc ebx\n hlt", 3)
    handler = HANDLERS + 0x2000
    pte = 0x4000 + (END >> 12) * 8
    rig.set_gate(14, target=handler)
    rig.put(handler, assemble(f"mov qword ptr [{pte}], {END | P | W}\n add rsp, 8\n iretq", 64, handler))
    rig.run()
    assert (rig.is_halted, rig["rbx"]) == (True, 3)
    assert rig.shared.instructions == 4 + 3


def test_an_interrupt_may_come_before_the_edge_as_anywhere() -> None:
    rig = at_the_edge("nop\n sti\n nop\n nop\n nop")
    rig.platform.vectors = [0x40]
    rig.shared.interrupt_pending = 1
    rig.run()
    assert rig.halted_in == 0x40
    assert rig.word(rig["rsp"]) == END - 2


def test_a_loop_across_the_edge_faults_in_the_round_in_which_the_page_is_gone() -> None:
    rig = at_the_edge("mov ecx, 3\n 1: in al, 0x10\n nop\n nop\n dec ecx\n jnz 1b\n hlt", 9)
    rig.set_page(END, END | P | W)

    def take_away(port: int) -> None:
        if len(rig.platform.port_reads) == 2:
            rig.set_page(END, 0)
            rig.shared.flush_tlb = FLUSH_ALL

    rig.platform.on_port = take_away
    rig.run()
    assert (rig.halted_in, rig["rcx"], rig.shared.cr2) == (14, 2, END)
    assert rig.word(rig["rsp"] + 8) == END


@pytest.mark.parametrize("entry", [0, END | P | W | NX, 1 << 45 | P | W])
def test_whatever_keeps_the_page_from_being_fetched(entry: int) -> None:
    rig = at_the_edge("mov eax, 7\n nop")
    rig.set_page(END, entry)
    rig.run()
    assert rig.halted_in == 14
    assert rig.word(rig["rsp"] + 8) == END
    assert rig["rax"] == 7


def test_a_users_step_into_the_supervisors_page() -> None:
    rig = at_the_edge("mov eax, 7\n nop", cpl=3)
    rig.set_page(END, END | P | W)
    rig.run()
    assert rig.halted_in == 14
    assert rig.words(rig["rsp"], 2) == [0x15, END]
    assert U == 4


def test_an_ept_violation_of_the_page_behind_comes_when_it_is_due() -> None:
    rig = at_the_edge("mov [rdi], edi\n nop\n nop", non_root=True)
    rig.set_page(END, END | P | W)
    for i in range(3):
        rig.put_word(EPT + 0x1000 * i, EPT + 0x1000 * (i + 1) | 7)
    for page in range(512):
        rig.put_word(EPT + 0x3000 + page * 8, page << 12 | 7 | 6 << 3)
    rig.put_word(EPT + 0x3000 + (END >> 12) * 8, 0)
    rig.vmcs.write(f.EPT_POINTER, EPT | 6 | 3 << 3)
    rig.set_control(f.SECONDARY_PROCESSOR_BASED_CONTROLS, c.PROC2_ENABLE_EPT)
    rig.run()
    (seen,) = rig.exits
    assert (seen.reason, seen.rip, seen.gpa, seen.linear) == (48, END, END, END)
    assert seen.qualification == 4 | 0x180
    assert rig.word(DATA, 4) == DATA
    assert rig["interruptibility_state"] == 0


def test_slices_change_nothing_at_the_edge() -> None:
    def final(step: int) -> tuple[int, ...]:
        rig = at_the_edge("nop\n mov eax, 7\n mov [rdi], eax\n nop\n cpuid\n nop\n nop")
        while not rig.is_halted:
            rig.run(step)
        return int(rig.shared.clock_cycles), int(rig.shared.instructions), rig["rip"], rig.word(rig["rsp"] + 8)

    assert {final(step) for step in range(1, 12)} == {final(1000)}
