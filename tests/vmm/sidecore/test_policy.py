"""Policies of a dynamic sidecore: what they are told is exact, and what they decide is what they say."""

from fractions import Fraction
from pathlib import Path

import pytest

from emulator.errors import ConfigError
from emulator.ledger import HOST, Category
from emulator.machine import Machine
from emulator.profiles.profile import load_profile
from vmm.cli.main import main
from vmm.scheduler.credit import CreditScheduler
from vmm.scheduler.pinned import PinnedScheduler
from vmm.sidecore.policy import AlwaysOn, CoreUse, Never, Policy, Sample, UseMeter, WhenIdle, named_policy


def sample(busy: tuple[int, ...], *, is_sidecore: bool = False, waiting: int = 0) -> Sample:
    """Of cores that were busy for so many of 100 cycles; it is about the last."""
    cores = tuple(CoreUse(cycles, 100) for cycles in busy)
    return Sample(0, cores, candidate=len(busy) - 1, is_sidecore=is_sidecore, waiting_vcpus=waiting)


def test_utilisation_is_what_the_ledger_says_since_the_last_sample() -> None:
    machine = Machine(load_profile("netburst-2006"), memory_bytes=1 << 20, pcpu_count=2)
    meter = UseMeter(machine.pcpus)
    first, second = machine.pcpus
    first.clock.account = first.clock.ledger.account(HOST, "work")
    first.clock.charge(Category.PATHS, 300)
    first.clock.commit()
    first.waiting.wait(Category.IDLE)
    first.waiting.pass_time(1000)
    second.waiting.wait(Category.SPIN)
    second.waiting.pass_time(900)
    uses = meter.take()
    assert uses == (CoreUse(300, 1000), CoreUse(0, 900))
    assert uses[0].utilisation == Fraction(3, 10)
    first.waiting.pass_time(1500)
    assert meter.take() == (CoreUse(0, 500), CoreUse(0, 0))
    assert CoreUse(0, 0).utilisation == 0


@pytest.mark.parametrize(
    ("what", "wanted"),
    [
        (sample((100, 19)), True),
        (sample((100, 20)), False),
        (sample((100, 90), is_sidecore=True), True),  # busy with sidecalls
        (sample((100, 0), is_sidecore=True, waiting=1), False),
        (sample((81, 0), is_sidecore=True, waiting=1), False),
        (sample((80, 0), is_sidecore=True, waiting=1), True),
        (sample((100, 10, 0), is_sidecore=True, waiting=1), True),  # another core has time for it
        (sample((100, 100, 0), is_sidecore=True, waiting=1), False),
    ],
)
def test_when_idle_takes_an_idle_core_and_gives_it_back_under_load(what: Sample, wanted: bool) -> None:
    assert WhenIdle().wants_sidecore(what) is wanted


def test_a_threshold_is_a_part() -> None:
    assert WhenIdle(Fraction(1, 2)).wants_sidecore(sample((100, 49)))
    with pytest.raises(ConfigError, match="a threshold of 2 is not possible"):
        WhenIdle(Fraction(2))


@pytest.mark.parametrize(("policy", "wanted"), [(AlwaysOn(), True), (Never(), False)])
def test_the_others_do_not_look(policy: Policy, wanted: bool) -> None:
    assert policy.wants_sidecore(sample((100, 100), waiting=3)) is wanted


def test_a_policy_comes_from_a_file(tmp_path: Path) -> None:
    script = tmp_path / "mine.py"
    script.write_text(
        "class Mine:\n    period_us = 50\n    def wants_sidecore(self, sample):\n        return sample.now_ps > 0\n"
    )
    policy = named_policy(f"{script}:Mine")
    assert policy.period_us == 50
    assert not policy.wants_sidecore(sample((0, 0)))


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("", "Mine", "has no class or function 'Mine'"),
        ("def Mine(x): pass", "Mine", "cannot be made without arguments"),
        ("class Mine: period_us = 0", "Mine", "is no policy: it needs `period_us`, 1 or more, and `wants_sidecore`"),
        ("1 / 0", "Mine", "cannot be run: ZeroDivisionError: division by zero"),
    ],
)
def test_a_file_with_a_mistake_is_one_clear_line(tmp_path: Path, text: str, name: str, message: str) -> None:
    script = tmp_path / "mine.py"
    script.write_text(text)
    with pytest.raises(ConfigError) as caught:
        named_policy(f"{script}:{name}")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sidecore", "--sidecore-policy", "when-bored"], "no policy 'when-bored'"),
        (["--sidecore", "--sidecore-policy", "absent.py:Mine"], "'absent.py' cannot be run: FileNotFoundError"),
        (["--sidecore-policy", "never"], "--sidecore-policy needs --sidecore"),
        (["--switch-sidecore", "5:on"], "--switch-sidecore needs --sidecore"),
        (["--sidecore", "--switch-sidecore", "soon:on"], "--switch-sidecore 'soon:on': give CYCLE:on or CYCLE:off"),
        (["--sidecore", "--switch-sidecore", "5:perhaps"], "--switch-sidecore '5:perhaps': give CYCLE:on or"),
    ],
)
def test_a_mistake_in_the_command_is_one_clear_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["boot", "boot", *arguments])
    assert caught.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]


def test_a_retired_core_runs_nobody_and_its_vcpus_go_elsewhere() -> None:
    scheduler: CreditScheduler[str] = CreditScheduler(2)
    for vcpu in ("a", "b"):
        scheduler.add(vcpu, group=vcpu, weight=256, cores=(0, 1))
    assert [scheduler.pick(core, 0).vcpu for core in (0, 1)] == ["a", "b"]
    assert scheduler.retire(1)
    assert scheduler.waiting_count == 0  # it has the core until that decides
    assert scheduler.pick(1, 0).vcpu is None
    assert scheduler.waiting_count == 1
    assert scheduler.wake("b") == ()
    assert scheduler.pick(0, 0).vcpu == "b"
    scheduler.enlist(1)
    assert scheduler.pick(1, 0).vcpu == "a"


def test_a_vcpu_that_sleeps_wakes_on_a_core_that_is_not_retired() -> None:
    scheduler: CreditScheduler[str] = CreditScheduler(3)
    scheduler.add("a", group="a", weight=256, cores=(0, 1))
    scheduler.sleep("a")
    assert scheduler.retire(0)
    assert scheduler.wake("a") == (1,)
    assert scheduler.pick(1, 0).vcpu == "a"


def test_a_core_that_a_vcpu_needs_is_not_retired() -> None:
    scheduler: CreditScheduler[str] = CreditScheduler(2)
    scheduler.add("a", group="a", weight=256, cores=(1,))
    assert not scheduler.retire(1)
    assert scheduler.pick(1, 0).vcpu == "a"
    assert scheduler.retire(0)
    with pytest.raises(ConfigError, match="serve sidecalls"):
        scheduler.add("b", group="b", weight=256, cores=(0,))


def test_a_pinned_core_is_retired_when_nobody_has_it() -> None:
    scheduler = PinnedScheduler(2)
    scheduler.add("a", group="a", weight=256, cores=(0, 1))
    assert not scheduler.retire(0)
    assert scheduler.retire(1)
    with pytest.raises(ConfigError, match="more virtual CPUs than cores"):
        scheduler.add("b", group="b", weight=256, cores=(0, 1))
    scheduler.enlist(1)
    assert scheduler.add("b", group="b", weight=256, cores=(0, 1)) == 1
