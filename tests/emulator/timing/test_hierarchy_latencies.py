"""What a load, store or fetch of one core takes, to the cycle."""

import pytest

from emulator.profiles.profile import load_profile, shipped_profiles
from emulator.timing.hierarchy import MemoryHierarchy
from tests.emulator.timing.hierarchy_rig import (
    BEYOND_L1,
    DRAM,
    LINE,
    NO_L2,
    PRIVATE_L2_ONLY,
    load,
    store,
    tiny_hierarchy,
)

L1_SET = 2 * LINE  # addresses this far apart are in the same set
L2_SET = 4 * LINE


def test_each_level_takes_its_own_time() -> None:
    hierarchy = tiny_hierarchy()
    assert load(hierarchy, 0) == BEYOND_L1["dram"]
    assert load(hierarchy, 8) == 0
    load(hierarchy, L1_SET), load(hierarchy, 3 * L1_SET)  # set 0 of L1, sets 2 of L2: line 0 stays in L2
    assert load(hierarchy, 0) == BEYOND_L1["l2"]


def test_l1_evicts_the_least_recently_used_line_and_not_one_access_earlier() -> None:
    hierarchy = tiny_hierarchy()
    load(hierarchy, 0), load(hierarchy, L1_SET)
    assert load(hierarchy, 0) == 0  # two ways: still there, and now the most recent
    load(hierarchy, 3 * L1_SET)
    assert load(hierarchy, 0) == 0
    assert load(hierarchy, L1_SET) == BEYOND_L1["l2"]


def test_l2_evicts_the_least_recently_used_line_which_l1_loses_too() -> None:
    hierarchy = tiny_hierarchy()
    load(hierarchy, 0), load(hierarchy, L2_SET)
    assert load(hierarchy, 0) == 0
    load(hierarchy, 3 * L2_SET)  # L2 does not see hits in L1: line 0 is its oldest
    assert load(hierarchy, 0) == BEYOND_L1["l3"]


def test_l3_evicts_the_least_recently_used_line() -> None:
    hierarchy = tiny_hierarchy()
    for number in range(3):
        load(hierarchy, number * 8 * LINE)
    assert load(hierarchy, 0) == BEYOND_L1["l3"]
    load(hierarchy, 3 * 8 * LINE)
    assert load(hierarchy, 0) == 0
    assert load(hierarchy, 8 * LINE) == BEYOND_L1["dram"]


def test_what_l3_evicts_l1_loses_too() -> None:
    hierarchy = tiny_hierarchy(*NO_L2)
    for number in (0, 1, 0, 2, 0):  # the most recent in L1, the oldest in L3
        load(hierarchy, number * 8 * LINE)
    assert load(hierarchy, 0) == 0
    load(hierarchy, 3 * 8 * LINE)
    assert load(hierarchy, 0) == BEYOND_L1["dram"]


def test_without_l2_a_miss_goes_to_l3() -> None:
    hierarchy = tiny_hierarchy(*NO_L2)
    load(hierarchy, 0), load(hierarchy, L1_SET), load(hierarchy, 3 * L1_SET)
    assert load(hierarchy, 0) == BEYOND_L1["l3"]


def test_without_l3_a_miss_in_l2_goes_to_memory() -> None:
    hierarchy = tiny_hierarchy(*PRIVATE_L2_ONLY)
    load(hierarchy, 0), load(hierarchy, L2_SET), load(hierarchy, 3 * L2_SET)
    assert load(hierarchy, 0) == BEYOND_L1["dram"]


def test_an_access_that_crosses_a_line_is_two() -> None:
    hierarchy = tiny_hierarchy()
    assert hierarchy.access(0, LINE - 8, 8, False, 0) == BEYOND_L1["dram"]
    assert hierarchy.access(0, 3 * LINE - 7, 8, False, 0) == 2 * BEYOND_L1["dram"]
    assert hierarchy.counter(0, "l1d_miss") == 3


def test_a_page_is_as_many_accesses_as_it_has_lines() -> None:
    hierarchy = tiny_hierarchy()
    assert hierarchy.access(0, 4096, 4096, False, 0) == 64 * BEYOND_L1["dram"]


@pytest.mark.parametrize("hpa", [(1 << 52) - 8, (1 << 64) - 8, 1 << 63, -64])
@pytest.mark.parametrize("is_write", [False, True])
def test_any_address_is_safe(hpa: int, is_write: bool) -> None:
    hierarchy = tiny_hierarchy(pcpu_count=8)
    for pcpu in range(8):
        assert hierarchy.access(pcpu, hpa, 8, is_write, 0) >= 0
        hierarchy.walk(pcpu, hpa, hpa, [hpa] * 4, 0, is_large=is_write)
        assert hierarchy.data(pcpu, hpa, 8, is_write, 1 << 40) >= 0


def test_a_pcpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(IndexError, match="1 pCPUs"):
        tiny_hierarchy().access(1, 0, 8, False, 0)


def test_a_fetch_fills_its_own_cache_and_shares_the_next() -> None:
    hierarchy = tiny_hierarchy()
    hierarchy.walk(0, 0, 0, [], 0, is_code=True)
    assert hierarchy.fetch(0, 0, 16, 0) == BEYOND_L1["dram"]
    assert hierarchy.fetch(0, 16, 48, 0) == 0
    assert load(hierarchy, 0) == BEYOND_L1["l2"]
    assert hierarchy.fetch(0, 0, 3 * LINE, 0) == 2 * BEYOND_L1["dram"]
    assert [hierarchy.counter(0, name) for name in ("l1i_hit", "l1i_miss", "l1d_miss")] == [2, 3, 1]


