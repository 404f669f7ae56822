"""TLBs of two levels, walks through the data caches, flushes."""

import pytest

from emulator.profiles.profile import load_profile, shipped_profiles
from emulator.timing.hierarchy import MemoryHierarchy
from tests.emulator.timing.hierarchy_rig import (
    BEYOND_L1,
    L1,
    LINE,
    NO_STLB,
    STLB_HIT,
    frames,
    load,
    tiny_hierarchy,
    touch_page,
)

LARGE_PAGE = 2 << 20
NONE_SHARED = ("tlb.itlb_2m_entries=0", "tlb.itlb_2m_ways=0", "tlb.dtlb_2m_entries=0", "tlb.dtlb_2m_ways=0")


def test_a_miss_asks_for_a_walk_and_changes_nothing() -> None:
    hierarchy = tiny_hierarchy()
    touch_page(hierarchy, 0)
    before = hierarchy.state.copy()
    assert hierarchy.data(0, 4096, 8, False, 0) == hierarchy.data(0, 4096, 8, True, 0) == -1
    assert hierarchy.fetch(0, 4096, 8, 0) == -1
    assert (hierarchy.state == before).all()


def test_a_page_is_evicted_by_the_third_of_its_set_and_not_by_the_second() -> None:
    hierarchy = tiny_hierarchy(*NO_STLB)  # 2 sets x 2 ways
    assert [touch_page(hierarchy, page) for page in (0, 2, 0)] == ["walk", "walk", "hit"]
    assert [touch_page(hierarchy, page) for page in (4, 0, 2)] == ["walk", "hit", "walk"]


def test_the_second_level_catches_what_the_first_evicts() -> None:
    hierarchy = tiny_hierarchy()  # 2 sets x 4 ways behind
    assert [touch_page(hierarchy, page) for page in (0, 2, 4, 0, 0)] == ["walk", "walk", "walk", "stlb", "hit"]
    assert [touch_page(hierarchy, page) for page in (6, 2, 0, 8)] == ["walk", "stlb", "stlb", "walk"]
    assert touch_page(hierarchy, 4) == "walk"  # the oldest of five
    assert hierarchy.counter(0, "dtlb_miss") == hierarchy.counter(0, "stlb_hit") + hierarchy.counter(0, "walk") == 9


def test_code_and_data_have_their_own_first_level_and_share_the_second() -> None:
    hierarchy = tiny_hierarchy()
    load(hierarchy, 0), touch_page(hierarchy, 0)
    assert hierarchy.fetch(0, 0, 8, 0) == STLB_HIT + BEYOND_L1["l2"]
    assert hierarchy.fetch(0, 0, 8, 0) == 0
    assert hierarchy.counter(0, "itlb_miss") == 1


def test_code_may_have_no_second_level() -> None:
    hierarchy = tiny_hierarchy("tlb.is_stlb_for_code=false")
    touch_page(hierarchy, 0)
    assert hierarchy.fetch(0, 0, 8, 0) == -1
    hierarchy.walk(0, 0, 0, [], 0, is_code=True)
    assert hierarchy.fetch(0, 0, 8, 0) >= 0
    assert sum(len(entries) for entries in hierarchy.entries("stlb", 0)) == 1


def test_a_large_page_reaches_two_mib_with_one_entry() -> None:
    hierarchy = tiny_hierarchy(*NO_STLB)
    hierarchy.walk(0, 5 * LARGE_PAGE + 4096, 0, [], 0, is_large=True)
    assert hierarchy.data(0, 5 * LARGE_PAGE, 8, False, 0) >= 0
    assert hierarchy.data(0, 6 * LARGE_PAGE - 8, 8, False, 0) >= 0
    assert hierarchy.data(0, 6 * LARGE_PAGE, 8, False, 0) == -1


@pytest.mark.parametrize(("is_stlb_for_2m", "third"), [("true", STLB_HIT), ("false", -1)])
def test_the_second_level_may_be_for_small_pages_only(is_stlb_for_2m: str, third: int) -> None:
    hierarchy = tiny_hierarchy(f"tlb.is_stlb_for_2m={is_stlb_for_2m}")
    for page in range(3):
        hierarchy.walk(0, page * LARGE_PAGE, 0, [], 0, is_large=True)
    load(hierarchy, 0)
    assert hierarchy.data(0, 0, 8, False, 0) == third


