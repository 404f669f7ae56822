"""Claims about threads of one physical core: how long work takes depends on what the other does, to the cycle."""

from collections.abc import Sequence

import pytest

from emulator.clock import NO_HORIZON
from emulator.ledger import Category
from emulator.machine import Machine
from emulator.pcpu import PCpu
from emulator.profiles.profile import load_profile

RATES = ("works=200", "pauses=150", "mwaits=120", "halted=100")
SETTINGS = tuple(f"core.sibling_{rate.replace('=', '_cycles_per_100=')}" for rate in RATES)


def machine(pcpu_count: int = 4, *, profile: str = "xeon-2.8-ht-2006", settings: Sequence[str] = SETTINGS) -> Machine:
    return Machine(load_profile(profile, settings), memory_bytes=4096, pcpu_count=pcpu_count, timing="flat")


def work(pcpu: PCpu, cycles: int) -> int:
    """How long so many cycles of work take."""
    before = pcpu.clock.cycles
    pcpu.clock.charge(Category.PATHS, cycles)
    pcpu.clock.commit()
    pcpu.clock.check_ledger()
    return pcpu.clock.cycles - before


def pair() -> tuple[PCpu, PCpu]:
    """The two threads of a core."""
    pcpus = machine().pcpus
    return pcpus[0], pcpus[2]


def test_pcpus_that_share_a_core_slow_each_other_down_and_no_others() -> None:
    pcpus = machine().pcpus
    for pcpu in pcpus[1:2]:
        pcpu.waiting.wait(Category.IDLE)
    assert work(pcpus[0], 100) == 200  # beside 2
    assert work(pcpus[3], 100) == 100  # beside 1, which is halted


@pytest.mark.parametrize(
    ("category", "is_by_mwait", "cycles"),
    [(Category.SPIN, False, 150), (Category.IDLE, True, 120), (Category.IDLE, False, 100)],
)
def test_how_much_depends_on_how_the_sibling_waits(category: int, is_by_mwait: bool, cycles: int) -> None:
    here, there = pair()
    there.waiting.wait(category, is_by_mwait=is_by_mwait)
    assert work(here, 100) == cycles
    assert here.clock.ledger.cycles[Category.SIBLING] == cycles - 100
    assert here.clock.ledger.cycles[Category.PATHS] == 100


def test_work_before_the_sibling_began_to_wait_is_slower_than_work_behind_it() -> None:
    here, there = pair()
    there.clock.charge(Category.PATHS, 500)  # takes 1000: until then it works
    there.clock.commit()
    there.waiting.wait(Category.IDLE)
    assert there.clock.cycles == 1000
    assert work(here, 400) == 800
    assert work(here, 400) == 200 + 300  # 100 of it beside work
    assert work(here, 400) == 400


def test_work_gets_slower_when_the_sibling_wakes() -> None:
    here, there = pair()
    there.waiting.wait(Category.SPIN)
    there.waiting.wake(600)
    assert work(here, 500) == 600 + 200  # 400 of it until then


def test_what_polls_or_sleeps_takes_no_longer() -> None:
    here, _ = pair()
    here.waiting.wait(Category.SPIN)
    here.waiting.wake(1000)
    here.waiting.end_wait()
    assert here.clock.cycles == 1000
    assert here.clock.ledger.cycles[Category.SPIN] == 1000


def test_an_engine_is_to_stop_where_the_sibling_is_known_to_change() -> None:
    here, there = pair()
    there.waiting.wait(Category.IDLE)
    work(here, 10)
    assert here.clock.rate_end_cycles == NO_HORIZON
    there.waiting.wake(700)
    work(here, 10)
    assert here.clock.rate_end_cycles == 700


@pytest.mark.parametrize("profile", ["netburst-2006", "haswell"])
def test_other_machines_have_nothing_of_it(profile: str) -> None:
    assert all(pcpu.clock.siblings is None for pcpu in machine(profile=profile, settings=()).pcpus)
    assert all(pcpu.clock.siblings is None for pcpu in machine(pcpu_count=2).pcpus)
