"""A kernel finds the processor in the mode its boot protocol says, natively and under both ways of paging."""

from pathlib import Path

import pytest

from tests.emulator.engine.rig import assemble
from tests.guest.running import MODES, run_plan
from tests.vmm.boot.loaders.sample_images import Segment, make_bzimage, make_elf, multiboot_header, pvh_note
from vmm.session.plan import plan
from vmm.session.spec import GuestSpec, HostSpec, Paging

BASE = 0x200000
PAGINGS = pytest.mark.parametrize("paging", MODES)


def end_of(folder: Path, kernel: bytes, paging: Paging, *, suffix: str = "") -> str:
    (folder / "k").write_bytes(kernel)
    boot_plan = plan(HostSpec(paging=paging), GuestSpec(kernel=Path(f"{folder}/k{suffix}"), memory_bytes=16 << 20))
    return str(run_plan(boot_plan, max_cycles=10_000_000).end)


def value(number: int) -> str:
    return f"the guest wrote to the debug-exit port: value {number}"


@PAGINGS
def test_multiboot_has_its_magic_in_eax_and_the_kernel_s_name_in_the_command_line(
    tmp_path: Path, paging: Paging
) -> None:
    code = "cmp eax, 0x2badb002\n jne 1f\n mov ecx, [ebx + 16]\n mov al, [ecx]\n 1: out 0xf4, al\n 2: jmp 2b"
    text = multiboot_header() + assemble(code, 32, BASE + 12)
    assert end_of(tmp_path, make_elf(Segment(BASE, text), bits=32, entry=BASE + 12), paging) == value(ord("k"))


@PAGINGS
def test_pvh_has_its_start_information_in_ebx(tmp_path: Path, paging: Paging) -> None:
    code = "mov eax, [ebx]\n shr eax, 24\n out 0xf4, al\n 2: jmp 2b"
    kernel = make_elf(Segment(BASE, assemble(code, 32, BASE)), pvh_note(BASE), bits=32)
    assert end_of(tmp_path, kernel, paging) == value(0x33)


@PAGINGS
def test_a_32_bit_bzimage_has_boot_params_in_esi_and_flat_segments(tmp_path: Path, paging: Paging) -> None:
    code = "mov eax, cr0\n bt eax, 31\n jc 1f\n mov ax, cs\n mov bx, ds\n shl ebx, 8\n or eax, ebx\n"
    code += "cmp ax, 0x1810\n jne 1f\n"
    code += "mov eax, [esi + 0x202]\n 1: out 0xf4, al\n 2: jmp 2b"
    payload = assemble(code, 32, 0x400000).ljust(0x800, b"\x90")
    assert end_of(tmp_path, make_bzimage(payload, xloadflags=0), paging) == value(ord("H"))


@PAGINGS
def test_a_flat_binary_in_real_mode_runs_at_its_segment_and_may_call_interrupts(tmp_path: Path, paging: Paging) -> None:
    code = "mov sp, 0x7000\n int 0x10\n mov ax, cs\n mov bx, 0x1234\n mov es, bx\n mov byte ptr es:[5], dl\n"
    code += "xor bx, bx\n mov es, bx\n add al, es:[0x2345]\n"  # nothing there: 0x1234 * 16 + 5 = 0x12345
    code += "mov bx, 0x1230\n mov es, bx\n add al, es:[0x45]\n out 0xf4, al\n 2: jmp 2b"
    assert end_of(tmp_path, assemble(code, 16, 0x7C00), paging, suffix="@0x7c00") == value(0x80)
    assert end_of(tmp_path, assemble(code, 16, 0), paging, suffix="@0x20010") == value(0x81)


@PAGINGS
def test_a_flat_binary_in_real_mode_can_go_to_protected_mode_and_back(tmp_path: Path, paging: Paging) -> None:
    code = """
    xor eax, eax
    mov sp, 0x7000
    lgdt cs:[gdtr]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    .byte 0xea; .word protected, 0x08
    .code32
    protected: mov ecx, 0x10
    mov ds, ecx
    mov byte ptr [0x300000], 42
    .byte 0xea; .long narrow; .word 0x18
    .code16
    narrow: mov ecx, 0x20
    mov ds, cx
    mov eax, cr0
    and al, 0xfe
    mov cr0, eax
    .byte 0xea; .word real, 0
    real: mov ax, 0xffff
    mov ds, ax
    mov ax, 0x123
    mov ss, ax
    pushf
    pop ax
    sti
    mov edi, 0x300000
    xor ax, ax
    mov es, ax
    mov ax, 7
    int 0x21
    out 0xf4, al
    1: jmp 1b
    .balign 8
    gdt: .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00009b000000ffff, 0x000093000000ffff
    gdtr: .word gdtr - gdt - 1; .long gdt
    """
    assert end_of(tmp_path, assemble(code, 16, 0x7C00), paging, suffix="@0x7c00") == value(7)


@PAGINGS
@pytest.mark.parametrize(("bits", "origin"), [(32, 0x100000), (64, 0x100000), (32, 0x20000)])
def test_a_flat_binary_runs_in_the_mode_it_asks_for(tmp_path: Path, paging: Paging, bits: int, origin: int) -> None:
    code = "mov eax, 0\n .byte 0x48, 0xff, 0xc0\n out 0xf4, al\n 2: jmp 2b"  # INC RAX, or DEC EAX and INC EAX
    expected = 1 if bits == 64 else 0
    assert end_of(tmp_path, assemble(code, bits, origin), paging, suffix=f"@{origin:#x}:{bits}") == value(expected)


def test_four_bytes_to_the_debug_exit_are_one_value(tmp_path: Path) -> None:
    code = assemble("mov eax, 0x105\n out 0xf4, eax\n 2: jmp 2b", 32, 0x100000)
    assert end_of(tmp_path, code, "native", suffix="@0x100000") == value(0x105)
