"""Claims about the first megabyte, checked by walking it as a CPU would."""

import struct

import pytest

from vmm.boot.loaders import EntryMode, low_memory


def test_regions_are_ascending_disjoint_and_below_the_end_of_the_loader() -> None:
    previous_end_gpa = 0
    for region in low_memory.LOW_REGIONS:
        assert region.gpa >= previous_end_gpa
        previous_end_gpa = region.gpa + region.size_bytes
    assert previous_end_gpa <= low_memory.LOADER_END_GPA


def test_page_tables_map_the_first_4_gib_to_themselves_and_nothing_else() -> None:
    tables = low_memory.identity_page_tables()
    base_gpa = low_memory.PAGE_TABLES.gpa
    assert len(tables) == low_memory.PAGE_TABLES.size_bytes

    def entry(table_gpa: int, index: int) -> int:
        value: int = struct.unpack_from("<Q", tables, table_gpa - base_gpa + 8 * index)[0]
        return value

    for gva in (0, 0x1000200, 0x1FFFFF, 0x3FFFFFFF, 0x40000000, 0xBFFFFFFF, 0xFFFFFFFF):
        table_gpa = base_gpa
        for shift in (39, 30):
            value = entry(table_gpa, gva >> shift & 511)
            assert value & 0x83 == 0x03  # present, writable, not a large page
            table_gpa = value & ~0xFFF
        value = entry(table_gpa, gva >> 21 & 511)
        assert value & 0x83 == 0x83
        assert (value & ~0x1FFFFF) | (gva & 0x1FFFFF) == gva
    assert [i for i in range(512) if entry(base_gpa, i)] == [0]
    assert [i for i in range(512) if entry(base_gpa + 0x1000, i)] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("mode", "code"), [(EntryMode.LONG, 0x00AF9B000000FFFF), (EntryMode.PROTECTED, 0x00CF9B000000FFFF)]
)
def test_gdt_has_the_selectors_of_the_boot_protocol(mode: EntryMode, code: int) -> None:
    entries = struct.unpack("<6Q", low_memory.gdt(mode))
    assert entries[0] == 0
    assert entries[low_memory.CODE_SELECTOR // 8] == code
    assert entries[low_memory.DATA_SELECTOR // 8] == 0x00CF93000000FFFF
    assert entries[low_memory.TSS_SELECTOR // 8] == 0x00008B0020000067  # base 0x2000, limit 0x67, busy
    assert entries[low_memory.TSS_SELECTOR // 8 + 1] == 0


def test_segment_descriptor_splits_base_and_limit() -> None:
    descriptor = low_memory.segment_descriptor(base=0x12345678, limit=0xABCDE, access=0x9B, flags=0xA)
    assert descriptor == 0x12AA9B345678BCDE


def test_bios_data_tells_where_base_memory_ends() -> None:
    area = low_memory.bios_data()
    assert struct.unpack_from("<H", area, 0x0E)[0] << 4 == low_memory.BASE_MEMORY_END_GPA
    assert struct.unpack_from("<H", area, 0x13)[0] << 10 == low_memory.BASE_MEMORY_END_GPA
    assert struct.unpack_from("<2H", area, 0) == (0x3F8, 0x2F8)


def test_memory_beyond_3_gib_goes_on_at_4_gib() -> None:
    assert low_memory.memory_map(5 << 30)[2:] == ((1 << 20, 3 << 30, 1), (4 << 30, 6 << 30, 1))


@pytest.mark.parametrize("memory_bytes", [16 << 20, 3 << 30])
def test_memory_map_has_no_gap_and_ends_with_memory(memory_bytes: int) -> None:
    entries = low_memory.memory_map(memory_bytes)
    assert entries[0][0] == 0
    assert [end_gpa for _, end_gpa, _ in entries] == [0x9FC00, 0x100000, memory_bytes]
    assert [start_gpa for start_gpa, _, _ in entries[1:]] == [end_gpa for _, end_gpa, _ in entries[:-1]]
    assert [kind for _, _, kind in entries] == [1, 2, 1]
