"""Hardware task switches (SDM 3A 7): what is saved, loaded and marked, who faults with what; VM exits."""

from collections.abc import Mapping

import pytest

from emulator.vmx.exit_reasons import ExitReason as R
from emulator.vmx.qualifications import (
    TASK_SWITCH_CALL,
    TASK_SWITCH_GATE,
    TASK_SWITCH_IRET,
    TASK_SWITCH_JMP,
    TaskSwitch,
    decode_task_switch,
)
from emulator.x86 import CR0_PG, CR0_TS, DR6_BT, GPR_NAMES, PAGE_FAULT, RFLAGS_CF, RFLAGS_NT, RFLAGS_RF, RFLAGS_VM
from emulator.x86 import GENERAL_PROTECTION as GP
from emulator.x86 import INVALID_TSS as TS
from emulator.x86 import SEGMENT_NOT_PRESENT as NP
from emulator.x86 import STACK_FAULT as SS
from tests.emulator.engine.rig import (
    CODE,
    CODE32_0,
    CODE32_3,
    DATA,
    DATA_0,
    DATA_3,
    GDT,
    GDT_LIMIT,
    HANDLERS,
    STACK3,
    TSS,
    TSS_32,
    A,
    P,
    Rig,
    W,
    descriptor,
)

NEW, SPARE, LDT_SELECTOR = 0x78, 0x80, 0x88  # selectors: the other task, a descriptor for tests, its LDT
NEW_TSS, NEW_STACK, INSIDE, LDT, DIRECTORY, OTHER_DIRECTORY = DATA, 0x3C000, 0x2A000, 0x42000, 0xA000, 0xC000
FIELDS = {"cr3": 0x1C, "eip": 0x20, "eflags": 0x24, "ldt": 0x60, "trap": 0x64}
REGISTERS = GPR_NAMES[:8]
SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs")
FIELDS |= {name: 0x28 + 4 * i for i, name in enumerate(REGISTERS)}
FIELDS |= {name: 0x48 + 4 * i for i, name in enumerate(SEGMENTS)}
FIELDS_16 = {"eip": 0x0E, "eflags": 0x10, "ldt": 0x2A}
FIELDS_16 |= {name: 0x12 + 2 * i for i, name in enumerate(REGISTERS)}
FIELDS_16 |= {name: 0x22 + 2 * i for i, name in enumerate(SEGMENTS[:4])}


def far(opcode: int, selector: int = NEW) -> str:
    return f".byte {opcode}\n .long 0x55555555\n .word {selector}\n"


CALL, JMP, IRET = far(0x9A), far(0xEA), "iretd\n"


def fill_tss(rig: Rig, base: int, **values: int) -> None:
    new = {"eip": INSIDE, "eflags": 2, "rsp": NEW_STACK, "cs": CODE32_0, **dict.fromkeys(SEGMENTS, DATA_0)}
    for name, value in (new | {"cs": CODE32_0} | values).items():
        rig.put_word(base + FIELDS[name], value, 4)
    rig.put_word(base + 4, NEW_STACK, 4)
    rig.put_word(base + 8, DATA_0, 4)


def rig_of(text: str, *, cpl: int = 0, non_root: bool = False, rights: int = 0x89, **values: int) -> Rig:
    """A program in the task of TSS_32, and another task of TSS NEW, which halts at INSIDE."""
    rig = Rig(text, bits=32, cpl=cpl, non_root=non_root)
    rig["gdtr_limit"] = GDT_LIMIT + 0x10
    rig.put_word(GDT + NEW, descriptor(rights, base=NEW_TSS, limit=0x67))
    rig.put_word(GDT + LDT_SELECTOR, descriptor(0x82, base=LDT, limit=0xF))
    fill_tss(rig, NEW_TSS, **values)
    rig.put(INSIDE, b"\xf4")
    return rig


def is_inside(rig: Rig) -> bool:
    return rig.is_halted and rig["rip"] == INSIDE + 1


