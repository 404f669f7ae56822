"""A guest of a few instructions in 64-bit mode on flat page tables, in any way of paging.

0x1000 PML4 | 0x2000 PDPT | 0x3000 PD | 0x4000 PT: identity, 4 KiB pages below 2 MiB, user and writable
0x6000 GDT (0x10 code of 64 bits, 0x18 data, 0x30 code of 32 bits) | 0x8000 top of the stack | 0x100000 the program
"""

from tests.emulator.engine.rig import assemble
from tests.guest.bare_guest import bare_guest
from vmm.boot.loaders import BootImage
from vmm.session.guest import Guest

MEMORY_BYTES = 4 << 20
PROGRAM = 0x100000
GDT = (0, 0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF, 0x00008B0000000067, 0, 0x00CF9B000000FFFF)
LIMIT_CYCLES = 30_000_000


def entries(*words: int) -> bytes:
    """Descriptors or page-table entries, as memory has them."""
    return b"".join(word.to_bytes(8, "little") for word in words)


def idt_to_7(at: str, gate: int) -> str:
    """Code that makes an IDT at 0x20000, all of whose vectors lead to the label 7 below it.

    `at`: the register that it walks with; `gate`: type and IST of the gates.
    """
    return f"""
    lea rdi, [rip + 7f]
    mov ecx, 256
    mov e{at[1:]}, 0x20000
    6: mov word ptr [{at}], di
    mov word ptr [{at} + 2], 0x10
    mov word ptr [{at} + 4], {gate:#x}
    mov rax, rdi
    shr rax, 16
    mov word ptr [{at} + 6], ax
    mov qword ptr [{at} + 8], 0
    add {at}, 16
    dec ecx
    jnz 6b
    mov word ptr [0x7ff0], 0xfff
    mov qword ptr [0x7ff2], 0x20000
    lidt [0x7ff0]
"""


def make_image(program: str) -> BootImage:
    """An image that runs `program`."""
    return BootImage(
        segments=(
            (0x1000, entries(0x2067)),
            (0x2000, entries(0x3067)),
            (0x3000, entries(0x4067)),
            (0x4000, entries(*(page << 12 | 0x67 for page in range(512)))),
            (0x6000, entries(*GDT)),
            (PROGRAM, assemble(f"mov esp, 0x8000\n{program}", 64, PROGRAM)),
        ),
        entry_gpa=PROGRAM,
        registers={},
        cr3_gpa=0x1000,
        gdt_gpa=0x6000,
        gdt_limit=8 * len(GDT) - 1,
        description="a hostile guest",
    )


def make_guest(paging: str, program: str, *, cpus: int = 1) -> Guest:
    """A guest about to run `program` on its first processor, under the VMM or natively."""
    return bare_guest(make_image(program), paging, memory_bytes=MEMORY_BYTES, cpus=cpus)


def how_it_ends(paging: str, program: str) -> str:
    """Run `program`; how the guest ended."""
    guest = make_guest(paging, program)
    guest.advance(LIMIT_CYCLES)
    return str(guest.end)
