"""The kernels against a model of a few lines each, under random traffic."""

import random
from collections import OrderedDict

import pytest

from emulator.timing.hierarchy import MemoryHierarchy
from tests.emulator.timing.hierarchy_rig import BEYOND_L1, LINE, NO_L2, PRIVATE_L2_ONLY, STLB_HIT, tiny_hierarchy


class Lru:
    """A set-associative array of keys."""

    def __init__(self, sets: int, ways: int) -> None:
        self.sets = [OrderedDict[int, None]() for _ in range(sets)]
        self.ways = ways

    def use(self, number: int, key: int) -> bool:
        entries = self.sets[number % len(self.sets)]
        if key in entries:
            entries.move_to_end(key)
        return key in entries

    def add(self, number: int, key: int) -> int | None:
        """The key that had to leave."""
        entries = self.sets[number % len(self.sets)]
        entries[key] = None
        return entries.popitem(last=False)[0] if len(entries) > self.ways else None

    def discard(self, number: int, key: int) -> None:
        self.sets[number % len(self.sets)].pop(key, None)


class Caches:
    """An inclusive hierarchy of one core: what a load takes."""

    def __init__(self, levels: list[tuple[int, Lru]]) -> None:
        self.levels = levels

    def load(self, line: int) -> int:
        hit, cycles = len(self.levels), BEYOND_L1["dram"]
        for level, (level_cycles, cache) in enumerate(self.levels):
            if cache.use(line, line):
                hit, cycles = level, level_cycles
                break
        for level in reversed(range(hit)):
            victim = self.levels[level][1].add(line, line)
            for _, above in self.levels[:level]:
                if victim is not None:
                    above.discard(victim, victim)
        return cycles


def generator_of_a_printed_seed() -> random.Random:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    return random.Random(seed)


@pytest.mark.parametrize(
    ("overrides", "levels"),
    [
        ((), [(0, (2, 2)), (BEYOND_L1["l2"], (4, 2)), (BEYOND_L1["l3"], (8, 3))]),
        (PRIVATE_L2_ONLY, [(0, (2, 2)), (BEYOND_L1["l2"], (4, 2))]),
        (NO_L2, [(0, (2, 2)), (BEYOND_L1["l3"], (8, 3))]),
        (("caches.l3_size_bytes=2112",), [(0, (2, 2)), (BEYOND_L1["l2"], (4, 2)), (BEYOND_L1["l3"], (11, 3))]),
        (("caches.is_l2_shared=true",), [(0, (2, 2)), (BEYOND_L1["l2"], (4, 2)), (BEYOND_L1["l3"], (8, 3))]),
    ],
)
@pytest.mark.parametrize("reach_lines", [12, 24, 60])
def test_loads_take_what_the_reference_says(
    overrides: tuple[str, ...], levels: list[tuple[int, tuple[int, int]]], reach_lines: int
) -> None:
    generator = generator_of_a_printed_seed()
    hierarchy = tiny_hierarchy(*overrides)
    reference = Caches([(cycles, Lru(*shape)) for cycles, shape in levels])
    for _ in range(3000):
        line = generator.randrange(reach_lines)
        assert hierarchy.access(0, line * LINE, 8, False, 0) == reference.load(line)


class Tlbs:
    """Data TLBs of the tiny machine: small and large pages, and the second level of both."""

    def __init__(self) -> None:
        self.first = {False: Lru(2, 2), True: Lru(1, 2)}
        self.second = Lru(2, 4)

    def look_up(self, page: int) -> int:
        large = page >> 9
        if self.first[False].use(page, page) or self.first[True].use(large, large):
            return 0
        for is_large, number in ((False, page), (True, large)):
            if self.second.use(number, number << 1 | is_large):
                self.first[is_large].add(number, number)
                return STLB_HIT
        return -1

    def fill(self, page: int, is_large: bool) -> None:
        number = page >> 9 if is_large else page
        self.first[is_large].add(number, number)
        self.second.add(number, number << 1 | is_large)


def test_translations_take_what_the_reference_says() -> None:
    generator = generator_of_a_printed_seed()
    hierarchy = tiny_hierarchy()
    reference = Tlbs()
    for _ in range(6000):
        large = generator.randrange(7)
        page = large << 9 | generator.randrange(6)
        is_large = large % 2 == 0
        hierarchy.access(0, page << 12, 8, False, 0)  # the caches have it: what is left is the TLB's
        expected = reference.look_up(page)
        assert hierarchy.data(0, page << 12, 8, False, 0) == expected
        if expected < 0:
            hierarchy.walk(0, page << 12, page << 12, [], 0, is_large=is_large)
            reference.fill(page, is_large)
        if generator.random() < 0.005:
            hierarchy.invalidate_translations(0, keep_global=False)
            reference = Tlbs()


class StoreBuffer:
    """Stores in order: at most `entries` at once, each done no earlier than the one before."""

    def __init__(self, entries: int) -> None:
        self.entries = entries
        self.done: list[int] = []

    def push(self, now_cycles: int, cycles: int) -> int:
        self.done = [done for done in self.done if done > now_cycles]
        stall = self.done[-self.entries] - now_cycles if len(self.done) >= self.entries else 0
        if cycles or self.done:
            self.done.append(max([now_cycles + stall + cycles, *self.done[-1:]]))
        return stall


def test_stores_wait_as_the_reference_says() -> None:
    generator = generator_of_a_printed_seed()
    hierarchy = tiny_hierarchy()
    reference = StoreBuffer(3)
    now_cycles, is_owned = 0, False
    for _ in range(3000):
        line = generator.choice([0, generator.randrange(1 << 30) * 4 + 1])  # no other line is in the sets of line 0
        cycles = 0 if line == 0 and is_owned else BEYOND_L1["dram"]
        is_owned |= line == 0
        stall = hierarchy.access(0, line * LINE, 8, True, now_cycles)
        assert stall == reference.push(now_cycles, cycles)
        now_cycles += stall + generator.choice([0, 1, 50, 300])


def test_two_hierarchies_live_beside_each_other() -> None:
    one, other = tiny_hierarchy(), tiny_hierarchy()
    assert isinstance(one, MemoryHierarchy)
    one.access(0, 0, 8, False, 0)
    assert other.access(0, 0, 8, False, 0) == BEYOND_L1["dram"]
