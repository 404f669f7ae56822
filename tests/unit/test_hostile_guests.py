"""What no sane kernel does ends as on hardware, whatever the way of paging, and never in an error of ours."""

import pytest

from tests.unit.hostile_guest import how_it_ends

PAGINGS = ["native", "shadow", "ept"]
SET_UP_PIC = "".join(
    f"mov al, {byte}\n out {port}, al\n"
    for port, byte in ((0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 1), (0x21, 0xFE))
)
ONE_SHOT_PIT = "mov al, 0x30\n out 0x43, al\n mov al, 100\n out 0x40, al\n mov al, 0\n out 0x40, al\n"
WAIT_LONG = "mov ecx, 0x80000\n 1: dec ecx\n jnz 1b\n"
END_WITH_AL = "out 0xf4, al\n 9: jmp 9b\n"
PAGING_OFF = (
    "push 0x30\n lea rax, [rip + 2f]\n push rax\n retfq\n.code32\n 2: mov eax, cr0\n btr eax, 31\n mov cr0, eax\n"
)
PAGING_ON = "mov eax, cr0\n bts eax, 31\n mov cr0, eax\n"


@pytest.mark.parametrize("paging", PAGINGS)
def test_an_interrupt_does_not_wake_a_halt_with_interrupts_off(paging: str) -> None:
    program = SET_UP_PIC + ONE_SHOT_PIT + WAIT_LONG + "cli\n hlt\n mov al, 7\n" + END_WITH_AL
    assert how_it_ends(paging, program) == "the guest shut down: halted with interrupts off"


@pytest.mark.parametrize("paging", PAGINGS)
def test_smep_means_nothing_while_paging_is_off(paging: str) -> None:
    program = PAGING_OFF + "mov eax, cr4\n bts eax, 20\n mov cr4, eax\n mov al, 9\n" + END_WITH_AL
    assert how_it_ends(paging, program) == "the guest wrote to the debug-exit port: value 9"


@pytest.mark.parametrize("paging", PAGINGS)
def test_a_page_table_changed_while_paging_is_off_counts_when_it_is_on_again(paging: str) -> None:
    program = "mov dword ptr [0x9000], 5\n mov eax, [0x1000]\n" + PAGING_OFF
    program += "mov dword ptr [0x4008], 0x9067\n" + PAGING_ON + "mov eax, [0x1000]\n" + END_WITH_AL
    assert how_it_ends(paging, program) == "the guest wrote to the debug-exit port: value 5"
