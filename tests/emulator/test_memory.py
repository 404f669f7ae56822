"""Claims about host-physical memory: every access is checked, and the hole above answers with ones."""

import os

import pytest

from emulator.memory import HIGH_START, LOW_END, HostMemory, end_of_ram
from emulator.x86 import PAGE_BYTES


@pytest.mark.parametrize("size_bytes", [0, -PAGE_BYTES, 1, PAGE_BYTES + 1, (63 << 30) + PAGE_BYTES])
def test_impossible_sizes_are_refused(size_bytes: int) -> None:
    with pytest.raises(ValueError, match="bytes of memory"):
        HostMemory(size_bytes)


def test_memory_starts_as_zeros_and_keeps_what_is_written() -> None:
    memory = HostMemory(2 * PAGE_BYTES)
    assert memory.read(0, 2 * PAGE_BYTES) == bytes(2 * PAGE_BYTES)
    memory.write(PAGE_BYTES - 2, b"abcd")
    assert memory.read(PAGE_BYTES - 3, 6) == b"\0abcd\0"


def test_words_are_the_same_memory() -> None:
    memory = HostMemory(PAGE_BYTES)
    memory.words[3] = 0x1122334455667788
    assert memory.read(24, 8) == bytes.fromhex("8877665544332211")
    with pytest.raises(IndexError):
        memory.words[PAGE_BYTES // 8]


def test_what_is_not_ram_reads_as_ones_and_drops_writes() -> None:
    memory = HostMemory(PAGE_BYTES)
    memory.write(PAGE_BYTES - 1, b"xyz")
    assert memory.read(PAGE_BYTES - 1, 3) == b"x\xff\xff"
    assert memory.read(1 << 40, 2) == b"\xff\xff"
    memory.write(-1, b"no")
    assert memory.read(-1, 2) == b"\xffo"


@pytest.mark.parametrize(
    ("hpa", "length_bytes", "expected"),
    [(0, PAGE_BYTES, True), (0, PAGE_BYTES + 1, False), (PAGE_BYTES, 0, True), (PAGE_BYTES, 1, False),
     (-1, 1, False), (0, -1, False), (1 << 64, 1, False)],
)  # fmt: skip
def test_is_ram_means_every_byte(hpa: int, length_bytes: int, expected: bool) -> None:
    assert HostMemory(PAGE_BYTES).is_ram(hpa, length_bytes) is expected


GIB = 1 << 30


@pytest.mark.parametrize(
    ("start", "size_bytes", "end"),
    [(0, LOW_END, LOW_END), (0, LOW_END + 1, HIGH_START + 1), (LOW_END - 5, 7, HIGH_START + 2),
     (LOW_END, 4, HIGH_START + 4), (HIGH_START - 1, 4, HIGH_START + 4), (HIGH_START + 3, 4, HIGH_START + 7),
     (0, 6 * GIB, 7 * GIB)],
)  # fmt: skip
def test_ram_goes_on_behind_the_hole(start: int, size_bytes: int, end: int) -> None:
    assert end_of_ram(start, size_bytes) == end


def test_memory_beyond_4_gib_has_a_hole_for_devices() -> None:
    memory = HostMemory(LOW_END + 2 * PAGE_BYTES)
    assert memory.end_hpa == HIGH_START + 2 * PAGE_BYTES
    assert memory.is_ram(LOW_END - 1, 1)
    assert memory.is_ram(HIGH_START, 2 * PAGE_BYTES)
    for hpa, length_bytes in ((LOW_END - 1, 2), (LOW_END, 1), (HIGH_START - 1, 2), (HIGH_START, 2 * PAGE_BYTES + 1)):
        assert not memory.is_ram(hpa, length_bytes)
    memory.write(HIGH_START - 2, b"abcd")
    memory.write(LOW_END - 1, b"xyz")
    assert memory.read(HIGH_START - 2, 4) == b"\xff\xffcd"
    assert memory.read(LOW_END - 1, 3) == b"x\xff\xff"


def test_two_memories_are_apart() -> None:
    first, second = HostMemory(PAGE_BYTES), HostMemory(PAGE_BYTES)
    first.write(0, b"1")
    assert second.read(0, 1) == b"\0"


def test_memory_that_begins_with_a_file_shares_it_and_never_writes_to_it() -> None:
    file = os.memfd_create("contents")
    os.pwrite(file, b"saved" + bytes(2 * PAGE_BYTES - 5), 0)
    first, second = HostMemory(2 * PAGE_BYTES), HostMemory(2 * PAGE_BYTES)
    first.write(0, b"before")
    words = first.words
    for memory in (first, second):
        memory.begin_with(file)
    assert first.read(0, 6) == b"saved\0"
    assert words[0] == int.from_bytes(b"saved\0\0\0", "little")
    first.write(0, b"other")
    assert second.read(0, 5) == os.pread(file, 5, 0) == b"saved"
    os.close(file)
