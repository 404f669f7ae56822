"""A sidecore whose core runs guests too: guests see the same results and memory under any policy, at any switch."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.guest.running import Finished, run_plan
from vmm.session.additions import NOTHING_ADDED, Additions
from vmm.session.boot_plan import BootPlan
from vmm.session.build import build_guest
from vmm.session.option_values import Switch
from vmm.session.plan import plan
from vmm.session.spec import GuestSpec, HostSpec, Paging
from vmm.session.virtual_guest import VirtualGuest
from vmm.sidecore import abi
from vmm.sidecore.policy import Never, Policy, Sample, WhenIdle

MAX_CYCLES = 3_000_000_000
MEMORY_BYTES = 64 << 20


@dataclass
class Changing:
    """A core that changes its duty at every sample."""

    period_us: int

    def wants_sidecore(self, sample: Sample) -> bool:
        return not sample.is_sidecore


def with_policy(
    kernel: str, policy: str | None, *, paging: Paging = "shadow", jumps: bool = True, added: Additions = NOTHING_ADDED
) -> BootPlan:
    """Two cores, of which the second is the dynamic one."""
    vcpu_count = 2 if kernel == "sidecall_load" else 1
    return plan(
        HostSpec(paging=paging, pcpu_count=1, sidecore_count=1, sidecore_policy=policy, jumps_spins=jumps),
        GuestSpec(image=kernel, vcpu_count=vcpu_count, memory_bytes=MEMORY_BYTES),
        additions=added,
    )


def build(boot_plan: BootPlan, output: bytearray) -> VirtualGuest:
    guest = build_guest(boot_plan, output.append)
    assert isinstance(guest, VirtualGuest)
    return guest


def finish(guest: VirtualGuest, slice_cycles: int = 10**9) -> None:
    while guest.end is None and guest.pcpu.clock.cycles < MAX_CYCLES:
        guest.advance(guest.pcpu.clock.cycles + slice_cycles)
    assert guest.end is not None
    for pcpu in guest.machine.pcpus:
        pcpu.clock.check_ledger()


def memory(guest: VirtualGuest) -> bytes:
    """All of the guest's, but for its page of slots."""
    assert guest.hypervisor.sidecores is not None
    page = guest.hypervisor.sidecores.page_of(guest.domain)
    assert page is not None
    return guest.domain.read(0, page.gpa) + guest.domain.read(page.gpa + 4096, MEMORY_BYTES - page.gpa - 4096)


def changes(guest: VirtualGuest) -> list[bool]:
    assert guest.hypervisor.dynamic_sidecore is not None
    return [serves for _, serves in guest.hypervisor.dynamic_sidecore.changes]


def facts(guest: VirtualGuest, output: bytearray) -> tuple[object, ...]:
    pcpus = guest.machine.pcpus
    assert guest.hypervisor.dynamic_sidecore is not None
    return (
        bytes(output),
        guest.hypervisor.dynamic_sidecore.changes,
        guest.exit_statistics(),
        [pcpu.clock.book().by_owner() for pcpu in pcpus],
    )


def finish_under(policy: Policy, kernel: str, paging: Paging, *, jumps: bool = True) -> tuple[VirtualGuest, bytearray]:
    added = Additions(sidecore_policy=lambda: policy)
    boot_plan = with_policy(kernel, None, paging=paging, jumps=jumps, added=added)
    output = bytearray()
    guest = build(boot_plan, output)
    finish(guest)
    return guest, output


@pytest.mark.parametrize("paging", ["shadow", "ept"])
def test_a_guest_under_changing_load_sees_both_regimes_and_the_same_results(paging: Paging) -> None:
    runs = {}
    for name, policy in (("never", Never()), ("when-idle", WhenIdle(period_us=100))):
        runs[name] = finish_under(policy, "sidecall_load", paging)
    guest, output = runs["when-idle"]
    assert b"PASS: all" in output
    assert output == runs["never"][1]
    assert memory(guest) == memory(runs["never"][0])
    assert changes(runs["never"][0]) == []
    *_, serves, runs_guests, serves_again = changes(guest)
    assert (serves, runs_guests, serves_again) == (True, False, True)
    assert guest.exit_statistics()["CPUID"]["count"] < runs["never"][0].exit_statistics()["CPUID"]["count"]
    owners = guest.machine.pcpus[1].clock.book().by_owner()
    assert {"d0", "d0v1"} <= set(owners)  # it served d0, and ran its vCPU 1


