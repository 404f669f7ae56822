"""MESI between cores and packages: who may write, what a transfer takes, and that no data is lost.

pCPUs of the tiny machine: 0 and 1 are the cores of package 0, 2 and 3 of package 1; 4 is the other thread of core 0.
"""

import random

import pytest

from emulator.timing.hierarchy import MemoryHierarchy
from emulator.timing.kernels.layout import EXCLUSIVE, MODIFIED, SHARED
from tests.emulator.timing.hierarchy_rig import (
    BEYOND_L1,
    L1,
    LINE,
    NO_L2,
    PRIVATE_L2_ONLY,
    SHARED_L2,
    SHARED_L2_AND_L3,
    lines,
    load,
    store,
    tiny_hierarchy,
)

MACHINES = {
    "private L2, L3": (),
    "shared L2": SHARED_L2,
    "shared L2, L3": SHARED_L2_AND_L3,
    "private L2": PRIVATE_L2_ONLY,
    "no L2, L3": NO_L2,
    "L1 only": (*NO_L2, *PRIVATE_L2_ONLY),
}
machines = pytest.mark.parametrize("overrides", MACHINES.values(), ids=MACHINES)


@machines
def test_the_first_reader_has_the_line_for_itself_and_the_second_shares_it(overrides: tuple[str, ...]) -> None:
    hierarchy = tiny_hierarchy(*overrides, pcpu_count=4)
    load(hierarchy, 0, pcpu=0)
    assert lines(hierarchy, "l1d", 0) == {0: EXCLUSIVE}
    load(hierarchy, 0, pcpu=3)
    assert lines(hierarchy, "l1d", 0) == lines(hierarchy, "l1d", 3) == {0: SHARED}


@machines
def test_a_store_to_a_line_of_ones_own_takes_nothing(overrides: tuple[str, ...]) -> None:
    hierarchy = tiny_hierarchy(*overrides, pcpu_count=4)
    load(hierarchy, 0)
    assert store(hierarchy, 0) == 0
    assert lines(hierarchy, "l1d", 0) == {0: MODIFIED}


@machines
@pytest.mark.parametrize(("reader", "where"), [(1, "dirty"), (2, "remote")])
def test_a_modified_line_comes_from_the_core_that_has_it(overrides: tuple[str, ...], reader: int, where: str) -> None:
    hierarchy = tiny_hierarchy(*overrides, pcpu_count=4)
    store(hierarchy, 0, pcpu=0)
    assert load(hierarchy, 0, pcpu=reader) == BEYOND_L1[where]
    assert (
        hierarchy.counter(reader, "coherence_cycles") == hierarchy.counter(reader, "stall_cycles") == BEYOND_L1[where]
    )
    assert load(hierarchy, 0, pcpu=reader) == load(hierarchy, 0, pcpu=0) == 0


@machines
@pytest.mark.parametrize(("writer", "where"), [(1, "dirty"), (2, "remote")])
def test_a_store_takes_a_modified_line_over(overrides: tuple[str, ...], writer: int, where: str) -> None:
    hierarchy = tiny_hierarchy(*overrides, pcpu_count=4)
    store(hierarchy, 0, pcpu=0)
    assert store(hierarchy, 0, pcpu=writer) == BEYOND_L1[where]
    assert lines(hierarchy, "l1d", 0) == {}
    assert hierarchy.counter(writer, "write_back") == 0


@pytest.mark.parametrize(
    ("overrides", "other", "where"),
    [((), 1, "l3"), (SHARED_L2, 1, "l2"), (PRIVATE_L2_ONLY, 1, "dirty"), ((), 2, "remote"), (SHARED_L2, 2, "remote")],
)
def test_an_upgrade_takes_as_long_as_reaching_who_knows_the_readers(
    overrides: tuple[str, ...], other: int, where: str
) -> None:
    hierarchy = tiny_hierarchy(*overrides, pcpu_count=4)
    load(hierarchy, 0, pcpu=0)
    load(hierarchy, 0, pcpu=other)
    assert store(hierarchy, 0, pcpu=0) == BEYOND_L1[where]
    assert lines(hierarchy, "l1d", other) == {}
    assert hierarchy.counter(0, "upgrade") == 1
    assert store(hierarchy, 0, pcpu=0) == 0


@pytest.mark.parametrize(("dram_latency_cycles", "where"), [(11, "remote"), (1000, "dram")])
def test_a_store_waits_for_memory_and_for_readers_of_another_package(dram_latency_cycles: int, where: str) -> None:
    hierarchy = tiny_hierarchy(f"memory.dram_latency_cycles={dram_latency_cycles}", pcpu_count=4)
    load(hierarchy, 0, pcpu=2)
    assert store(hierarchy, 0) == (BEYOND_L1["remote"] if where == "remote" else dram_latency_cycles - L1)
    assert lines(hierarchy, "l1d", 2) == lines(hierarchy, "l3", 1) == {}


def test_an_unmodified_line_of_another_core_comes_from_l3_or_memory() -> None:
    hierarchy = tiny_hierarchy(pcpu_count=4)
    load(hierarchy, 0, pcpu=0)
    assert load(hierarchy, 0, pcpu=1) == BEYOND_L1["l3"]
    assert load(hierarchy, 0, pcpu=2) == BEYOND_L1["dram"]
    assert load(tiny_hierarchy(*PRIVATE_L2_ONLY, pcpu_count=2), 0, pcpu=1) == BEYOND_L1["dram"]


