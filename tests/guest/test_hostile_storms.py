"""What a guest can make happen all the time costs the emulator little more than the guest's own time.

Each guest runs for a fixed number of cycles and must get there. Workstation time is not asserted, but what takes most
of it is: callbacks of device events, only so many per emulated cycle. VM exits cost cycles of their own.
"""

from collections.abc import Callable

import pytest

from devices.interrupts.lapic_registers import DEFAULT_BASE
from emulator.events import Event, EventQueue
from tests.guest.hostile_guest import idt_to_7, make_guest

PAGINGS = ["native", "shadow", "ept"]
LIMIT_CYCLES, SLACK_CYCLES = 250_000, 4_000_000
CYCLES_PER_EVENT_MIN = 60
IO_APIC = 0xFEC00000
MAP_APICS = f"""
    mov rax, {DEFAULT_BASE & ~0x1FFFFF | 0xE7}
    mov [0x3030], rax
    mov rax, {IO_APIC | 0xE7}
    mov [0x3038], rax
    mov rax, cr3
    mov cr3, rax
    mov ebx, 0xc00000
    mov esi, 0xe00000
    mov dword ptr [rbx + 0xf0], 0x1ff
"""
# Every vector leads to 7, which `handler` follows; the stack stays the interrupted one.
SET_UP_IDT = (
    idt_to_7("rbp", 0x8E00)
    + """
    jmp 8f
    7: {handler}
    8:
"""
)
EOI = "mov dword ptr [rbx + 0xb0], 0\n iretq\n"
WITH_EOI, WITH_IRET = (SET_UP_IDT.replace("{handler}", handler) for handler in (EOI, "iretq\n"))
PIC_ON = "".join(
    f"mov al, {byte}\n out {port}, al\n"
    for port, byte in ((0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 1), (0x21, 0xFE))
)
EVERY_TICK = (
    "mov dword ptr [rbx + 0x3e0], 0xb\n mov dword ptr [rbx + 0x320], 0x20040\n mov dword ptr [rbx + 0x380], 1\n"
)
LOOP = "1: jmp 1b\n"
PIT = "mov al, {mode}\n out 0x43, al\n mov al, {count}\n out 0x40, al\n mov al, 0\n out 0x40, al\n"
PAGING_OFF_AND_ON = """
    push 0x30
    lea rax, [rip + 2f]
    push rax
    retfq
    .code32
    2: mov eax, cr0
    btc eax, 31
    mov cr0, eax
    btc eax, 31
    mov cr0, eax
    mov ecx, [0x1000]
    jmp 2b
"""
COM1_INTERRUPTS = "mov edx, 0x3fc\n mov al, 8\n out dx, al\n mov edx, 0x3f9\n mov al, 2\n out dx, al\n"
LEVEL_LINE_4 = (
    "mov dword ptr [rsi], 0x18\n mov dword ptr [rsi + 0x10], 0x8060\n mov dword ptr [rsi], 0x19\n"
    " mov dword ptr [rsi + 0x10], 0\n"
)
STORMS = {
    "APIC timer at every tick, interrupts off": MAP_APICS + EVERY_TICK + LOOP,
    "APIC timer at every tick": MAP_APICS + WITH_EOI + EVERY_TICK + "sti\n" + LOOP,
    "APIC timer at every tick, halted": MAP_APICS + WITH_EOI + EVERY_TICK + "sti\n 1: hlt\n jmp 1b\n",
    "APIC timer at every tick, never answered": MAP_APICS + WITH_IRET + EVERY_TICK + "sti\n" + LOOP,
    "TSC deadline that is past": MAP_APICS
    + SET_UP_IDT.replace("{handler}", f"mov eax, 1\n wrmsr\n {EOI}")
    + "mov dword ptr [rbx + 0x320], 0x40040\n mov ecx, 0x6e0\n mov eax, 1\n xor edx, edx\n wrmsr\n sti\n"
    + LOOP,
    "PIT with divisor 1": PIC_ON + PIT.format(mode=0x34, count=1) + LOOP,
    "PIT square wave with divisor 2": SET_UP_IDT.replace("{handler}", "mov al, 0x20\n out 0x20, al\n iretq\n")
    + PIC_ON
    + PIT.format(mode=0x36, count=2)
    + "sti\n"
    + LOOP,
    "PIT set again and again": "1: " + PIT.format(mode=0x34, count=1) + "jmp 1b\n",
    "INT for ever": WITH_IRET + "1: int 0x80\n jmp 1b\n",
    "an exception whose handler comes back to it": WITH_IRET + "1: ud2\n",
    "page faults for ever": SET_UP_IDT.replace("{handler}", "add rsp, 8\n iretq\n") + "1: mov rax, [0x40000000]\n",
    "IPIs to itself": MAP_APICS + WITH_EOI + "sti\n 1: mov dword ptr [rbx + 0x300], 0x40050\n jmp 1b\n",
    "IPIs to itself, interrupts off": MAP_APICS + "1: mov dword ptr [rbx + 0x300], 0x40050\n jmp 1b\n",
    "NMIs to itself": MAP_APICS + WITH_IRET + "1: mov dword ptr [rbx + 0x300], 0x44400\n jmp 1b\n",
    "an interrupt line that stays up": MAP_APICS + WITH_EOI + LEVEL_LINE_4 + COM1_INTERRUPTS + "sti\n" + LOOP,
    "4 GiB from a port": "1: mov edi, 0xa000\n mov rcx, 0x100000000\n mov edx, 0x1234\n rep insb\n jmp 1b\n",
    "4 GiB to the console": "1: mov esi, 0xa000\n mov rcx, 0x100000000\n mov edx, 0x3f8\n rep outsb\n jmp 1b\n",
    "a device's page filled": MAP_APICS + "1: mov edi, ebx\n mov ecx, 0x1000\n rep stosb\n jmp 1b\n",
    "paging off and on": PAGING_OFF_AND_ON,
    "write protection off and on": "1: mov rax, cr0\n btc rax, 16\n mov cr0, rax\n mov [0x9000], rax\n jmp 1b\n",
    "page-table stores": "mov eax, 0x9067\n 1: mov [0x4048], rax\n mov [0x4050], rax\n jmp 1b\n",
    "page tables filled": "1: mov eax, 0x9067\n mov edi, 0x4800\n mov ecx, 256\n rep stosq\n jmp 1b\n",
    "a large page, then small ones": "mov rax, 0x2000e7\n 1: mov [0x3008], rax\n mov rcx, [0x200000]\n"
    " mov qword ptr [0x3008], 0x9067\n jmp 1b\n",
    "a stack in a page table": "mov rsp, 0x4e00\n 1: push rax\n pop rax\n jmp 1b\n",
    "512-byte stores to page tables": "mov eax, 0x620\n mov cr4, rax\n 1: fxsave [0x4c00]\n mov rax, cr3\n"
    " mov cr3, rax\n jmp 1b\n",
    "code that changes itself": "lea rdi, [rip + 2f]\n 1: inc dword ptr [rdi + 1]\n 2: mov eax, 0\n"
    " .fill 60, 1, 0x90\n jmp 1b\n",
    "single-stepping": WITH_IRET + "pushfq\n bts qword ptr [rsp], 8\n popfq\n 1: nop\n jmp 1b\n",
}


