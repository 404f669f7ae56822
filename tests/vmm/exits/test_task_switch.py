"""The VMM switches tasks: what it saves, loads, marks and charges, and whose fault is what. On fakes: nothing runs."""

import pytest

from emulator.vmx import fields as f
from emulator.vmx import interruption as i
from emulator.vmx.guest_state import BLOCKING_BY_NMI, BLOCKING_BY_STI
from emulator.vmx.qualifications import (
    TASK_SWITCH_CALL,
    TASK_SWITCH_GATE,
    TASK_SWITCH_IRET,
    TASK_SWITCH_JMP,
    TaskSwitch,
)
from emulator.x86 import (
    CR0_NE,
    CR0_PE,
    CR0_PG,
    CR0_TS,
    CR4_PAE,
    DEBUG_EXCEPTION,
    DOUBLE_FAULT,
    DR6_BT,
    GENERAL_PROTECTION,
    INVALID_TSS,
    NMI_VECTOR,
    PAGE_FAULT,
    RFLAGS_NT,
    RFLAGS_RF,
    RFLAGS_VM,
    SEGMENT_NOT_PRESENT,
    STACK_FAULT,
)
from tests.emulator.engine.rig import descriptor
from tests.vmm.fakes import Bench, exception
from vmm.cost import paths
from vmm.exits.task_segments import CS, DS, ES, FS, GS, LDTR, SS, TR, Segment, read_segment, write_segment
from vmm.exits.task_switch import handle_task_switch
from vmm.outcome import AGAIN, MOVED, EndKind

CODE, DATA, OLD, NEW, LDT, SPARE = 0x08, 0x10, 0x18, 0x20, 0x28, 0x30
GDT, GDT_LIMIT, OLD_TSS, NEW_TSS, LDT_TABLE, STACK = 0x1000, 0x37, 0x2000, 0x3000, 0x4000, 0x6000
DIRECTORY, TABLE = 0x8000, 0x9000
RIP, TASK, OLD_FLAGS, LENGTH = 0x5000, 0x7000, 0x202, 7
REGISTERS = [0x1111 * (number + 1) for number in range(8)]


