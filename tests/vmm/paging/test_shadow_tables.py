"""Shadow tables protect the tables they stand for, and keep nothing of pages without RAM."""

import random

from emulator.x86 import WRITABLE
from tests.vmm.paging.shadow_rig import FORMATS, MEMORY_BYTES, ROOT, STEPS, Format, Rig, random_address
from vmm.paging.guest_walk import Translation


@FORMATS
def test_no_page_table_is_ever_writable_through_a_shadow(format: Format) -> None:
    rng, rig = random.Random(4), Rig(format)
    words, tables = rig.domain.machine.memory.words, rig.tables
    for _ in range(STEPS):
        if rng.random() < 0.5:
            rig.store_random_entry(rng)
        else:
            rig.access(random_address(rng, format), write=False, user=False, fetch=False)
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


def test_pages_without_ram_leave_nothing_behind() -> None:
    rig = Rig()
    rig.store_entry(ROOT, 0x2027)
    rig.store_entry(0x2000, 0x3027)
    rig.store_entry(0x3000, 0x4027)
    for page in range(50):
        rig.store_entry(0x4000, (MEMORY_BYTES + page * 4096) | 0x67)
        assert isinstance(rig.access(0x10, write=True, user=False, fetch=False), Translation)
    assert rig.tables.tracked_count <= 1
