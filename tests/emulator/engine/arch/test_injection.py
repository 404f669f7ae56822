"""Events that a VM entry injects, and what an exit tells about an event whose delivery it interrupted."""

import pytest

from emulator.engine import FLUSH_ALL, RESUME, Next
from emulator.vmx import controls as c
from emulator.vmx import fields as f
from emulator.vmx.exit_reasons import ExitReason as R
from emulator.x86 import RFLAGS_IF, RFLAGS_RF
from tests.emulator.engine.rig import CODE, EPT, HANDLERS, IST1, STACK0, STACK3, TSS, Exit, P, Rig, W

EXTERNAL, NMI, HARDWARE, SOFT_INT, PRIVILEGED, SOFT_EXCEPTION = 0, 2, 3, 4, 5, 6
VALID, HAS_ERROR = 1 << 31, 1 << 11


def inject(rig: Rig, vector: int, type_: int, *, error: int | None = None, length: int = 0) -> None:
    rig.vmcs.write(f.VM_ENTRY_EXCEPTION_ERROR_CODE, error or 0)
    rig.vmcs.write(f.VM_ENTRY_INSTRUCTION_LENGTH, length)
    rig.vmcs.write(
        f.VM_ENTRY_INTERRUPTION_INFORMATION, VALID | type_ << 8 | vector | (HAS_ERROR if error is not None else 0)
    )


# type, vector, error code, length; the pushed RIP's offset and RF
INJECTED = {
    "external interrupt": (EXTERNAL, 0x40, None, 0, 0, 0),
    "NMI": (NMI, 2, None, 0, 0, 0),
    "hardware exception": (HARDWARE, 13, 0x1234, 0, 0, RFLAGS_RF),
    "hardware exception without error code": (HARDWARE, 6, None, 0, 0, RFLAGS_RF),
    "software interrupt": (SOFT_INT, 0x40, None, 2, 2, 0),
    "software interrupt with prefixes": (SOFT_INT, 0x40, None, 5, 5, 0),
    "ICEBP": (PRIVILEGED, 1, None, 1, 1, 0),
    "INT3": (SOFT_EXCEPTION, 3, None, 1, 1, 0),
}


@pytest.mark.parametrize("is_enabled", [False, True])
@pytest.mark.parametrize("name", INJECTED)
def test_an_injected_event_is_delivered_through_the_idt(name: str, is_enabled: bool) -> None:
    type_, vector, error, length, offset, rf = INJECTED[name]
    rig = Rig("nop", non_root=True)
    rig["rflags"] = 2 | (RFLAGS_IF if is_enabled else 0)
    rig.vmcs.write(f.EXCEPTION_BITMAP, 0xFFFFFFFF)  # it does not cause an exit by itself (SDM 3C 27.6.1)
    inject(rig, vector, type_, error=error, length=length)
    rig.run()
    assert (rig.halted_in, rig.exits) == (vector, [])
    frame = rig.words(rig["rsp"], 6 if error is not None else 5)
    assert frame[-5] == CODE + offset
    assert frame[-3] == 2 | rf | (RFLAGS_IF if is_enabled else 0)
    assert error is None or frame[0] == error
    assert not rig.vmcs.read(f.VM_ENTRY_INTERRUPTION_INFORMATION) & VALID


def test_an_injected_page_fault_leaves_cr2_to_the_vmm() -> None:
    rig = Rig("nop", non_root=True)
    rig.shared.cr2 = 0xABC
    inject(rig, 14, HARDWARE, error=2)
    rig.run()
    assert (rig.halted_in, rig.shared.cr2) == (14, 0xABC)


def test_an_injected_event_wakes_a_halted_guest() -> None:
    rig = Rig("hlt", non_root=True).run()
    assert rig.is_halted
    inject(rig, 0x40, EXTERNAL)
    rig.run()
    assert rig.halted_in == 0x40
    assert rig.word(rig["rsp"]) == CODE + 1