def saved(rig: Rig, *names: str, base: int = TSS) -> list[int]:
    return [rig.word(base + FIELDS[name], 4) for name in names]


def kind(rig: Rig, selector: int) -> int:
    """The type of a descriptor: 9 a free TSS, 11 a busy one."""
    return rig.word(GDT + selector + 5, 1) & 0xF


# --- what is saved and loaded -----------------------------------------------------------------------------------------


def test_a_jump_saves_all_registers_of_the_old_task() -> None:
    rig = rig_of("nop\n" + JMP)
    values = {name: 0x1010101 * (i + 1) for i, name in enumerate(REGISTERS)} | {"rsp": 0x31000}
    for name, value in values.items():
        rig[name] = value
    rig["rflags"] = 2 | RFLAGS_CF
    rig.set_segment("fs", DATA_3, 0xC0F3)
    rig.run()
    assert is_inside(rig)
    assert saved(rig, *REGISTERS) == list(values.values())
    assert saved(rig, "eip", "eflags") == [CODE + 8, 2 | RFLAGS_CF]
    assert saved(rig, *SEGMENTS) == [DATA_0, CODE32_0, DATA_0, DATA_0, DATA_3, DATA_0]
    assert saved(rig, "cr3", "ldt") == [0, 0]  # which are never saved


def test_and_loads_all_of_the_new_one() -> None:
    values = {name: 0x2020202 * (i + 1) for i, name in enumerate(REGISTERS)}
    rig = rig_of(JMP, eflags=RFLAGS_CF | 0xFFC08000, ldt=LDT_SELECTOR, gs=DATA_3, fs=3)
    for name, value in values.items():
        rig.put_word(NEW_TSS + FIELDS[name], value, 4)
    rig.put_word(LDT, descriptor(0xC0F3))
    rig.put_word(NEW_TSS + FIELDS["es"], 4, 4)  # the first of its LDT
    rig.run()
    assert is_inside(rig)
    assert {name: rig[name] for name in REGISTERS} == values
    assert rig["rflags"] == 2 | RFLAGS_CF
    assert [rig[f"{name}_selector"] for name in SEGMENTS] == [4, CODE32_0, DATA_0, DATA_0, 3, DATA_3]
    assert (rig["ldtr_selector"], rig["ldtr_base"], rig["ldtr_limit"]) == (LDT_SELECTOR, LDT, 0xF)
    assert (rig["tr_selector"], rig["tr_base"], rig["tr_access_rights"]) == (NEW, NEW_TSS, 0x8B)
    assert rig["cr0"] & CR0_TS


@pytest.mark.parametrize("text", [JMP, CALL, IRET])
def test_links_busy_bits_and_nt(text: str) -> None:
    rig = rig_of(text, rights=0x8B if text == IRET else 0x89)
    rig.put_word(TSS, NEW, 2)
    rig["rflags"] = 2 | (RFLAGS_NT if text == IRET else 0)
    rig.run()
    assert is_inside(rig)
    assert kind(rig, NEW) == 0xB
    assert kind(rig, TSS_32) == (0xB if text == CALL else 9)
    assert bool(rig["rflags"] & RFLAGS_NT) == (text == CALL)
    assert rig.word(NEW_TSS, 2) == (TSS_32 if text == CALL else 0)
    assert saved(rig, "eflags") == [2]


def test_a_called_task_returns() -> None:
    rig = rig_of(CALL + "mov ecx, 0x1234\n hlt")
    rig.put(INSIDE, b"\x40\xcf\xeb\xfc")  # inc eax; iretd; again
    rig.run()
    assert (rig.is_halted, rig["rip"], rig["rcx"], rig["rax"]) == (True, CODE + 13, 0x1234, 0)
    assert (rig["tr_selector"], kind(rig, TSS_32), kind(rig, NEW)) == (TSS_32, 0xB, 9)
    assert not rig["rflags"] & RFLAGS_NT
    assert saved(rig, "eip", "eflags", "rax", base=NEW_TSS) == [INSIDE + 2, 2, 1]


