"""The extended page tables lead to the guest's own RAM, and everything else to where nothing answers."""

import random

import pytest

from tests.guest.bare_guest import bare_virtual_guest
from vmm.boot.loaders import BootImage
from vmm.paging.ept import EptPaging

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


def translate(words: memoryview, root: int, gpa: int) -> int:
    """What the processor makes of the tables (SDM 3C 28.2.2)."""
    table = root
    for level in (4, 3, 2, 1):
        shift = 12 + 9 * (level - 1)
        entry = words[(table >> 3) + (gpa >> shift & 511)]
        assert entry & 7 == 7, f"gpa {gpa:#x}: not mapped at level {level}"
        table = entry & 0xFF_FFFF_F000
        if level == 1 or entry & 0x80:
            return table & ~((1 << shift) - 1) | gpa & (1 << shift) - 1
    raise AssertionError


@pytest.mark.parametrize("memory_bytes", [16 * MIB, 17 * MIB, 19000 * KIB, 256 * MIB, GIB + 4 * KIB, 3 * GIB, 6 * GIB])
def test_ram_is_the_guests_own_and_the_rest_answers_nothing(memory_bytes: int) -> None:
    image = BootImage(((0x1000, b"\0"),), 0x100000, {}, 0x1000, 0, 0, "nothing")
    machine, guest = bare_virtual_guest(image, "ept", memory_bytes=memory_bytes)
    paging = guest.vcpu.paging
    assert isinstance(paging, EptPaging)
    rng = random.Random(3)
    edges = [0, memory_bytes - 1, memory_bytes, memory_bytes + 4095, 3 * GIB, 4 * GIB - 1, 4 * GIB, (1 << 40) - 1]
    end = memory_bytes if memory_bytes <= 3 * GIB else memory_bytes + GIB
    for gpa in edges + [rng.randrange(end) for _ in range(300)] + [rng.randrange(1 << 40) for _ in range(300)]:
        if guest.domain.is_device_page(gpa >> 12):
            continue
        hpa = translate(machine.memory.words, paging.root_hpa, gpa)
        if gpa < min(memory_bytes, 3 * GIB) or 4 * GIB <= gpa < end:
            offset = gpa if gpa < 3 * GIB else gpa - GIB  # how much of its RAM is before
            below_hole = 3 * GIB - guest.domain.base_hpa
            assert hpa == guest.domain.base_hpa + offset + (GIB if offset >= below_hole else 0)
        else:
            assert not machine.memory.is_ram(hpa, 1), f"gpa {gpa:#x} leads to RAM at {hpa:#x}"
