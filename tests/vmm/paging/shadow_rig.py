"""A guest under shadow paging that never runs: page tables that tests store, and accesses that fault as in a processor.

The "hardware" is a walk of the shadow tables themselves, in host memory.
"""

import os
import random
from typing import NamedTuple

import pytest

from devices.cpu_pins import CpuPins
from devices.pci.dma import Nowhere
from emulator.vmx import fields as f
from tests.guest.bare_guest import bare_virtual_guest
from vmm.boot.loaders import BootImage
from vmm.domain import Domain
from vmm.guest_memory import GuestMemory
from vmm.paging.guest_walk import GuestFault, PagingMode, Translation, reserved_bits, walk_tables
from vmm.paging.shadow_pages import Holder
from vmm.paging.shadow_view import ShadowView

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

    def __init__(self, format: Format = FOUR_LEVEL, cr0: int = PAGED, vcpu_count: int = 1) -> None:
        image = BootImage(
            segments=((ROOT, bytes(4096)),),
            entry_gpa=0x100000,
            registers={},
            cr3_gpa=ROOT,
            gdt_gpa=0,
            gdt_limit=0,
            description="nothing",
        )
        machine, self.guest = bare_virtual_guest(image, "shadow", memory_bytes=MEMORY_BYTES, cpus=vcpu_count)
        self.vcpu, self.domain = self.guest.vcpu, self.guest.domain
        view = self.vcpu.paging
        assert isinstance(view, ShadowView)
        self.view, self.tables = view, view.mmu.tables
        self.format = format
        view.write_cr0(self.vcpu, 0x31)
        view.write_efer(self.vcpu, format.efer)
        view.write_cr4(self.vcpu, format.cr4)
        view.write_cr0(self.vcpu, cr0)
        self.host = Domain(
            machine,
            memory=GuestMemory(machine.memory, base_hpa=0, size_bytes=machine.memory.size_bytes),
            dma=Nowhere(),
            transmit=lambda _byte: None,
            cpus=[CpuPins(on_intr=lambda _level: None, tsc_to_ps=lambda tsc: tsc)],
        )

    @property
    def holder(self) -> Holder:
        """Who would hold the domain's shadow lock."""
        return Holder(self.vcpu.meter, reserved_bits(self.view.mode))

    def hardware_mode(self) -> PagingMode:
        read = self.vcpu.vmcs.read
        return PagingMode(read(f.GUEST_CR0), read(f.GUEST_CR3), read(f.GUEST_CR4), read(f.GUEST_IA32_EFER))

    def store_entry(self, gpa: int, entry: int) -> None:
        """The guest stores a page-table entry; what a write-protected page would trap is told to the VMM."""
        self.domain.write(gpa, entry.to_bytes(self.format.entry_bytes, "little"))
        if self.tables.is_shadowed(gpa >> 12):
            self.tables.guest_wrote(self.holder, gpa, self.format.entry_bytes)

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
            self.view.handle_page_fault(self.vcpu, gva, seen.error_code)
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


def random_address(rng: random.Random, format: Format) -> int:
    gva = 0
    for shift in format.shifts:
        slot = rng.choice(format.slots)
        gva |= (slot & 3 if format is PAE and shift == 30 else slot) << shift
    return gva | (0xFFFF << 48 if gva >> 47 else 0) | rng.randrange(4096)