def test_a_task_gate_leads_to_its_task_whatever_the_level_of_that() -> None:
    rig = rig_of(far(0x9A, SPARE | 3), cpl=3)
    rig.put_word(GDT + SPARE, NEW << 16 | 0xE5 << 40)
    rig.run()
    assert is_inside(rig)
    assert saved(rig, "cs", "ss", "eip", "rsp") == [CODE32_3, DATA_3, CODE + 7, STACK3]


def test_a_16_bit_task_saves_and_loads_words() -> None:
    rig = rig_of(CALL + "hlt", rights=0x81)
    rig["rax"] = 0x12345678
    rig.put(NEW_TSS, bytes(0x68))
    values = {"eip": 0xB000, "eflags": RFLAGS_CF, "rsp": 0xE000, "rax": 0x7777, **dict.fromkeys(SEGMENTS[:4], DATA_0)}
    for name, value in (values | {"cs": CODE32_0}).items():
        rig.put_word(NEW_TSS + FIELDS_16[name], value, 2)
    rig.put_word(GDT + NEW, descriptor(0x81, base=NEW_TSS, limit=0x2B))
    rig.put(0xB000, b"\x40\xcf")
    rig.run()
    assert (rig.is_halted, rig["rip"], rig["rax"]) == (True, CODE + 8, 0x12345678)
    assert rig.word(NEW_TSS + FIELDS_16["rax"], 2) == 0x7778
    assert rig.word(NEW_TSS + FIELDS_16["eip"], 2) == 0xB002
    assert rig.word(NEW_TSS + FIELDS_16["ldt"], 2) == 0


def test_a_16_bit_task_has_no_fs_and_gs_and_its_flags_are_words() -> None:
    rig = rig_of(JMP, rights=0x81)
    rig.put(NEW_TSS, bytes(0x68))
    rig.put_word(NEW_TSS + FIELDS_16["eip"], 0xB000, 2)
    for name in SEGMENTS[:4]:
        rig.put_word(NEW_TSS + FIELDS_16[name], CODE32_0 if name == "cs" else DATA_0, 2)
    rig.put(0xB000, b"\xf4")
    rig.run()
    assert (rig.is_halted, rig["rip"]) == (True, 0xB001)
    assert (rig["fs_selector"], rig["gs_selector"], rig["rflags"], rig["rax"]) == (0, 0, 2, 0xFFFF0000)


def test_a_virtual_8086_task() -> None:
    rig = rig_of(JMP, eflags=RFLAGS_VM | 0x3002, eip=5)
    for name in SEGMENTS:
        rig.put_word(NEW_TSS + FIELDS[name], 0x1100, 4)
    rig.put(0x11005, b"\x8c\xc8\x8c\xdb\xcd\x30")  # mov ax, cs; mov bx, ds; int 0x30
    rig.set_gate(0x30, dpl=3)
    rig.run()
    assert rig.halted_in == 0x30
    assert (rig["rax"], rig["rbx"]) == (0x1100, 0x1100)
    assert rig.words(rig["rsp"], 3, 4) == [11, 0x1100, RFLAGS_VM | 0x3002]


def test_the_t_bit_traps_before_the_first_instruction_of_the_task() -> None:
    rig = rig_of(JMP, trap=1).run()
    assert rig.halted_in == 1
    assert rig.word(rig["rsp"], 4) == INSIDE
    assert rig.shared.dr6 & 0xE00F == DR6_BT


def test_local_breakpoints_end_with_the_task() -> None:
    rig = rig_of(JMP)
    rig["dr7"] = 0x4AA | 0x155
    rig.shared.dr[0] = 0x100
    rig.run()
    assert (is_inside(rig), rig["dr7"]) == (True, 0x4AA)