@pytest.mark.parametrize("slice_cycles", [30_011, 1_000_003])
def test_slices_change_nothing(slice_cycles: int) -> None:
    results = []
    for each in (10**9, slice_cycles):
        output = bytearray()
        guest = build(with_policy("sidecall_load", "when-idle"), output)
        finish(guest, each)
        results.append(facts(guest, output))
    assert results[0] == results[1]


@pytest.mark.parametrize("period_us", [3, 17, 50])
@pytest.mark.parametrize("kernel", ["sidecalls", "sidecall_load"])
@pytest.mark.parametrize("paging", ["shadow", "ept"])
def test_requests_survive_a_core_that_changes_all_the_time(kernel: str, paging: Paging, period_us: int) -> None:
    guest, output = finish_under(Changing(period_us), kernel, paging)
    assert b"PASS: all" in output, output.decode()
    assert len(changes(guest)) > 20
    page = guest.hypervisor.sidecores.page_of(guest.domain) if guest.hypervisor.sidecores else None
    assert page is not None
    assert page.counts.requests > 20


def test_executed_polls_change_nothing() -> None:
    results = []
    for jumps in (True, False):
        guest, output = finish_under(Changing(40), "sidecalls", "shadow", jumps=jumps)
        *others, accounts = facts(guest, output)
        assert isinstance(accounts, list)
        accounts[1]["host"].pop("idling")  # it may still be polling, a poll or a turn behind, when all is over
        results.append((others, accounts))
    assert results[0] == results[1]


def test_what_is_posted_when_nobody_serves_is_answered_as_closed() -> None:
    guest = build(with_policy("default", "never"), bytearray())
    sidecores = guest.hypervisor.sidecores
    assert sidecores is not None
    gpa = 1 << 20
    assert sidecores.register(guest.vcpu.siblings, gpa, 2, 0) == 0
    page = sidecores.page_of(guest.domain)
    assert page is not None
    slot = page.slots[1]
    assert abi.state_of(slot.read()) == abi.FREE | abi.CLOSED
    slot.write_state(abi.POSTED)
    sidecores.cores[0].notice(slot, 100)
    sidecores.answer_late_posts()
    assert abi.state_of(slot.read()) == abi.DONE | abi.CLOSED
    assert int.from_bytes(slot.read()[12:16], "little", signed=True) == abi.ECLOSED
    assert slot.visible_cycles is None


@pytest.mark.parametrize("policy", ["never", "when-idle"])
def test_no_samples_are_taken_when_only_the_outside_could_wake_a_core(policy: str, tmp_path: Path) -> None:
    kernel = tmp_path / "halt"
    kernel.write_bytes(b"\xfb\xf4\xeb\xfd")  # STI; HLT; again
    specs = (
        HostSpec(sidecore_count=1, sidecore_policy=policy),
        GuestSpec(kernel=Path(f"{kernel}@0x7c00:16"), memory_bytes=MEMORY_BYTES),
    )
    for slice_cycles in (10**12, 1_000_003):
        guest = build(plan(*specs), bytearray())
        slices = 0
        limit_cycles = 0
        while guest.pcpu.clock.cycles >= limit_cycles:
            slices += 1
            assert slices < 100
            limit_cycles += slice_cycles
            guest.advance(limit_cycles)
        assert guest.end is None
        assert changes(guest) == ([True] if policy == "when-idle" else [])


def run_switched(*switches: Switch) -> Finished:
    return run_plan(
        plan(
            HostSpec(sidecore_count=1, sidecore_switches=switches), GuestSpec(image="fig1", memory_bytes=MEMORY_BYTES)
        ),
        max_cycles=MAX_CYCLES,
    )


def verdicts(finished: Finished) -> list[bytes]:
    return [line for line in finished.output.splitlines() if not line.startswith(b"~")]


def test_a_switch_at_a_cycle_sends_the_guest_back_to_exits_and_on() -> None:
    on, off = run_switched(), run_switched(Switch(1, False))
    both = run_switched(Switch(1, False), Switch(on.stats["cycles"] * 9 // 10, True))
    assert verdicts(on) == verdicts(off) == verdicts(both)
    assert b"PASS: all" in on.output
    exits = [sum(row["count"] for row in run.stats["exits"].values()) for run in (on, both, off)]
    assert exits[0] < exits[1] < exits[2]
