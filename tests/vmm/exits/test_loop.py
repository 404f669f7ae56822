"""The loop: when an exit is handled, what each outcome leads to, what it takes, who hears of it."""

from typing import Any

import pytest

from emulator.engine.abi import LEAVE, RESUME
from emulator.errors import GuestError
from emulator.ledger import RUNNING, Category
from emulator.vmx import fields as f
from emulator.vmx import interruption as i
from emulator.vmx.exit_reasons import ExitReason as R
from emulator.vmx.guest_state import BLOCKING_BY_MOV_SS, BLOCKING_BY_NMI, BLOCKING_BY_STI
from emulator.x86 import DEBUG_EXCEPTION, DR6_BS, NMI_VECTOR, RFLAGS_TF
from tests.vmm.exits.running_guest import LENGTH_BYTES, RIP, VECTOR, Diary, Running
from tests.vmm.fakes import ENTRY, L1, PROFILE, READ, VCPU_HPA, WRITE, Bench, exception
from vmm.cost import paths
from vmm.exits.loop import REGISTERS_BYTES
from vmm.outcome import AGAIN, NEXT, STOP, WAIT, End, EndKind
from vmm.vcpu import Exit

# --- when


def test_an_exit_waits_while_another_core_is_behind_and_is_handled_at_its_turn() -> None:
    guest = Running(NEXT, "")
    before, clock = guest.cycles, guest.core.pcpu.clock
    clock.set_horizon(guest.cycles - 1)
    assert guest.exits.on_exit() is LEAVE
    assert guest.exits.exit_waits
    assert guest.handled == []
    assert guest.pages == []
    assert guest.meter.followed == []
    assert guest.cycles == before
    assert guest.core.current is guest.vcpu  # its guest still has the core
    clock.set_horizon(guest.cycles)
    assert guest.exits.on_exit() is RESUME
    assert not guest.exits.exit_waits
    assert guest.handled == [guest.vcpu]


# --- outcomes


def test_next_goes_on_behind_the_instruction() -> None:
    guest = Running(NEXT)
    assert guest.exits.on_exit() is RESUME
    assert guest.read(f.GUEST_RIP) == RIP + LENGTH_BYTES
    assert guest.vcpu.exit is None


def test_an_exit_is_charged_to_the_last_cycle() -> None:
    guest = Running(NEXT, "")
    before = guest.cycles
    guest.exits.on_exit()
    followed = [paths.EXIT, paths.ADVANCE_RIP, paths.CHECK_EVENTS, paths.ENTRY]
    assert guest.meter.followed == followed
    assert guest.meter.touched == [(VCPU_HPA, REGISTERS_BYTES, True), (VCPU_HPA, REGISTERS_BYTES, False)]
    fields = 4 * READ + WRITE  # reason, RIP, length, interruptibility; RIP
    memory = 2 * REGISTERS_BYTES // 8 * L1
    hardware = PROFILE.cycles_of(R.CPUID) + ENTRY
    cycles = sum(path.instructions for path in followed) + fields + memory + hardware
    assert guest.cycles - before == cycles
    assert guest.pages[-1] == ("", "ended", cycles)


def test_charges_go_to_the_account_of_the_reason_and_the_guest_runs_on_its_own() -> None:
    guest = Running(NEXT)
    clock = guest.core.pcpu.clock
    guest.exits.on_exit()
    account = clock.ledger.accounts["guest", "CPUID"]
    assert account[Category.EXIT] == PROFILE.cycles_of(R.CPUID)
    assert account[Category.ENTRY] == ENTRY
    assert clock.account is clock.ledger.accounts["guest", RUNNING]


@pytest.mark.parametrize("blocking", [BLOCKING_BY_STI, BLOCKING_BY_MOV_SS])
def test_next_ends_blocking_by_sti_or_mov_ss_and_leaves_that_by_nmi(blocking: int) -> None:
    guest = Running(NEXT)
    guest.set({f.GUEST_INTERRUPTIBILITY_STATE: blocking | BLOCKING_BY_NMI})
    guest.exits.on_exit()
    assert guest.read(f.GUEST_INTERRUPTIBILITY_STATE) == BLOCKING_BY_NMI


def test_next_with_the_trap_flag_is_a_debug_exception() -> None:
    guest = Running(NEXT)
    guest.set({f.GUEST_RFLAGS: 2 | RFLAGS_TF})
    guest.exits.on_exit()
    assert guest.injected == exception(DEBUG_EXCEPTION)
    assert guest.engine.shared.dr6 == DR6_BS


def test_again_stays_at_the_instruction() -> None:
    guest = Running(AGAIN)
    assert guest.exits.on_exit() is RESUME
    assert guest.read(f.GUEST_RIP) == RIP
    assert guest.injected is None
    assert guest.meter.followed == [paths.EXIT, paths.CHECK_EVENTS, paths.ENTRY]


def test_wait_sleeps_behind_the_instruction_and_the_exit_stays_open() -> None:
    guest = Running(WAIT, "")
    before = guest.cycles
    assert guest.exits.on_exit() is LEAVE
    assert guest.core.asked == ["sleep"]
    assert guest.core.current is None
    assert guest.vcpu.is_blocked
    assert not guest.vcpu.is_parked
    assert guest.read(f.GUEST_RIP) == RIP + LENGTH_BYTES
    assert guest.vcpu.exit == Exit(R.CPUID, RIP, before)
    assert [page[1] for page in guest.pages] == ["began", "handled"]
    assert guest.meter.followed == [paths.EXIT, paths.ADVANCE_RIP, paths.SLEEP]