def paged(rig: Rig) -> Rig:
    """Two address spaces; the second has NEW_STACK where the first has DATA + 0x1000."""
    for directory in (DIRECTORY, OTHER_DIRECTORY):
        rig.put_word(directory, (directory + 0x1000) | P | W | A, 4)
        for page in range(1024):
            rig.put_word(directory + 0x1000 + 4 * page, page << 12 | P | W, 4)
    rig.put_word(DIRECTORY + 0x1000 + 4 * (0x200000 >> 12), (DATA + 0x1000) | P | W, 4)
    rig.put_word(OTHER_DIRECTORY + 0x1000 + 4 * (0x200000 >> 12), NEW_STACK | P | W, 4)
    rig["cr3"], rig["cr0"] = DIRECTORY, CR0_PG | 0x10031
    return rig


@pytest.mark.parametrize("text", [JMP, CALL])
def test_cr3_is_loaded_where_there_is_paging(text: str) -> None:
    rig = paged(rig_of(f"mov eax, [0x200000]\n {text}", cr3=OTHER_DIRECTORY))
    rig.put(INSIDE, b"\xa1\x00\x00\x20\x00\xf4")  # mov eax, [0x200000]
    rig.put_word(DATA + 0x1000, 0x1111, 4)
    rig.put_word(NEW_STACK, 0x2222, 4)
    rig.run()
    assert (rig["rax"], rig["cr3"], saved(rig, "rax")) == (0x2222, OTHER_DIRECTORY, [0x1111])


def test_and_not_where_there_is_none() -> None:
    rig = rig_of(JMP, cr3=OTHER_DIRECTORY).run()
    assert (is_inside(rig), rig["cr3"]) == (True, 0)


def test_cycles_go_by() -> None:
    plain, switched = rig_of("nop\n nop\n hlt").run(), rig_of(JMP).run()
    assert switched.shared.instructions == 2
    assert plain.shared.instructions == 3


# --- faults of the old task ------------------------------------------------------------------------------------------

TSS_FAULTS: dict[str, tuple[int, int, int, int]] = {  # descriptor, selector, the fault
    "busy": (descriptor(0x8B, base=NEW_TSS, limit=0x67), NEW, GP, NEW),
    "data": (descriptor(0xC093), NEW, GP, NEW),
    "not present": (descriptor(0x09, base=NEW_TSS, limit=0x67), NEW, NP, NEW),
    "too small": (descriptor(0x89, base=NEW_TSS, limit=0x66), NEW, TS, NEW),
    "too small for 16 bits": (descriptor(0x81, base=NEW_TSS, limit=0x2A), NEW, TS, NEW),
    "its level": (descriptor(0x89, base=NEW_TSS, limit=0x67), NEW | 1, GP, NEW),
    "a task gate's presence": (NEW << 16 | 0x05 << 40, NEW, NP, NEW),
    "a task gate's level": (NEW << 16 | 0x85 << 40, NEW | 1, GP, NEW),
    "a task gate to the LDT": ((SPARE | 4) << 16 | 0x85 << 40, NEW, GP, SPARE | 4),
    "a task gate to what is no TSS": (DATA_0 << 16 | 0x85 << 40, NEW, GP, DATA_0),
    "a task gate beyond the GDT": (0x98 << 16 | 0x85 << 40, NEW, GP, 0x98),
}


@pytest.mark.parametrize("non_root", [False, True])
@pytest.mark.parametrize("opcode", [0x9A, 0xEA])
@pytest.mark.parametrize("name", TSS_FAULTS)
def test_a_far_transfer_faults_in_the_old_task_for(name: str, opcode: int, non_root: bool) -> None:
    found, selector, vector, error = TSS_FAULTS[name]
    rig = rig_of(f"nop\n {far(opcode, selector)}", non_root=non_root)
    rig.put_word(GDT + NEW, found)
    rig.run()
    assert (rig.halted_in, rig.exits) == (vector, [])
    assert rig.words(rig["rsp"], 3, 4) == [error, CODE + 1, CODE32_0]
    assert rig["tr_selector"] == TSS_32
    assert kind(rig, TSS_32) == 0xB


