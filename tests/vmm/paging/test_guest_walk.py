"""The VMM's walk of guest tables agrees with the CPU's, over random tables in every paging mode."""

import random

import pytest

from devices.cpu_pins import CpuPins
from devices.pci.dma import Nowhere
from emulator.engine import Engine
from emulator.machine import Machine
from emulator.profiles.profile import load_profile
from emulator.vmx import fields as f
from emulator.x86 import PF_PRESENT, PF_RESERVED, PF_WRITE
from vmm.domain import Domain
from vmm.guest_memory import HOLE_HPA, GuestMemory
from vmm.paging.guest_walk import GuestFault, PagingMode, Translation, walk_tables

MEMORY_BYTES = 4 << 20
PAGES = MEMORY_BYTES >> 12
LONG = PagingMode(0x8001_0031, 0x1000, 0x20, 0xD00)
MODES = {
    "4-level": LONG,
    "4-level, no NX": PagingMode(0x8001_0031, 0x1000, 0x20, 0x500),
    "PAE": PagingMode(0x8001_0031, 0x1020, 0x20, 0x800),
    "PAE, no NX": PagingMode(0x8001_0031, 0x1020, 0x20, 0),
    "32-bit": PagingMode(0x8001_0031, 0x1000, 0x10, 0),
    "32-bit, no PSE": PagingMode(0x8001_0031, 0x1000, 0, 0),
}


def _machine() -> tuple[Machine, Domain, Engine]:
    machine = Machine(load_profile("netburst-2006"), memory_bytes=MEMORY_BYTES)
    domain = Domain(
        machine,
        memory=GuestMemory(machine.memory, base_hpa=0, size_bytes=MEMORY_BYTES),
        dma=Nowhere(),
        transmit=lambda _byte: None,
        cpus=[CpuPins(on_intr=lambda _level: None, tsc_to_ps=lambda tsc: tsc)],
    )
    return machine, domain, Engine(machine.memory, machine.pcpus[0].platform)


def _fill(machine: Machine, rng: random.Random, *, entry_bytes: int) -> None:
    """Random tables in the first 16 pages; most entries lead to these pages again, so walks get deep."""
    for at in range(0x1000, 0x10000, entry_bytes):
        target = rng.randrange(1, 16) if rng.random() < 0.8 else rng.randrange(PAGES)
        entry = target << 12 | rng.choice((0, 1, 1, 3, 5, 7, 7, 7, 7)) | rng.choice((0, 0x20, 0x60))
        if rng.random() < 0.15:
            entry = (entry | 0x80) & ~0x1FF000 | entry & 0xFFF
        if entry_bytes == 8 and rng.random() < 0.1:
            entry |= 1 << rng.choice((40, 51, 52, 62, 63))
        machine.memory.write(at, (entry & (1 << 8 * entry_bytes) - 1).to_bytes(entry_bytes, "little"))


@pytest.mark.parametrize("name", MODES)
def test_the_vmm_and_the_cpu_translate_alike(name: str) -> None:
    mode, seed = MODES[name], 20070
    machine, domain, engine = _machine()
    rng = random.Random(seed)
    _fill(machine, rng, entry_bytes=8 if mode.is_pae else 4)
    if mode.is_pae and not mode.is_long:
        for slot in range(4):
            machine.memory.words[0x1020 // 8 + slot] = (2 + slot) << 12 | 1
    slots = f.SLOT
    engine.vmcs[slots[f.GUEST_CR0]], engine.vmcs[slots[f.GUEST_CR3]] = mode.cr0, mode.cr3
    engine.vmcs[slots[f.GUEST_CR4]], engine.vmcs[slots[f.GUEST_IA32_EFER]] = mode.cr4, mode.efer
    found = 0
    for _ in range(4000):
        gva = rng.getrandbits(48 if mode.is_long else 32)
        if gva >> 47:
            gva |= 0xFFFF << 48
        ours = walk_tables(domain, mode, gva, probe=True)
        data = engine.read_linear(gva, 1)
        if isinstance(ours, Translation) and domain.is_ram(ours.gpa):
            found += 1
            assert data == domain.read(ours.gpa, 1), f"seed {seed}, gva {gva:#x}"
        else:
            assert data == b"", f"seed {seed}, gva {gva:#x}: {ours}"
    assert found > 50, "the tables lead nowhere: the test shows nothing"


def test_accessed_and_dirty_bits_are_set_only_by_a_walk_that_succeeds() -> None:
    machine, domain, _ = _machine()
    for level in range(1, 4):
        machine.memory.words[level * 0x1000 >> 3] = (level + 1) << 12 | 7
    machine.memory.words[0x4000 >> 3] = 0x9000 | 5  # read-only
    assert isinstance(walk_tables(domain, LONG, 0x123, write=True), GuestFault)
    assert machine.memory.words[0x1000 >> 3] == 0x2007
    found = walk_tables(domain, LONG, 0x123)
    assert isinstance(found, Translation)
    assert found.gpa == 0x9123
    assert machine.memory.words[0x1000 >> 3] == 0x2027
    assert machine.memory.words[0x4000 >> 3] == 0x9025
    machine.memory.words[0x4000 >> 3] = 0x9000 | 7
    walk_tables(domain, LONG, 0x123, write=True)
    assert machine.memory.words[0x4000 >> 3] == 0x9067
    assert machine.memory.words[0x3000 >> 3] == 0x4027


def test_tables_where_there_is_no_memory_are_all_ones_and_nobodys() -> None:
    _, domain, _ = _machine()
    found = walk_tables(domain, LONG._replace(cr3=MEMORY_BYTES), 0x1238, write=True)
    assert found == GuestFault(0x1238, PF_RESERVED | PF_PRESENT | PF_WRITE)
    assert found.visits.hpas == [domain.hpa_of(MEMORY_BYTES)] == [HOLE_HPA | MEMORY_BYTES]
    assert found.visits.entries == [(1 << 64) - 1]
    narrow = walk_tables(domain, PagingMode(0x8001_0031, MEMORY_BYTES, 0x10, 0), 0x1238, write=True)
    assert isinstance(narrow, GuestFault)  # a 4 MiB page with a reserved bit
    assert narrow.visits.entries == [(1 << 32) - 1]


def test_the_visits_of_a_walk_are_its_entries_as_they_are_then_and_what_it_marked() -> None:
    machine, domain, _ = _machine()
    for level in range(1, 4):
        machine.memory.words[level * 0x1000 >> 3] = (level + 1) << 12 | (0x27 if level == 2 else 7)
    machine.memory.words[0x4008 >> 3] = 0x9000 | 7
    visits = walk_tables(domain, LONG, 0x1000, write=True).visits
    assert visits.hpas == visits.gpas == [0x1000, 0x2000, 0x3000, 0x4008]
    assert visits.entries == [0x2027, 0x3027, 0x4027, 0x9067]
    assert visits.marked_hpas == [0x1000, 0x3000, 0x4008]
    assert not walk_tables(domain, LONG, 0x1000, write=True).visits.marked_hpas
