"""A machine's pages in a file: all that are not zero, whoever has written them, and no others."""

import random

import pytest

from emulator.memory import HIGH_START, LOW_END, HostMemory
from emulator.x86 import PAGE_BYTES
from vmm.session.snapshot import touched
from vmm.session.snapshot.memory_file import MemoryFile

PAGES = 1024


def every_page(memory: HostMemory) -> list[int]:
    """The numbers of those that are not zero, looked at one by one."""
    return [page for page in range(PAGES) if memory.read(page * PAGE_BYTES, PAGE_BYTES) != bytes(PAGE_BYTES)]


def saved(memory: HostMemory) -> MemoryFile:
    file = MemoryFile(memory.end_hpa)
    file.add_all(memory)
    return file


def pages_of(file: MemoryFile) -> list[int]:
    return [page for first, count in file.runs for page in range(first, first + count)]


@pytest.mark.parametrize("is_told", [True, False], ids=["the workstation tells", "it does not tell"])
def test_all_pages_that_are_not_zero_are_saved_generation_after_generation(
    is_told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_told:
        monkeypatch.setattr(touched, "PAGEMAP", "/nowhere")
    dice, memory = random.Random(5), HostMemory(PAGES * PAGE_BYTES)
    for _ in range(4):
        for page in dice.sample(range(PAGES), 60):
            data = dice.choice([b"\0", b"\1", bytes(PAGE_BYTES)])
            memory.write(page * PAGE_BYTES + dice.randrange(PAGE_BYTES + 1 - len(data)), data)
        file = saved(memory)
        assert pages_of(file) == every_page(memory)
        assert all(file.read(page, 1) == memory.read(page * PAGE_BYTES, PAGE_BYTES) for page in pages_of(file))
        memory = HostMemory(PAGES * PAGE_BYTES)
        memory.begin_with(file.descriptor)


def test_runs_are_as_long_as_can_be() -> None:
    memory = HostMemory(PAGES * PAGE_BYTES)
    for page in (0, 1, 2, 7, PAGES - 1):
        memory.write(page * PAGE_BYTES, b"1")
    assert saved(memory).runs == [(0, 3), (7, 1), (PAGES - 1, 1)]


def test_a_large_memory_that_nobody_touched_has_nothing_to_save() -> None:
    memory = HostMemory(8 << 30)
    memory.write(HIGH_START, b"1")
    memory.write(LOW_END - 1, b"1")
    assert saved(memory).runs == [(LOW_END // PAGE_BYTES - 1, 1), (HIGH_START // PAGE_BYTES, 1)]
