"""Shadow tables never allow what the guest's tables forbid, and after a fault allow what they allow.

The "hardware" of these tests is a walk of the shadow tables themselves, in host memory.
"""

import os
import random
from typing import NamedTuple

import pytest

from devices.cpu_pins import CpuPins
from emulator.bus import MmioBus
from emulator.events import EventQueue
from emulator.machine import Machine
from emulator.profiles.profile import load_profile
from emulator.vmx import fields as f
from emulator.x86 import DIRTY, WRITABLE
from vmm.boot.loaders import BootImage
from vmm.domain import Domain
from vmm.paging.guest_walk import GuestFault, PagingMode, Translation, paging_mode, walk_tables
from vmm.paging.shadow import ShadowPaging
from vmm.session.virtual_guest import VirtualGuest

MEMORY_BYTES = 16 << 20
ROOT = 0x1000
TABLE_PAGES = range(1, 9)
STEPS = 10000


class Format(NamedTuple):
    """A format of page tables, and the slots of each table that the tests use, so that walks meet."""

    cr4: int
    efer: int
    entry_bytes: int
    shifts: tuple[int, ...]
    slots: tuple[int, ...]


FOUR_LEVEL = Format(0x20, 0xD00, 8, (39, 30, 21, 12), (0, 1, 511))
PAE = Format(0x20, 0x800, 8, (30, 21, 12), (0, 1, 511))
TWO_LEVEL = Format(0x10, 0, 4, (22, 12), (0, 1, 513, 1023))  # with CR4.PSE
EVERY_FORMAT = {
    "4-level": FOUR_LEVEL,
    "4-level, no NX": FOUR_LEVEL._replace(efer=0x500),
    "PAE": PAE,
    "PAE, no NX": PAE._replace(efer=0),
    "2-level": TWO_LEVEL,
    "2-level, no PSE": TWO_LEVEL._replace(cr4=0),
}
SMEP = 1 << 20
FIRST_SEED = int(os.environ.get("SIDECORE_FUZZ_SEED", "1729"))
FORMATS = pytest.mark.parametrize("format", [FOUR_LEVEL, PAE, TWO_LEVEL], ids=["4-level", "PAE", "2-level"])
PAGED, PAGED_NO_WP = 0x8001_0031, 0x8000_0031


class Rig:
    """A guest that never runs, and the two views of its memory."""

    def __init__(self, format: Format = FOUR_LEVEL, cr0: int = PAGED) -> None:
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
        self.format = format
        paging.write_cr0(self.vcpu, 0x31)
        paging.write_efer(self.vcpu, format.efer)
        paging.write_cr4(self.vcpu, format.cr4)
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
        self.domain.write(gpa, entry.to_bytes(self.format.entry_bytes, "little"))
        if self.paging.tables.is_shadowed(gpa >> 12):
            self.paging.tables.guest_wrote(gpa, self.format.entry_bytes)

    def store_random_entry(self, rng: random.Random) -> None:
        slot = rng.choice(self.format.slots)
        gpa = rng.choice(TABLE_PAGES) * 4096 + slot * self.format.entry_bytes
        self.store_entry(gpa, _random_entry(rng, self.format))

    def access(self, gva: int, *, write: bool, user: bool, fetch: bool) -> Translation | GuestFault:
        """The processor's access, with as many #PF exits as it takes."""
        for _ in range(4):
            mode = self.hardware_mode()
            seen = walk_tables(self.host, mode, gva, write=write, user=user, fetch=fetch, probe=True)
            if isinstance(seen, Translation):
                return seen
            self.vcpu.write(f.VM_ENTRY_INTERRUPTION_INFORMATION, 0)
            self.paging.handle_page_fault(self.vcpu, gva, seen.error_code)
            if self.vcpu.is_injecting:
                error = self.vcpu.vmcs.read(f.VM_ENTRY_EXCEPTION_ERROR_CODE)
                return GuestFault(int(self.guest.engine.shared.cr2), error)
        raise AssertionError(f"the fault at {gva:#x} comes again and again")


def _random_entry(rng: random.Random, format: Format) -> int:
    gfn = rng.choice(TABLE_PAGES) if rng.random() < 0.6 else rng.randrange(MEMORY_BYTES >> 12)
    entry = gfn << 12 | rng.choice((0, 1, 3, 5, 7, 7, 7, 7, 7)) | rng.choice((0, 0x20, 0x60))
    if rng.random() < 0.1:
        entry = (entry & ~(0x1FF000 if format.entry_bytes == 8 else 0x3FF000)) | 0x80
    if rng.random() < 0.1 and format.entry_bytes == 8:
        entry |= 1 << 63
    if rng.random() < 0.05:  # reserved in some places
        entry |= 1 << rng.choice((7, 8, 21, 40, 51) if format.entry_bytes == 8 else (7, 8, 21))
    return entry