def test_large_pages_may_share_the_array_of_small_ones() -> None:
    hierarchy = tiny_hierarchy(*NO_STLB, *NONE_SHARED)
    hierarchy.walk(0, 0, 0, [], 0, is_large=True)
    touch_page(hierarchy, 512 + 2), touch_page(hierarchy, 512 + 4)  # two small pages of the same set
    assert hierarchy.data(0, 0, 8, False, 0) == -1


@pytest.mark.parametrize("name", shipped_profiles())
def test_the_reach_of_a_dtlb_is_its_entries(name: str) -> None:
    """As many pages as there are entries stay; one more in every set makes every access of a cycle miss."""
    profile = load_profile(name, ["tlb.stlb_entries=0", "tlb.stlb_ways=0"])
    tlb = profile.tlb
    hierarchy = MemoryHierarchy(profile, 1)
    sets = tlb.dtlb_4k_entries // tlb.dtlb_4k_ways

    def missed(page_count: int) -> int:
        for _ in range(2):
            before = hierarchy.counter(0, "dtlb_miss")
            for page in range(page_count):
                touch_page(hierarchy, page)
        return hierarchy.counter(0, "dtlb_miss") - before

    assert missed(tlb.dtlb_4k_entries) == 0
    assert missed(tlb.dtlb_4k_entries + sets) == tlb.dtlb_4k_entries + sets


def test_a_walk_is_a_chain_of_loads() -> None:
    hierarchy = tiny_hierarchy()
    references = [page << 20 for page in range(1, 4)]
    assert hierarchy.walk(0, 0, 0, references, 0) == STLB_HIT + 3 * (L1 + BEYOND_L1["dram"])
    assert hierarchy.walk(0, 4096, 4096, [16 * LINE, 16 * LINE + 8], 0) == STLB_HIT + L1 + BEYOND_L1["dram"] + L1
    assert hierarchy.counter(0, "walk_reference") == 5
    assert hierarchy.counter(0, "stall_cycles") == 0


@pytest.mark.parametrize(
    ("settings", "data_cycles", "code_cycles"),
    [((), STLB_HIT, STLB_HIT), (("tlb.is_stlb_for_code=false",), STLB_HIT, 0), (NO_STLB, 0, 0)],
)
def test_a_walk_begins_when_the_second_level_that_there_is_was_asked(
    settings: tuple[str, ...], data_cycles: int, code_cycles: int
) -> None:
    hierarchy = tiny_hierarchy(*settings)
    assert hierarchy.walk(0, 0, 0, [], 0) == data_cycles
    assert hierarchy.walk(0, 0, 0, [], 0, is_code=True) == code_cycles
    assert hierarchy.counter(0, "walk_cycles") == data_cycles + code_cycles


def test_the_entries_of_a_walk_are_in_the_data_caches() -> None:
    hierarchy = tiny_hierarchy()
    hierarchy.walk(0, 0, 0, [5 * LINE], 0)
    assert load(hierarchy, 5 * LINE) == 0


def test_a_walk_in_two_dimensions_reads_24_entries() -> None:
    hierarchy = MemoryHierarchy(load_profile("haswell", ["tlb.paging_structure_entries=0"]), 1)
    references = [LINE * number for number in range(24)]
    latency = load_profile("haswell").memory.dram_latency_cycles
    second_level = load_profile("haswell").tlb.stlb_hit_cycles
    assert hierarchy.walk(0, 0, 0, references, 0) == second_level + 24 * latency
    assert hierarchy.walk(0, 4096, 4096, references, 0) == second_level + 24 * 4
    assert hierarchy.counter(0, "walk_reference") == 48


@pytest.mark.parametrize(("count", "left"), [(4, 1), (5, 1), (24, 5)])
def test_the_paging_structure_cache_leaves_the_last_entry_of_each_dimension(count: int, left: int) -> None:
    hierarchy = tiny_hierarchy("tlb.paging_structure_entries=2")
    references = [LINE * number for number in range(count)]

    def references_read(linear_page: int) -> int:
        before = hierarchy.counter(0, "walk_reference")
        hierarchy.walk(0, 0, linear_page << 12, references, 0)
        return hierarchy.counter(0, "walk_reference") - before

    assert [references_read(page) for page in (0, 511, 512, 0)] == [count, left, count, left]
    assert [references_read(page) for page in (1024, 0, 513)] == [count, left, count]  # 512 was the oldest of three
    hierarchy.invalidate_page(0, 1 << 40)  # INVLPG of any page empties it
    assert references_read(513) == count


