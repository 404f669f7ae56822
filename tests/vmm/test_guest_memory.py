"""Where a guest's memory lies: around its own hole, and around the host's."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.memory import HIGH_START, LOW_END, HostMemory, end_of_ram
from vmm.guest_memory import HOLE_HPA, GuestMemory, Run

GIB, MIB2 = 1 << 30, 2 << 20
HOST = HostMemory(16 * GIB)

sizes = st.integers(1, 6 * GIB // MIB2).map(lambda count: count * MIB2)
bases = st.integers(0, 5 * GIB // MIB2).map(lambda count: count * MIB2)
gpas = st.one_of(st.integers(0, 8 * GIB), st.sampled_from([LOW_END, HIGH_START]).flatmap(
    lambda edge: st.integers(edge - 20, edge + 20)))  # fmt: skip


def test_a_guest_that_the_host_s_hole_does_not_part_is_one_run() -> None:
    memory = GuestMemory(HOST, base_hpa=48 << 20, size_bytes=GIB)
    assert memory.runs == (Run(0, GIB, 48 << 20),)
    assert (memory.base_hpa, memory.end_hpa) == (48 << 20, GIB + (48 << 20))


def test_both_holes_part_it() -> None:
    memory = GuestMemory(HOST, base_hpa=GIB, size_bytes=6 * GIB)
    assert memory.runs == (
        Run(0, 2 * GIB, GIB), Run(2 * GIB, 3 * GIB, 4 * GIB), Run(4 * GIB, 7 * GIB, 5 * GIB)
    )  # fmt: skip


@given(bases, sizes, gpas)
def test_every_byte_of_it_is_ram_of_the_host_and_has_a_place_of_its_own(base: int, size: int, gpa: int) -> None:
    memory = GuestMemory(HOST, base_hpa=base, size_bytes=size)
    assert sum(run.end_gpa - run.gpa for run in memory.runs) == size
    assert memory.end_hpa == end_of_ram(base, size)
    hpa = memory.hpa_of(gpa)
    is_ram = gpa < min(size, LOW_END) or HIGH_START <= gpa < end_of_ram(0, size)
    assert memory.is_ram(gpa) == memory.overlaps(gpa, 1) == (memory.run_bytes(gpa) > 0) == is_ram
    assert HOST.is_ram(hpa, 1) == is_ram
    assert memory.gpa_of(hpa) == (gpa if is_ram else None)
    if not is_ram:
        assert hpa >= HOLE_HPA
    elif memory.is_ram(gpa + 1) and memory.run_bytes(gpa) > 1:
        assert memory.hpa_of(gpa + 1) == hpa + 1


@settings(max_examples=30)
@given(bases, sizes, gpas, st.binary(min_size=1, max_size=40))
def test_what_is_written_is_read_and_what_falls_beside_it_is_lost(base: int, size: int, gpa: int, data: bytes) -> None:
    memory = GuestMemory(HOST, base_hpa=base, size_bytes=size)
    memory.write(gpa, data)
    expected = bytes(byte if memory.is_ram(gpa + i) else 0xFF for i, byte in enumerate(data))
    assert memory.read(gpa, len(data)) == expected
    assert memory.is_ram(gpa, len(data)) == all(memory.is_ram(gpa + i) for i in range(len(data)))


@pytest.mark.parametrize("hpa", [0, (48 << 20) - 1, GIB + (48 << 20), 1 << 40])
def test_what_is_beside_it_in_the_host_is_not_its(hpa: int) -> None:
    assert GuestMemory(HOST, base_hpa=48 << 20, size_bytes=GIB).gpa_of(hpa) is None
