"""The dispatcher: every cycle is booked, an exit lasts until the next entry, an impossible exit says what it was."""

import pytest

from emulator.clock import ENGINE_COUNTERS
from emulator.engine import Next
from emulator.errors import GuestError
from emulator.vmx import fields as f
from emulator.vmx.exit_reasons import ExitReason
from vmm.session.run import BootOptions, Paging, build_guest, plan
from vmm.session.virtual_guest import VirtualGuest

LIMIT_CYCLES = 10**9


def build(paging: Paging, image: str = "default") -> VirtualGuest:
    guest = build_guest(plan(BootOptions(image=image, paging=paging)), lambda _byte: None)
    assert isinstance(guest, VirtualGuest)
    return guest


@pytest.mark.parametrize("paging", ["shadow", "ept"])
def test_the_ledger_sums_to_the_clock_at_every_exit(paging: Paging) -> None:
    guest = build(paging)
    dispatch, exits = guest.engine.on_exit, 0
    assert dispatch is not None

    def dispatch_and_check() -> Next:
        nonlocal exits
        next_ = dispatch()
        exits += 1
        shared = guest.engine.shared
        counted = sum(getattr(shared, counter) for counter, _ in ENGINE_COUNTERS)
        assert guest.pcpu.clock.ledger.total_cycles + counted == shared.clock_cycles
        return next_

    guest.engine.on_exit = dispatch_and_check
    guest.advance(LIMIT_CYCLES)
    assert guest.domain.end is not None
    assert exits == sum(row["count"] for row in guest.exit_statistics().values()) > 1000
    assert guest.pcpu.clock.book().total_cycles == guest.pcpu.clock.cycles


def test_the_exit_of_a_hlt_lasts_until_the_guest_is_woken() -> None:
    guest = build("ept")
    guest.advance(LIMIT_CYCLES)
    hlt = guest.exit_statistics()["HLT"]
    half_a_millisecond_cycles = guest.machine.profile.frequency_hz // 2000
    assert hlt["min_cycles"] > half_a_millisecond_cycles * 9 // 10  # the guest sleeps until a PIT one-shot of 0.5 ms


def test_an_exit_without_a_handler_stops_the_run_and_is_named() -> None:
    guest = build("ept")
    guest.vcpu.vmcs.save(f.EXIT_REASON, ExitReason.RSM)
    dispatch = guest.engine.on_exit
    assert dispatch is not None
    with pytest.raises(GuestError, match=r"RSM .* thought impossible: the host has no SMM"):
        dispatch()


def test_a_hardware_task_switch_is_an_error_of_the_guest() -> None:
    guest = build("ept")
    guest.vcpu.vmcs.save(f.EXIT_REASON, ExitReason.TASK_SWITCH)
    guest.vcpu.vmcs.save(f.EXIT_QUALIFICATION, 3 << 30 | 0x50)
    guest.vcpu.vmcs.save(f.IDT_VECTORING_INFORMATION, 0x80000308)
    dispatch = guest.engine.on_exit
    assert dispatch is not None
    with pytest.raises(GuestError, match=r"switches tasks by hardware.* by the task gate of vector 8 to the TSS 0x50"):
        dispatch()


def test_a_failed_entry_names_the_check() -> None:
    guest = build("ept")
    guest.advance(1)
    guest.vcpu.write(f.VMCS_LINK_POINTER, 0x123)
    guest.vcpu.vmcs.save(f.EXIT_REASON, ExitReason.CPUID)
    dispatch = guest.engine.on_exit
    assert dispatch is not None
    with pytest.raises(GuestError, match=r"VM entry failed \(exit reason 33\): .*link pointer"):
        dispatch()