def test_dirty_data_evicted_to_the_other_packages_l3_still_comes_from_there() -> None:
    hierarchy = tiny_hierarchy(pcpu_count=4)
    store(hierarchy, 0, pcpu=0)
    load(hierarchy, 4 * LINE, pcpu=0), load(hierarchy, 12 * LINE, pcpu=0)
    assert lines(hierarchy, "l2", 0).keys() == {4, 12}
    assert lines(hierarchy, "l3", 0)[0] == MODIFIED
    assert load(hierarchy, 0, pcpu=2) == BEYOND_L1["remote"]
    assert hierarchy.counter(2, "write_back") == 1
    assert lines(hierarchy, "l3", 0)[0] == lines(hierarchy, "l3", 1)[0] == SHARED


def test_hyperthreads_of_a_core_share_its_caches() -> None:
    hierarchy = tiny_hierarchy(pcpu_count=8)
    store(hierarchy, 0, pcpu=0)
    assert load(hierarchy, 0, pcpu=4) == store(hierarchy, 0, pcpu=4) == 0


def test_the_stall_of_a_full_store_buffer_is_coherence_if_its_oldest_store_waits_for_a_core() -> None:
    hierarchy = tiny_hierarchy(pcpu_count=2)
    store(hierarchy, 0, pcpu=1)
    for number in range(3):
        hierarchy.access(0, number * LINE, 8, True, 0)
    assert hierarchy.access(0, 3 * LINE, 8, True, 0) == BEYOND_L1["dirty"]
    assert hierarchy.counter(0, "coherence_cycles") == BEYOND_L1["dirty"]
    assert hierarchy.access(0, 4 * LINE, 8, True, 0) == BEYOND_L1["dram"]
    assert hierarchy.counter(0, "coherence_cycles") == BEYOND_L1["dirty"]


def dirty_lines(hierarchy: MemoryHierarchy) -> set[int]:
    """Every line of which memory has an old version."""
    found = set()
    for array, instances in caches_of(hierarchy):
        for instance in instances:
            found |= {line for line, state in lines(hierarchy, array, instance).items() if state == MODIFIED}
    return found


def caches_of(hierarchy: MemoryHierarchy) -> list[tuple[str, range]]:
    shared_l2 = len(hierarchy.state) and hierarchy.state[2 * 6 + 5] == 2
    return [("l1d", range(4)), ("l2", range(2 if shared_l2 else 4)), ("l3", range(2))]


def check_invariants(hierarchy: MemoryHierarchy) -> None:
    l1d = [lines(hierarchy, "l1d", core) for core in range(4)]
    l1i = [lines(hierarchy, "l1i", core) for core in range(4)]
    (_, l2_instances), (_, l3_instances) = caches_of(hierarchy)[1:]
    l2 = [lines(hierarchy, "l2", instance) for instance in l2_instances]
    l3 = [lines(hierarchy, "l3", package) for package in l3_instances]
    has_l2, has_l3 = hierarchy.state[2 * 6 + 3] > 0, hierarchy.state[3 * 6 + 3] > 0
    is_private = has_l2 and len(l2) == 4
    for core in range(4):
        package = core // 2
        outer = l2[core if is_private else package] if has_l2 else l3[package]
        assert not (has_l2 or has_l3) or l1d[core].keys() | l1i[core].keys() <= outer.keys(), "L1 is included"
        assert not (has_l2 and has_l3) or outer.keys() <= l3[package].keys(), "L2 is included"
        owned = {line for line, state in (l2[core] if is_private else l1d[core]).items() if state != SHARED}
        for other in set(range(4)) - {core}:
            theirs = l1d[other].keys() | l1i[other].keys() | (l2[other].keys() if is_private else set())
            assert not owned & theirs, "one owner, and no reader beside it"
        remote = l3[1 - package].keys() | (set() if is_private or not has_l2 else l2[1 - package].keys())
        assert not owned & remote, "nor in another package"
        writable = {line for line, state in l1d[core].items() if state == MODIFIED}
        assert not writable & l1i[core].keys(), "no stale code"
        assert not is_private or all(l2[core][line] == MODIFIED for line in writable), "L2 knows"
    for package in range(2):
        newer = {line for line, state in l3[package].items() if state == MODIFIED}
        assert not newer & l3[1 - package].keys(), "one package has what memory has not"


@machines
def test_random_traffic_of_four_cores_keeps_one_writer_and_loses_no_data(overrides: tuple[str, ...]) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    generator = random.Random(seed)
    hierarchy = tiny_hierarchy(*overrides, pcpu_count=4)
    hierarchy.walk(0, 0, 0, [], 0, is_code=True)
    dirty: set[int] = set()
    written_back = 0
    for step in range(1500):
        pcpu, line = generator.randrange(4), generator.randrange(40)
        kind = generator.choice(["load", "store", "fetch"])
        if kind == "fetch":
            if hierarchy.fetch(pcpu, line * LINE, 8, 0) < 0:
                hierarchy.walk(pcpu, 0, 0, [], 0, is_code=True)
                hierarchy.fetch(pcpu, line * LINE, 8, 0)
            assert line in lines(hierarchy, "l1i", pcpu)
        else:
            hierarchy.access(pcpu, line * LINE, 8, kind == "store", step * 1000)
            assert line in lines(hierarchy, "l1d", pcpu)
        check_invariants(hierarchy)
        before = dirty | {line} if kind == "store" else dirty
        dirty = dirty_lines(hierarchy)
        total = sum(hierarchy.counter(number, "write_back") for number in range(4))
        assert dirty <= before, "only stores make lines newer than memory"
        # A store takes dirty data over and leaves the line dirty; whatever is dirty no more went to memory.
        assert total - written_back == len(before - dirty), "what is dirty no more was written back"
        written_back = total
