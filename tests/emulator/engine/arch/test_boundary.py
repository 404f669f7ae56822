"""VM exits between instructions: monitor trap flag, VMX-preemption timer, PAUSE loops; and descriptor-table exiting."""

import pytest

from emulator.engine import LEAVE, RESUME, Next
from emulator.vmx import controls as c
from emulator.vmx import fields as f
from emulator.vmx.exit_reasons import ExitReason as R
from emulator.x86 import DS, R9, RBX, SS
from tests.emulator.engine.rig import CODE, DATA, HANDLERS, TSS_64, Exit, Rig, assemble, exits_of, guest

PROC, PROC2 = f.PRIMARY_PROCESSOR_BASED_CONTROLS, f.SECONDARY_PROCESSOR_BASED_CONTROLS
VALID = 1 << 31
TIMER_UNIT_CYCLES = 1 << c.PREEMPTION_TIMER_SHIFT


def go_on(rig: Rig) -> Rig:
    """Exits go on: VMCALL ends, an instruction is stepped over, what comes between instructions is not."""

    def handle(seen: Exit) -> Next:
        if seen.reason == R.VMCALL:
            return LEAVE
        if seen.reason not in (R.MONITOR_TRAP_FLAG, R.PREEMPTION_TIMER):
            rig.step_over(seen)
        return RESUME

    rig.on_exit = handle
    return rig


def places(rig: Rig) -> list[tuple[int, int]]:
    return [(seen.reason, seen.rip - CODE) for seen in rig.exits]


# --- monitor trap flag -----------------------------------------------------------------------------------------------


def trapped(text: str) -> Rig:
    rig = go_on(Rig(text + "\n vmcall", non_root=True))
    rig.set_control(PROC, c.PROC_MONITOR_TRAP_FLAG)
    return rig


MTF = R.MONITOR_TRAP_FLAG


@pytest.mark.parametrize("slice_cycles", [10_000, 1])
def test_the_monitor_trap_flag_exits_after_each_instruction(slice_cycles: int) -> None:
    rig = trapped("nop\n inc eax\n jmp 1f\n nop\n 1: push rax")
    while not rig.exits or rig.exits[-1].reason != R.VMCALL:
        rig.run(slice_cycles)
    assert places(rig) == [(MTF, 1), (MTF, 3), (MTF, 6), (MTF, 7), (R.VMCALL, 7)]


def test_it_counts_what_the_engine_does_not_do_itself() -> None:
    rig = trapped("rdtsc\n cli\n cpuid\n nop").run()
    assert places(rig) == [(MTF, 2), (MTF, 3), (R.CPUID, 3), (MTF, 6), (R.VMCALL, 6)]


def test_it_exits_after_each_iteration_of_a_string_instruction() -> None:
    rig = trapped("nop\n rep stosb")
    rig["rcx"], rig["rdi"] = 3, DATA
    rig.run()
    assert [rip for reason, rip in places(rig) if reason == MTF] == [1, 1, 1, 3]


def test_it_exits_before_the_handler_of_an_exception() -> None:
    rig = trapped("ud2")
    rig.put(HANDLERS + 0x60, assemble("nop\n vmcall"))
    rig.run()
    assert places(rig) == [
        (MTF, HANDLERS + 0x60 - CODE),
        (MTF, HANDLERS + 0x61 - CODE),
        (R.VMCALL, HANDLERS + 0x61 - CODE),
    ]


def test_it_exits_before_the_handler_of_an_injected_event() -> None:
    rig = trapped("nop")
    rig.put(HANDLERS + 0x400, assemble("vmcall"))
    rig.vmcs.write(f.VM_ENTRY_INTERRUPTION_INFORMATION, VALID | 0x40)
    rig.run()
    assert places(rig) == [(MTF, HANDLERS + 0x400 - CODE), (R.VMCALL, HANDLERS + 0x400 - CODE)]


def test_an_injected_monitor_trap_exits_before_the_first_instruction_without_the_flag() -> None:
    rig = go_on(guest("nop"))
    rig.vmcs.write(f.VM_ENTRY_INTERRUPTION_INFORMATION, VALID | 7 << 8)
    rig.run()
    assert places(rig) == [(MTF, 0), (R.VMCALL, 2)]