def test_a_store_into_code_takes_it_out_of_l1i() -> None:
    hierarchy = tiny_hierarchy()
    hierarchy.walk(0, 0, 0, [], 0, is_code=True)
    for _ in range(2):  # the second time L1D has the line MODIFIED before the fetch
        hierarchy.fetch(0, 0, 8, 0)
        assert hierarchy.fetch(0, 0, 8, 0) == 0
        store(hierarchy, 0)
        assert hierarchy.fetch(0, 0, 8, 0) == BEYOND_L1["l2"]


def test_a_load_of_modified_code_leaves_the_next_store_to_take_it_out_of_l1i() -> None:
    hierarchy = tiny_hierarchy()
    hierarchy.walk(0, 0, 0, [], 0, is_code=True)
    store(hierarchy, 0)
    load(hierarchy, L1_SET), load(hierarchy, 3 * L1_SET)  # L2 has line 0 MODIFIED, L1D no more
    hierarchy.fetch(0, 0, 8, 0)
    load(hierarchy, 0)
    store(hierarchy, 0)
    assert hierarchy.fetch(0, 0, 8, 0) == BEYOND_L1["l2"]


def test_store_misses_stall_only_when_the_buffer_is_full_of_them() -> None:
    hierarchy = tiny_hierarchy()  # three entries
    for number in range(3):
        assert hierarchy.access(0, number * LINE, 8, True, number) == 0
    assert hierarchy.access(0, 3 * LINE, 8, True, 3) == BEYOND_L1["dram"] - 3  # until the first is done


@pytest.mark.parametrize(("now_cycles", "stall"), [(BEYOND_L1["dram"] - 1, 1), (BEYOND_L1["dram"], 0)])
def test_a_buffer_entry_is_free_when_its_store_is_done(now_cycles: int, stall: int) -> None:
    hierarchy = tiny_hierarchy()
    for number in range(3):
        hierarchy.access(0, number * LINE, 8, True, 0)
    assert hierarchy.access(0, 3 * LINE, 8, True, now_cycles) == stall


def test_stores_that_hit_wait_in_the_buffer_behind_one_that_misses() -> None:
    hierarchy = tiny_hierarchy()
    now_cycles = store(hierarchy, 0)
    assert hierarchy.access(0, LINE, 8, True, now_cycles) == 0
    assert [hierarchy.access(0, 0, 8, True, now_cycles) for _ in range(3)] == [0, 0, BEYOND_L1["dram"]]
    assert hierarchy.access(0, 0, 8, True, now_cycles + BEYOND_L1["dram"]) == 0


def test_a_store_across_lines_waits_once_for_what_is_done_then() -> None:
    hierarchy = tiny_hierarchy()
    for number in range(3):
        hierarchy.access(0, number * LINE, 8, True, 0)
    assert hierarchy.access(0, 5 * LINE - 4, 8, True, 0) == BEYOND_L1["dram"]


def test_the_time_of_the_translation_counts_for_the_store_buffer() -> None:
    hierarchy = tiny_hierarchy()
    for page in (0, 2, 4):  # the first level forgets page 0
        hierarchy.walk(0, page << 12, page << 12, [], 0)
    for number in range(3):
        hierarchy.access(0, number * LINE, 8, True, 0)
    assert hierarchy.data(0, 3 * LINE, 8, True, 0) == BEYOND_L1["dram"]
    assert hierarchy.counter(0, "stlb_hit") == 1
    assert hierarchy.counter(0, "stall_cycles") == BEYOND_L1["dram"]


def test_a_drain_waits_for_the_youngest_store() -> None:
    hierarchy = tiny_hierarchy()
    assert hierarchy.drain(0, 0) == 0
    hierarchy.access(0, 0, 8, True, 100)
    assert hierarchy.drain(0, 110) == BEYOND_L1["dram"] - 10
    assert hierarchy.drain(0, 100 + BEYOND_L1["dram"]) == 0


def test_stalls_are_counted() -> None:
    hierarchy = tiny_hierarchy()
    total = load(hierarchy, 0) + hierarchy.access(0, LINE - 1, 2, False, 0)
    assert hierarchy.counter(0, "stall_cycles") == total == 2 * BEYOND_L1["dram"]
    assert hierarchy.counter(0, "coherence_cycles") == 0


@pytest.mark.parametrize("name", shipped_profiles())
def test_a_pointer_chase_gives_the_latencies_of_the_profile(name: str) -> None:
    """One load after another over a buffer twice as large as the level above, the second time round."""
    profile = load_profile(name)
    caches = profile.caches
    hierarchy = MemoryHierarchy(profile, 1)
    levels = [caches.l1d_size_bytes, caches.l2_size_bytes, caches.l3_size_bytes]
    latencies = [caches.l2_latency_cycles, caches.l3_latency_cycles]
    for above, below, latency in zip(levels, levels[1:], latencies, strict=False):
        if below:
            addresses = range(1 << 30, (1 << 30) + 2 * above, caches.line_bytes)
            for address in addresses:
                hierarchy.access(0, address, 8, False, 0)
            taken = {hierarchy.access(0, address, 8, False, 0) for address in addresses}
            assert taken == {latency - caches.l1d_latency_cycles}
    assert load(hierarchy, 1 << 40) == profile.memory.dram_latency_cycles - caches.l1d_latency_cycles


def test_dram_latency_is_measured_from_the_load() -> None:
    assert load(tiny_hierarchy("caches.l1d_latency_cycles=9"), 0) == DRAM - 9
