"""IN, OUT, INS and OUTS: registers, the bus, where strings stop, and what is charged."""

import pytest

from emulator.vmx import fields as f
from emulator.vmx.qualifications import IoAccess
from emulator.x86 import CR0_PE, CR0_PG, PAGE_FAULT, PF_WRITE, RAX, RCX, RDI, RFLAGS_DF, RSI
from tests.emulator.vmx.examples import CODE_32
from tests.vmm.fakes import Bench, Latch, exception
from vmm.cost import paths
from vmm.exits.port_io import ELEMENTS_MAX, handle_io
from vmm.outcome import AGAIN, NEXT, Outcome

PORT, NOBODY = 0x700, 0x7F0
RAX_BEFORE = 0x1122_3344_5566_7788
AT = 0x8000
ADDRESS_16, ADDRESS_32, ADDRESS_64 = 0, 1, 2  # address size in the VM-exit instruction information, bits 9:7
DS = 3 << 15
UPPER = 0xABCD_0000_0000_0000


def bench_with(*answers: int) -> tuple[Bench, Latch]:
    """32-bit code without paging, and a device at PORT."""
    bench, latch = Bench(), Latch(*answers)
    bench.domain.ports.attach(PORT, 8, latch)
    bench.set({f.GUEST_CR0: CR0_PE, f.GUEST_CS_ACCESS_RIGHTS: CODE_32})
    bench.paging.efer = 0
    bench.gpr[RAX] = RAX_BEFORE
    return bench, latch


def io(bench: Bench, access: IoAccess) -> Outcome:
    bench.set({f.EXIT_QUALIFICATION: access.pack()})
    return handle_io(bench.vcpu)


def outs(
    bench: Bench, count: int | None = None, *, at: int = AT, size_bytes: int = 1, address_size: int = ADDRESS_32
) -> Outcome:
    """OUTS from `at`, with REP when there is a `count`."""
    bench.gpr[RSI] = at
    if count is not None:
        bench.gpr[RCX] = count
    bench.set({f.VM_EXIT_INSTRUCTION_INFORMATION: address_size << 7 | DS, f.GUEST_LINEAR_ADDRESS: at})
    return io(bench, IoAccess(PORT, size_bytes, is_in=False, is_string=True, is_rep=count is not None))


def ins(bench: Bench, count: int, *, size_bytes: int = 1) -> Outcome:
    """REP INS to AT."""
    bench.gpr[RDI], bench.gpr[RCX] = AT, count
    bench.set({f.VM_EXIT_INSTRUCTION_INFORMATION: ADDRESS_32 << 7, f.GUEST_LINEAR_ADDRESS: AT})
    return io(bench, IoAccess(PORT, size_bytes, is_in=True, is_string=True, is_rep=True))


def bytes_written(latch: Latch) -> list[int]:
    return [value for _, _, value in latch.written]


# --- IN and OUT


@pytest.mark.parametrize(
    ("size_bytes", "rax"),
    [(1, 0x1122_3344_5566_77A1), (2, 0x1122_3344_5566_B2A1), (4, 0xD4C3_B2A1)],
    ids=["AL", "AX", "EAX clears bits 63:32"],
)
def test_in_changes_as_much_of_rax_as_it_is_wide(size_bytes: int, rax: int) -> None:
    bench, _ = bench_with(0xD4C3_B2A1)
    assert io(bench, IoAccess(PORT, size_bytes, is_in=True)) is NEXT
    assert bench.gpr[RAX] == rax


@pytest.mark.parametrize(("size_bytes", "value"), [(1, 0x88), (2, 0x7788), (4, 0x5566_7788)])
def test_out_writes_as_much_of_rax_as_it_is_wide(size_bytes: int, value: int) -> None:
    bench, latch = bench_with()
    assert io(bench, IoAccess(PORT + 4, size_bytes, is_in=False)) is NEXT
    assert latch.written == [(4, size_bytes, value)]
    assert bench.gpr[RAX] == RAX_BEFORE


def test_a_port_without_a_device_reads_all_ones() -> None:
    bench, _ = bench_with()
    io(bench, IoAccess(NOBODY, 2, is_in=True))
    assert bench.gpr[RAX] == RAX_BEFORE | 0xFFFF


def test_an_access_is_decoded_goes_to_the_port_and_then_the_core_serves_the_timers() -> None:
    bench, _ = bench_with()
    io(bench, IoAccess(PORT, 1, is_in=False))
    assert bench.meter.followed == [paths.IO_DECODE, paths.PORT]
    assert bench.core.asked == ["serve"]


def test_devices_have_the_cores_time_when_they_are_accessed() -> None:
    bench, _ = bench_with()
    ran: list[str] = []
    bench.domain.timers.schedule(0, lambda: ran.append("board"))
    bench.vcpu.timers.schedule(0, lambda: ran.append("APIC"))
    io(bench, IoAccess(PORT, 1, is_in=False))
    assert sorted(ran) == ["APIC", "board"]


# --- strings


def test_outs_without_rep_moves_one_element_and_not_rcx() -> None:
    bench, latch = bench_with()
    bench.domain.write(AT, b"\x34\x12")
    bench.gpr[RCX] = 5
    assert outs(bench, size_bytes=2) is NEXT
    assert latch.written == [(0, 2, 0x1234)]
    assert (bench.gpr[RSI], bench.gpr[RCX]) == (AT + 2, 5)