# --- VMX-preemption timer --------------------------------------------------------------------------------------------


def timed(text: str, value: int, *, saves: bool = True, start_cycles: int = 0) -> Rig:
    rig = Rig(text, non_root=True)
    rig.shared.clock_cycles = start_cycles
    rig.set_control(f.PIN_BASED_CONTROLS, c.PIN_ACTIVATE_PREEMPTION_TIMER)
    rig.set_control(f.VM_EXIT_CONTROLS, c.EXIT_SAVE_PREEMPTION_TIMER if saves else 0)
    rig.vmcs.write(f.VMX_PREEMPTION_TIMER_VALUE, value)
    return rig


@pytest.mark.parametrize("start_cycles", [0, 1, 31, 32])
def test_the_timer_exits_when_the_tsc_has_advanced(start_cycles: int) -> None:
    rig = timed("1: jmp 1b", 10, start_cycles=start_cycles).run()
    (seen,) = rig.exits
    assert (seen.reason, seen.rip) == (R.PREEMPTION_TIMER, CODE)
    assert rig.shared.clock_cycles == (start_cycles // TIMER_UNIT_CYCLES + 10) * TIMER_UNIT_CYCLES
    assert rig.vmcs.read(f.VMX_PREEMPTION_TIMER_VALUE) == 0


def test_a_timer_of_zero_exits_at_once_but_behind_the_injection() -> None:
    rig = timed("nop", 0)
    rig.vmcs.write(f.VM_ENTRY_INTERRUPTION_INFORMATION, VALID | 0x40)
    rig.run()
    assert places(rig) == [(R.PREEMPTION_TIMER, HANDLERS + 0x400 - CODE)]


@pytest.mark.parametrize("saves", [False, True])
def test_another_exit_saves_what_is_left_if_it_shall(saves: bool) -> None:
    rig = timed("mov ecx, 100\n 1: loop 1b\n vmcall", 1000, saves=saves).run()
    assert [seen.reason for seen in rig.exits] == [R.VMCALL]
    left = 1000 - rig.shared.clock_cycles // TIMER_UNIT_CYCLES
    assert rig.vmcs.read(f.VMX_PREEMPTION_TIMER_VALUE) == (left if saves else 1000)


def test_a_saved_timer_goes_on_at_the_next_entry() -> None:
    rig = timed("1: cpuid\n jmp 1b", 4)
    rig.on_exit = lambda seen: LEAVE if seen.reason == R.PREEMPTION_TIMER else rig.step_over(seen)
    rig.run()
    assert rig.exits[-1].reason == R.PREEMPTION_TIMER
    assert rig.shared.clock_cycles == 4 * TIMER_UNIT_CYCLES


# --- PAUSE loops -----------------------------------------------------------------------------------------------------


def pausing(text: str, *, gap: int, window: int, cpl: int = 0) -> Rig:
    rig = Rig(text, non_root=True, cpl=cpl)
    rig.set_control(PROC2, c.PROC2_PAUSE_LOOP_EXITING)
    rig.vmcs.write(f.PLE_GAP, gap)
    rig.vmcs.write(f.PLE_WINDOW, window)
    return rig


def test_a_loop_of_pauses_exits_when_its_window_is_over() -> None:
    rig = pausing("1: pause\n jmp 1b", gap=10, window=100).run()
    (seen,) = rig.exits
    assert (seen.reason, seen.rip, seen.instruction_bytes, seen.qualification) == (R.PAUSE_INSTRUCTION, CODE, 2, 0)
    assert seen.instructions == 102  # a cycle each: the first PAUSE that is more than 100 behind the first


def test_pauses_further_apart_than_the_gap_do_not_exit() -> None:
    text = "1: pause\n mov ecx, {}\n 2: loop 2b\n jmp 1b"
    assert pausing(text.format(6), gap=9, window=100).run().exits != []
    assert pausing(text.format(10), gap=9, window=100).run().exits == []


def test_pauses_of_a_user_do_not_exit() -> None:
    assert pausing("1: pause\n jmp 1b", gap=10, window=100, cpl=3).run().exits == []


# --- descriptor tables -----------------------------------------------------------------------------------------------

GDTR_IDTR, LDTR_TR = R.GDTR_IDTR, R.LDTR_TR
SCALE4, ADDRESS64, OPERAND32, NO_INDEX, NO_BASE, REGISTER = 2, 2 << 7, 1 << 11, 1 << 22, 1 << 27, 1 << 10
# text, reason, qualification, instruction information without its address size and operand size
TABLES = {
    "SGDT": ("sgdt [rbx + 0x10]", GDTR_IDTR, 0x10, 0 << 28 | RBX << 23 | NO_INDEX | DS << 15),
    "SIDT": ("sidt [rbx + r9 * 4]", GDTR_IDTR, 0, 1 << 28 | RBX << 23 | R9 << 18 | DS << 15 | SCALE4),
    "LGDT": ("lgdt [rsp - 8]", GDTR_IDTR, (1 << 64) - 8, 2 << 28 | 4 << 23 | NO_INDEX | SS << 15),
    "LIDT": ("lidt [rip + 0x20]", GDTR_IDTR, CODE + 1 + 7 + 0x20, 3 << 28 | NO_BASE | NO_INDEX | DS << 15),
    "SLDT": ("sldt ax", LDTR_TR, 0, 0 << 28 | REGISTER | 0 << 3),
    "STR": ("str [rbx]", LDTR_TR, 0, 1 << 28 | RBX << 23 | NO_INDEX | DS << 15),
    "LLDT": ("lldt r9w", LDTR_TR, 0, 2 << 28 | REGISTER | 9 << 3),
    "LTR": ("ltr bx", LDTR_TR, 0, 3 << 28 | REGISTER | RBX << 3),
}


@pytest.mark.parametrize("name", TABLES)
def test_descriptor_table_exiting(name: str) -> None:
    text, reason, qualification, information = TABLES[name]
    rig = guest(text)
    rig["rbx"], rig["r9"] = DATA, 0
    rig.set_control(PROC2, c.PROC2_DESCRIPTOR_TABLE_EXITING)
    (seen,) = exits_of(rig)
    assert (seen.reason, seen.rip, seen.qualification) == (reason, CODE + 1, qualification)
    fixed = 0 if information & REGISTER else ADDRESS64 | OPERAND32
    assert seen.instruction_information == information | fixed


def test_descriptor_tables_are_the_guests_own_without_the_control() -> None:
    rig = guest("sgdt [rbx]\n str ax")
    rig["rbx"], rig["rax"] = DATA, 0
    assert exits_of(rig) == []
    assert (rig.word(DATA + 2), rig["rax"]) == (0x6000, TSS_64)


def test_xsetbv_is_undefined_while_cr4_has_no_osxsave() -> None:
    assert Rig("xsetbv").run().halted_in == 6
    rig = Rig("xsetbv", non_root=True).run()
    assert (rig.halted_in, rig.exits) == (6, [])


# --- TPR shadow ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "is_below"), [(4, True), (5, False), (6, False)])
def test_cr8_is_the_virtual_tpr_and_exits_behind_a_write_below_the_threshold(value: int, is_below: bool) -> None:
    rig = go_on(Rig("mov cr8, rax\n mov rbx, cr8\n vmcall", non_root=True))
    rig.set_control(PROC, c.PROC_USE_TPR_SHADOW)
    rig.vmcs.write(f.VIRTUAL_APIC_ADDRESS, DATA)
    rig.vmcs.write(f.TPR_THRESHOLD, 5)
    rig["rax"] = value
    rig.on_exit = lambda seen: LEAVE if seen.reason == R.VMCALL else RESUME
    rig.run()
    assert places(rig) == [(R.TPR_BELOW_THRESHOLD, 4)] * is_below + [(R.VMCALL, 8)]
    assert (rig.word(DATA + 0x80, 1), rig["rbx"], rig.platform.cr8) == (value << 4, value, 0)
