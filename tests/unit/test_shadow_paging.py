"""Shadow tables never allow what the guest's tables forbid, and after a fault allow what they allow.

The "hardware" of these tests is a walk of the shadow tables themselves, in host memory.
"""

import random

import pytest

from devices.cpu_pins import CpuPins
from emulator.bus import MmioBus
from emulator.events import EventQueue
from emulator.machine import Machine
from emulator.profile import load_profile
from emulator.vmx import fields as f
from vmm.domain import Domain
from vmm.guest_walk import DIRTY, WRITABLE, GuestFault, PagingMode, Translation, walk
from vmm.hypervisor import VirtualGuest
from vmm.loaders import BootImage
from vmm.paging.shadow import ShadowPaging

MEMORY_BYTES = 16 << 20
ROOT = 0x1000
TABLE_PAGES = range(1, 9)
SLOTS = (0, 1, 511)  # of each table, so that walks meet
STEPS = 3000


class Rig:
    """A guest that never runs, and the two views of its memory."""

    def __init__(self, cr0: int = 0x8001_0031) -> None:
        image = BootImage(
            segments=((ROOT, bytes(4096)),),
            entry_gpa=0x100000,
            registers={},
            cr3_gpa=ROOT,
            gdt_gpa=0,
            gdt_limit=0,
            description="nothing",
        )
        profile = load_profile("netburst-2006")
        machine = Machine(profile, memory_bytes=VirtualGuest.host_memory_bytes(MEMORY_BYTES))
        self.guest = VirtualGuest(machine, image, memory_bytes=MEMORY_BYTES, transmit=lambda _byte: None)
        self.vcpu, self.domain = self.guest.vcpu, self.guest.domain
        paging = self.vcpu.paging
        assert isinstance(paging, ShadowPaging)
        self.paging = paging
        paging.write_efer(self.vcpu, 0xD00)
        paging.write_cr0(self.vcpu, cr0)
        self.host = Domain(
            machine,
            base_hpa=0,
            memory_bytes=machine.memory.size_bytes,
            ports=type(machine.ports)(),
            timers=EventQueue(),
            transmit=lambda _byte: None,
            cpus=[CpuPins(on_intr=lambda _level: None, tsc_to_ps=lambda tsc: tsc)],
            mmio=MmioBus(),
        )

    def hardware_mode(self) -> PagingMode:
        read = self.vcpu.vmcs.read
        return PagingMode(read(f.GUEST_CR0), read(f.GUEST_CR3), read(f.GUEST_CR4), read(f.GUEST_IA32_EFER))

    def store_entry(self, gpa: int, entry: int) -> None:
        """The guest stores a page-table entry; what a write-protected page would trap is told to the VMM."""
        self.domain.write(gpa, entry.to_bytes(8, "little"))
        if self.paging.tables.is_shadowed(gpa >> 12):
            self.paging.guest_wrote(gpa, 8)

    def access(self, gva: int, *, write: bool, user: bool, fetch: bool) -> Translation | GuestFault:
        """The processor's access, with as many #PF exits as it takes."""
        for _ in range(4):
            mode = self.hardware_mode()
            seen = walk(self.host, mode, gva, write=write, user=user, fetch=fetch, probe=True)
            if isinstance(seen, Translation):
                return seen
            self.vcpu.write(f.VM_ENTRY_INTERRUPTION_INFORMATION, 0)
            self.paging.handle_page_fault(self.vcpu, gva, seen.error_code)
            if self.vcpu.is_injecting:
                error = self.vcpu.vmcs.read(f.VM_ENTRY_EXCEPTION_ERROR_CODE)
                return GuestFault(int(self.guest.engine.shared.cr2), error)
        raise AssertionError(f"the fault at {gva:#x} comes again and again")


def _random_entry(rng: random.Random) -> int:
    gfn = rng.choice(TABLE_PAGES) if rng.random() < 0.6 else rng.randrange(MEMORY_BYTES >> 12)
    entry = gfn << 12 | rng.choice((0, 1, 3, 5, 7, 7, 7, 7, 7)) | rng.choice((0, 0x20, 0x60))
    if rng.random() < 0.1:
        entry = (entry & ~0x1FF000) | 0x80
    if rng.random() < 0.1:
        entry |= 1 << 63
    return entry


def _random_address(rng: random.Random) -> int:
    gva = 0
    for shift in (39, 30, 21, 12):
        gva |= rng.choice(SLOTS) << shift
    return gva | (0xFFFF << 48 if gva >> 47 else 0) | rng.randrange(4096)