def _random_address(rng: random.Random, format: Format) -> int:
    gva = 0
    for shift in format.shifts:
        slot = rng.choice(format.slots)
        gva |= (slot & 3 if format is PAE and shift == 30 else slot) << shift
    return gva | (0xFFFF << 48 if gva >> 47 else 0) | rng.randrange(4096)


@pytest.mark.parametrize("format", EVERY_FORMAT.values(), ids=EVERY_FORMAT)
@pytest.mark.parametrize("smep", [0, SMEP], ids=["", "SMEP"])
@pytest.mark.parametrize("cr0", [PAGED, PAGED_NO_WP], ids=["WP", "no WP"])
def test_faults_and_translations_are_those_of_the_guests_tables(cr0: int, smep: int, format: Format) -> None:
    seed = FIRST_SEED
    rng, rig = random.Random(seed), Rig(format._replace(cr4=format.cr4 | smep), cr0)
    mapped = 0
    for step in range(STEPS):
        if rng.random() < 0.5:
            rig.store_random_entry(rng)
            continue
        gva, write, user = _random_address(rng, format), rng.random() < 0.4, rng.random() < 0.4
        fetch = not write and rng.random() < 0.3
        mode = paging_mode(rig.vcpu)
        expected = walk_tables(rig.domain, mode, gva, write=write, user=user, fetch=fetch, probe=True)
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
        after = walk_tables(rig.domain, mode, gva, probe=True)
        assert isinstance(after, Translation), where
        assert not write or after.steps[-1].entry & DIRTY, where
    assert mapped > 100, "hardly anything was mapped: the test shows nothing"


@FORMATS
def test_no_page_table_is_ever_writable_through_a_shadow(format: Format) -> None:
    rng, rig = random.Random(4), Rig(format)
    words, tables = rig.domain.machine.memory.words, rig.paging.tables
    for _ in range(STEPS):
        if rng.random() < 0.5:
            rig.store_random_entry(rng)
        else:
            rig.access(_random_address(rng, format), write=False, user=False, fetch=False)
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


@FORMATS
def test_running_out_of_pages_starts_anew_and_goes_on(format: Format) -> None:
    rng, rig = random.Random(5), Rig(format)
    pages = rig.paging.tables.pages
    while pages.free_count > 4:
        pages.allocate()
    for _ in range(600):
        if rng.random() < 0.5:
            rig.store_random_entry(rng)
        else:
            mode, gva = paging_mode(rig.vcpu), _random_address(rng, format)
            expected = walk_tables(rig.domain, mode, gva, probe=True)
            if isinstance(expected, GuestFault):
                assert rig.access(gva, write=False, user=False, fetch=False) == expected


@pytest.mark.parametrize("format", EVERY_FORMAT.values(), ids=EVERY_FORMAT)
@pytest.mark.parametrize("is_on_before", [True, False])
def test_a_users_page_opened_by_a_supervisors_store_stays_closed_to_smep(format: Format, is_on_before: bool) -> None:
    on, off = format._replace(cr4=format.cr4 | SMEP), format
    rig = Rig(on if is_on_before else off, PAGED_NO_WP)
    tables = range(ROOT, ROOT + 0x1000 * len(format.shifts), 0x1000)
    for table in tables[:-1]:
        rig.store_entry(table, (table + 0x1000) | (1 if format.shifts[0] == 30 and table == ROOT else 7))
    rig.store_entry(tables[-1], 0x9065)  # users may read
    assert isinstance(rig.access(0x10, write=True, user=False, fetch=False), Translation)
    if not is_on_before:
        rig.paging.write_cr4(rig.vcpu, on.cr4)
    assert rig.access(0x10, write=False, user=False, fetch=True) == GuestFault(0x10, 0x11)
    assert isinstance(rig.access(0x10, write=False, user=True, fetch=True), Translation)
    assert isinstance(rig.access(0x10, write=True, user=False, fetch=False), Translation)


def test_turning_4_mib_pages_on_changes_what_entries_mean_at_once() -> None:
    rig = Rig(TWO_LEVEL._replace(cr4=0))
    rig.store_entry(ROOT, 0x80_00E7)  # a page table at 8 MiB, or a page of 4 MiB there
    rig.store_entry(0x80_0000, 0x5067)
    small = rig.access(0x10, write=False, user=True, fetch=False)
    rig.paging.write_cr4(rig.vcpu, 0x10)
    large = rig.access(0x10, write=False, user=True, fetch=False)
    assert isinstance(small, Translation)
    assert isinstance(large, Translation)
    assert (small.gpa, large.gpa) == (rig.domain.hpa_of(0x5010), rig.domain.hpa_of(0x80_0010))


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
