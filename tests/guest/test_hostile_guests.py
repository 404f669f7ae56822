"""What no sane kernel does ends as on hardware, whatever the way of paging, and never in an error of ours."""

import pytest

from tests.guest.hostile_guest import how_it_ends

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
    assert how_it_ends(paging, program) == "the guest halted: with interrupts off"


@pytest.mark.parametrize("paging", PAGINGS)
def test_smep_means_nothing_while_paging_is_off(paging: str) -> None:
    program = PAGING_OFF + "mov eax, cr4\n bts eax, 20\n mov cr4, eax\n mov al, 9\n" + END_WITH_AL
    assert how_it_ends(paging, program) == "the guest wrote to the debug-exit port: value 9"


@pytest.mark.parametrize("paging", PAGINGS)
def test_a_page_table_changed_while_paging_is_off_counts_when_it_is_on_again(paging: str) -> None:
    program = "mov dword ptr [0x9000], 5\n mov eax, [0x1000]\n" + PAGING_OFF
    program += "mov dword ptr [0x4008], 0x9067\n" + PAGING_ON + "mov eax, [0x1000]\n" + END_WITH_AL
    assert how_it_ends(paging, program) == "the guest wrote to the debug-exit port: value 5"


@pytest.mark.parametrize("paging", PAGINGS)
def test_a_string_input_wraps_with_its_32_bit_pointer(paging: str) -> None:
    """The last byte of the 4 GiB is mapped to 0xC000; the next one is at 0."""
    program = "mov qword ptr [0x2018], 0xA067\n mov qword ptr [0xAff8], 0xB067\n mov qword ptr [0xBff8], 0xC067\n"
    program += "mov word ptr [0], 0x0101\n mov edi, 0xffffffff\n mov ecx, 2\n mov dx, 0x1234\n addr32 rep insb\n"
    program += "cmp ecx, 0\n jne 9f\n cmp edi, 1\n jne 9f\n mov ax, [0]\n sub al, 0xff\n add al, ah\n" + END_WITH_AL
    assert how_it_ends(paging, program) == "the guest wrote to the debug-exit port: value 1"


@pytest.mark.parametrize("paging", PAGINGS)
def test_an_entry_with_bit_63_is_malformed_again_once_nxe_is_off(paging: str) -> None:
    program = "mov ecx, 0xc0000080\n xor edx, edx\n mov eax, 0xd00\n wrmsr\n bts qword ptr [0x4048], 63\n"
    program += "mov rbx, [0x9000]\n mov eax, 0x500\n wrmsr\n mov rax, cr3\n mov cr3, rax\n mov rbx, [0x9000]\n"
    assert how_it_ends(paging, program + "mov al, 7\n" + END_WITH_AL) == "the guest's processor shut down: triple fault"


@pytest.mark.parametrize("paging", PAGINGS)
def test_a_page_can_be_a_table_and_then_data_any_number_of_times(paging: str) -> None:
    """Page 0x20000 is the page table of 0x200000 and the destination of an instruction nobody emulates, by turns."""
    program = "mov eax, 0x620\n mov cr4, rax\n mov r12d, 9\n"
    program += "7: mov qword ptr [0x20000], 0x9067\n mov qword ptr [0x3008], 0x20067\n mov rax, [0x200000]\n"
    program += "mov qword ptr [0x3008], 0\n fxsave [0x20000]\n dec r12d\n jnz 7b\n mov al, 3\n" + END_WITH_AL
    assert how_it_ends(paging, program) == "the guest wrote to the debug-exit port: value 3"


@pytest.mark.parametrize("paging", PAGINGS)
@pytest.mark.parametrize("store", ["fxsave [0x4c00]", "movdqu [0x3ff8], xmm0"])
def test_a_store_to_its_own_page_tables_that_nobody_emulates_is_done(paging: str, store: str) -> None:
    """The tables are needed to reach themselves; the second store crosses from one to another. Then one is changed."""
    program = f"mov eax, 0x620\n mov cr4, rax\n pxor xmm0, xmm0\n mov dword ptr [0x9000], 5\n {store}\n"
    program += "mov qword ptr [0x4d00], 0x9067\n mov rax, cr3\n mov cr3, rax\n mov eax, [0x1a0000]\n"
    assert how_it_ends(paging, program + END_WITH_AL) == "the guest wrote to the debug-exit port: value 5"


