"""A guest's loads and stores to a device, under shadow paging and EPT: the instruction is carried out by the VMM."""

import re
from pathlib import Path

import pytest

from tests.emulator.engine.rig import assemble
from tests.vmm.boot.loaders.sample_images import Segment, make_elf, multiboot_header
from tests.vmm.session.tiny_kernels import ENTRY, write_kernel
from vmm.outcome import EndKind
from vmm.session.build import build_guest
from vmm.session.guest import Guest
from vmm.session.plan import plan
from vmm.session.spec import GuestSpec, HostSpec, Paging

APIC = 0xFEE0_0000
SPURIOUS, ICR_HIGH, INITIAL_COUNT = APIC + 0xF0, APIC + 0x310, APIC + 0x380
DATA = ENTRY + 0x800
VMM_MODES: tuple[Paging, ...] = ("shadow", "ept")


def build(folder: Path, code: str, paging: Paging) -> Guest:
    """A guest that is about to run `code` in the identity map of the loader, and then CLI; HLT."""
    kernel = write_kernel(folder, assemble(f"{code}\ncli\n hlt", origin=ENTRY).ljust(0x1000, b"\0"))
    return build_guest(
        plan(HostSpec(paging=paging), GuestSpec(kernel=kernel, memory_bytes=16 << 20)), lambda _byte: None
    )


def run(folder: Path, code: str, paging: Paging, end: str = "the guest halted: with interrupts off") -> Guest:
    """The guest after `code`."""
    guest = build(folder, code, paging)
    while guest.end is None:
        guest.advance(guest.pcpu.clock.cycles + 10_000_000)
    assert str(guest.end) == end
    return guest


def error_of(folder: Path, code: str, paging: Paging) -> str:
    """How the guest ends, which is by an error."""
    guest = build(folder, code, paging)
    guest.advance(10_000_000)
    assert guest.end is not None
    assert guest.end.kind is EndKind.GUEST_ERROR
    return guest.end.detail


# code, RBX afterwards. ESI points at the timer's initial count, which keeps 32 bits; EDI at memory.
FORMS = {
    "mov": ("mov dword ptr [rsi], 0x11223344\n mov ebx, [rsi]", 0x11223344),
    "mov from a register": ("mov eax, 0x1234\n mov [rsi], eax\n mov ebx, [rsi]", 0x1234),
    "mov of 64 bits is two of 32": ("mov rbx, [rsi - 0x350]", 0x0005_0014),
    "movsxd": ("mov dword ptr [rsi], 0x80000000\n movsxd rbx, dword ptr [rsi]", 0xFFFF_FFFF_8000_0000),
    "movzx of a width it lacks": ("movzx ebx, byte ptr [rsi]", 0xFF),
    "or": ("mov dword ptr [rsi], 0xF0\n or dword ptr [rsi], 0x0F\n mov ebx, [rsi]", 0xFF),
    "and": ("mov dword ptr [rsi], 0xFF\n and dword ptr [rsi], 0x3C\n mov ebx, [rsi]", 0x3C),
    "xor": ("mov dword ptr [rsi], 0xFF\n mov eax, 0x0F\n xor [rsi], eax\n mov ebx, [rsi]", 0xF0),
    "and to a register": ("mov dword ptr [rsi], 0xF3\n mov ebx, 0x3F\n and ebx, [rsi]", 0x33),
    "test": ("mov dword ptr [rsi], 0x10\n test dword ptr [rsi], 0x10\n setnz bl", 1),
    "cmp": ("mov dword ptr [rsi], 0x10\n cmp dword ptr [rsi], 0x11\n setb bl", 1),
    "xchg": ("mov dword ptr [rsi], 7\n mov ebx, 9\n xchg [rsi], ebx\n shl ebx, 8\n or ebx, [rsi]", 0x709),
    "cmpxchg": ("mov dword ptr [rsi], 7\n mov eax, 7\n mov ecx, 5\n lock cmpxchg [rsi], ecx\n mov ebx, [rsi]", 5),
    "bts": ("mov dword ptr [rsi], 0\n lock bts dword ptr [rsi], 4\n mov ebx, [rsi]", 16),
    "stosd": ("mov rdi, rsi\n mov eax, 0x55\n stosd\n sub rdi, rsi\n mov ebx, edi\n shl ebx, 8\n or ebx, [rsi]", 0x455),
    "rep stosd": ("mov rdi, rsi\n mov eax, 3\n mov ecx, 4\n rep stosd\n mov ebx, [rsi]\n or ebx, ecx", 3),
    "movsd to memory": ("mov dword ptr [rsi], 0x77\n movsd\n mov ebx, [rdi - 4]", 0x77),
    "movsd from memory": ("mov dword ptr [rdi], 0x78\n xchg rsi, rdi\n movsd\n mov ebx, [rdi - 4]", 0x78),
    "push": ("mov dword ptr [rsi], 0x5\n push [rsi - 0x350]\n pop rbx", 0x0005_0014),
    "with an index": ("mov ecx, 4\n mov dword ptr [rsi + rcx * 4 - 16], 6\n mov ebx, [rsi]", 6),
}


