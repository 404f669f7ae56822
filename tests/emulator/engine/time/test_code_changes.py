"""Changed code is noticed whoever changed it: the guest, through any mapping, the platform, or the VMM between runs."""

import pytest

from emulator.engine import FLUSH_ALL
from tests.emulator.engine.rig import CODE, DATA, NX, PD, PDPT, PML4, PS, P, Rig, U, W, assemble

LOOP = "1: mov eax, 1\n add ebx, eax\n in al, 0x10\n dec ecx\n jnz 1b\n hlt"  # EAX's immediate is at CODE + 1
IMMEDIATE = CODE + 1
ALIAS = 0x1F0000  # another linear address for the code's page


def test_code_that_the_host_changes_between_runs_is_noticed() -> None:
    rig = Rig("mov eax, 1\n hlt")
    for value in (1, 2, 3):
        rig.put(IMMEDIATE, bytes([value]))
        rig["rip"] = CODE
        rig["activity_state"] = 0
        rig.run()
        assert rig["rax"] == value


def test_code_that_a_device_changes_while_the_guest_runs_is_noticed() -> None:
    rig = Rig(LOOP)
    rig["rcx"] = 5
    rig.platform.on_port = lambda port: rig.put(IMMEDIATE, bytes([len(rig.platform.port_reads) + 1]))
    rig.run()
    assert rig["rbx"] == 1 + 2 + 3 + 4 + 5


@pytest.mark.parametrize("times", [1, 2, 3, 20])
def test_code_changed_through_a_writable_nx_alias_is_noticed_every_time(times: int) -> None:
    rig = Rig(f"mov ecx, {times}\n 1: mov eax, 1\n add ebx, eax\n inc byte ptr [rdi]\n dec ecx\n jnz 1b\n hlt")
    rig.set_page(ALIAS, CODE | P | W | NX)
    rig["rdi"] = ALIAS + 6
    rig.run()
    assert rig["rbx"] == sum(range(1, times + 1))
    assert rig.shared.instructions == 1 + 5 * times + 1


def test_code_changed_by_stores_to_itself_is_noticed_every_time() -> None:
    rig = Rig("mov ecx, 9\n 1: mov eax, 1\n add ebx, eax\n inc byte ptr [rip + 1b + 1]\n dec ecx\n jnz 1b\n hlt")
    rig.run()
    assert rig["rbx"] == sum(range(1, 10))
    assert rig.shared.instructions == 1 + 5 * 9 + 1


def test_code_across_two_pages_is_noticed_in_each() -> None:
    rig = Rig(b"")
    at = CODE + 0xFFD  # the immediate of MOV EAX lies on both sides
    rig.put(at, assemble("mov eax, 0x11223344\n hlt", 64, at))
    for value in (0x11223344, 0x11223355, 0x99223355, 0x88776655):
        rig.put(at + 1, value.to_bytes(4, "little"))
        rig["rip"], rig["activity_state"] = at, 0
        rig.run()
        assert rig["rax"] == value


def test_a_page_that_another_replaces_brings_its_own_code() -> None:
    rig = Rig("mov eax, 1\n hlt")
    other = 0x80000
    rig.put(other, assemble("mov eax, 2\n hlt"))
    for page, expected in ((CODE, 1), (other, 2), (CODE, 1), (other, 2)):
        rig.set_page(CODE, page | P | W)
        rig.shared.flush_tlb = FLUSH_ALL
        rig["rip"], rig["activity_state"] = CODE, 0
        rig.run()
        assert rig["rax"] == expected


def test_a_page_behind_a_block_that_becomes_present_without_a_flush_is_counted_exactly() -> None:
    """A CPU may not remember that a page was absent; the page fault itself tells the kernel when to map it."""
    at = CODE + 0xFF8
    rig = Rig(b"")
    rig.put(at, assemble("rdtsc\n jmp 1f\n 1: nop\n mov eax, 0x11223344\n nop\n nop\n hlt", 64, at))
    rig.set_page(CODE + 0x1000, 0)
    rig["rip"] = at
    rig.run()
    assert rig.halted_in == 14
    before = int(rig.shared.instructions)
    rig.set_page(CODE + 0x1000, CODE + 0x1000 | P | W)
    rig["rip"], rig["activity_state"] = at, 0
    rig.run()
    assert rig["rax"] == 0x11223344
    assert rig.shared.instructions - before == 3 + 4


def test_the_same_bytes_are_other_instructions_in_another_mode() -> None:
    """40 is INC EAX in 32-bit mode and a REX prefix in 64-bit mode: as many bytes, another count."""
    rig = Rig(b"\x40\x40\x40\x90\xf4", bits=32)
    rig.run()
    assert (rig.shared.instructions, rig["rax"]) == (5, 3)
    wide = Rig(b"\x40\x40\x40\x90\xf4")
    wide.run()
    assert wide.shared.instructions == 2


def test_a_cpu_that_changes_mode_counts_the_same_bytes_anew() -> None:
    rig = Rig(b"\x40\x40\x40\x90\xf4", bits=32)
    rig.run()
    wide = Rig(b"")
    for name in ("cr4", "cr3", "efer", "cr0", "cs_access_rights"):
        rig[name] = wide[name]
    for page in (PML4, PDPT, PD):
        rig.put(page, wide.memory.read(page, 4096))
    rig.put_word(PD, P | W | U | PS)
    before = int(rig.shared.instructions)
    rig["rip"], rig["activity_state"] = CODE, 0
    rig.run()
    assert rig.shared.instructions - before == 2


def test_code_that_is_new_in_every_round_runs_as_written() -> None:
    """Each round writes other code at the same place."""
    rig = Rig(f"1: mov [{DATA}], ecx\n mov eax, {DATA + 0x100}\n call rax\n dec ecx\n jnz 1b\n hlt")
    rig["rcx"] = 20_000
    rig.put(
        DATA + 0x100,
        assemble(
            f"mov edx, [{DATA}]\n mov [rip + 1f + 1], edx\n jmp 1f\n 1: mov eax, 1\n add rbx, rax\n ret",
            64,
            DATA + 0x100,
        ),
    )
    rig.run(10**7)
    assert rig.is_halted
    assert rig["rbx"] == 20_000 * 20_001 // 2
