"""Claims about the ledger: by owner, activity and category, and every sum over them."""

import pytest

from emulator.ledger import HOST, IDLING, LABELS, RARE, RUNNING, Category, Ledger
from emulator.machine import Machine
from emulator.profiles.profile import load_profile
from vmm.session.build import build_guest
from vmm.session.plan import plan
from vmm.session.spec import GuestSpec, HostSpec, Paging


def test_every_category_has_a_label() -> None:
    numbers = sorted(value for name, value in vars(Category).items() if name.isupper())
    assert numbers == list(range(len(LABELS)))
    assert len(set(LABELS)) == len(LABELS)


def test_sums_by_category_owner_and_activity() -> None:
    ledger = Ledger()
    ledger.account("vcpu1", "CPUID")[Category.EXIT] += 3
    ledger.account("vcpu1", "CPUID")[Category.VMCS] += 7
    ledger.account("vcpu0", "CPUID")[Category.EXIT] += 40
    ledger.account("vcpu0", RUNNING)[Category.GUEST] += 1001
    ledger.account(HOST, IDLING)
    assert ledger.total_cycles == 1051
    assert ledger.cycles[Category.EXIT] == 43
    common = [label for number, label in enumerate(LABELS) if number not in RARE]
    assert ledger.by_label() == dict.fromkeys(common, 0) | {"exit hardware": 43, "vmcs access": 7, "guest": 1001}
    assert ledger.by_owner() == {
        "vcpu0": {"CPUID": {"exit hardware": 40}, "running": {"guest": 1001}},
        "vcpu1": {"CPUID": {"exit hardware": 3, "vmcs access": 7}},
    }


def test_an_empty_ledger_sums_to_nothing() -> None:
    assert Ledger().total_cycles == 0
    assert Ledger().cycles == [0] * len(LABELS)
    assert Ledger().by_owner() == {}


@pytest.mark.parametrize("paging", ["shadow", "ept"])
def test_the_accounts_of_exits_are_their_statistics_less_the_time_asleep(paging: Paging) -> None:
    guest = build_guest(plan(HostSpec(paging=paging), GuestSpec(image="default")), lambda _byte: None)
    guest.advance(10**9)
    accounts, statistics = guest.pcpu.clock.book().by_owner(), guest.exit_statistics()
    (owner,) = (name for name in accounts if name != HOST)
    assert set(accounts[owner]) == {*statistics, "running", "starting"}
    asleep = sum(accounts[HOST][IDLING].values())
    host = sum(sum(account.values()) for account in accounts[HOST].values())
    for reason, row in statistics.items():
        booked = sum(accounts[owner][reason].values())
        if reason == "HLT":
            assert asleep <= row["cycles"] - booked <= host  # it sleeps, or the core takes interrupts
        elif reason != "IO_INSTRUCTION":  # the last one, in which the guest ended, is no entry's
            assert booked == row["cycles"], reason
    assert accounts[owner]["running"]["guest"] > 0


def test_a_cycle_that_nobody_booked_is_found() -> None:
    machine = Machine(load_profile("netburst-2006"), memory_bytes=1 << 20)
    pcpu = machine.pcpus[0]
    pcpu.clock.charge(Category.EXIT, 3)
    pcpu.clock.check_ledger()
    pcpu.clock.commit(7)
    with pytest.raises(AssertionError, match="booked 3 of 10 cycles"):
        pcpu.clock.check_ledger()


def test_memory_is_touched_word_by_word() -> None:
    machine = Machine(load_profile("netburst-2006", ["caches.l1d_latency_cycles=7"]), memory_bytes=1 << 20)
    pcpu = machine.pcpus[0]
    assert [pcpu.clock.touch(0x1000, size, False) for size in (1, 8, 9, 64)] == [7, 7, 14, 56]
    assert pcpu.clock.cycles == pcpu.clock.ledger.cycles[Category.VMM_MEMORY] == 84


def test_lines_that_another_core_has_are_booked_to_whom_touches_them() -> None:
    machine = Machine(load_profile("netburst-2006"), memory_bytes=1 << 20, pcpu_count=2, timing="detailed")
    writer, reader = machine.pcpus
    hierarchy = machine.timing.at("detailed").hierarchy
    assert hierarchy is not None
    for pcpu in machine.pcpus:
        pcpu.clock.retime("detailed")
    for hpa in (0x1000, 0x2000):
        writer.clock.touch(hpa, 8, True)
    before = list(reader.clock.account)
    hierarchy.access(1, 0x1000, 8, False, 0)  # by a guest, of which nothing is booked yet
    of_guest = hierarchy.counter(1, "coherence_cycles")
    assert of_guest > 0
    reader.clock.touch(0x1000, 8, False)  # a hit now
    assert reader.clock.account[Category.COHERENCE] == before[Category.COHERENCE]
    assert reader.clock.account[Category.VMM_MEMORY] == machine.profile.caches.l1d_latency_cycles
    reader.clock.touch(0x2000, 8, False)
    assert reader.clock.account[Category.COHERENCE] == hierarchy.counter(1, "coherence_cycles") - of_guest > 0
    reader.clock.check_ledger()
