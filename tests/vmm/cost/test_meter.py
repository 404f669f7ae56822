"""What handlers say they do is charged to the last cycle, at the addresses where they do it. Distinct primes: a wrong
sum names the part that is missing."""

from collections.abc import Sequence

import pytest

from emulator.ledger import LABELS, Category
from emulator.vmx import fields as f
from vmm.cost import paths
from vmm.paging.guest_walk import GuestFault, PagingMode, Translation, walk
from vmm.session.build import build_guest
from vmm.session.plan import plan
from vmm.session.spec import GuestSpec, HostSpec, Paging
from vmm.session.virtual_guest import VirtualGuest
from vmm.vcpu import VCpu

READ, WRITE, L1, LOCKED = 3, 7, 11, 1301
OVERRIDES = (
    f"vmx.vmread_cycles={READ}", f"vmx.vmwrite_cycles={WRITE}", f"caches.l1d_latency_cycles={L1}",
    f"instructions.locked_cycles={LOCKED}", "core.path_cycles_per_100_instructions=100",
)  # fmt: skip
LONG = PagingMode(0x8001_0031, 0x1000, 0x20, 0xD00)
TABLES = {0x1000: 0x2027, 0x2000: 0x3027, 0x3000: 0x4027, 0x4000: 0x9067}  # gva 0 -> gpa 0x9000


class Charges:
    """The vCPU of a guest that has not run, and what it is charged between two looks."""

    def __init__(self, paging: Paging = "ept") -> None:
        guest = build_guest(
            plan(HostSpec(paging=paging, overrides=OVERRIDES), GuestSpec(image="default")), lambda _byte: None
        )
        assert isinstance(guest, VirtualGuest)
        self.guest, self.vcpu = guest, guest.vcpu
        self.touched: list[tuple[int, int, bool]] = []
        self._before = [0] * len(LABELS)
        touch = self.vcpu.meter.touch

        def note(hpa: int, size_bytes: int, is_write: bool) -> int:
            self.touched.append((hpa - guest.domain.base_hpa, size_bytes, is_write))
            return touch(hpa, size_bytes, is_write)

        def note_each(hpas: Sequence[int], size_bytes: int, is_write: bool) -> None:
            for hpa in hpas:
                note(hpa, size_bytes, is_write)

        self.vcpu.meter.touch = note
        self.vcpu.pcpu.clock.touch_words = note_each  # type: ignore[method-assign]
        for gpa, entry in TABLES.items():
            guest.domain.write(gpa, entry.to_bytes(8, "little"))
        self.take()

    def take(self) -> dict[int, int]:
        """Cycles by category since the last time, without zeros."""
        self.touched.clear()
        return self._difference()

    def _difference(self) -> dict[int, int]:
        self.vcpu.meter.commit()
        now = self.vcpu.pcpu.clock.ledger.cycles
        before, self._before = self._before, now
        return {number: new - old for number, (new, old) in enumerate(zip(now, before, strict=True)) if new != old}


def turn_on_paging(vcpu: VCpu) -> None:
    vcpu.paging.write_efer(vcpu, LONG.efer)
    vcpu.paging.write_cr4(vcpu, LONG.cr4)
    vcpu.paging.write_cr3(vcpu, LONG.cr3)
    vcpu.paging.write_cr0(vcpu, LONG.cr0)


def test_each_vmread_and_vmwrite_is_charged() -> None:
    charges = Charges()
    charges.vcpu.read(f.GUEST_CR0)
    charges.vcpu.read(f.GUEST_RIP)
    charges.vcpu.write(f.GUEST_RIP, 0)
    assert charges.take() == {Category.VMCS: 2 * READ + WRITE}


def test_a_walk_reads_each_entry_at_its_place() -> None:
    charges = Charges()
    assert isinstance(walk(charges.vcpu, LONG, 0x123), Translation)
    assert charges.touched == [(gpa, 8, False) for gpa in TABLES]
    instructions = paths.WALK.instructions + 4 * paths.WALK_STEP.instructions
    assert charges.take() == {Category.PATHS: instructions, Category.VMM_MEMORY: 4 * L1}


