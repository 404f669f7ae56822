"""Guests that begin as copies of a halted one: they go on with its memory, registers, timers and interrupts."""

from pathlib import Path
from string import ascii_lowercase

import pytest

import sidecore
from tests.emulator.engine.rig import assemble
from tests.vmm.session import tiny_kernels as tiny

MIB = 1 << 20
STEP_CYCLES = 1_000_000
# Prints a letter at each tick of the PIT, 1 ms, and ends behind z.
TICKER = """
    mov esp, 0x300000
    lea rdi, [rip + 7f]
    mov word ptr [0x400200], di
    mov word ptr [0x400202], 0x10
    mov word ptr [0x400204], 0x8e00
    shr rdi, 16
    mov word ptr [0x400206], di
    mov word ptr [0x401000], 0xfff
    mov qword ptr [0x401002], 0x400000
    lidt [0x401000]
    mov al, 0x11
    out 0x20, al
    mov al, 0x20
    out 0x21, al
    mov al, 4
    out 0x21, al
    mov al, 1
    out 0x21, al
    mov al, 0xfe
    out 0x21, al
    mov al, 0x34
    out 0x43, al
    mov al, 0xa9
    out 0x40, al
    mov al, 0x04
    out 0x40, al
    mov ebx, 0x61
1:  sti
    hlt
    jmp 1b
7:  mov dx, 0x3f8
    mov al, bl
    out dx, al
    inc ebx
    cmp bl, 0x7b
    jb 8f
    xor eax, eax
    out 0xf4, al
8:  mov al, 0x20
    out 0x20, al
    iretq
"""


def make_world(tmp_path: Path, paging: sidecore.Paging, code: bytes) -> sidecore.World:
    """Two hosts: an original and a copy to be, and another copy to be."""
    spec = sidecore.GuestSpec(kernel=tiny.write_kernel(tmp_path, code), memory_bytes=16 * MIB)
    world = sidecore.World()
    first, second = (world.add_host(sidecore.HostSpec(paging=paging, profile="nehalem")) for _ in range(2))
    first.add_guest(spec)
    first.add_guest(spec, is_held_back=True)
    second.add_guest(spec, is_held_back=True)
    world.build()
    return world


def run_until_letters(world: sidecore.World, letters: bytes) -> None:
    while not world.guests[0].output.endswith(letters):
        world.run(sidecore.Limits(max_cycles=world.cycles + STEP_CYCLES))


@pytest.mark.parametrize("paging", ["shadow", "ept"])
def test_copies_go_on_where_the_original_was_and_at_the_same_times(tmp_path: Path, paging: sidecore.Paging) -> None:
    world = make_world(tmp_path, paging, assemble(TICKER, 64, tiny.ENTRY))
    original, copy, other = world.guests
    run_until_letters(world, b"c")
    assert not copy.output
    assert not copy.exits
    for each in (copy, other):
        each.begin_as(original)
    run_until_letters(world, b"m")
    assert copy.output == other.output == b"defghijklm"
    world.run()
    assert original.output == ascii_lowercase.encode()
    assert copy.output == other.output == ascii_lowercase[3:].encode()
    assert {str(guest.end) for guest in world.guests} == {str(original.end)}


def test_only_what_is_halted_can_be_copied_and_only_to_what_was_held_back(tmp_path: Path) -> None:
    world = make_world(tmp_path, "ept", tiny.HANG)
    original, copy, _ = world.guests
    world.run(sidecore.Limits(max_cycles=STEP_CYCLES))
    with pytest.raises(sidecore.ConfigError, match="a guest can be copied while it is halted"):
        copy.begin_as(original)
    world = make_world(tmp_path, "ept", tiny.SLEEP)
    original, copy, _ = world.guests
    world.run(sidecore.Limits(max_cycles=STEP_CYCLES))
    copy.begin_as(original)
    world.run(sidecore.Limits(max_cycles=2 * STEP_CYCLES))
    with pytest.raises(sidecore.ConfigError, match="only a guest that is held back can become a copy"):
        copy.begin_as(original)


@pytest.mark.parametrize("paging", ["shadow", "ept"])
def test_a_guest_that_begins_later_boots_when_it_is_told_and_once(tmp_path: Path, paging: sidecore.Paging) -> None:
    spec = sidecore.GuestSpec(
        kernel=tiny.write_kernel(tmp_path, assemble(TICKER, 64, tiny.ENTRY)), memory_bytes=16 * MIB
    )
    world = sidecore.World()
    host = world.add_host(sidecore.HostSpec(paging=paging, profile="nehalem"))
    first, later = host.add_guest(spec), host.add_guest(spec, begins_later=True)
    copy = host.add_guest(spec, is_held_back=True)
    world.build()
    run_until_letters(world, b"c")
    assert not later.exits
    clone = world.clone()
    for each in (world, clone):
        each.guests[1].begin()
        run_until_letters(each, b"z")
        while not each.guests[1].output.endswith(b"z"):
            each.run(sidecore.Limits(max_cycles=each.cycles + STEP_CYCLES))
    assert clone.guests[1].output == later.output == first.output == ascii_lowercase.encode()
    with pytest.raises(sidecore.ConfigError, match="only a guest that is held back can begin"):
        later.begin()
    with pytest.raises(sidecore.ConfigError, match="becomes a copy has nothing to boot"):
        copy.begin()


def test_a_world_with_copies_can_be_cloned(tmp_path: Path) -> None:
    world = make_world(tmp_path, "shadow", assemble(TICKER, 64, tiny.ENTRY))
    run_until_letters(world, b"b")
    world.guests[1].begin_as(world.guests[0])
    clone = world.clone()
    for each in (world, clone):
        run_until_letters(each, b"z")
    assert [bytes(guest.output) for guest in clone.guests] == [bytes(guest.output) for guest in world.guests]
    assert clone.guests[1].output == ascii_lowercase[2:].encode()
