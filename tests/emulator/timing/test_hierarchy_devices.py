"""Devices that read and write memory themselves: caches give up what is written, and keep what is read as shared."""

import random

import pytest

from emulator.timing.hierarchy import MemoryHierarchy
from emulator.timing.kernels.layout import MODIFIED, PCPU_WORDS, PCPUS, SHARED, STATE_BITS, STATE_MASK, Pcpu
from tests.emulator.timing.hierarchy_rig import BEYOND_L1, LINE, PRIVATE_L2_ONLY, load, store, tiny_hierarchy
from tests.emulator.timing.test_hierarchy_coherence import MACHINES, machines

PCPU_COUNT, PAGE_BYTES = 4, 4096


def states(hierarchy: MemoryHierarchy, line: int) -> list[int]:
    """The state of a line in every cache that has it."""
    found = []
    for array in ("l1i", "l1d", "l2", "l3"):
        instance = 0
        while True:
            try:
                entries = hierarchy.entries(array, instance)
            except IndexError:
                break
            found += [e & STATE_MASK for entry_set in entries for e in entry_set if e >> STATE_BITS == line]
            instance += 1
    return found


def write_backs(hierarchy: MemoryHierarchy) -> int:
    """Dirty lines that devices have sent to memory."""
    return int(hierarchy.state[PCPUS + PCPU_COUNT * PCPU_WORDS + Pcpu.WRITE_BACK])


@machines
def test_a_device_s_write_takes_the_line_from_every_cache(overrides: tuple[str, ...]) -> None:
    hierarchy = tiny_hierarchy(*overrides, pcpu_count=PCPU_COUNT)
    for pcpu in range(PCPU_COUNT):
        load(hierarchy, 5 * LINE, pcpu)
        hierarchy.walk(pcpu, 5 * LINE, 5 * LINE, (), 0, is_code=True)
        hierarchy.fetch(pcpu, 5 * LINE, 8, 0)
    hierarchy.device_access(5 * LINE + 3, 8, True)
    assert states(hierarchy, 5) == []
    assert load(hierarchy, 5 * LINE, 2) == BEYOND_L1["dram"]


@machines
def test_a_device_s_read_leaves_the_line_shared_and_memory_up_to_date(overrides: tuple[str, ...]) -> None:
    hierarchy = tiny_hierarchy(*overrides, pcpu_count=PCPU_COUNT)
    store(hierarchy, 5 * LINE, 3)
    hierarchy.device_access(5 * LINE, LINE, False)
    assert set(states(hierarchy, 5)) == {SHARED}
    assert write_backs(hierarchy) == 1
    hierarchy.device_access(5 * LINE, LINE, False)
    assert write_backs(hierarchy) == 1
    assert load(hierarchy, 5 * LINE, 3) == 0


@machines
def test_dirty_data_reaches_memory_before_a_part_of_its_line_is_written(overrides: tuple[str, ...]) -> None:
    hierarchy = tiny_hierarchy(*overrides, pcpu_count=PCPU_COUNT)
    store(hierarchy, 5 * LINE, 0)
    hierarchy.device_access(5 * LINE, 4, True)
    assert (states(hierarchy, 5), write_backs(hierarchy)) == ([], 1)


def test_only_the_lines_that_are_touched_change_and_no_more_than_a_page() -> None:
    large = ("caches.l1d_size_bytes=65536", "caches.l2_size_bytes=131072", "caches.l2_ways=4")
    hierarchy = tiny_hierarchy(*large, *PRIVATE_L2_ONLY)
    for line in range(80):
        load(hierarchy, line * LINE)
    hierarchy.device_access(3 * LINE + 60, 8, True)
    assert [line for line in range(80) if not states(hierarchy, line)] == [3, 4]
    hierarchy.device_access(5 * LINE, 10 * PAGE_BYTES, True)
    assert [line for line in range(80) if states(hierarchy, line)] == [0, 1, 2, *range(69, 80)]


@machines
def test_with_direct_cache_access_the_last_cache_of_a_core_has_what_was_written_and_no_other(
    overrides: tuple[str, ...],
) -> None:
    hierarchy = tiny_hierarchy(*overrides, pcpu_count=PCPU_COUNT)
    for pcpu in range(PCPU_COUNT):
        load(hierarchy, 5 * LINE, pcpu)
    hierarchy.device_access(5 * LINE, LINE, True, taker=1)
    if overrides == MACHINES["L1 only"]:
        assert states(hierarchy, 5) == []
        return
    assert states(hierarchy, 5) == [MODIFIED]
    assert load(hierarchy, 5 * LINE, 1) in (BEYOND_L1["l2"], BEYOND_L1["l3"])
    hierarchy.device_access(5 * LINE, LINE, False)
    assert (set(states(hierarchy, 5)), write_backs(hierarchy)) == ({SHARED}, 1)


def test_a_device_that_writes_to_a_cache_pushes_lines_out_of_it_and_the_caches_above() -> None:
    hierarchy = tiny_hierarchy(*PRIVATE_L2_ONLY, pcpu_count=PCPU_COUNT)
    store(hierarchy, 5 * LINE, 1)
    for line in range(6, 200):
        hierarchy.device_access(line * LINE, LINE, True, taker=1)
    assert states(hierarchy, 5) == []
    assert load(hierarchy, 5 * LINE, 1) == BEYOND_L1["dram"]


@pytest.mark.parametrize("seed", range(3))
@machines
def test_after_any_accesses_no_cache_has_what_a_device_wrote_and_none_alone_what_it_read(
    overrides: tuple[str, ...], seed: int
) -> None:
    rng, hierarchy = random.Random(seed), tiny_hierarchy(*overrides, pcpu_count=PCPU_COUNT)
    for _ in range(600):
        line, pcpu = rng.randrange(40), rng.randrange(PCPU_COUNT)
        match rng.randrange(5):
            case 0:
                load(hierarchy, line * LINE, pcpu)
            case 1:
                store(hierarchy, line * LINE, pcpu)
            case 2:
                hierarchy.device_access(line * LINE, LINE, True)
                assert states(hierarchy, line) == []
            case 3:
                hierarchy.device_access(line * LINE, LINE, True, taker=pcpu)
                assert states(hierarchy, line) == ([] if overrides == MACHINES["L1 only"] else [MODIFIED])
            case _:
                hierarchy.device_access(line * LINE, LINE, False)
                assert MODIFIED not in states(hierarchy, line)
                assert set(states(hierarchy, line)) <= {SHARED}
