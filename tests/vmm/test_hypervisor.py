"""The loop: every cycle is booked, an exit lasts until the next entry, an impossible exit says what it was."""

import pytest

from emulator.clock import ENGINE_COUNTERS
from emulator.engine.abi import Next
from emulator.errors import GuestError
from emulator.vmx import fields as f
from emulator.vmx.exit_reasons import ExitReason
from vmm.exits.observer import ExitObserver
from vmm.session.build import build_guest
from vmm.session.plan import plan
from vmm.session.spec import GuestSpec, HostSpec, Paging
from vmm.session.virtual_guest import VirtualGuest
from vmm.vcpu import Exit, VCpu

LIMIT_CYCLES = 10**9


class LedgerCheck(ExitObserver):
    """At the end of each exit: whether every cycle of the core is booked."""

    def __init__(self) -> None:
        self.exit_count = 0

    def exit_ended(self, vcpu: VCpu, exit: Exit, cycles: int) -> None:
        shared, pcpu = vcpu.engine.shared, vcpu.pcpu
        counted = sum(getattr(shared, counter) for counter, _ in ENGINE_COUNTERS)
        assert pcpu.clock.ledger.total_cycles + counted == shared.clock_cycles
        self.exit_count += 1


def build(paging: Paging, *observers: ExitObserver) -> VirtualGuest:
    boot_plan = plan(HostSpec(paging=paging), GuestSpec(image="default"))
    guest = build_guest(boot_plan, lambda _byte: None, observers=observers)
    assert isinstance(guest, VirtualGuest)
    return guest


def exit_now(guest: VirtualGuest, reason: int, **fields: int) -> Next:
    """A VM exit of a guest that has run a little, as if its processor had made it."""
    guest.advance(1)
    guest.vcpu.vmcs.save(f.EXIT_REASON, reason)
    for name, value in fields.items():
        guest.vcpu.vmcs.save(getattr(f, name), value)
    assert guest.engine.on_exit is not None
    return guest.engine.on_exit()


@pytest.mark.parametrize("paging", ["shadow", "ept"])
def test_the_ledger_sums_to_the_clock_at_every_exit(paging: Paging) -> None:
    check = LedgerCheck()
    guest = build(paging, check)
    guest.advance(LIMIT_CYCLES)
    assert guest.end is not None
    assert check.exit_count == sum(row["count"] for row in guest.exit_statistics().values()) > 1000
    assert guest.pcpu.clock.book().total_cycles == guest.pcpu.clock.cycles


def test_the_exit_of_a_hlt_lasts_until_the_guest_is_woken() -> None:
    guest = build("ept")
    guest.advance(LIMIT_CYCLES)
    hlt = guest.exit_statistics()["HLT"]
    half_a_millisecond_cycles = guest.machine.profile.frequency_hz // 2000
    assert hlt["min_cycles"] > half_a_millisecond_cycles * 9 // 10  # the guest sleeps until a PIT one-shot of 0.5 ms


def test_an_exit_without_a_handler_stops_the_run_and_is_named() -> None:
    with pytest.raises(GuestError, match=r"RSM .* thought impossible: the host has no SMM"):
        exit_now(build("ept"), ExitReason.RSM)


def test_a_failed_entry_names_the_check() -> None:
    guest = build("ept")
    guest.advance(1)
    guest.vcpu.write(f.VMCS_LINK_POINTER, 0x123)
    with pytest.raises(GuestError, match=r"VM entry failed \(exit reason 33\): .*link pointer"):
        exit_now(guest, ExitReason.CPUID)