@pytest.mark.parametrize("non_root", [False, True])
@pytest.mark.parametrize(
    ("link", "rights", "vector", "error"),
    [
        (NEW, 0x89, TS, NEW),  # not busy
        (NEW | 4, 0x8B, TS, NEW | 4),
        (0x98, 0x8B, TS, 0x98),
        (NEW, 0x0B, NP, NEW),
        (DATA_0, 0x8B, TS, DATA_0),
    ],
)
def test_iret_faults_for_its_link(link: int, rights: int, vector: int, error: int, non_root: bool) -> None:
    rig = rig_of("nop\n" + IRET, rights=rights, non_root=non_root)
    rig.put_word(TSS, link, 2)
    rig["rflags"] = 2 | RFLAGS_NT
    rig.run()
    assert (rig.halted_in, rig.exits) == (vector, [])
    assert rig.words(rig["rsp"], 3, 4) == [error, CODE + 1, CODE32_0]


@pytest.mark.parametrize("page", [TSS, NEW_TSS, GDT])
def test_memory_of_the_switch_that_cannot_be_written_is_a_page_fault_and_nothing_has_changed(page: int) -> None:
    rig = paged(rig_of(CALL, cr3=OTHER_DIRECTORY))
    rig.put_word(DIRECTORY + 0x1000 + 4 * (page >> 12), page | P, 4)
    before = rig.memory.read(0, 0x50000)
    rig.run()
    assert rig.halted_in == PAGE_FAULT
    assert rig["tr_selector"] == TSS_32
    assert rig.words(rig["rsp"], 3, 4) == [P | W, CODE, CODE32_0]
    assert rig.shared.cr2 >> 12 == page >> 12
    after = rig.memory.read(0, 0x50000)
    changed = {at >> 12 for at in range(0, 0x50000, 4) if before[at : at + 4] != after[at : at + 4]}
    assert changed <= {rig["rsp"] >> 12, DIRECTORY >> 12, (DIRECTORY + 0x1000) >> 12}


def test_a_tss_in_use_that_is_too_small_is_an_invalid_one() -> None:
    rig = rig_of(JMP)
    rig["tr_limit"] = 0x5E
    rig.run()
    assert (rig.halted_in, rig.word(rig["rsp"], 4)) == (TS, TSS_32)


# --- faults of the new task ------------------------------------------------------------------------------------------

NEW_FAULTS: dict[str, tuple[Mapping[str, int], int, int, int]] = {  # fields, rights of SPARE, the fault
    "an LDT in the LDT": ({"ldt": 4}, 0, TS, 4),
    "no LDT": ({"ldt": DATA_0}, 0, TS, DATA_0),
    "an LDT that is not present": ({"ldt": SPARE}, 0x02, TS, SPARE),
    "an LDT beyond the GDT": ({"ldt": 0x98}, 0, TS, 0x98),
    "a null CS": ({"cs": 0}, 0, TS, 0),
    "CS that is data": ({"cs": DATA_0}, 0, TS, DATA_0),
    "CS of another level": ({"cs": SPARE}, 0xC0FB, TS, SPARE),
    "CS that is not present": ({"cs": SPARE}, 0xC01B, NP, SPARE),
    "a null SS": ({"ss": 0}, 0, TS, 0),
    "SS of another level": ({"ss": DATA_3}, 0, TS, DATA_3 & ~3),
    "SS that is read-only": ({"ss": SPARE}, 0xC091, TS, SPARE),
    "SS that is not present": ({"ss": SPARE}, 0xC013, SS, SPARE),
    "DS beyond the GDT": ({"ds": 0x98}, 0, TS, 0x98),
    "DS that is a system segment": ({"ds": LDT_SELECTOR}, 0, TS, LDT_SELECTOR),
    "ES that cannot be read": ({"es": SPARE}, 0xC099, TS, SPARE),
    "FS with an RPL above its level": ({"fs": DATA_0 | 3}, 0, TS, DATA_0),
    "GS that is not present": ({"gs": SPARE}, 0xC013, NP, SPARE),
    "EIP beyond CS": ({"cs": SPARE}, 0x409B, GP, 0),
}


