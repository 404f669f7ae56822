"""Tasks that no sane kernel has: they go on for ever or end as on hardware, whatever the way of paging."""

import pytest

from tests.guest.hostile_guest import how_it_ends, make_guest
from tests.guest.test_hostile_guests import END_WITH_AL, PAGING_OFF, PAGINGS

# Protected mode; the TSS in use is OLD, the other one NEW, whose task begins at label 8.
OLD, NEW, FREE_TSS = 0x38, 0x40, 0x8900
GDT, GDTR = 0x6000, 0x7FF0
EIP, EFLAGS, EAX, ESP, CS = 0x20, 0x24, 0x28, 0x38, 0x4C
LIMIT_CYCLES = 300_000


def describe(selector: int, base: int) -> str:
    return (
        f"mov dword ptr [{GDT + selector:#x}], {(base & 0xFFFF) << 16 | 0x67:#x}\n"
        f"mov dword ptr [{GDT + selector + 4:#x}], {base & 0xFF000000 | FREE_TSS | base >> 16 & 0xFF:#x}\n"
    )


def fill(base: int) -> str:
    segments = "".join(f"mov dword ptr [{base + at:#x}], 0x18\n" for at in (0x48, 0x50, 0x54, 0x58, 0x5C))
    return (
        segments
        + f"""
    mov dword ptr [{base + EIP:#x}], offset 8f
    mov dword ptr [{base + EFLAGS:#x}], 2
    mov dword ptr [{base + ESP:#x}], 0x8800
    mov dword ptr [{base + CS:#x}], 0x30
    """
    )


def set_up(old: int, new: int) -> str:
    return (
        PAGING_OFF
        + f"""
    mov ax, 0x18
    mov ss, ax
    mov ds, ax
    mov word ptr [{GDTR:#x}], 0x47
    mov dword ptr [{GDTR + 2:#x}], {GDT:#x}
    lgdt [{GDTR:#x}]
    {describe(OLD, old)} {describe(NEW, new)}
    mov ax, {OLD:#x}
    ltr ax
    """
    )


def jump(selector: int) -> str:
    return f".byte 0xea\n .long 0\n .word {selector:#x}\n"


PAGE_TABLES = """
    mov edi, 0xa000
    mov eax, 7
    1: mov [edi], eax
    add eax, 0x1000
    add edi, 4
    cmp edi, 0xb000
    jne 1b
    mov dword ptr [0xb000], 0xa007
    mov eax, 0xb000
    mov cr3, eax
    mov ecx, 0xc0000080
    rdmsr
    btr eax, 8
    wrmsr
    mov eax, cr4
    btr eax, 5
    mov cr4, eax
    mov eax, cr0
    bts eax, 31
    mov cr0, eax
"""


@pytest.mark.parametrize("paging", PAGINGS)
def test_two_tasks_that_jump_at_each_other_take_time(paging: str) -> None:
    program = set_up(0x9000, 0x9100) + fill(0x9100) + f"7: {jump(NEW)} jmp 7b\n 8: {jump(OLD)} jmp 8b\n"
    guest = make_guest(paging, program)
    guest.advance(LIMIT_CYCLES)
    assert guest.end is None
    assert guest.host.machine.pcpus[0].clock.cycles >= LIMIT_CYCLES


@pytest.mark.parametrize("paging", PAGINGS)
def test_a_task_that_returns_to_itself_takes_time(paging: str) -> None:
    """Its TSS is free then, and has to be made busy for the next time."""
    program = set_up(0x9000, 0x9100) + f"mov word ptr [0x9000], {OLD:#x}\n mov dword ptr [0x9100], 0\n"
    program += f"7: pushf\n bts dword ptr [esp], 14\n popf\n or byte ptr [{GDT + OLD + 5:#x}], 2\n iretd\n jmp 7b\n"
    guest = make_guest(paging, program)
    guest.advance(LIMIT_CYCLES)
    assert guest.end is None
    assert guest.host.machine.pcpus[0].clock.cycles >= LIMIT_CYCLES


@pytest.mark.parametrize("paging", PAGINGS)
def test_a_task_is_saved_in_the_page_table_that_maps_it(paging: str) -> None:
    """EAX of the old task becomes the entry of page 0x30a000."""
    old = 0xAC00
    entry = f"0x{((old + EAX - 0xA000) // 4) << 12:x}"
    program = set_up(old, 0x9100) + fill(0x9100) + PAGE_TABLES
    program += "mov dword ptr [0x9800], 5\n mov dword ptr [0x911c], 0xb000\n"
    program += f"mov ebx, [{entry}]\n mov eax, 0x9067\n {jump(NEW)}\n 8: mov eax, cr3\n mov cr3, eax\n"
    program += f"mov eax, [{entry} + 0x800]\n" + END_WITH_AL
    assert how_it_ends(paging, program) == "the guest wrote to the debug-exit port: value 5"


@pytest.mark.parametrize("paging", PAGINGS)
@pytest.mark.parametrize("base", [0xFEE00000, 0xFEC00000, 0xFFFFFFF0])
def test_a_task_in_a_device_or_over_the_end_shuts_down(paging: str, base: int) -> None:
    program = set_up(0x9000, base) + jump(NEW) + "8: mov al, 5\n" + END_WITH_AL
    assert how_it_ends(paging, program) == "the guest's processor shut down: triple fault"


@pytest.mark.parametrize("paging", PAGINGS)
def test_a_task_saved_in_a_device_goes_on(paging: str) -> None:
    program = set_up(0xFEE00000, 0x9100) + fill(0x9100) + jump(NEW) + "8: mov al, 5\n" + END_WITH_AL
    assert how_it_ends(paging, program) == "the guest wrote to the debug-exit port: value 5"
