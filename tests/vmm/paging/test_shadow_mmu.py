"""A domain's shadow tables begin anew when they must, and its vCPUs go on."""

import random

from emulator.engine import FLUSH_ALL
from emulator.vmx import fields as f
from tests.vmm.paging.shadow_rig import FORMATS, FOUR_LEVEL, PAGED, PAGED_NO_WP, Format, Rig, random_address
from vmm.paging.guest_walk import GuestFault, paging_mode, walk_tables


@FORMATS
def test_running_out_of_pages_starts_anew_and_goes_on(format: Format) -> None:
    rng, rig = random.Random(5), Rig(format)
    pages = rig.tables.pages.host_pages
    while pages.free_count > 4:
        pages.allocate()
    for _ in range(600):
        if rng.random() < 0.5:
            rig.store_random_entry(rng)
        else:
            mode, gva = paging_mode(rig.vcpu), random_address(rng, format)
            expected = walk_tables(rig.domain, mode, gva, probe=True)
            if isinstance(expected, GuestFault):
                assert rig.access(gva, write=False, user=False, fetch=False) == expected


def test_when_one_vcpu_forgets_all_tables_the_others_get_new_roots_and_flush() -> None:
    rig = Rig(vcpu_count=2)
    second = rig.guest.hypervisor.vcpus_of(rig.domain)[1]
    second.paging.write_efer(second, FOUR_LEVEL.efer)
    second.paging.write_cr4(second, FOUR_LEVEL.cr4)
    second.paging.write_cr3(second, 0x5000)
    second.paging.write_cr0(second, PAGED)
    roots = set()
    for cr0 in (PAGED_NO_WP, PAGED):
        second.shared.flush_tlb = 0
        rig.view.write_cr0(rig.vcpu, cr0)
        assert second.shared.flush_tlb == FLUSH_ALL
        by_hpa = {table.hpa: table for table in rig.tables.all_tables()}
        assert [by_hpa[vcpu.vmcs.read(f.GUEST_CR3)].gfn for vcpu in (rig.vcpu, second)] == [1, 5]
        roots.add(second.vmcs.read(f.GUEST_CR3))
        rig.tables.pages.host_pages.allocate()  # so that the next root cannot have the same place
    assert len(roots) == 2


def test_each_vcpu_has_registers_of_its_own() -> None:
    rig = Rig(vcpu_count=2)
    second = rig.guest.hypervisor.vcpus_of(rig.domain)[1]
    second.paging.write_cr3(second, 0x5000)
    assert (rig.view.guest_cr3(rig.vcpu), second.paging.guest_cr3(second)) == (0x1000, 0x5000)