@pytest.mark.parametrize("name", NEW_FAULTS)
def test_the_new_task_faults_for(name: str) -> None:
    """Its handler is a task of its own, to which the new task is the one that was interrupted."""
    values, rights, vector, error = NEW_FAULTS[name]
    rig = rig_of(CALL, rax=0x4321)
    for field, value in values.items():
        rig.put_word(NEW_TSS + FIELDS[field], value, 4)
    rig.put_word(GDT + SPARE, descriptor(rights, limit=0x1000))
    handler = 0x90  # a task of its own
    rig["gdtr_limit"] = 0x97
    rig.put_word(GDT + handler, descriptor(0x89, base=0x44000, limit=0x67))
    fill_tss(rig, 0x44000, eip=HANDLERS + 16 * vector)
    rig.set_gate(vector, kind=5, selector=handler)
    rig.run()
    assert rig.halted_in == vector
    assert rig.word(rig["rsp"], 4) == error
    assert rig.word(0x44000, 2) == NEW
    assert saved(rig, "eip", "rax", base=NEW_TSS) == [INSIDE, 0x4321]
    assert [kind(rig, selector) for selector in (TSS_32, NEW, handler)] == [0xB, 0xB, 0xB]


# --- task gates of the IDT -------------------------------------------------------------------------------------------


def test_an_exception_leads_to_a_task_with_its_error_code() -> None:
    rig = rig_of("nop\n mov eax, 0x1234\n mov ds, eax")
    rig.set_gate(GP, kind=5, selector=NEW)
    rig.run()
    assert is_inside(rig)
    assert (rig["rsp"], rig.word(rig["rsp"], 4)) == (NEW_STACK - 4, 0x1234)
    assert saved(rig, "eip", "eflags") == [CODE + 6, 2 | RFLAGS_RF]
    assert rig.word(NEW_TSS, 2) == TSS_32
    assert rig["rflags"] == 2 | RFLAGS_NT


def test_a_software_interrupt_leads_to_a_task_and_back_behind_it() -> None:
    rig = rig_of("int 0x30\n hlt", cpl=3)
    rig.set_gate(0x30, kind=5, selector=NEW, dpl=3)
    rig.put(INSIDE, b"\xcf")
    rig.set_gate(GP, kind=14, target=HANDLERS + 16 * GP)  # HLT in ring 3
    rig.run()
    assert rig.halted_in == GP
    assert rig.words(rig["rsp"], 3, 4) == [0, CODE + 2, CODE32_3]


def test_a_stack_without_room_for_the_error_code_is_a_fault_of_the_new_task() -> None:
    rig = rig_of("mov eax, 0x1234\n mov ds, eax", ss=SPARE, rsp=0x8000)
    rig.put_word(NEW_TSS + FIELDS["ss"], SPARE, 4)
    rig.put_word(GDT + SPARE, descriptor(0x4093, limit=0x7FFB))
    rig.set_gate(GP, kind=5, selector=NEW)
    rig.run()
    assert rig.shared.shutdown  # #SS, #DF and the triple fault use the same stack


def test_a_double_fault_task_finds_a_broken_stack() -> None:
    """What task gates are good for: the handler has a stack of its own."""
    rig = rig_of("nop\n int 0x30")
    rig.set_segment("ss", DATA_0, 0x4093, limit=0xFFF)
    rig["rsp"] = 0x1008
    rig.set_gate(8, kind=5, selector=NEW)
    rig.run()
    assert is_inside(rig)
    assert saved(rig, "eip", "rsp") == [CODE + 1, 0x1008]
    assert rig.word(rig["rsp"], 4) == 0


# --- nonsense --------------------------------------------------------------------------------------------------------