class Switch:
    """A vCPU of 32-bit code without paging that switches from the task of OLD to that of NEW."""

    def __init__(self, source: int = TASK_SWITCH_JMP, *, event: i.Interruption | None = None, **changes: int) -> None:
        self.bench = Bench()
        self.vcpu = self.bench.vcpu
        self.source = source
        self.bench.paging.efer = 0
        self.bench.set({
            f.GUEST_CR0: CR0_PE | CR0_NE, f.CR0_GUEST_HOST_MASK: 0, f.GUEST_CR4: 0, f.CR4_GUEST_HOST_MASK: 0,
            f.GUEST_GDTR_BASE: GDT, f.GUEST_GDTR_LIMIT: GDT_LIMIT, f.GUEST_RIP: RIP, f.GUEST_RFLAGS: OLD_FLAGS,
            f.GUEST_RSP: REGISTERS[4], f.VM_EXIT_INSTRUCTION_LENGTH: LENGTH,
            f.EXIT_QUALIFICATION: TaskSwitch(NEW, source).pack(),
            f.IDT_VECTORING_INFORMATION: event.pack() if event else 0, f.IDT_VECTORING_ERROR_CODE: 0xABC,
        })  # fmt: skip
        self.vcpu.gpr[:8] = memoryview(bytearray(64)).cast("Q")
        for index, value in enumerate(REGISTERS):
            self.vcpu.write_gpr(index, value)
        for index in (ES, SS, DS, FS, GS):
            write_segment(self.vcpu, index, Segment(DATA, 0, 0xFFFFFFFF, 0xC093))
        write_segment(self.vcpu, CS, Segment(CODE, 0, 0xFFFFFFFF, 0xC09B))
        write_segment(self.vcpu, LDTR, Segment(0))
        write_segment(self.vcpu, TR, Segment(OLD, OLD_TSS, 0x67, 0x8B))
        self.describe(CODE, 0xC09B)
        self.describe(DATA, 0xC093)
        self.describe(OLD, 0x8B, base=OLD_TSS, limit=0x67)
        self.describe(NEW, 0x8B if source == TASK_SWITCH_IRET else 0x89, base=NEW_TSS, limit=0x67)
        self.describe(LDT, 0x82, base=LDT_TABLE, limit=7)
        new = {"cr3": 0, "eip": TASK, "eflags": 2, "esp": STACK, "es": DATA, "cs": CODE, "ss": DATA, "ds": DATA}
        for name, value in (new | {"fs": DATA, "gs": DATA} | changes).items():
            self.put(NEW_TSS + AT[name], value)
        self.before = self.memory

    def describe(self, selector: int, rights: int, *, base: int = 0, limit: int = 0xFFFFF) -> None:
        self.bench.domain.write(GDT + selector, descriptor(rights, base=base, limit=limit).to_bytes(8, "little"))

    def put(self, gpa: int, value: int, size_bytes: int = 4) -> None:
        self.bench.domain.write(gpa, value.to_bytes(size_bytes, "little"))

    def word(self, gpa: int, size_bytes: int = 4) -> int:
        return int.from_bytes(self.bench.domain.read(gpa, size_bytes), "little")

    def saved(self, *names: str) -> list[int]:
        return [self.word(OLD_TSS + AT[name]) for name in names]

    @property
    def memory(self) -> bytes:
        return self.bench.domain.read(0, 0x8000)

    @property
    def types(self) -> tuple[int, int]:
        """Of the old TSS and of the new: 9 free, 11 busy."""
        return self.word(GDT + OLD + 5, 1) & 15, self.word(GDT + NEW + 5, 1) & 15

    def paged(self, *, writable: bool = True) -> "Switch":
        """All pages are their own; that of the new TSS may be read-only."""
        self.put(DIRECTORY, TABLE | 3)
        for page in range(16):
            self.put(TABLE + 4 * page, page << 12 | (3 if writable or page << 12 != NEW_TSS else 1))
        self.bench.set({f.GUEST_CR0: CR0_PE | CR0_NE | CR0_PG | 1 << 16})
        self.bench.paging.cr3 = DIRECTORY
        return self

    def go(self) -> "Switch":
        assert handle_task_switch(self.vcpu) is MOVED
        return self

    def fault(self) -> tuple[int, int]:
        """Vector and error code of the exception that comes of it."""
        assert handle_task_switch(self.vcpu) is AGAIN
        injected = self.bench.injected
        assert injected is not None
        assert injected.type == i.HARDWARE_EXCEPTION
        return injected.vector, self.bench.injected_error_code


NAMES = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs")
AT = {"cr3": 28, "eip": 32, "eflags": 36, "ldt": 96, "trap": 100}
AT |= {name: 40 + 4 * number for number, name in enumerate(NAMES)}
AT |= {name: 72 + 4 * number for number, name in enumerate(SEGMENTS)}


# --- what becomes of both tasks ---------------------------------------------------------------------------------------


def test_the_old_task_is_saved_as_it_goes_on_behind_the_instruction() -> None:
    switch = Switch().go()
    assert switch.saved(*NAMES) == REGISTERS
    assert switch.saved("eip", "eflags") == [RIP + LENGTH, OLD_FLAGS]
    assert switch.saved(*SEGMENTS) == [DATA, CODE, DATA, DATA, DATA, DATA]


