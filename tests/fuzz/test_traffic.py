"""A guest that does anything at all to its machine ends in a result, a guest error or its limit: never in an error of
ours, and never beyond the limit.

Ports, device registers, MSRs, hypercalls, control and debug registers, descriptor tables, page tables, halts, software
interrupts, and bytes that may be any instruction, in random order; natively and under the VMM in both ways of paging.
SIDECORE_FUZZ_SEED is the first seed, SIDECORE_FUZZ_GUESTS how many guests each way of paging gets.
"""

import os
import random
from collections.abc import Callable

import pytest

from devices.interrupts.lapic_registers import DEFAULT_BASE
from tests.fuzz.instruction_cases import random_instruction
from tests.guest.hostile_guest import idt_to_7, make_guest

FIRST_SEED = int(os.environ.get("SIDECORE_FUZZ_SEED", "0"))
GUESTS = int(os.environ.get("SIDECORE_FUZZ_GUESTS", "60"))
LIMIT_CYCLES, SLACK_CYCLES = 3_000_000, 4_000_000  # a string of 4,096 port accesses is one exit
OPERATIONS = 60
PORTS: tuple[int, ...] = (
    0x20,
    0x21,
    0x40,
    0x42,
    0x43,
    0x60,
    0x61,
    0x64,
    0x70,
    0x71,
    0x80,
    0x92,
    0xA0,
    0xA1,
    0xCF8,
    0xCFC,
    0xCF9,
)
PORTS += (0x3F8, 0x3F9, 0x3FA, 0x3FB, 0x3FD, 0x510, 0x511, 0x604, 0x608, 0x4D0)
MSRS: tuple[int, ...] = (
    0x10,
    0x1B,
    0x3A,
    0x8B,
    0xFE,
    0x174,
    0x175,
    0x176,
    0x1A0,
    0x277,
    0x2FF,
    0x480,
    0x6E0,
    0x800,
    0x80B,
)
MSRS += (*range(0xC0000080, 0xC0000085), *range(0xC0000100, 0xC0000104))
APIC_REGISTERS = (0x20, 0x80, 0xB0, 0xD0, 0xE0, 0xF0, 0x280, 0x300, 0x310, 0x320, 0x350, 0x360, 0x380, 0x390, 0x3E0)
IO_APIC, FRAME_ABOVE_RAM = 0xFEC00000, 0x8000_0000


def _number(random_: random.Random, bits: int = 32) -> int:
    return random_.choice((0, 1, 0xFF, 0x80, (1 << bits) - 1, random_.getrandbits(8), random_.getrandbits(bits)))


def _port(random_: random.Random) -> str:
    port = random_.choice(PORTS) if random_.random() < 0.9 else random_.getrandbits(16)
    what = random_.choice(("out dx, al", "out dx, ax", "out dx, eax", "in al, dx", "in ax, dx", "in eax, dx"))
    text = f"mov dx, {port}\n mov eax, {_number(random_)}\n"
    if random_.random() < 0.1:
        text += (
            f"mov rdi, {0xA000 + random_.randrange(0x1FF0)}\n mov rsi, rdi\n mov ecx, {random_.choice((1, 9, 5000))}\n"
        )
        return text + random_.choice(("rep insb", "rep outsb", "rep insd", "std\n rep outsw\n cld"))
    return text + what


def _msr(random_: random.Random) -> str:
    index = random_.choice(MSRS) if random_.random() < 0.9 else random_.getrandbits(32)
    text = f"mov ecx, {index}\n mov eax, {_number(random_)}\n mov edx, {random_.choice((0, 0, _number(random_)))}\n"
    return text + random_.choice(("rdmsr", "wrmsr"))


def _hypercall(random_: random.Random) -> str:
    arguments = (("rax", 4), ("rdi", 64), ("rsi", 64), ("rdx", 64))
    return "".join(f"mov {name}, {_number(random_, bits)}\n" for name, bits in arguments) + "vmcall"


def _device(random_: random.Random) -> str:
    """A load or store in the APIC, the I/O APIC, or where nobody answers; 0x3000 is the page directory."""
    base = random_.choice((DEFAULT_BASE, DEFAULT_BASE, IO_APIC, FRAME_ABOVE_RAM))
    offset = random_.choice(APIC_REGISTERS) if base == DEFAULT_BASE else random_.choice((0, 0x10, 0x13, 0x40))
    text = f"mov rax, {base & ~0x1FFFFF | 0xE7}\n mov [0x3030], rax\n mov rax, cr3\n mov cr3, rax\n"
    text += f"mov rbx, {0xC00000 + (base & 0x1FFFFF) + offset}\n mov eax, {_number(random_)}\n"
    access = (
        "mov [rbx], eax",
        "mov eax, [rbx]",
        "mov [rbx], al",
        "mov rax, [rbx]",
        "xchg [rbx], eax",
        "add [rbx], eax",
    )
    return text + random_.choice((*access, "inc dword ptr [rbx + 2]", "movdqu xmm0, [rbx]", "rep stosb"))