@pytest.mark.parametrize("paging", PAGINGS)
def test_a_trap_is_delivered_onto_a_stack_in_the_page_table_that_maps_it(paging: str) -> None:
    program = "lea rax, [rip + 8f]\n mov [0x7010], ax\n mov word ptr [0x7012], 0x10\n mov word ptr [0x7014], 0x8e00\n"
    program += "shr rax, 16\n mov [0x7016], ax\n mov word ptr [0x7ff0], 0xfff\n mov qword ptr [0x7ff2], 0x7000\n"
    program += (
        "lidt [0x7ff0]\n pushfq\n bts qword ptr [rsp], 8\n popfq\n mov rsp, 0x4e00\n nop\n 8: mov rax, [rsp + 8]\n"
    )
    assert how_it_ends(paging, program + END_WITH_AL) == "the guest wrote to the debug-exit port: value 16"


LONG_MODE_OFF = PAGING_OFF + "mov ecx, 0xc0000080\n rdmsr\n btr eax, 8\n wrmsr\n"


@pytest.mark.parametrize("paging", PAGINGS)
@pytest.mark.parametrize(
    ("pdpte", "ending"), [(0x3001, "value 9"), (0x3003, "triple fault"), (1 << 40 | 0x3001, "triple")]
)
@pytest.mark.parametrize("register", ["cr3", "cr0"])
def test_a_malformed_pdpte_makes_mov_to_a_control_register_fail(
    paging: str, register: str, pdpte: int, ending: str
) -> None:
    """32-bit code turns PAE paging on with the directory of the 64-bit tables."""
    program = f"mov rax, {pdpte}\n mov [0xa000], rax\n mov eax, 0x3001\n mov [0x9000], rax\n" + LONG_MODE_OFF
    program += f"mov eax, {0xA000 if register == 'cr0' else 0x9000}\n mov cr3, eax\n" + PAGING_ON
    program += "mov eax, 0xa000\n mov cr3, eax\n mov al, 9\n"
    assert ending in how_it_ends(paging, program + END_WITH_AL)


@pytest.mark.parametrize("paging", PAGINGS)
@pytest.mark.parametrize(("is_tried", "ending"), [(True, "triple fault"), (False, "value 9")])
def test_pae_cannot_be_turned_on_where_the_directory_is_no_pdpt(paging: str, is_tried: bool, ending: str) -> None:
    """Its first entry maps 4 MiB; as a PDPTE whose reserved bits are ignored it leads to a directory that works."""
    program = "mov qword ptr [0], 0xe7\n mov qword ptr [0xa000], 0xe7\n" + LONG_MODE_OFF
    program += "mov eax, 0x10\n mov cr4, eax\n mov eax, 0xa000\n mov cr3, eax\n" + PAGING_ON
    program += "mov eax, 0x30\n mov cr4, eax\n" if is_tried else ""
    assert ending in how_it_ends(paging, program + "mov al, 9\n" + END_WITH_AL)


@pytest.mark.parametrize("paging", PAGINGS)
def test_a_trap_is_delivered_onto_a_stack_in_a_page_table(paging: str) -> None:
    """The instruction at RIP is itself a store, which must not be taken for the one that met the table."""
    program = "lea rax, [rip + 8f]\n mov [0x7010], ax\n mov word ptr [0x7012], 0x10\n mov word ptr [0x7014], 0x8e00\n"
    program += "shr rax, 16\n mov [0x7016], ax\n mov word ptr [0x7ff0], 0xfff\n mov qword ptr [0x7ff2], 0x7000\n"
    program += "lidt [0x7ff0]\n mov qword ptr [0x3008], 0x20067\n mov qword ptr [0x20000], 0x9067\n"
    program += "mov rax, [0x200000]\n mov byte ptr [0xb000], 5\n pushfq\n bts qword ptr [rsp], 8\n popfq\n"
    program += "mov rsp, 0x20800\n mov byte ptr [0xb000], 7\n 8: mov al, [0xb000]\n" + END_WITH_AL
    assert how_it_ends(paging, program) == "the guest wrote to the debug-exit port: value 5"