def test_a_flush_keeps_global_pages_only_if_asked_to() -> None:
    hierarchy = tiny_hierarchy()
    hierarchy.walk(0, 0, 0, [], 0, is_global=True)
    hierarchy.walk(0, 4096, 4096, [], 0)
    hierarchy.walk(0, LARGE_PAGE, LARGE_PAGE, [], 0, is_large=True, is_global=True)
    hierarchy.invalidate_translations(0, keep_global=True)
    assert frames(hierarchy, "dtlb_4k") == {0}
    assert frames(hierarchy, "dtlb_2m") == {1}
    assert frames(hierarchy, "stlb") == {0, 1}
    hierarchy.invalidate_translations(0, keep_global=False)  # as a VM exit without VPID does
    assert not any(frames(hierarchy, array) for array in ("dtlb_4k", "dtlb_2m", "stlb"))


def test_a_flush_keeps_the_order_of_what_stays() -> None:
    hierarchy = tiny_hierarchy(*NO_STLB)
    hierarchy.walk(0, 0, 0, [], 0, is_global=True)
    hierarchy.walk(0, 2 << 12, 2 << 12, [], 0)
    hierarchy.invalidate_translations(0, keep_global=True)
    assert [touch_page(hierarchy, page) for page in (2, 4)] == ["walk", "walk"]
    assert frames(hierarchy, "dtlb_4k") == {2, 4}


def test_what_a_flush_keeps_is_found_behind_what_it_drops() -> None:
    hierarchy = tiny_hierarchy(*NO_STLB, "tlb.dtlb_4k_ways=4")
    for page in range(4):
        hierarchy.walk(0, page << 12, page << 12, [], 0, is_global=page in (0, 1))
    hierarchy.invalidate_translations(0, keep_global=True)
    assert [touch_page(hierarchy, page) for page in (0, 1, 2, 3)] == ["hit", "hit", "walk", "walk"]


@pytest.mark.parametrize("linear", [0x7000, 0xFFFF_8000_0000_7000, -0x1000])
def test_invlpg_drops_one_page_even_a_global_one(linear: int) -> None:
    hierarchy = tiny_hierarchy()
    hierarchy.walk(0, 0x1000, linear, [], 0, is_global=True)
    hierarchy.walk(0, 0x2000, linear + 0x1000, [], 0)
    hierarchy.invalidate_page(0, linear + 0xFFF)
    assert frames(hierarchy, "dtlb_4k") == frames(hierarchy, "stlb") == {2}


def test_invlpg_of_any_address_in_a_large_page_drops_it() -> None:
    hierarchy = tiny_hierarchy()
    hierarchy.walk(0, LARGE_PAGE, 7 * LARGE_PAGE, [], 0, is_large=True)
    hierarchy.invalidate_page(0, 8 * LARGE_PAGE)
    assert frames(hierarchy, "dtlb_2m") == {1}
    hierarchy.invalidate_page(0, 8 * LARGE_PAGE - 1)
    assert frames(hierarchy, "dtlb_2m") == frames(hierarchy, "stlb") == set()


def test_hyperthreads_share_the_room_but_not_the_entries_of_a_tlb() -> None:
    hierarchy = tiny_hierarchy(*NO_STLB, pcpu_count=8)
    assert [touch_page(hierarchy, 0, pcpu=pcpu) for pcpu in (0, 4, 0, 4)] == ["walk", "walk", "hit", "hit"]
    hierarchy.invalidate_translations(4, keep_global=False)
    assert touch_page(hierarchy, 0, pcpu=0) == "hit"
    assert [touch_page(hierarchy, page, pcpu=4) for page in (0, 2)] == ["walk", "walk"]
    assert touch_page(hierarchy, 0, pcpu=0) == "walk"


def test_cores_have_their_own_tlbs() -> None:
    hierarchy = tiny_hierarchy(pcpu_count=2)
    touch_page(hierarchy, 0, pcpu=0)
    hierarchy.invalidate_translations(1, keep_global=False)
    assert [touch_page(hierarchy, 0, pcpu=pcpu) for pcpu in (0, 1)] == ["hit", "walk"]