def _control(random_: random.Random) -> str:
    register = random_.choice(("cr0", "cr2", "cr3", "cr4", "cr8", "dr0", "dr6", "dr7"))
    bit = random_.randrange(32)
    if random_.random() < 0.3:
        return f"mov rax, {_number(random_, 40)}\n mov {register}, rax"
    return f"mov rax, {register}\n btc rax, {bit}\n mov {register}, rax"


def _table(random_: random.Random) -> str:
    """A store into a page table, the GDT or the stack's page; sometimes of a random entry."""
    slot = random_.choice((0, 1, 4, 5, 8, random_.randrange(512), random_.randrange(512)))
    at = random_.choice((0x1000, 0x2000, 0x3000, 0x4000, 0x6000)) + 8 * slot
    entry = random_.choice((random_.randrange(0x400) << 12 | 0x67, random_.getrandbits(63), 0))
    instruction = random_.choice(
        ("mov [rbx], rax", "mov [rbx], eax", "xchg [rbx], rax", "or [rbx], al", "fxsave [rbx]")
    )
    return f"mov rbx, {at}\n mov rax, {entry}\n {instruction}\n invlpg [{random_.randrange(0x400) << 12}]"


def _system(random_: random.Random) -> str:
    return random_.choice((
        "cpuid", "sti", "cli", "sti\n hlt", f"int {random_.randrange(256)}", "clts", "wbinvd", "invd", "pause", "rdtsc",
        "smsw ax\n lmsw ax", "swapgs", "syscall", "ud2", "int3", "sgdt [0xa000]\n lgdt [0xa000]",
        "monitor", "mwait", "rdpmc", "xsetbv", "pushfq\n bts qword ptr [rsp], 8\n popfq", "mov ax, 0x18\n mov ss, ax",
        f"mov rsp, {random_.choice((0x4800, 0x3800, 0x8000, 0x2010, 0xdead0000))}\n push rax\n pop rax", "iretq",
    ))  # fmt: skip


def _bytes(random_: random.Random) -> str:
    code = b"".join(random_instruction(random_, 64, vector=False)[:6] for _ in range(3))
    return ".byte " + ", ".join(str(byte) for byte in code)


MAKERS: tuple[Callable[[random.Random], str], ...] = (
    *(_port, _msr, _hypercall, _device, _device, _system) * 3, _control, _table, _bytes,
)  # fmt: skip
# Every vector leads, on a stack of its own (IST 1), to code that goes on with the next operation.
GO_ON = """
    mov qword ptr [0x24], 0x7e00
    jmp 8f
    7: inc r15d
    cmp r15d, 200
    ja 9f
    mov rsp, 0x7e00
    jmp r14
    9: mov al, 1
    out 0xf4, al
    8: """
IST_1, NO_IST = 0x8E01, 0x8E00  # interrupt gates


def program_of(seed: int) -> str:
    """The guest of a seed: its operations, each of which an exception or interrupt leaves for the next."""
    random_ = random.Random(seed)
    text = idt_to_7("rbx", IST_1) + GO_ON
    for _ in range(OPERATIONS):
        operation = random_.choice(MAKERS)(random_)
        text += f"lea r14, [rip + 5f]\n {operation}\n 5:\n"
    return text + "mov al, 7\n out 0xf4, al\n 4: jmp 4b\n"


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(4))
@pytest.mark.parametrize("paging", ["native", "shadow", "ept"])
def test_a_guest_ends_in_a_result_a_guest_error_or_its_limit(paging: str, shard: int) -> None:
    per_shard = max(1, GUESTS // 4)
    for seed in range(FIRST_SEED + shard * per_shard, FIRST_SEED + (shard + 1) * per_shard):
        print(f"SIDECORE_FUZZ_SEED={seed} {paging}")
        guest = make_guest(paging, program_of(seed))
        guest.advance(LIMIT_CYCLES)
        assert "\n" not in str(guest.end)
        assert 0 < guest.pcpu.clock.cycles <= LIMIT_CYCLES + SLACK_CYCLES


PLACES = ((0x1000, 0x5000), (0x1000, 0x5000), (0, 0x9000), (0, 0x400000))  # the page tables; what is low; all there is


def random_code_on_random_stacks(seed: int) -> str:
    """Ring-0 instructions, with registers and stack in the page tables that they themselves are reached through."""
    random_ = random.Random(seed)
    text = idt_to_7("rbx", NO_IST) + GO_ON  # exceptions are delivered onto the stack as it is
    for _ in range(30):
        text += "lea r14, [rip + 5f]\n"
        for register in ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp"):
            if random_.random() < 0.4:
                text += f"mov {register}, {random_.randrange(*random_.choice(PLACES))}\n"
        text += f"{_bytes(random_)}\n 5:\n"
    return text + "mov al, 7\n out 0xf4, al\n 4: jmp 4b\n"


@pytest.mark.slow
def test_shadow_paging_follows_any_instruction_with_its_stack_in_the_page_tables() -> None:
    for seed in range(FIRST_SEED, FIRST_SEED + GUESTS // 2):
        print(f"SIDECORE_FUZZ_SEED={seed}")
        guest = make_guest("shadow", random_code_on_random_stacks(seed))
        guest.advance(LIMIT_CYCLES)  # a guest error would be that of an instruction that is not emulated
        assert guest.end is not None or guest.pcpu.clock.cycles >= LIMIT_CYCLES
