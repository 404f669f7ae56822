"""What a loop takes on a machine whose latencies are distinct primes, so that a wrong sum names the missing part."""

import pytest

from emulator.profiles.profile import DEFAULT_PROFILE, load_profile
from emulator.timing.allowances import NO_ALLOWANCE, Allowance
from emulator.timing.core_timing import MachineTiming
from emulator.timing.fidelity import Fidelity
from tests.emulator.engine.rig import DATA, HANDLERS, Rig

WIDTH, ALU, LOAD, MULTIPLY, FP_ADD = 3, 1, 5, 11, 13
MISPREDICT, CPUID, RDTSC, LOCKED, FXSAVE, INT, IRET, PAGE_FAULT = 97, 211, 41, 59, 151, 307, 163, 401
REP_START, REP_LINE, REP_SCAN = 71, 32, 3
OVERRIDES = (
    f"core.issue_width_count={WIDTH}", f"core.mispredict_cycles={MISPREDICT}",
    f"caches.l1d_latency_cycles={LOAD}", f"instructions.alu_latency_cycles={ALU}",
    f"instructions.multiply_latency_cycles={MULTIPLY}", f"instructions.fp_add_latency_cycles={FP_ADD}",
    f"instructions.cpuid_cycles={CPUID}", f"instructions.rdtsc_cycles={RDTSC}", f"instructions.locked_cycles={LOCKED}",
    f"instructions.fxsave_cycles={FXSAVE}", f"instructions.int_cycles={INT}", f"instructions.iret_cycles={IRET}",
    f"instructions.rep_start_cycles={REP_START}", f"instructions.rep_line_cycles={REP_LINE}",
    f"instructions.rep_scan_cycles={REP_SCAN}", f"events.page_fault_entry_cycles={PAGE_FAULT}",
    "instructions.move_latency_cycles=1",
)  # fmt: skip
PROFILE = load_profile(DEFAULT_PROFILE, OVERRIDES)


def rig_for(text: str, fidelity: Fidelity = "fast", allowance: Allowance = NO_ALLOWANCE) -> Rig:
    rig = Rig(text)
    rig["cr4"] |= 0x200  # OSFXSR
    rig.engine.set_timing(MachineTiming(PROFILE, 1, allowance).at(fidelity), 0)
    return rig


def cycles(text: str, allowance: Allowance = NO_ALLOWANCE) -> int:
    """Cycles of a program that ends in HLT."""
    rig = rig_for(text, allowance=allowance)
    for vector in (14, 0x30):
        rig.put(HANDLERS + vector * 16, b"\x48\xcf")
    rig.run(1_000_000)
    assert rig.is_halted
    shared = rig.shared
    parts = shared.guest_cycles + shared.memory_cycles + shared.branch_cycles + shared.event_cycles
    assert shared.clock_cycles == parts
    return int(shared.clock_cycles)


def cycles_of_64(body: str, setup: str = "nop", allowance: Allowance = NO_ALLOWANCE) -> int:
    """Cycles that 64 more iterations of `dec ecx; jnz` around `body` take, when all is warm."""
    loop = f"{setup}\n mov ecx, {{}}\n 1:\n {body}\n dec ecx\n jnz 1b\n hlt"
    return cycles(loop.format(192), allowance) - cycles(loop.format(128), allowance)