def test_a_task_that_links_to_itself_goes_on_for_ever_and_time_with_it() -> None:
    rig = rig_of(IRET)
    rig.put_word(TSS, TSS_32, 2)
    fill_tss(rig, TSS, eip=CODE, eflags=2 | RFLAGS_NT)
    rig.put(CODE, b"\x81\x0d" + (GDT + TSS_32 + 4).to_bytes(4, "little") + (0x200).to_bytes(4, "little") + b"\xcf")
    rig["rflags"] = 2 | RFLAGS_NT
    rig.run(cycles=5_000)
    assert rig.shared.clock_cycles >= 5_000


def test_a_tss_that_is_nowhere_is_all_ones() -> None:
    rig = rig_of(JMP)
    rig.put_word(GDT + NEW, descriptor(0x89, base=0xF0000000, limit=0x67))
    rig.set_gate(TS, kind=5, selector=SPARE)
    rig.put_word(GDT + SPARE, descriptor(0x89, base=NEW_TSS, limit=0x67))
    rig.run()
    assert is_inside(rig)
    assert rig.word(rig["rsp"], 4) == 0xFFFC


def test_a_tss_across_the_end_of_memory_wraps() -> None:
    rig = rig_of(JMP)
    rig.put_word(GDT + NEW, descriptor(0x89, base=0xFFFFFFF0, limit=0x67))
    rig.run()
    assert rig.is_halted or rig.shared.shutdown


def test_a_tss_across_two_pages_is_saved_and_loaded_whole() -> None:
    rig = rig_of(JMP)
    base = NEW_TSS + 0x1000 - 0x34
    fill_tss(rig, base, rax=1, rdi=2)
    rig.put_word(GDT + NEW, descriptor(0x89, base=base, limit=0x67))
    rig.run()
    assert (is_inside(rig), rig["rax"], rig["rdi"]) == (True, 1, 2)


# --- non-root operation ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "source"), [(CALL, TASK_SWITCH_CALL), (JMP, TASK_SWITCH_JMP), (IRET, TASK_SWITCH_IRET)]
)
def test_in_non_root_operation_it_exits_before_anything_changes(text: str, source: int) -> None:
    rig = rig_of("nop\n" + text, rights=0x8B if source == TASK_SWITCH_IRET else 0x89, non_root=True)
    rig.put_word(TSS, NEW, 2)
    rig["rflags"] = 2 | (RFLAGS_NT if source == TASK_SWITCH_IRET else 0)
    before = rig.memory.read(0, 0x50000)
    (seen,) = rig.run().exits
    length = 1 if source == TASK_SWITCH_IRET else 7
    assert (seen.reason, seen.rip, seen.instruction_bytes, seen.vectoring) == (R.TASK_SWITCH, CODE + 1, length, 0)
    assert decode_task_switch(seen.qualification) == TaskSwitch(NEW, source)
    assert rig.memory.read(0, 0x50000) == before
    assert rig["tr_selector"] == TSS_32


def test_a_task_gate_exits_with_the_selector_of_its_tss() -> None:
    rig = rig_of(far(0xEA, SPARE), non_root=True)
    rig.put_word(GDT + SPARE, NEW << 16 | 0x85 << 40)
    (seen,) = rig.run().exits
    assert decode_task_switch(seen.qualification) == TaskSwitch(NEW, TASK_SWITCH_JMP)


def test_the_exit_of_a_fault_has_rf_as_the_old_tss_would_get_it() -> None:
    rig = rig_of("mov eax, 0x1234\n mov ds, eax", non_root=True)
    rig.set_gate(GP, kind=5, selector=NEW)
    (seen,) = rig.run().exits
    assert decode_task_switch(seen.qualification) == TaskSwitch(NEW, TASK_SWITCH_GATE)
    assert (seen.vectoring, seen.vectoring_error_code) == (0x80000B0D, 0x1234)
    assert rig["rflags"] & RFLAGS_RF