@pytest.mark.parametrize("paging", PAGINGS)
def test_real_mode_without_a_far_jump_runs_on_with_what_the_segments_hold(paging: str) -> None:
    """INT 0x21 leads to its handler in segment 0xFFFF, still of 32 bits."""
    program = "lea rax, [rip + 8f]\n sub rax, 0xffff0\n mov [0x84], ax\n mov word ptr [0x86], 0xffff\n"
    program += "lidt [rip + 7f]\n" + PAGING_OFF + "and al, 0xfe\n mov cr0, eax\n int 0x21\n"
    program += "7: .word 0x3ff\n .quad 0\n 8: mov al, 33\n" + END_WITH_AL
    assert how_it_ends(paging, program) == "the guest wrote to the debug-exit port: value 33"


@pytest.mark.parametrize("instruction", ["cpuid", "hlt", "out 0x80, al", "mov qword ptr [0x4048], 0x9067"])
@pytest.mark.parametrize("paging", PAGINGS)
def test_single_stepping_stops_after_what_the_vmm_does(paging: str, instruction: str) -> None:
    """The second #DB comes right after the instruction, not one later; the handler writes the distance."""
    program = "lea rax, [rip + 8f]\n mov [0x7010], ax\n mov word ptr [0x7012], 0x10\n mov word ptr [0x7014], 0x8e00\n"
    program += "shr rax, 16\n mov [0x7016], ax\n mov word ptr [0x7ff0], 0xfff\n mov qword ptr [0x7ff2], 0x7000\n"
    program += "lidt [0x7ff0]\n mov rax, [0x1000]\n pushfq\n bts qword ptr [rsp], 8\n popfq\n nop\n"
    program += (
        f"{instruction}\n 7: nop\n nop\n 8: inc r14\n cmp r14, 1\n je 5f\n mov rax, [rsp]\n lea rbx, [rip + 7b]\n"
    )
    program += "sub rax, rbx\n mov rcx, dr6\n bt rcx, 14\n adc al, 3\n" + END_WITH_AL + "5: iretq\n"
    assert how_it_ends(paging, program) == "the guest wrote to the debug-exit port: value 4"


@pytest.mark.parametrize("paging", PAGINGS)
@pytest.mark.parametrize("string", ["insb", "outsb"])
def test_a_string_of_ports_stops_at_the_end_of_its_segment(paging: str, string: str) -> None:
    """Of eight bytes four lie within the limit; then #GP, whose handler writes how many were left."""
    program = "mov rax, 0x0040930000009fff\n mov [0x6010], rax\n lea rax, [rip + 8f]\n mov [0x7068], ax\n"
    program += "mov word ptr [0x706a], 0x30\n mov dword ptr [0x706c], 0x00108e00\n mov word ptr [0x7fc0], 0xfff\n"
    program += "mov qword ptr [0x7fc2], 0x7000\n" + LONG_MODE_OFF + "mov eax, cr4\n btr eax, 5\n mov cr4, eax\n"
    program += "lidt [0x7fc0]\n mov ax, 0x10\n mov ds, ax\n mov es, ax\n mov al, 0x18\n mov ss, ax\n"
    program += f"mov edi, 0x9ffc\n mov esi, edi\n mov ecx, 8\n mov edx, 0x1234\n cld\n rep {string}\n"
    program += "mov al, 99\n out 0xf4, al\n 8: mov eax, ecx\n" + END_WITH_AL
    assert how_it_ends(paging, program) == "the guest wrote to the debug-exit port: value 4"


@pytest.mark.parametrize("paging", PAGINGS)
def test_a_string_of_ports_stops_at_the_end_of_canonical_addresses(paging: str) -> None:
    program = "lea rax, [rip + 8f]\n mov [0x70d0], ax\n mov word ptr [0x70d2], 0x10\n mov word ptr [0x70d4], 0x8e00\n"
    program += "shr rax, 16\n mov [0x70d6], ax\n mov word ptr [0x7ff0], 0xfff\n mov qword ptr [0x7ff2], 0x7000\n"
    program += "lidt [0x7ff0]\n mov qword ptr [0x17f8], 0x9067\n mov qword ptr [0x9ff8], 0xa067\n"
    program += "mov qword ptr [0xaff8], 0xb067\n mov qword ptr [0xbff8], 0xc067\n mov rax, cr3\n mov cr3, rax\n"
    program += "mov rdi, 0x7ffffffffffc\n mov ecx, 8\n mov edx, 0x1234\n rep insb\n mov al, 99\n out 0xf4, al\n"
    assert how_it_ends(paging, program + "8: mov eax, ecx\n" + END_WITH_AL).endswith("value 4")
