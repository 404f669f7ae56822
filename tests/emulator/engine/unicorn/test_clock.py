"""However much time passes on the workstation: it does not change the engine's TLB, whose size a guest can see.

The TLB grows while a guest uses many pages, and shrinks when 100 ms have passed in which it used few. A page that the
guest maps elsewhere without INVLPG is still found where it was, unless others have taken its place in the TLB.
"""

import time

import pytest

from tests.emulator.engine.rig import CODE, DATA, P, Rig, U, W, assemble

OLD, NEW = 0x1111, 0x2222
ALIAS_BYTES = 64 << 12  # so far apart, pages have the same place in the smallest TLB
GROW = """
    mov ecx, 8
1:  xor esi, esi
2:  mov al, [rsi]
    add esi, 0x1000
    cmp esi, 0x400000
    jb 2b
    mov rax, cr3
    mov cr3, rax
    dec ecx
    jnz 1b
    hlt
"""
FLUSH = "mov rax, cr3\n mov cr3, rax\n hlt"
LOAD_AND_LOAD_OTHERS = f"""
    mov rdx, [{DATA}]
    mov esi, {DATA % ALIAS_BYTES}
1:  cmp esi, {DATA}
    je 2f
    mov al, [rsi]
2:  add esi, {ALIAS_BYTES}
    cmp esi, 0x400000
    jb 1b
    hlt
"""
LOAD = f"mov rdx, [{DATA}]\n hlt"


def run(rig: Rig, text: str) -> None:
    rig.put(CODE, assemble(text))
    rig["rip"], rig["activity_state"] = CODE, 0
    rig.run(1_000_000)
    assert rig.is_halted


@pytest.mark.parametrize("pause_s", [0, 0.12])
def test_a_mapping_that_is_not_flushed_is_found_however_long_the_workstation_pauses(pause_s: float) -> None:
    rig = Rig()
    rig.put_word(DATA, OLD)
    rig.put_word(DATA + 0x1000, NEW)
    run(rig, GROW)
    for _ in range(4):
        time.sleep(pause_s)
        run(rig, FLUSH)
    run(rig, LOAD_AND_LOAD_OTHERS)
    assert rig["rdx"] == OLD
    rig.set_page(DATA, DATA + 0x1000 | P | W | U)
    run(rig, LOAD)
    assert rig["rdx"] == OLD
    run(rig, FLUSH)
    run(rig, LOAD)
    assert rig["rdx"] == NEW