def test_the_new_task_is_loaded() -> None:
    switch = Switch(eax=7, edi=9, fs=3, ldt=LDT, gs=4)
    switch.put(LDT_TABLE, descriptor(0xC0F3, base=0x123), 8)
    vcpu = switch.go().vcpu
    assert (vcpu.read_gpr(0), vcpu.read_gpr(4), vcpu.read_gpr(7)) == (7, STACK, 9)
    assert (vcpu.read(f.GUEST_RIP), vcpu.read(f.GUEST_RFLAGS)) == (TASK, 2)
    assert read_segment(vcpu, TR) == Segment(NEW, NEW_TSS, 0x67, 0x8B)
    assert read_segment(vcpu, LDTR) == Segment(LDT, LDT_TABLE, 7, 0x82)
    assert read_segment(vcpu, GS) == Segment(4, 0x123, 0xFFFFFFFF, 0xC0F3)
    assert read_segment(vcpu, FS) == Segment(3)
    assert vcpu.read(f.GUEST_CR0) & CR0_TS
    assert switch.bench.injected is None


@pytest.mark.parametrize(
    ("source", "types", "link", "nests"),
    [
        (TASK_SWITCH_CALL, (11, 11), OLD, True),
        (TASK_SWITCH_GATE, (11, 11), OLD, True),
        (TASK_SWITCH_JMP, (9, 11), 0, False),
        (TASK_SWITCH_IRET, (9, 11), 0, False),
    ],
)
def test_links_busy_bits_and_nt(source: int, types: tuple[int, int], link: int, nests: bool) -> None:
    switch = Switch(source, event=i.Interruption(0x30, i.EXTERNAL_INTERRUPT) if source == TASK_SWITCH_GATE else None)
    switch.bench.set({f.GUEST_RFLAGS: OLD_FLAGS | RFLAGS_NT})
    switch.go()
    assert (switch.types, switch.word(NEW_TSS, 2)) == (types, link)
    assert bool(switch.vcpu.read(f.GUEST_RFLAGS) & RFLAGS_NT) == nests
    assert switch.saved("eflags") == [OLD_FLAGS | (0 if source == TASK_SWITCH_IRET else RFLAGS_NT)]


def test_a_16_bit_task_has_words() -> None:
    switch = Switch(TASK_SWITCH_CALL)
    switch.bench.domain.write(NEW_TSS, bytes(0x68))
    for at, value in {14: TASK, 16: 2, 18: 0x4321, 26: 0x800, 34: DATA, 36: CODE, 38: DATA, 40: DATA}.items():
        switch.put(NEW_TSS + at, value, 2)
    switch.describe(NEW, 0x81, base=NEW_TSS, limit=0x2B)
    vcpu = switch.go().vcpu
    assert (vcpu.read_gpr(0), vcpu.read(f.GUEST_RIP), vcpu.read(f.GUEST_FS_SELECTOR)) == (0xFFFF4321, TASK, 0)
    assert vcpu.read(f.GUEST_TR_ACCESS_RIGHTS) == 0x83


def test_from_a_16_bit_task_only_its_words_are_written() -> None:
    switch = Switch()
    write_segment(switch.vcpu, TR, Segment(OLD, OLD_TSS, 0x2B, 0x83))
    switch.bench.domain.write(OLD_TSS, b"\xee" * 0x68)
    switch.go()
    data = switch.bench.domain.read(OLD_TSS, 0x68)
    assert data[:14] == b"\xee" * 14
    assert data[14:18] == (RIP + LENGTH).to_bytes(2, "little") + OLD_FLAGS.to_bytes(2, "little")
    assert data[42:] == b"\xee" * 62


def test_a_virtual_8086_task_has_segments_times_16() -> None:
    switch = Switch(eflags=RFLAGS_VM | 2, cs=0x1234, ss=0x2000, es=0, ds=0, fs=0, gs=0xFFFF)
    vcpu = switch.go().vcpu
    assert read_segment(vcpu, CS) == Segment(0x1234, 0x12340, 0xFFFF, 0xF3)
    assert read_segment(vcpu, GS) == Segment(0xFFFF, 0xFFFF0, 0xFFFF, 0xF3)


