"""Both walks side by side: each reason for a difference, and tables that lead nowhere."""

from dataclasses import replace

import pytest

import sidecore
from emulator.x86 import ACCESSED, DIRTY
from tests.vmm.session.debugger.views.rig import MIB, Looker, check_view, looked_at, stopped
from tests.vmm.session.debugger.views.test_subject import put, tables_of
from vmm.session.debugger.views.memory import store
from vmm.session.debugger.views.page_walk import Access, guest_walk
from vmm.session.debugger.views.subject import Space, Subject
from vmm.session.debugger.views.translation import Translation, walk
from vmm.vcpu import Exit

WRITE = Access(is_write=True)
STACK = 0x112000
LARGE = 0x4000_4000_0000


def at(text: str, subject: Subject, gva: int, access: Access = WRITE) -> None:
    """The walk says so."""
    shown = walk(subject, gva, access)
    check_view(shown)
    assert text in " ".join(shown.text().split())


def test_a_page_that_is_used_has_the_same_entries_on_both_sides() -> None:
    subject = stopped("default", "shadow", 2_000_000)
    shown = walk(subject, STACK, WRITE)
    assert shown.other is not None
    assert [e.name for e in shown.guest.entries] == [e.name for e in shown.other.entries]
    assert [e.name.partition("[")[0] for e in shown.guest.entries] == ["PML4E", "PDPTE", "PDE", "PTE"]
    assert (shown.guest.target, shown.other.target) == (STACK, subject.hpa_of(STACK))
    assert (shown.differences, shown.fault) == ((), "")
    lines = shown.text().splitlines()
    assert lines[0] == "112000 <pvh_page_directories+0x7000>, supervisor write"
    assert lines[1] == f"guest (cr3 1000000){' ' * 21}shadow ({shown.other_root:x})"
    assert lines[5] == f"PTE[274] 112000 D A W P{' ' * 17}PTE[274] {subject.hpa_of(STACK):x} D A W P"
    assert len(lines) == 7


def test_what_the_guest_has_not_used_the_shadow_has_not() -> None:
    subject = stopped("default", "shadow", 2_000_000)
    at("PDE[1]: the shadow entry is not present: the guest's is not accessed yet", subject, 2 * MIB)
    at("The access faults: the guest's PDE[1] is not accessed yet, so it has no shadow", subject, 2 * MIB)


def test_a_clean_page_is_read_only_in_the_shadow() -> None:
    subject = stopped("default", "shadow", 2_000_000)
    code = subject.rip & ~0xFFF
    at("the shadow entry is read-only: the guest's is not dirty yet", subject, code)
    assert walk(subject, code).fault == ""


def test_a_page_table_of_the_guest_is_write_protected() -> None:
    subject = stopped("paging_page_table_writes", "shadow", 2_000_000)
    table = subject.mode.cr3
    at("write-protected, since the page is a page table of the guest", subject, table)
    at(f"gfn {table >> 12:#x} is a page table of the guest, so it is write-protected", subject, table)


def test_a_device_has_no_shadow() -> None:
    subject = stopped("apic", "shadow", 1_000_000)
    at("The access faults: a device answers at gpa 0xfee00000, so there is no shadow entry", subject, 0xFEE0_0000)


def test_what_was_dropped_is_filled_again() -> None:
    subject = stopped("default", "shadow", 2_000_000)
    assert subject.shadow is not None
    entry = guest_walk(subject, STACK).last
    assert entry is not None
    subject.shadow.mmu.tables._by_gfn.pop(entry.table >> 12)  # as if nobody had seen it
    unused = STACK + 0x1000
    put(subject, int(entry.table), unused >> 12 & 511, unused | 3 | ACCESSED | DIRTY)
    at("the shadow entry is not present: not filled yet, or dropped since", subject, unused)


def test_large_pages_are_split() -> None:
    subject = stopped("paging_large_pages", "shadow", 2_000_000)
    at("PTE[0]: the guest has no such entry: large pages are split in the shadow", subject, LARGE, Access())


def test_a_page_shared_with_a_sidecore_is_watched() -> None:
    subject = stopped("default", "shadow", 2_000_000)
    assert subject.shadow is not None
    hpa = subject.hpa_of(STACK)
    assert hpa is not None
    subject.shadow.watch([hpa])
    at("a page shared with another core (bit 9): the emulator is asked", subject, STACK)
    at("is in a page shared with another core (watched)", subject, STACK)


def test_a_table_that_is_out_of_sync_is_said_to_be() -> None:
    subject = stopped("default", "shadow", 2_000_000)
    assert subject.shadow is not None
    gfn = subject.mode.cr3 >> 12
    subject.shadow.mmu.tables._unsynced[gfn] = None
    at(f"PML4E[0]: its table, gfn {gfn:x}, is out of sync: the guest may write to it unseen", subject, STACK)


def test_with_ept_the_other_side_is_the_physical_address() -> None:
    subject = stopped("apic", "ept", 1_000_000)
    shown = walk(subject, STACK, WRITE)
    assert shown.other_name == "EPT"
    assert shown.other is not None
    assert shown.other.target == subject.hpa_of(STACK)
    at("The access faults: EPT violation: a device answers there, so there is no entry", subject, 0xFEE0_0000)


def test_guest_tables_outside_of_memory_are_all_ones() -> None:
    subject = stopped("default", "ept", 2_000_000)
    top = tables_of(subject)
    put(subject, top, 0, 1 << 38 | 7)
    at("its table is at gpa 4000000000: the guest has no memory there, and reads all ones", subject, 0, Access())


def test_natively_there_is_one_side() -> None:
    shown = walk(stopped("default", "native", 2_000_000), STACK, WRITE)
    assert shown.other is None
    assert shown.fault == ""


@pytest.mark.parametrize("paging", ["shadow", "ept", "native"])
@pytest.mark.parametrize("gva", [1 << 47, -1, 1 << 64, (1 << 64) - 1])
def test_every_number_can_be_walked(gva: int, paging: sidecore.Paging) -> None:
    shown = walk(stopped("default", paging, 2_000_000), gva)
    check_view(shown)
    assert shown.guest.target is None
    assert shown.fault


def test_every_fault_of_a_run_has_its_reason() -> None:
    found: list[Translation] = []

    def look(subject: Subject, exit: Exit) -> None:
        if exit.reason == 0:
            code = subject.read(0x4406)
            access = Access(bool(code & 2), bool(code & 4), bool(code & 16))
            found.append(walk(subject, subject.read(0x6400), access))

    looked_at(Looker(look=look), "paging_page_table_writes", "shadow").run(sidecore.Limits(max_cycles=3_000_000))
    assert len(found) > 100
    assert [shown for shown in found if not shown.fault or "allow it now" in shown.fault] == []


def test_a_store_changes_the_walk() -> None:
    subject = stopped("default", "shadow", 2_000_000)
    entry = guest_walk(subject, STACK).last
    assert entry is not None
    store(subject, Space.GPA, entry.address, (int(entry.value) & ~DIRTY).to_bytes(8, "little"))
    shown = walk(subject, STACK, WRITE)
    assert "is not dirty yet" in shown.fault
    assert walk(subject, STACK, replace(WRITE, is_write=False)).fault == ""