def test_a_walk_that_faults_is_charged_up_to_there() -> None:
    charges = Charges()
    assert isinstance(walk(charges.vcpu, LONG, 0x40_0000), GuestFault)  # entry 2 of the directory at 0x3000
    assert charges.touched == [(0x1000, 8, False), (0x2000, 8, False), (0x3010, 8, False)]
    instructions = paths.WALK.instructions + 3 * paths.WALK_STEP.instructions
    assert charges.take() == {Category.PATHS: instructions, Category.VMM_MEMORY: 3 * L1}


def test_accessed_and_dirty_bits_that_a_walk_sets_are_writes() -> None:
    charges = Charges()
    charges.guest.domain.write(0x4000, (0x9007).to_bytes(8, "little"))
    assert isinstance(walk(charges.vcpu, LONG, 0, write=True), Translation)
    assert charges.touched[4:] == [(0x4000, 8, True)]
    steps = 4 * paths.WALK_STEP.instructions + paths.MARK_USED.instructions
    assert charges.take() == {Category.PATHS: paths.WALK.instructions + steps, Category.VMM_MEMORY: 5 * L1}


def test_without_paging_a_walk_touches_nothing() -> None:
    charges = Charges()
    walk(charges.vcpu, LONG._replace(cr0=0x11), 0x123)
    assert charges.touched == []
    assert charges.take() == {Category.PATHS: paths.WALK.instructions}


def test_a_lock_is_a_locked_instruction_and_two_writes_of_its_line() -> None:
    charges = Charges()
    hpa = charges.guest.domain.state_hpa
    charges.vcpu.meter.lock(hpa)
    charges.vcpu.meter.unlock(hpa)
    assert charges.touched == [(hpa - charges.guest.domain.base_hpa, 4, True)] * 2
    instructions = paths.LOCK.instructions + paths.UNLOCK.instructions + LOCKED
    assert charges.take() == {Category.PATHS: instructions, Category.VMM_MEMORY: 2 * L1}


def test_a_reflected_page_fault_under_shadow_paging_takes_the_lock_and_walks() -> None:
    charges = Charges("shadow")
    vcpu, domain = charges.vcpu, charges.guest.domain
    turn_on_paging(vcpu)
    charges.take()
    vcpu.paging.handle_page_fault(vcpu, 0x40_0000, 0)
    lock = (domain.state_hpa - domain.base_hpa, 4, True)
    walked = [(0x1000, 8, False), (0x2000, 8, False), (0x3010, 8, False)]
    assert charges.touched == [lock, *walked, lock]
    followed = (paths.PAGE_FAULT, paths.LOCK, paths.WALK, *[paths.WALK_STEP] * 3, paths.INJECT, paths.UNLOCK)
    assert charges.take() == {
        Category.VMCS: 2 * WRITE,  # error code, interruption information
        Category.PATHS: sum(path.instructions for path in followed) + LOCKED,
        Category.VMM_MEMORY: 5 * L1,
    }


@pytest.mark.parametrize("has_path", [True, False])
def test_a_fixed_page_fault_writes_the_shadow_entries_it_needs(has_path: bool) -> None:
    charges = Charges("shadow")
    vcpu, domain = charges.vcpu, charges.guest.domain
    turn_on_paging(vcpu)
    if has_path:  # then only the leaf is missing
        vcpu.paging.handle_page_fault(vcpu, 0x0, 0)
    domain.write(0x4008, (0xA067).to_bytes(8, "little"))
    charges.take()
    vcpu.paging.handle_page_fault(vcpu, 0x1000, 0)
    in_vmm = [touch for touch in charges.touched if touch[0] < 0 and touch[1] != 4]
    pages = [touch for touch in in_vmm if touch[1] == 4096]
    entries_written = [touch for touch in in_vmm if touch[1:] == (8, True)]
    hash_writes = len(pages)
    assert len(pages) == (0 if has_path else 3)  # the root's shadow was made at MOV to CR0
    assert len(entries_written) - hash_writes == (1 if has_path else 4)