@pytest.mark.parametrize("paging", ["native", *VMM_MODES])
@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_an_access_does_what_it_does_natively(form: str, paging: Paging, tmp_path: Path) -> None:
    code, expected = FORMS[form]
    setup = f"mov rsp, {ENTRY + 0x1000}\n xor ebx, ebx\n mov esi, {INITIAL_COUNT}\n mov edi, {DATA}\n"
    assert run(tmp_path, setup + code, paging).engine.gpr[3] == expected


@pytest.mark.parametrize("paging", VMM_MODES)
def test_what_is_not_emulated_is_a_clear_guest_error(paging: Paging, tmp_path: Path) -> None:
    code = f"mov esi, {SPURIOUS}\n movd mm0, [rsi]"
    words = r"RIP 0x200005 accesses a device at 0xfee000f0 and is not emulated.*0f 6e"
    assert re.search(words, error_of(tmp_path, code, paging))


@pytest.mark.parametrize("paging", VMM_MODES)
def test_an_access_costs_an_exit_and_a_register_of_the_apic_nothing_else(paging: Paging, tmp_path: Path) -> None:
    reason = {"shadow": "EXCEPTION_NMI", "ept": "EPT_VIOLATION"}[paging]
    counts = []
    for accesses in (1, 11):
        code = f"mov esi, {ICR_HIGH}\n" + "mov [rsi], eax\n" * accesses
        counts.append(run(tmp_path, code, paging).exit_statistics()[reason]["count"])
    assert counts[1] - counts[0] == 10


@pytest.mark.parametrize("paging", ["native", *VMM_MODES])
def test_code_in_a_device_is_undefined(paging: Paging, tmp_path: Path) -> None:
    kernel = write_kernel(tmp_path, assemble(f"mov eax, {APIC}\n jmp rax", origin=ENTRY))
    guest = build_guest(
        plan(HostSpec(paging=paging), GuestSpec(kernel=kernel, memory_bytes=16 << 20)), lambda _byte: None
    )
    while guest.end is None:
        guest.advance(guest.pcpu.clock.cycles + 10_000_000)
    assert guest.end.detail == "triple fault"  # #UD, and there is no IDT


@pytest.mark.parametrize("paging", VMM_MODES)
def test_a_delivery_whose_stack_is_a_device_is_a_clear_guest_error(paging: Paging, tmp_path: Path) -> None:
    gate = ENTRY + 0x400
    code = f"""
        mov edi, {gate + 0x60}
        mov dword ptr [rdi], {0x10 << 16 | ENTRY & 0xFFFF}
        mov dword ptr [rdi + 4], {0x8E00 | ENTRY & 0xFFFF0000}
        lidt [rip + idtr]
        mov esp, {APIC + 0x800}
        ud2
        idtr: .word 0xfff
        .quad {gate}
    """
    assert "event's delivery uses memory at 0xfee007" in error_of(tmp_path, code, paging)


@pytest.mark.parametrize("paging", VMM_MODES)
def test_page_tables_in_a_device_never_work(paging: Paging, tmp_path: Path) -> None:
    code = f"mov eax, {APIC}\n mov cr3, rax\n mov rax, [rax]"
    if paging == "ept":
        assert "page tables at 0xfee00000" in error_of(tmp_path, code, paging)
    else:  # ones have reserved bits set: #PF without an IDT
        run(tmp_path, code, paging, "the guest's processor shut down: triple fault")


@pytest.mark.parametrize("paging", ["native", *VMM_MODES])
def test_devices_answer_without_paging_and_so_does_nobody_beside_them(paging: Paging, tmp_path: Path) -> None:
    code = f"""
        mov eax, [{APIC + 0x30:#x}]      # version: 0x50014
        and dword ptr [{INITIAL_COUNT:#x}], 0
        add eax, [{INITIAL_COUNT:#x}]
        add eax, [{APIC + 0x1000:#x}]    # nobody: -1
        shr eax, 12
        out 0xf4, al
        jmp .
    """
    kernel = tmp_path / "kernel.elf"
    text = multiboot_header() + assemble(code, 32, ENTRY + 12)
    kernel.write_bytes(make_elf(Segment(ENTRY, text), bits=32, entry=ENTRY + 12))
    guest = build_guest(
        plan(HostSpec(paging=paging), GuestSpec(kernel=kernel, memory_bytes=16 << 20)), lambda _byte: None
    )
    while guest.end is None:
        guest.advance(guest.pcpu.clock.cycles + 10_000_000)
    assert (guest.end.kind, guest.end.value) == (EndKind.DEBUG_EXIT, 0x50)
