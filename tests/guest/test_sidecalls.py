"""Guests with a sidecore: test kernels print the same and leave the same memory with the flag on and off."""

import hashlib

import pytest

from emulator.x86 import PAGE_BYTES
from tests.guest.running import Finished, run_plan
from vmm.session.build import build_guest
from vmm.session.option_values import Switch
from vmm.session.plan import plan
from vmm.session.spec import GuestSpec, HostSpec, Paging
from vmm.session.virtual_guest import VirtualGuest

MAX_CYCLES = 1_000_000_000
MEMORY_BYTES = 64 << 20


def run(kernel: str, paging: Paging, *, has_sidecore: bool, jumps: bool = True, slice_cycles: int = 10**9) -> Finished:
    return run_plan(
        plan(HostSpec(paging=paging, sidecore_count=int(has_sidecore), jumps_spins=jumps), GuestSpec(image=kernel)),
        max_cycles=MAX_CYCLES,
        slice_cycles=slice_cycles,
    )


@pytest.mark.parametrize("paging", ["shadow", "ept"])
@pytest.mark.parametrize("kernel", ["sidecalls", "sidecall_errors", "sidecall_null", "sidecall_operation", "fig1"])
def test_a_kernel_succeeds_with_a_sidecore(kernel: str, paging: Paging) -> None:
    finished = run(kernel, paging, has_sidecore=True)
    assert finished.end is not None
    assert finished.end.exit_status == 0
    assert b"PASS: all" in finished.output


@pytest.mark.parametrize("paging", ["shadow", "ept"])
def test_results_are_the_same_with_the_flag_on_and_off(paging: Paging) -> None:
    with_sidecore = run("sidecalls", paging, has_sidecore=True)
    without = run("sidecalls", paging, has_sidecore=False)
    assert with_sidecore.output == without.output
    assert with_sidecore.stats["exits"]["CPUID"]["count"] < without.stats["exits"]["CPUID"]["count"]


@pytest.mark.parametrize("kernel", ["sidecalls", "sidecall_errors"])
@pytest.mark.parametrize("paging", ["shadow", "ept"])
def test_executed_spins_and_slices_change_nothing(kernel: str, paging: Paging) -> None:
    jumped = run(kernel, paging, has_sidecore=True)
    for other in (
        run(kernel, paging, has_sidecore=True, jumps=False),
        run(kernel, paging, has_sidecore=True, slice_cycles=20_011),
    ):
        assert other.output == jumped.output
        assert other.stats["cycles"] == jumped.stats["cycles"]
        assert other.stats["exits"] == jumped.stats["exits"]
        assert other.stats["ledger"]["pcpu0"] == jumped.stats["ledger"]["pcpu0"]


def finish(
    paging: Paging, *, has_sidecore: bool = True, switches: tuple[Switch, ...] = ()
) -> tuple[VirtualGuest, bytes]:
    """`sidecalls` run to its end, and what it printed: nothing of it is a time."""
    output = bytearray()
    guest = build_guest(
        plan(
            HostSpec(paging=paging, sidecore_count=int(has_sidecore), sidecore_switches=switches),
            GuestSpec(image="sidecalls", memory_bytes=MEMORY_BYTES),
        ),
        output.append,
    )
    assert isinstance(guest, VirtualGuest)
    guest.advance(MAX_CYCLES)
    assert guest.end is not None
    assert b"PASS: all" in output
    return guest, bytes(output)


def memory_without(guest: VirtualGuest, gpa: int) -> bytes:
    """All of the guest's memory, but for the page at `gpa`, zeros in its place."""
    rest = gpa + PAGE_BYTES
    return guest.domain.read(0, gpa) + bytes(PAGE_BYTES) + guest.domain.read(rest, MEMORY_BYTES - rest)


def requests_of(guest: VirtualGuest) -> tuple[int, int]:
    """Where its page of slots is, and how many requests it made."""
    assert guest.hypervisor.sidecores is not None
    page = guest.hypervisor.sidecores.page_of(guest.domain)
    assert page is not None
    return page.gpa, page.counts.requests


@pytest.mark.parametrize("paging", ["shadow", "ept"])
def test_memory_is_the_same_with_the_flag_on_off_and_toggled(paging: Paging) -> None:
    """Excluded is the page of slots alone: which requests were made depends on the flag, and so on time."""
    on, output = finish(paging)
    period = on.pcpu.clock.cycles // 40
    often = tuple(Switch(period * number, number % 2 == 0) for number in range(1, 80))
    gpa, requests = requests_of(on)
    digests = {hashlib.sha256(memory_without(on, gpa)).hexdigest()}
    made = []
    for switches in ((Switch(1, False),), often):
        guest, printed = finish(paging, switches=switches)
        assert printed == output
        assert requests_of(guest)[0] == gpa
        made.append(requests_of(guest)[1])
        digests.add(hashlib.sha256(memory_without(guest, gpa)).hexdigest())
    assert len(digests) == 1
    assert 0 == made[0] < made[1] < requests


@pytest.mark.parametrize("paging", ["shadow", "ept"])
def test_memory_without_a_sidecore_lacks_only_the_page_and_what_leads_to_it(paging: Paging) -> None:
    on, output = finish(paging)
    never, printed = finish(paging, has_sidecore=False)
    assert printed == output
    gpa, _ = requests_of(on)
    with_page, without = memory_without(on, gpa), memory_without(never, gpa)
    different = [at for at in range(0, MEMORY_BYTES, 8) if with_page[at : at + 8] != without[at : at + 8]]
    pairs = {
        tuple(int.from_bytes(memory[at : at + 8], "little") for memory in (with_page, without)) for at in different
    }
    assert pairs == {(gpa, 0), (gpa + PAGE_BYTES, gpa)}  # the library's pointer to it; the allocator's next page


@pytest.mark.parametrize("paging", ["shadow", "ept"])
@pytest.mark.parametrize("cpus", [2, 4])
def test_each_processor_has_its_slot_and_two_may_not_agree_on_one(paging: Paging, cpus: int) -> None:
    outputs = set()
    for has_sidecore, slice_cycles in ((True, 10**9), (True, 30_011), (False, 10**9)):
        finished = run_plan(
            plan(
                HostSpec(paging=paging, sidecore_count=int(has_sidecore), overrides=(f"core.core_count={cpus + 1}",)),
                GuestSpec(image="sidecall_smp", vcpu_count=cpus, memory_bytes=MEMORY_BYTES),
            ),
            max_cycles=MAX_CYCLES,
            slice_cycles=slice_cycles,
        )
        assert b"PASS: all" in finished.output, finished.output.decode()
        outputs.add(finished.output)
    assert len(outputs) == 1
