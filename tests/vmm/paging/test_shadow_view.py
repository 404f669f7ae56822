"""A vCPU under shadow paging faults where the guest's tables say so, and after a #PF exit has what they allow."""

import random

import pytest

from emulator.x86 import DIRTY
from tests.vmm.paging.shadow_rig import (
    EVERY_FORMAT,
    FIRST_SEED,
    PAGED,
    PAGED_NO_WP,
    ROOT,
    SMEP,
    STEPS,
    TWO_LEVEL,
    Format,
    Rig,
    random_address,
)
from vmm.paging.guest_walk import GuestFault, Translation, paging_mode, walk_tables


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
        gva, write, user = random_address(rng, format), rng.random() < 0.4, rng.random() < 0.4
        fetch = not write and rng.random() < 0.3
        mode = paging_mode(rig.vcpu)
        expected = walk_tables(rig.domain, mode, gva, write=write, user=user, fetch=fetch, probe=True)
        where = f"seed {seed}, step {step}, gva {gva:#x}, write {write}, user {user}, fetch {fetch}"
        if isinstance(expected, Translation) and write:
            target, path = expected.gpa >> 12, [entry.table_gfn for entry in expected.steps]
            if rig.tables.is_shadowed(target) or target in path:
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
        rig.view.write_cr4(rig.vcpu, on.cr4)
    assert rig.access(0x10, write=False, user=False, fetch=True) == GuestFault(0x10, 0x11)
    assert isinstance(rig.access(0x10, write=False, user=True, fetch=True), Translation)
    assert isinstance(rig.access(0x10, write=True, user=False, fetch=False), Translation)


def test_turning_4_mib_pages_on_changes_what_entries_mean_at_once() -> None:
    rig = Rig(TWO_LEVEL._replace(cr4=0))
    rig.store_entry(ROOT, 0x80_00E7)  # a page table at 8 MiB, or a page of 4 MiB there
    rig.store_entry(0x80_0000, 0x5067)
    small = rig.access(0x10, write=False, user=True, fetch=False)
    rig.view.write_cr4(rig.vcpu, 0x10)
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
    assert rig.tables.is_shadowed(4)
    rig.view.propagate(rig.holder, [(0x4008, 8, 0)])
    assert rig.tables.is_shadowed(4)
    rig.view.propagate(rig.holder, [(0x4010, 8, 0)])
    assert not rig.tables.is_shadowed(4)
    rig.access(0x10, write=False, user=False, fetch=False)
    rig.view.propagate(rig.holder, [(0x4008, 8, 0)])
    rig.access(0x1000_0000, write=False, user=False, fetch=False)  # a real fault between
    rig.view.propagate(rig.holder, [(0x4010, 8, 0)])
    assert rig.tables.is_shadowed(4)
