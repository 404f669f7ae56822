"""Direct cache access: what the NIC stores is in the last-level cache of the core that its guest is on."""

import pytest

from tests.vmm.nic.rig import ATTACH, BUFFERS, END, HANDLER, PS_PER_MS, frame_to, make_rig

LINES = 16  # of the frame
MAPPED = 0x180000  # where the guest can read its buffers
READER = f"""
    {ATTACH.replace(f"eax, {BUFFERS}", f"eax, {MAPPED}")}
2:  sti
    hlt
    cli
    cmp r13d, 1
    jb 2b
    mov ecx, {LINES}
    mov esi, {MAPPED}
3:  mov eax, [rsi]
    add esi, 64
    dec ecx
    jnz 3b
    {END}
    {HANDLER}
"""


def misses(profile: str, *, fills_caches: bool) -> int:
    """Lines that a guest's core gets from memory when it takes a frame and reads it."""
    rig = make_rig(profile=profile, timing="detailed", fills_caches=fills_caches)
    domain = rig.add(READER)
    rig.run(PS_PER_MS)
    hierarchy = rig.machine.timing.hierarchy
    assert hierarchy is not None
    before = hierarchy.counter(0, "dram_access")
    rig.end.arrive(PS_PER_MS + 1000, frame_to(0).ljust(64 * LINES, b"x"))
    rig.run(2 * PS_PER_MS)
    assert "value 0" in str(domain.end)
    return hierarchy.counter(0, "dram_access") - before


@pytest.mark.parametrize("profile", ["netburst-2006", "core2-2006", "nehalem"])
def test_a_guest_finds_the_frame_that_has_come_in_a_cache(profile: str) -> None:
    """Private L2, shared L2, L3. The frame's lines, and those of the descriptor and of the page's words."""
    assert misses(profile, fills_caches=False) - misses(profile, fills_caches=True) >= LINES