def test_cr3_goes_the_way_of_mov_to_cr3_where_it_changes() -> None:
    same, other = Switch(cr3=DIRECTORY).paged().go(), Switch(cr3=DIRECTORY + 0x2000).paged()
    other.bench.domain.write(DIRECTORY + 0x2000, other.bench.domain.read(DIRECTORY, 4))
    other.go()
    calls = [[call for call in each.bench.paging.asked if call[0] == "write_cr3"] for each in (same, other)]
    assert calls == [[], [("write_cr3", DIRECTORY + 0x2000)]]


def test_malformed_pdptes_are_a_fault_of_the_new_task() -> None:
    switch = Switch(cr3=0x6000)
    switch.put(0x6000, 1 << 1 | 1, 8)
    switch.bench.set({f.GUEST_CR0: CR0_PE | CR0_NE | CR0_PG, f.GUEST_CR4: CR4_PAE})
    switch.bench.paging.cr3 = DIRECTORY
    switch.put(DIRECTORY, TABLE | 1, 8)
    switch.put(TABLE, 0x83, 8)
    assert switch.fault() == (GENERAL_PROTECTION, 0)
    assert switch.vcpu.read(f.GUEST_TR_SELECTOR) == NEW


def test_what_the_vmm_stores_the_shadows_hear_of() -> None:
    switch = Switch(TASK_SWITCH_CALL).go()
    written = {call[1] for call in switch.bench.paging.asked if call[0] == "guest_memory_written"}
    assert written == {OLD_TSS + 32, NEW_TSS, GDT + NEW + 5}


def test_blocking_by_sti_ends_and_blocking_by_nmi_stays() -> None:
    switch = Switch(TASK_SWITCH_GATE, event=i.Interruption(NMI_VECTOR, i.NMI))
    switch.bench.set({f.GUEST_INTERRUPTIBILITY_STATE: BLOCKING_BY_STI | BLOCKING_BY_NMI})
    switch.go()
    assert switch.vcpu.read(f.GUEST_INTERRUPTIBILITY_STATE) == BLOCKING_BY_NMI
    assert switch.saved("eip") == [RIP]


def test_local_breakpoints_end_and_the_t_bit_traps() -> None:
    switch = Switch(trap=1)
    switch.bench.set({f.GUEST_DR7: 0x7FF})
    switch.go()
    assert switch.vcpu.read(f.GUEST_DR7) == 0x6AA
    assert switch.bench.injected == exception(DEBUG_EXCEPTION)
    assert switch.bench.engine.shared.dr6 == DR6_BT


def test_segments_that_were_not_accessed_are_now() -> None:
    switch = Switch()
    switch.describe(DATA, 0xC092)
    switch.go()
    assert switch.word(GDT + DATA + 5, 1) == 0x93


def test_it_charges_its_paths_and_the_memory_it_touches() -> None:
    switch = Switch().go()
    meter = switch.bench.meter
    assert meter.followed.count(paths.TASK_SWITCH) == 1
    assert meter.followed.count(paths.LOAD_SEGMENT) == 6
    hpa_of = switch.bench.domain.hpa_of
    assert (hpa_of(OLD_TSS + 32), 64, True) in meter.touched
    assert (hpa_of(NEW_TSS), 0x68, False) in meter.touched


# --- events -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "rip", "pushed"),
    [
        (i.Interruption(0x30, i.SOFTWARE_INTERRUPT), RIP + LENGTH, []),
        (i.Interruption(3, i.SOFTWARE_EXCEPTION), RIP + LENGTH, []),
        (i.Interruption(0x30, i.EXTERNAL_INTERRUPT), RIP, []),
        (i.Interruption(GENERAL_PROTECTION, i.HARDWARE_EXCEPTION, has_error_code=True), RIP, [0xABC]),
    ],
)
def test_an_event_goes_on_where_it_was_and_pushes_its_error_code(
    event: i.Interruption, rip: int, pushed: list[int]
) -> None:
    switch = Switch(TASK_SWITCH_GATE, event=event)
    switch.bench.set({f.GUEST_RFLAGS: OLD_FLAGS | RFLAGS_RF})
    switch.go()
    assert switch.saved("eip", "eflags") == [rip, OLD_FLAGS | RFLAGS_RF]
    assert switch.vcpu.read(f.GUEST_RSP) == STACK - 4 * len(pushed)
    assert [switch.word(STACK - 4)] == (pushed or [0])