# body of a loop (two more micro-operations are DEC and JNZ), cycles of 64 iterations
LOOPS = {
    "one slot left over": ("nop", 64 * 1),
    "four in three slots": ("nop\n nop", 64 * 4 // WIDTH),
    "seven in three slots": ("nop\n" * 5, 64 * 7 // WIDTH),
    "chain of two additions": ("add eax, 1\n add eax, 1", 64 * 2 * ALU),
    "two chains side by side": ("add eax, 1\n add edx, 1", 64 * 4 // WIDTH),
    "chain of a multiplication": ("imul rax, rax", 64 * MULTIPLY),
    "a multiplication nobody waits for": ("imul rax, rdx, 3", 64 * 3 // WIDTH),
    "zeroing breaks the chain": ("imul rax, rax\n xor eax, eax", 64 * 4 // WIDTH),
    "pointer chase": ("mov rax, [rax]", 64 * LOAD),
    "a load nobody waits for": ("mov rax, [rdx]", 64 * 3 // WIDTH),
    "an addition to a loaded value": ("add rax, [rdx]", 64 * 4 // WIDTH),
    "an address from an addition": ("add rax, [rax]", 64 * (LOAD + ALU)),
    "chain of vector additions": ("addsd xmm0, xmm1", 64 * FP_ADD),
    "RDTSC, which ends the block": ("rdtsc", 64 * RDTSC + 64 // WIDTH + 64 * 1),
    "a locked addition": ("lock add [rdx], eax", 64 * LOCKED + 64 * 5 // WIDTH),
    "XCHG with memory is locked": ("xchg [rdx], eax", 64 * LOCKED + 64 * 3 // WIDTH),
    "FXSAVE": (f"fxsave [{DATA}]", 64 * FXSAVE + 64 * (2 + 1 + 1) // WIDTH),
}


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_takes_its_issue_slots_or_its_longest_chain(name: str) -> None:
    body, expected = LOOPS[name]
    assert cycles_of_64(body, setup=f"mov eax, {DATA}\n mov edx, {DATA}\n mov [rax], rax") in range(
        expected, expected + 2
    )


def test_a_fraction_of_a_cycle_is_kept_for_later() -> None:
    assert cycles("nop\n hlt") - cycles("hlt") == 0
    assert cycles("nop\n nop\n nop\n hlt") - cycles("hlt") == 1


def test_rep_takes_its_start_once_and_then_by_the_line() -> None:
    def of(count: int) -> int:
        return cycles(f"mov edi, {DATA}\n mov ecx, {count}\n rep stosq\n hlt")

    without = cycles(f"mov edi, {DATA}\n mov ecx, 64\n hlt")
    assert of(64) - without in range(REP_START + REP_LINE * 8, REP_START + REP_LINE * 8 + REP_LINE // 8 + 2)
    assert of(128) - of(64) == REP_LINE * 8


def test_rep_scas_takes_its_time_by_the_element() -> None:
    def of(count: int) -> int:
        return cycles(f"mov edi, {DATA}\n mov ecx, {count}\n mov eax, 0\n repe scasb\n hlt")

    assert of(128) - of(64) == 64 * REP_SCAN


def test_int_and_iret_take_what_their_classes_say() -> None:
    assert cycles("int 0x30\n hlt") - cycles("hlt") in range(INT + IRET, INT + IRET + 2)


def test_a_page_fault_takes_its_entry_and_the_fault_leaves_its_instruction_uncharged() -> None:
    touch = "mov rax, [0x80000000]\n hlt"
    rig = rig_for(touch)
    rig.run()
    assert (rig.halted_in, rig.shared.event_cycles) == (14, PAGE_FAULT)
    assert rig.shared.instructions == 1  # the HLT of the handler


def test_a_trapped_instruction_gives_back_only_itself_and_what_follows() -> None:
    """The multiplication before CPUID is slow, and done; FXSAVE behind the fault is slow, and not done."""
    done = cycles(f"fxsave [{DATA}]\n cpuid\n hlt") - cycles("hlt")
    assert done in range(FXSAVE + CPUID, FXSAVE + CPUID + 3)

    def of_fault(text: str) -> int:
        rig = rig_for(text)
        rig.run()
        assert rig.halted_in == 6
        return int(rig.shared.guest_cycles)

    assert of_fault(f"ud2\n fxsave [{DATA}]\n hlt") == of_fault("ud2\n hlt")


# --- branches ---------------------------------------------------------------------------------------------------------


def mispredictions(text: str) -> int:
    rig = rig_for(text)
    rig.run()
    assert rig.is_halted
    assert rig.shared.branch_cycles % MISPREDICT == 0
    return int(rig.shared.branch_cycles // MISPREDICT)


def test_a_loop_is_mispredicted_until_its_counter_knows_and_at_its_end() -> None:
    for count in (10, 100):
        assert mispredictions(f"mov ecx, {count}\n 1: dec ecx\n jnz 1b\n hlt") == 3


def test_a_branch_that_is_never_taken_is_predicted() -> None:
    text = "mov ecx, 50\n 1: test ecx, ecx\n jz 2f\n dec ecx\n jnz 1b\n 2: hlt"
    assert mispredictions(text) == 3  # of the loop


def test_returns_are_predicted_to_the_depth_of_the_stack() -> None:
    def nested(depth: int) -> str:
        calls = "".join(f"f{i}: call f{i + 1}\n ret\n" for i in range(depth))
        return f"call f0\n hlt\n {calls} f{depth}: ret"

    assert mispredictions(nested(8)) == 0
    assert mispredictions(nested(20)) == 20 + 1 - 16


def test_an_indirect_jump_is_predicted_where_it_went_last() -> None:
    def alternating(step: int) -> str:
        return (
            "mov ecx, 16\n lea rbx, [rip + t]\n xor edx, edx\n"
            f"1: xor edx, {step}\n jmp [rbx + rdx]\n a: dec ecx\n jnz 1b\n hlt\n b: dec ecx\n jnz 1b\n hlt\n"
            " .balign 8\n t: .quad a, b"
        )

    assert mispredictions(alternating(8)) - mispredictions(alternating(0)) >= 14


# --- the allowance of `fast` ------------------------------------------------------------------------------------------


def test_the_allowance_is_charged_for_each_access() -> None:
    allowance = Allowance(access_64ths=64 * 7)
    body = "mov rax, [rdx]\n mov [rdx + 8], rax\n add [rdx + 16], rax\n push rax\n pop rax"
    setup = f"mov edx, {DATA}"
    plain = cycles_of_64(body, setup)
    assert cycles_of_64(body, setup, allowance) - plain == 64 * 6 * 7
