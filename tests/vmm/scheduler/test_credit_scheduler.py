"""Claims about Xen's credit scheduler: order of a queue, preemption, shares by weight, balance between cores.

vCPUs are numbers here, and a loop stands for the cores: who runs, ticks every 10 ms, a new decision every 30 ms.
"""

import pytest

from emulator.errors import ConfigError
from vmm.scheduler.credit import PS_PER_MS, SLICE_PS, TICK_PS, CreditScheduler

MS = PS_PER_MS


def scheduler_of(*weights: int, cores: int = 1, has_boost: bool = False) -> CreditScheduler[int]:
    """One vCPU per weight, each a domain of its own; all may run everywhere."""
    scheduler = CreditScheduler[int](cores, has_boost=has_boost)
    for vcpu, weight in enumerate(weights):
        scheduler.add(vcpu, group=vcpu, weight=weight, cores=range(cores))
    return scheduler


def run(scheduler: CreditScheduler[int], *, cores: int = 1, ms: int) -> dict[int, int]:
    """Let everybody run for `ms`; milliseconds that each vCPU got."""
    got: dict[int, int] = {}
    running = [scheduler.pick(core, 0).vcpu for core in range(cores)]
    for tick in range(1, ms // 10 + 1):
        for vcpu in running:
            if vcpu is not None:
                got[vcpu] = got.get(vcpu, 0) + 10
        now = tick * TICK_PS
        for core in range(cores):
            scheduler.tick(core, now)
        if tick % 3 == 0:
            running = [scheduler.pick(core, now).vcpu for core in range(cores)]
    return got


def test_a_slice_lasts_30_ms() -> None:
    scheduler = scheduler_of(256, 256)
    assert SLICE_PS == 30 * MS
    assert scheduler.pick(0, 7 * MS).until_ps == 37 * MS


def test_of_one_class_each_gets_its_turn() -> None:
    scheduler = scheduler_of(256, 256, 256)
    assert [scheduler.pick(0, 0).vcpu for _ in range(5)] == [0, 1, 2, 0, 1]


@pytest.mark.parametrize(
    ("weights", "shares"), [((256, 256), (50, 50)), ((512, 256), (67, 33)), ((256, 768), (25, 75))]
)
def test_busy_domains_share_a_core_by_weight(weights: tuple[int, ...], shares: tuple[int, ...]) -> None:
    got = run(scheduler_of(*weights), ms=30_000)
    assert [round(100 * got[vcpu] / 30_000) for vcpu in range(len(weights))] == list(shares)


def test_two_vcpus_of_one_domain_share_what_it_gets() -> None:
    scheduler = CreditScheduler[int](1)
    for vcpu, domain in ((0, "a"), (1, "a"), (2, "b")):
        scheduler.add(vcpu, group=domain, weight=256, cores=[0])
    got = run(scheduler, ms=30_000)
    assert [round(100 * got[vcpu] / 30_000) for vcpu in range(3)] == [25, 25, 50]


def test_three_on_two_cores_all_make_progress_and_no_core_idles() -> None:
    got = run(scheduler_of(256, 256, 256, cores=2), cores=2, ms=30_000)
    assert sum(got.values()) == 60_000
    assert all(abs(ms - 20_000) < 1_000 for ms in got.values())


def test_who_used_more_than_its_credits_is_over_and_waits_for_who_did_not() -> None:
    scheduler = scheduler_of(256, 256)
    scheduler.pick(0, 0)
    scheduler.tick(0, TICK_PS)  # both are active from their first tick on
    scheduler.pick(0, TICK_PS)
    scheduler.tick(0, 2 * TICK_PS)
    scheduler.tick(0, 3 * TICK_PS)
    assert (scheduler.credits_of(0), scheduler.credits_of(1)) == (50, -50)  # 150 each, less 100 and 200
    assert [scheduler.pick(0, 3 * TICK_PS).vcpu for _ in range(3)] == [0, 0, 0]


def test_a_woken_vcpu_preempts_only_a_lower_class() -> None:
    scheduler = scheduler_of(256, 256)
    scheduler.sleep(1)
    assert scheduler.pick(0, 0).vcpu == 0
    assert scheduler.wake(1) == ()  # both are UNDER
    scheduler.sleep(1)
    scheduler._entries[0].priority = type(scheduler._entries[0].priority).OVER
    assert scheduler.wake(1) == (0,)
    assert scheduler.pick(0, 1).vcpu == 1


def test_with_boost_a_woken_vcpu_preempts_its_equals_until_the_next_tick() -> None:
    scheduler = scheduler_of(256, 256, has_boost=True)
    scheduler.sleep(1)
    scheduler.pick(0, 0)
    assert scheduler.wake(1) == (0,)
    assert scheduler.pick(0, 1).vcpu == 1
    scheduler.tick(0, TICK_PS)
    assert scheduler.pick(0, TICK_PS).vcpu == 0


def test_a_woken_vcpu_whose_core_is_busy_goes_to_an_idle_one() -> None:
    scheduler = scheduler_of(256, cores=2)
    scheduler.add(7, group=7, weight=256, cores=[0])
    scheduler.sleep(7)
    assert scheduler.pick(0, 0).vcpu == 0
    assert scheduler.pick(1, 0).vcpu is None
    scheduler.add(8, group=8, weight=256, cores=[0, 1])
    scheduler.sleep(8)
    scheduler._entries[8].core = 0
    assert scheduler.wake(7) == ()  # may not run on the idle core
    assert scheduler.wake(8) == (1,)
    assert scheduler.pick(1, 0).vcpu == 8


def test_waking_who_is_awake_changes_nothing() -> None:
    scheduler = scheduler_of(256, 256)
    assert scheduler.wake(1) == ()
    scheduler.pick(0, 0)
    assert scheduler.wake(0) == ()
    assert [scheduler.pick(0, 0).vcpu for _ in range(3)] == [1, 0, 1]


def test_who_sleeps_most_of_the_time_leaves_the_accounting() -> None:
    scheduler = scheduler_of(256, 256)
    scheduler.pick(0, 0)
    scheduler.tick(0, TICK_PS)
    scheduler.sleep(0)
    assert scheduler.pick(0, TICK_PS).vcpu == 1
    for tick in range(2, 22):
        scheduler.tick(0, tick * TICK_PS)
    assert scheduler.credits_of(0) == 0
    assert scheduler.credits_of(1) >= -300


def test_an_idle_core_has_no_ticks() -> None:
    scheduler = scheduler_of(256)
    assert scheduler.next_tick_ps(0, 3 * MS) is None
    scheduler.pick(0, 0)
    assert scheduler.next_tick_ps(0, 3 * MS) == 10 * MS
    assert scheduler.next_tick_ps(0, 10 * MS) == 20 * MS


def test_a_removed_vcpu_never_runs_again() -> None:
    scheduler = scheduler_of(256, 256)
    scheduler.pick(0, 0)
    scheduler.remove(0)
    assert [scheduler.pick(0, 0).vcpu for _ in range(2)] == [1, 1]
    scheduler.remove(1)
    assert scheduler.pick(0, 0).vcpu is None


@pytest.mark.parametrize("weight", [0, -1, 65536])
def test_an_impossible_weight_is_named(weight: int) -> None:
    with pytest.raises(ConfigError, match=f"weight of {weight} is not possible"):
        scheduler_of(weight)