def test_no_room_for_the_error_code_on_top_of_a_fault_is_a_double_fault() -> None:
    event = i.Interruption(GENERAL_PROTECTION, i.HARDWARE_EXCEPTION, has_error_code=True)
    switch = Switch(TASK_SWITCH_GATE, event=event, ss=SPARE)
    switch.describe(SPARE, 0x4093, limit=STACK - 8)
    assert switch.fault() == (DOUBLE_FAULT, 0)


def test_a_task_for_double_faults_that_fails_shuts_down() -> None:
    event = i.Interruption(DOUBLE_FAULT, i.HARDWARE_EXCEPTION, has_error_code=True)
    switch = Switch(TASK_SWITCH_GATE, event=event, ss=0)
    assert handle_task_switch(switch.vcpu) is AGAIN
    end = switch.bench.domain.end
    assert end is not None
    assert end.kind is EndKind.TRIPLE_FAULT


@pytest.mark.parametrize(("type_", "ext"), [(i.EXTERNAL_INTERRUPT, 1), (i.SOFTWARE_INTERRUPT, 0)])
def test_ext_tells_of_an_event_from_outside(type_: int, ext: int) -> None:
    switch = Switch(TASK_SWITCH_GATE, event=i.Interruption(0x30, type_))
    switch.describe(NEW, 0x09, base=NEW_TSS, limit=0x67)
    assert switch.fault() == (SEGMENT_NOT_PRESENT, NEW | ext)


# --- faults -----------------------------------------------------------------------------------------------------------

OLD_FAULTS = {
    "busy": (TASK_SWITCH_JMP, (0x8B, 0x67), (GENERAL_PROTECTION, NEW)),
    "free, by IRET": (TASK_SWITCH_IRET, (0x89, 0x67), (INVALID_TSS, NEW)),
    "data": (TASK_SWITCH_CALL, (0x93, 0x67), (GENERAL_PROTECTION, NEW)),
    "not present": (TASK_SWITCH_CALL, (0x09, 0x67), (SEGMENT_NOT_PRESENT, NEW)),
    "too short": (TASK_SWITCH_CALL, (0x89, 0x66), (INVALID_TSS, NEW)),
    "too short for 16 bits": (TASK_SWITCH_CALL, (0x81, 0x2A), (INVALID_TSS, NEW)),
}


@pytest.mark.parametrize("name", OLD_FAULTS)
def test_a_fault_of_the_old_task_changes_nothing(name: str) -> None:
    source, (rights, limit), fault = OLD_FAULTS[name]
    switch = Switch(source)
    switch.describe(NEW, rights, base=NEW_TSS, limit=limit)
    before = switch.memory
    assert switch.fault() == fault
    assert switch.memory == before
    assert switch.vcpu.read(f.GUEST_RIP) == RIP
    assert switch.vcpu.read(f.GUEST_TR_SELECTOR) == OLD


def test_a_tss_in_use_that_is_too_short_is_one() -> None:
    switch = Switch()
    switch.bench.set({f.GUEST_TR_LIMIT: 0x5E})
    assert switch.fault() == (INVALID_TSS, OLD)


def test_a_tss_that_cannot_be_linked_is_a_page_fault_of_the_old_task() -> None:
    switch = Switch(TASK_SWITCH_CALL, cr3=DIRECTORY).paged(writable=False)
    assert switch.fault() == (PAGE_FAULT, 3)
    assert switch.bench.engine.shared.cr2 == NEW_TSS
    assert switch.memory == switch.before


