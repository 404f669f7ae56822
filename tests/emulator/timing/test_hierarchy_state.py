"""The state array has all that the profile says, and counters by name."""

import numpy as np
import pytest

from emulator.profiles.sections import PARAMETERS
from emulator.timing.hierarchy import COUNTERS
from emulator.timing.kernels.layout import PCPU_WORDS, PCPUS, STORE_BUFFER_ENTRIES, Pcpu
from emulator.timing.state import build_state
from tests.emulator.timing.hierarchy_rig import lines, tiny_hierarchy, tiny_profile


@pytest.mark.parametrize("key", [key for key in PARAMETERS if key.startswith(("caches", "memory", "tlb"))])
def test_every_parameter_of_caches_memory_and_tlbs_is_read(key: str) -> None:
    profile = tiny_profile()
    section, name = key.split(".")
    value = getattr(getattr(profile, section), name)
    if PARAMETERS[key].kind is bool:
        other = str(not value).lower()
    elif name.endswith("_ways"):
        other = "1"
    elif name == "line_bytes":
        other = "32"
    elif name.endswith(("_entries", "_bytes")):
        other = str(2 * value or 2)
    else:
        other = str(value + 1)
    assert not np.array_equal(build_state(profile, 2), build_state(tiny_profile(f"{key}={other}"), 2))


def test_the_words_have_room() -> None:
    assert max(Pcpu) < PCPU_WORDS
    assert STORE_BUFFER_ENTRIES < PCPUS


def test_counters_have_names_and_each_pcpu_its_own() -> None:
    hierarchy = tiny_hierarchy(pcpu_count=2)
    assert {hierarchy.counter(1, name) for name in COUNTERS} == {0}
    hierarchy.access(1, 0, 8, False, 0)
    assert hierarchy.counter(1, "l1d_miss") == 1
    assert hierarchy.state[hierarchy.counter_index(1, "l1d_miss")] == 1
    assert {hierarchy.counter(0, name) for name in COUNTERS} == {0}
    with pytest.raises(KeyError):
        hierarchy.counter(0, "no_such_counter")


def test_one_can_look_inside() -> None:
    hierarchy = tiny_hierarchy()
    hierarchy.access(0, 0, 8, False, 0)
    assert list(lines(hierarchy, "l3")) == [0]
    with pytest.raises(IndexError, match="l1d has 1 instances, there is no 1"):
        hierarchy.entries("l1d", 1)
