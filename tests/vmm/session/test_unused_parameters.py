"""What is said to change nothing changes nothing, and it is said."""

from functools import cache
from pathlib import Path

import pytest

from emulator.profiles.file import profile_path
from emulator.profiles.profile import load_profile
from emulator.profiles.sections import PARAMETERS, Use
from vmm.session.build import build_guest
from vmm.session.plan import plan
from vmm.session.spec import GuestSpec, HostSpec

PROFILE = "nehalem"  # has all levels
IMAGE = "sidecall_null"  # makes hypercalls where there is no sidecore


def value_of(key: str) -> int:
    section, _, name = key.partition(".")
    return int(getattr(getattr(load_profile(PROFILE), section), name))


def changed(key: str) -> tuple[str, ...]:
    """Another value; where ways are doubled, so is what they divide."""
    value = value_of(key)
    if PARAMETERS[key].kind is bool:
        return (f"{key}={str(not value).lower()}",)
    texts = [f"{key}={2 * value}"]
    if key.endswith("_ways"):
        pair = key.replace("_ways", "_size_bytes" if key.startswith("caches.") else "_entries")
        texts.append(f"{pair}={2 * value_of(pair)}")
    return tuple(texts)


@cache
def cycles(overrides: tuple[str, ...], *, has_sidecore: bool = False) -> int:
    """What a run takes in `fast`."""
    host = HostSpec(profile=PROFILE, overrides=overrides, sidecore_count=int(has_sidecore))
    guest = build_guest(plan(host, GuestSpec(image=IMAGE)), lambda _byte: None)
    while guest.end is None:
        guest.advance(10**9)
    return guest.pcpu.clock.cycles


UNUSED = [key for key, row in PARAMETERS.items() if row.use is not Use.ALWAYS and value_of(key)]
LINES = ["core.dirty_line_cycles", "caches.l3_latency_cycles"]


@pytest.mark.parametrize("key", UNUSED)
def test_a_parameter_that_fast_does_not_use_changes_no_cycle_there(key: str) -> None:
    assert cycles(changed(key)) == cycles(())


@pytest.mark.parametrize("key", LINES)
def test_what_a_line_between_cores_costs_matters_with_a_sidecore(key: str) -> None:
    assert cycles(changed(key), has_sidecore=True) > cycles((), has_sidecore=True)


def lines_of(host: HostSpec) -> list[str]:
    lines: list[str] = []
    plan(host, GuestSpec(image=IMAGE), progress=lines.append)
    return lines


def test_it_is_said_in_a_line_each_what_changes_nothing() -> None:
    overrides = ("memory.dram_latency_cycles=2000", "tlb.stlb_hit_cycles=9", "core.mispredict_cycles=9")
    said = lines_of(HostSpec(overrides=overrides))
    assert [line.partition(" at ")[0] for line in said] == [
        "memory.dram_latency_cycles changes nothing",
        "tlb.stlb_hit_cycles changes nothing",
    ]
    with_sidecore = lines_of(HostSpec(overrides=overrides, sidecore_count=1))
    assert [line.partition(" ")[0] for line in with_sidecore] == ["tlb.stlb_hit_cycles"]
    assert not lines_of(HostSpec(overrides=overrides, timing="detailed"))
    assert not lines_of(HostSpec())


def test_a_profile_without_an_allowance_says_so(tmp_path: Path) -> None:
    copy = tmp_path / "mine.toml"
    copy.write_text(profile_path("core2-2006").read_text().replace('name = "core2-2006"', 'name = "mine"'))
    (line,) = lines_of(HostSpec(profile=str(copy)))
    assert line.startswith("profile mine has no allowance for memory")
    assert not lines_of(HostSpec(profile=str(copy), timing="detailed"))