def test_rep_outs_moves_all_and_counts_down() -> None:
    bench, latch = bench_with()
    bench.domain.write(AT, b"abc")
    assert outs(bench, 3) is NEXT
    assert bytes(bytes_written(latch)) == b"abc"
    assert (bench.gpr[RSI], bench.gpr[RCX]) == (AT + 3, 0)


def test_each_element_pays_for_itself_its_port_and_a_walk() -> None:
    bench, _ = bench_with()
    outs(bench, 2)
    assert bench.meter.followed == [paths.IO_DECODE, *[paths.STRING_ELEMENT, paths.PORT, paths.WALK] * 2]


def test_rep_with_a_count_of_0_moves_nothing() -> None:
    bench, latch = bench_with()
    assert outs(bench, 0) is NEXT
    assert latch.written == []
    assert bench.gpr[RSI] == AT


def test_with_the_direction_flag_it_goes_down() -> None:
    bench, latch = bench_with()
    bench.set({f.GUEST_RFLAGS: 2 | RFLAGS_DF})
    bench.domain.write(AT - 2, b"abc")
    assert outs(bench, 3) is NEXT
    assert bytes(bytes_written(latch)) == b"cba"
    assert bench.gpr[RSI] == AT - 3


def test_rep_ins_stores_and_tells_the_paging() -> None:
    bench, _ = bench_with(0x1211, 0x1413)
    assert ins(bench, 2, size_bytes=2) is NEXT
    assert bench.domain.read(AT, 4) == b"\x11\x12\x13\x14"
    assert bench.paging.asked == [("guest_memory_written", AT + i, 1) for i in range(4)]
    assert (bench.gpr[RDI], bench.gpr[RCX]) == (AT + 4, 0)


def test_a_long_rep_stops_so_that_interrupts_are_looked_at() -> None:
    bench, latch = bench_with()
    assert outs(bench, ELEMENTS_MAX + 3) is AGAIN
    assert len(latch.written) == ELEMENTS_MAX
    assert (bench.gpr[RSI], bench.gpr[RCX]) == (AT + ELEMENTS_MAX, 3)
    assert bench.injected is None


def test_it_stops_where_a_16_bit_pointer_wraps_and_goes_on_at_0() -> None:
    bench, latch = bench_with()
    assert outs(bench, UPPER | 5, at=UPPER | 0xFFFE, address_size=ADDRESS_16) is AGAIN
    assert len(latch.written) == 2
    assert (bench.gpr[RSI], bench.gpr[RCX]) == (UPPER, UPPER | 3)


def test_32_bit_addresses_clear_the_upper_halves() -> None:
    bench, _ = bench_with()
    outs(bench, UPPER | 1, at=AT)
    assert bench.gpr[RCX] == 0
    bench.gpr[RCX] = 1
    bench.gpr[RSI] = UPPER | AT
    io(bench, IoAccess(PORT, 1, is_in=False, is_string=True, is_rep=True))
    assert bench.gpr[RSI] == AT + 1


def test_it_stops_at_the_limit_of_its_segment_for_the_processor_to_fault() -> None:
    bench, latch = bench_with()
    bench.set({f.GUEST_DS_LIMIT: AT + 4})
    assert outs(bench, 4, size_bytes=2) is AGAIN
    assert len(latch.written) == 2
    assert bench.gpr[RCX] == 2
    assert bench.injected is None


def test_in_64_bit_code_it_stops_where_addresses_are_no_longer_canonical() -> None:
    bench, latch = bench_with()
    last = (1 << 47) - 2
    bench = Bench()
    bench.domain.ports.attach(PORT, 1, latch)
    bench.set({f.GUEST_CR0: CR0_PE})
    assert outs(bench, 5, at=last, address_size=ADDRESS_64) is AGAIN
    assert len(latch.written) == 2
    assert bench.gpr[RSI] == last + 2


@pytest.mark.parametrize("is_in", [False, True])
def test_a_page_that_is_missing_is_a_page_fault_and_what_was_moved_stays_moved(is_in: bool) -> None:
    bench, latch = bench_with(*range(8))
    bench.set({f.GUEST_CR0: CR0_PE | CR0_PG, f.GUEST_CR4: 0})
    bench.paging.cr3 = 0x1000
    bench.domain.write(0x1000, (0x2003).to_bytes(4, "little"))
    bench.domain.write(0x2000 + 4 * (AT >> 12), (AT | 3).to_bytes(4, "little"))
    start = AT + 0xFFE
    if is_in:
        bench.gpr[RDI], bench.gpr[RCX] = start, 5
        bench.set({f.VM_EXIT_INSTRUCTION_INFORMATION: ADDRESS_32 << 7, f.GUEST_LINEAR_ADDRESS: start})
        outcome = io(bench, IoAccess(PORT, 1, is_in=True, is_string=True, is_rep=True))
    else:
        outcome = outs(bench, 5, at=start)
    assert outcome is AGAIN
    assert bench.injected == exception(PAGE_FAULT, has_error_code=True)
    assert bench.injected_error_code == (PF_WRITE if is_in else 0)
    assert bench.engine.shared.cr2 == AT + 0x1000
    assert bench.gpr[RCX] == 3
    assert bench.gpr[RDI if is_in else RSI] == AT + 0x1000
    assert len(latch.written) == (0 if is_in else 2)