def test_an_event_is_injected_before_a_pending_interrupt_exits() -> None:
    rig = Rig("nop", non_root=True)
    rig.set_control(f.PIN_BASED_CONTROLS, c.PIN_EXTERNAL_INTERRUPT_EXITING)
    rig.shared.interrupt_pending = 1
    inject(rig, 0x40, EXTERNAL)
    rig.run()
    assert [(seen.reason, seen.rip) for seen in rig.exits] == [(R.EXTERNAL_INTERRUPT, HANDLERS + 0x400)]


def test_an_event_injected_from_an_exit_is_delivered_before_the_next_instruction() -> None:
    rig = Rig("nop\n cpuid\n nop", non_root=True)

    def answer(_seen: Exit) -> Next:
        inject(rig, 13, HARDWARE, error=0)
        return RESUME

    rig.on_exit = answer
    rig.run()
    assert rig.halted_in == 13
    assert rig.words(rig["rsp"], 2) == [0, CODE + 1]


def test_an_int_injected_into_ring_3_looks_at_the_gates_dpl() -> None:
    rig = Rig("nop", cpl=3, non_root=True)
    inject(rig, 0x40, SOFT_INT, length=2)
    rig.run()
    assert rig.halted_in == 13
    assert rig.words(rig["rsp"], 2) == [0x40 * 8 + 2, CODE]
    rig = Rig("nop", cpl=3, non_root=True)
    inject(rig, 0x40, EXTERNAL)
    rig.run()
    assert rig.halted_in == 0x40


# --- IDT-vectoring information ----------------------------------------------------------------------------------------

# the event that is delivered: type, vector, error code, length
VECTORED = {
    "external interrupt": (EXTERNAL, 0x40, None, 0),
    "hardware exception": (HARDWARE, 13, 0x1234, 0),
    "software interrupt": (SOFT_INT, 0x40, None, 2),
    "INT3": (SOFT_EXCEPTION, 3, None, 1),
}


@pytest.mark.parametrize("name", VECTORED)
def test_an_exit_from_a_delivery_tells_what_was_being_delivered(name: str) -> None:
    type_, vector, error, length = VECTORED[name]
    rig = Rig("nop", non_root=True)
    rig.vmcs.write(f.EXCEPTION_BITMAP, 1 << 14)
    rig.set_page(STACK0 - 8, 0)
    inject(rig, vector, type_, error=error, length=length)
    rig.run()
    (seen,) = rig.exits
    assert (seen.reason, seen.information, seen.error_code) == (R.EXCEPTION_NMI, 0x80000B0E, 2)
    assert seen.qualification == STACK0 - 8
    assert seen.vectoring == VALID | type_ << 8 | vector | (HAS_ERROR if error is not None else 0)
    assert error is None or seen.vectoring_error_code == error
    assert seen.instruction_bytes == length
    assert (seen.rip, rig["rsp"]) == (CODE, STACK0)


def test_the_delivery_can_be_repeated_from_the_vectoring_information() -> None:
    """What a VMM does about a fault of its own shadow tables."""
    rig = Rig("nop\n int 0x40", cpl=3, non_root=True)
    rig.set_gate(0x40, dpl=3)
    rig.vmcs.write(f.EXCEPTION_BITMAP, 1 << 14)
    rig.set_page(STACK0 - 8, 0)

    def repair(seen: Exit) -> Next:
        rig.set_page(STACK0 - 8, STACK0 - 0x1000 | P | W)
        rig.shared.flush_tlb = FLUSH_ALL
        rig.vmcs.write(f.VM_ENTRY_INTERRUPTION_INFORMATION, seen.vectoring)
        rig.vmcs.write(f.VM_ENTRY_INSTRUCTION_LENGTH, seen.instruction_bytes)
        return RESUME

    rig.on_exit = repair
    rig.run()
    assert len(rig.exits) == 1
    assert rig.halted_in == 0x40
    assert rig.words(rig["rsp"], 1) + rig.words(rig["rsp"] + 24, 1) == [CODE + 3, STACK3]