def test_wait_does_not_sleep_when_an_interrupt_is_there() -> None:
    guest = Running(WAIT)
    guest.request_interrupt()
    assert guest.exits.on_exit() is RESUME
    assert not guest.vcpu.is_blocked
    assert guest.injected == i.Interruption(VECTOR, i.EXTERNAL_INTERRUPT)


def test_wait_does_not_sleep_when_an_nmi_is_there() -> None:
    guest = Running(WAIT)
    guest.set({f.GUEST_RFLAGS: 2})
    guest.vcpu.nmi_request = True
    assert guest.exits.on_exit() is RESUME
    assert not guest.vcpu.is_blocked
    assert guest.injected == i.Interruption(NMI_VECTOR, i.NMI)


def test_an_interrupt_does_not_wake_with_interrupts_off() -> None:
    guest = Running(WAIT)
    guest.siblings.append(Bench().vcpu)  # which still runs
    guest.request_interrupt()
    guest.set({f.GUEST_RFLAGS: 2})
    assert guest.exits.on_exit() is LEAVE
    assert guest.vcpu.is_blocked
    assert guest.vcpu.is_parked
    assert guest.domain.end is None


def test_the_last_vcpu_that_halts_with_interrupts_off_ends_the_domain() -> None:
    guest = Running(WAIT, "")
    waiting = Bench().vcpu
    waiting.waits_for_start_up = True
    guest.siblings.append(waiting)
    guest.set({f.GUEST_RFLAGS: 2})
    assert guest.exits.on_exit() is LEAVE
    assert guest.domain.end == End(EndKind.HALTED, detail="with interrupts off")
    assert guest.core.asked == []
    assert [page[1] for page in guest.pages] == ["began", "handled", "ended"]


def test_stop_leaves_and_ends_the_exit_without_an_entry() -> None:
    guest = Running(STOP, "")
    assert guest.exits.on_exit() is LEAVE
    assert guest.core.current is None
    assert guest.vcpu.exit is None
    assert [page[1] for page in guest.pages] == ["began", "handled", "ended"]
    assert guest.meter.followed == [paths.EXIT]


# --- scheduling


def test_a_core_that_has_something_else_to_do_is_left_and_everything_is_on_its_clock() -> None:
    guest = Running(NEXT, "")
    before = guest.cycles
    guest.core.needs_scheduling = True
    assert guest.exits.on_exit() is LEAVE
    assert guest.core.current is None
    assert guest.core.loaded is guest.vcpu
    assert guest.vcpu.exit == Exit(R.CPUID, RIP, before)
    assert guest.cycles > before + PROFILE.cycles_of(R.CPUID)
    assert paths.ENTRY not in guest.meter.followed


def test_an_exit_that_was_left_goes_on_with_the_entry_and_has_the_time_between() -> None:
    guest = Running(NEXT, "")
    before = guest.cycles
    guest.core.needs_scheduling = True
    guest.exits.on_exit()
    clock = guest.core.pcpu.clock
    clock.open_account("host", "other")
    clock.charge(Category.IDLE, 100_003)
    clock.commit()
    guest.exits.resume(guest.vcpu)
    assert guest.core.current is guest.vcpu
    assert guest.vcpu.exit is None
    assert guest.pages[2:] == [("", "resumed"), ("", "ended", guest.cycles - before)]
    assert guest.cycles - before > 100_003
    assert clock.ledger.accounts["guest", "CPUID"][Category.ENTRY] == ENTRY


def test_the_first_entry_ends_no_exit() -> None:
    guest = Bench()
    pages: list[tuple[Any, ...]] = []
    loop = guest.loop({}, [Diary(pages)])
    guest.core.current = None
    loop.resume(guest.vcpu)
    assert guest.core.current is guest.vcpu
    assert guest.vcpu.vmcs.is_launched
    assert pages == []


# --- who hears of it


def test_observers_hear_of_everything_in_their_order_with_rip_as_it_is_then() -> None:
    guest = Running(NEXT, "a", "b")
    before = guest.cycles
    guest.exits.on_exit()
    cycles = guest.cycles - before
    assert guest.pages == [
        ("a", "began", R.CPUID, RIP), ("b", "began", R.CPUID, RIP),
        ("a", "handled", NEXT, RIP), ("b", "handled", NEXT, RIP),
        ("a", "ended", cycles), ("b", "ended", cycles),
    ]  # fmt: skip


# --- what cannot be


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (R.RDPMC, "VM exit RDPMC at RIP 0x100000 was thought impossible: RDPMC exiting is never set"),
        (9999, "at RIP 0x100000 was thought impossible: no such reason is known"),
    ],
)
def test_a_reason_without_a_handler_is_an_error_that_names_it(reason: int, text: str) -> None:
    guest = Running()
    guest.set({f.EXIT_REASON: reason})
    with pytest.raises(GuestError, match=text):
        guest.exits.on_exit()


def test_guest_state_that_cannot_be_entered_is_an_error_that_names_the_check() -> None:
    guest = Running()
    guest.vcpu.vmcs.write(f.GUEST_RFLAGS, 0)  # bit 1 is always 1
    with pytest.raises(GuestError, match=r"VM entry failed \(exit reason 33\): .*RFLAGS"):
        guest.exits.on_exit()