@pytest.mark.parametrize("cr0", [0x8001_0031, 0x8000_0031], ids=["WP", "no WP"])
def test_faults_and_translations_are_those_of_the_guests_tables(cr0: int) -> None:
    seed = 1729
    rng, rig = random.Random(seed), Rig(cr0)
    mapped = 0
    for step in range(STEPS):
        if rng.random() < 0.5:
            slot = rng.choice(SLOTS)
            rig.store_entry(rng.choice(TABLE_PAGES) * 4096 + slot * 8, _random_entry(rng))
            continue
        gva, write, user = _random_address(rng), rng.random() < 0.4, rng.random() < 0.4
        fetch = not write and rng.random() < 0.3
        mode = rig.vcpu.paging_mode()
        expected = walk(rig.domain, mode, gva, write=write, user=user, fetch=fetch, probe=True)
        where = f"seed {seed}, step {step}, gva {gva:#x}, write {write}, user {user}, fetch {fetch}"
        if isinstance(expected, Translation) and write:
            target, path = expected.gpa >> 12, [entry.table_gfn for entry in expected.steps]
            if rig.paging.tables.is_shadowed(target) or target in path:
                continue  # a store to a table is emulated: the guest kernels show that
        got = rig.access(gva, write=write, user=user, fetch=fetch)
        if isinstance(expected, GuestFault):
            assert got == expected, where
            continue
        mapped += 1
        assert isinstance(got, Translation), where
        assert got.gpa == rig.domain.hpa_of(expected.gpa), where
        after = walk(rig.domain, mode, gva, probe=True)
        assert isinstance(after, Translation), where
        assert not write or after.steps[-1].entry & DIRTY, where
    assert mapped > 100, "hardly anything was mapped: the test shows nothing"


def test_no_page_table_is_ever_writable_through_a_shadow() -> None:
    rng, rig = random.Random(4), Rig()
    words, tables = rig.domain.machine.memory.words, rig.paging.tables
    for _ in range(STEPS):
        if rng.random() < 0.5:
            slot = rng.choice(SLOTS)
            rig.store_entry(rng.choice(TABLE_PAGES) * 4096 + slot * 8, _random_entry(rng))
        else:
            rig.access(_random_address(rng), write=False, user=False, fetch=False)
    checked = 0
    for table in tables.all_tables():
        if table.level != 1:
            continue
        for shadow in words[table.base : table.base + 512]:
            if shadow:
                checked += 1
                gfn = ((shadow & 0xFF_FFFF_F000) - rig.domain.base_hpa) >> 12
                assert not (shadow & WRITABLE and tables.is_shadowed(gfn))
    assert checked > 50


def test_running_out_of_pages_starts_anew_and_goes_on() -> None:
    rng, rig = random.Random(5), Rig()
    while rig.guest.pages.free_count > 3:
        rig.guest.pages.allocate()
    for _ in range(600):
        if rng.random() < 0.5:
            slot = rng.choice((0, 1, 2))
            rig.store_entry(rng.choice(TABLE_PAGES) * 4096 + slot * 8, _random_entry(rng))
        else:
            mode, gva = rig.vcpu.paging_mode(), _random_address(rng)
            expected = walk(rig.domain, mode, gva, probe=True)
            if isinstance(expected, GuestFault):
                assert rig.access(gva, write=False, user=False, fetch=False) == expected


def test_two_zero_writes_in_a_row_give_the_page_up_as_a_table() -> None:
    rig = Rig()
    rig.store_entry(ROOT, 0x2027)
    rig.store_entry(0x2000, 0x3027)
    rig.store_entry(0x3000, 0x4027)
    rig.store_entry(0x4000, 0x9067)
    rig.access(0x10, write=False, user=False, fetch=False)
    assert rig.paging.tables.is_shadowed(4)
    rig.paging.propagate([(0x4008, 8, 0)])
    assert rig.paging.tables.is_shadowed(4)
    rig.paging.propagate([(0x4010, 8, 0)])
    assert not rig.paging.tables.is_shadowed(4)
    rig.access(0x10, write=False, user=False, fetch=False)
    rig.paging.propagate([(0x4008, 8, 0)])
    rig.access(0x1000_0000, write=False, user=False, fetch=False)  # a real fault between
    rig.paging.propagate([(0x4010, 8, 0)])
    assert rig.paging.tables.is_shadowed(4)


def test_pages_without_ram_leave_nothing_behind() -> None:
    rig = Rig()
    rig.store_entry(ROOT, 0x2027)
    rig.store_entry(0x2000, 0x3027)
    rig.store_entry(0x3000, 0x4027)
    for page in range(50):
        rig.store_entry(0x4000, (MEMORY_BYTES + page * 4096) | 0x67)
        assert isinstance(rig.access(0x10, write=True, user=False, fetch=False), Translation)
    assert rig.paging.tables.tracked_count <= 1