def test_the_vectoring_information_is_gone_at_the_next_exit() -> None:
    rig = Rig("nop", non_root=True)
    rig.vmcs.write(f.EXCEPTION_BITMAP, 1 << 14)
    rig.set_page(STACK0 - 8, 0)
    inject(rig, 0x40, EXTERNAL)
    rig.run()
    rig.put(CODE, b"\x0f\xa2")
    rig.run()
    assert [(seen.reason, seen.vectoring) for seen in rig.exits] == [(R.EXCEPTION_NMI, 0x80000040), (R.CPUID, 0)]


def test_what_an_exit_tells_stays_until_the_next_exit() -> None:
    rig = Rig("nop", non_root=True)
    rig.vmcs.write(f.EXCEPTION_BITMAP, 1 << 14)
    rig.set_page(STACK0 - 8, 0)
    inject(rig, 13, HARDWARE, error=0x1234)
    told = [f.VM_EXIT_INTERRUPTION_INFORMATION, f.VM_EXIT_INTERRUPTION_ERROR_CODE]
    told += [f.IDT_VECTORING_INFORMATION, f.IDT_VECTORING_ERROR_CODE]
    rig.run()
    assert [rig.vmcs.read(field) for field in told] == [0x80000B0E, 2, 0x80000B0D, 0x1234]
    rig.put(CODE, b"\xeb\x00\x0f\xa2")  # JMP to CPUID
    rig.run(1)
    assert [rig.vmcs.read(field) for field in told] == [0x80000B0E, 2, 0x80000B0D, 0x1234]
    rig.run()
    assert [seen.reason for seen in rig.exits] == [R.EXCEPTION_NMI, R.CPUID]
    assert [rig.vmcs.read(field) for field in told] == [0, 0, 0, 0]


@pytest.mark.parametrize(("bitmap", "exits"), [(1 << 11, 0x80000B0B), (1 << 8, 0x80000B08)])
def test_the_second_fault_exits_by_its_own_bit_or_as_a_double_fault(bitmap: int, exits: int) -> None:
    rig = Rig("xor ecx, ecx\n div ecx", non_root=True)
    rig.set_gate(0, present=False)
    rig.vmcs.write(f.EXCEPTION_BITMAP, bitmap)
    rig.run()
    (seen,) = rig.exits
    assert (seen.information, seen.vectoring) == (exits, 0x80000300)


def test_an_ept_violation_of_a_delivery_tells_it_too() -> None:
    rig = Rig("int 0x40", non_root=True)
    for i, table in enumerate((EPT, EPT + 0x1000, EPT + 0x2000)):
        rig.put_word(table, EPT + 0x1000 * (i + 1) | 7)
    for page in range(512):
        rig.put_word(EPT + 0x3000 + page * 8, page << 12 | 7 | 6 << 3)
    rig.put_word(EPT + 0x3000 + (STACK0 - 8 >> 12) * 8, 0)
    rig.vmcs.write(f.EPT_POINTER, EPT | 6 | 3 << 3)
    rig.set_control(f.SECONDARY_PROCESSOR_BASED_CONTROLS, c.PROC2_ENABLE_EPT)
    rig.run()
    (seen,) = rig.exits
    assert (seen.reason, seen.vectoring, seen.instruction_bytes) == (R.EPT_VIOLATION, 0x80000440, 2)
    assert (seen.gpa, seen.linear, seen.qualification) == (STACK0 - 8, STACK0 - 8, 0x182)


def test_an_ist_stack_that_is_missing_is_told_with_the_ists_address() -> None:
    rig = Rig("nop", non_root=True)
    rig.set_gate(0x40, ist=1)
    rig.set_page(IST1 - 8, 0)
    rig.put_word(TSS + 0x24, IST1)
    rig.vmcs.write(f.EXCEPTION_BITMAP, 1 << 14)
    inject(rig, 0x40, EXTERNAL)
    rig.run()
    assert [seen.qualification for seen in rig.exits] == [IST1 - 8]
