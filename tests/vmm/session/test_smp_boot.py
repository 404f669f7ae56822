"""Claims about several processors as a user asks for them."""

import pytest

from emulator.errors import ConfigError
from vmm.session.build import build_guest
from vmm.session.plan import plan
from vmm.session.run import collect_stats
from vmm.session.spec import PROCESSORS_MAX, GuestSpec, HostSpec, specs_of

LIMIT_CYCLES = 100_000_000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vcpu_count": 0}, "--vcpus 0 is not possible"),
        ({"vcpu_count": PROCESSORS_MAX + 1}, f"--vcpus {PROCESSORS_MAX + 1} is not possible"),
        ({"pcpu_count": 0}, "--pcpus 0 is not possible"),
        ({"pcpu_count": -3}, "--pcpus -3 is not possible"),
        ({"vcpu_count": 2, "pcpu_count": 1, "paging": "native"}, "a native guest has all cores"),
    ],
)
def test_impossible_numbers_of_processors_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(*specs_of({"image": "default", **changes}))


@pytest.mark.parametrize("paging", ["native", "shadow", "ept"])
def test_every_core_has_a_ledger_that_sums_to_its_clock(paging: str) -> None:
    boot_plan = plan(HostSpec(paging=paging), GuestSpec(image="default", vcpu_count=3))  # type: ignore[arg-type]
    guest = build_guest(boot_plan, lambda _byte: None)
    guest.advance(LIMIT_CYCLES)
    assert guest.end is not None
    stats = collect_stats(guest, 0.0)
    assert sorted(stats["ledger"]) == ["pcpu0", "pcpu1", "pcpu2"]
    for pcpu, ledger in zip(guest.machine.pcpus, stats["ledger"].values(), strict=True):
        pcpu.clock.check_ledger()
        assert sum(ledger.values()) == pcpu.clock.cycles
    assert stats["ledger"]["pcpu2"]["idle"] == stats["cycles"] == sum(stats["ledger"]["pcpu2"].values())


@pytest.mark.parametrize("paging", ["native", "shadow", "ept"])
def test_processors_that_are_not_started_change_nothing(paging: str) -> None:
    clocks = []
    for vcpu_count in (1, 3):
        boot_plan = plan(HostSpec(paging=paging), GuestSpec(image="default", vcpu_count=vcpu_count))  # type: ignore[arg-type]
        guest = build_guest(boot_plan, lambda _byte: None)
        guest.advance(LIMIT_CYCLES)
        clocks.append(guest.pcpu.clock.cycles)
    assert clocks[0] == clocks[1]