NEW_FAULTS = {
    "an LDT in the LDT": ({"ldt": 4}, 0, (INVALID_TSS, 4)),
    "no LDT": ({"ldt": DATA}, 0, (INVALID_TSS, DATA)),
    "an LDT that is not present": ({"ldt": SPARE}, 0x02, (INVALID_TSS, SPARE)),
    "a null CS": ({"cs": 0}, 0, (INVALID_TSS, 0)),
    "CS that is data": ({"cs": DATA}, 0, (INVALID_TSS, DATA)),
    "CS of another level": ({"cs": SPARE}, 0xC0FB, (INVALID_TSS, SPARE)),
    "conforming code of an outer level": ({"cs": SPARE}, 0xC0FF, (INVALID_TSS, SPARE)),
    "CS that is not present": ({"cs": SPARE}, 0xC01B, (SEGMENT_NOT_PRESENT, SPARE)),
    "SS that is read-only": ({"ss": SPARE}, 0xC091, (INVALID_TSS, SPARE)),
    "SS of another level": ({"ss": SPARE}, 0xC0F3, (INVALID_TSS, SPARE)),
    "SS that is not present": ({"ss": SPARE}, 0xC013, (STACK_FAULT, SPARE)),
    "DS beyond the GDT": ({"ds": 0x38}, 0, (INVALID_TSS, 0x38)),
    "ES in no LDT": ({"es": 4}, 0, (INVALID_TSS, 4)),
    "FS with an RPL above its level": ({"fs": DATA | 3}, 0, (INVALID_TSS, DATA)),
    "GS that cannot be read": ({"gs": SPARE}, 0xC099, (INVALID_TSS, SPARE)),
    "GS that is not present": ({"gs": SPARE}, 0xC013, (SEGMENT_NOT_PRESENT, SPARE)),
    "EIP beyond CS": ({"cs": SPARE}, 0x409B, (GENERAL_PROTECTION, 0)),
}


@pytest.mark.parametrize("name", NEW_FAULTS)
def test_a_fault_of_the_new_task_finds_it_loaded_and_can_be_entered(name: str) -> None:
    changes, rights, fault = NEW_FAULTS[name]
    switch = Switch()
    for field, value in changes.items():
        switch.put(NEW_TSS + AT[field], value)
    switch.describe(SPARE, rights, limit=0x100)
    assert switch.fault() == fault
    vcpu = switch.vcpu
    assert (vcpu.read(f.GUEST_RIP), vcpu.read(f.GUEST_TR_SELECTOR), vcpu.read(f.GUEST_RSP)) == (TASK, NEW, STACK)
    assert switch.saved("eip") == [RIP + LENGTH]
    assert read_segment(vcpu, CS).rights & 0x9F == 0x9B


# --- nonsense ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [0xFEE00000, 0x7FFFFFF0, 0xFFFFFFF0])
def test_a_tss_in_a_device_nowhere_or_over_the_end_is_all_ones_there(base: int) -> None:
    switch = Switch(TASK_SWITCH_CALL)
    switch.describe(NEW, 0x89, base=base, limit=0x67)
    if base == 0xFFFFFFF0:  # it goes on at 0, which is all zeros
        assert switch.fault() == (INVALID_TSS, 0)
    else:
        assert switch.fault() == (INVALID_TSS, 0xFFFC)


def test_an_old_tss_in_a_device_is_not_written() -> None:
    switch = Switch()
    switch.bench.set({f.GUEST_TR_BASE: 0xFEE00000})
    apic = switch.vcpu.apic
    before = apic.read(0x20, 4), apic.read(0x80, 4)
    switch.go()
    assert (apic.read(0x20, 4), apic.read(0x80, 4)) == before


def test_a_task_that_links_to_itself_is_saved_and_loaded_again() -> None:
    switch = Switch(TASK_SWITCH_IRET)
    switch.bench.set({f.GUEST_TR_SELECTOR: NEW, f.GUEST_TR_BASE: NEW_TSS})
    vcpu = switch.go().vcpu
    assert (vcpu.read(f.GUEST_RIP), vcpu.read(f.GUEST_TR_ACCESS_RIGHTS)) == (RIP + LENGTH, 0x8B)
    assert switch.types[1] == 9