def ipi(command: int) -> str:
    """An IPI to the second processor."""
    return f"mov dword ptr [rbx + 0x310], 0x1000000\n mov dword ptr [rbx + 0x300], {command}\n"


START_SECOND = "mov dword ptr [0x30000], 0xfeebfa\n" + ipi(0x4500) + ipi(0x4630) + ipi(0x4630)  # CLI, and a loop
STORMS_OF_TWO = {
    "INIT": MAP_APICS + START_SECOND + f"1: {ipi(0x4500)}jmp 1b\n",
    "INIT and start-up": MAP_APICS + START_SECOND + f"1: {ipi(0x4500)}{ipi(0x4630)}jmp 1b\n",
    "NMIs": MAP_APICS + START_SECOND + f"1: {ipi(0x4400)}jmp 1b\n",
    "IPIs that nobody takes": MAP_APICS + START_SECOND + f"1: {ipi(0x4050)}jmp 1b\n",
    "IPIs to all": MAP_APICS + WITH_EOI + START_SECOND + "sti\n 1: mov dword ptr [rbx + 0x300], 0x84050\n jmp 1b\n",
    "page-table stores and flushes": MAP_APICS + START_SECOND + "1: mov rax, 0x9067\n mov [0x4048], rax\n"
    " mov rax, cr3\n mov cr3, rax\n jmp 1b\n",
    "write protection off and on": MAP_APICS + START_SECOND + "1: mov rax, cr0\n btc rax, 16\n mov cr0, rax\n jmp 1b\n",
    "zeros as code": MAP_APICS + "mov dword ptr [0x30000], 0\n" + ipi(0x4500) + ipi(0x4630) + LOOP,
}


def counted(callback: Callable[[], None], counts: list[int]) -> Callable[[], None]:
    def call() -> None:
        counts[0] += 1
        callback()

    return call


@pytest.mark.parametrize("paging", PAGINGS)
@pytest.mark.parametrize("storm", STORMS)
def test_a_storm_gets_to_its_limit_with_few_events(monkeypatch: pytest.MonkeyPatch, storm: str, paging: str) -> None:
    counts, schedule = [0], EventQueue.schedule

    def counting(queue: EventQueue, when_ps: int, callback: Callable[[], None]) -> Event:
        return schedule(queue, when_ps, counted(callback, counts))

    monkeypatch.setattr(EventQueue, "schedule", counting)
    guest = make_guest(paging, STORMS[storm])
    guest.advance(LIMIT_CYCLES)
    assert guest.end is None
    assert LIMIT_CYCLES <= guest.pcpu.clock.cycles <= LIMIT_CYCLES + SLACK_CYCLES
    assert counts[0] * CYCLES_PER_EVENT_MIN <= guest.pcpu.clock.cycles


@pytest.mark.parametrize("paging", PAGINGS)
@pytest.mark.parametrize("storm", STORMS_OF_TWO)
def test_a_storm_of_two_processors_gets_to_its_limit(storm: str, paging: str) -> None:
    guest = make_guest(paging, STORMS_OF_TWO[storm], cpus=2)
    guest.advance(LIMIT_CYCLES)
    assert guest.end is None
    assert LIMIT_CYCLES <= guest.pcpu.clock.cycles <= LIMIT_CYCLES + SLACK_CYCLES


@pytest.mark.parametrize("paging", PAGINGS)
@pytest.mark.parametrize("instruction", ["int3", "ud2", "mov rax, [0x40000000]"])
def test_an_exception_without_a_table_of_vectors_is_a_triple_fault(paging: str, instruction: str) -> None:
    guest = make_guest(paging, f"{instruction}\n {LOOP}")
    guest.advance(LIMIT_CYCLES)
    assert str(guest.end) == "the guest's processor shut down: triple fault"
