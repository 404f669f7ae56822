"""Ranges of what is mapped, aliases, and tables without an end."""

from itertools import pairwise

import pytest

import sidecore
from emulator.errors import ConfigError
from emulator.vmx import fields as f
from emulator.x86 import CR4_PAE
from tests.vmm.session.debugger.views.rig import stopped
from tests.vmm.session.debugger.views.test_subject import put, tables_of
from vmm.paging.guest_walk import Translation
from vmm.session.debugger.views.page_map import aliases, page_map
from vmm.session.debugger.views.page_tables import tables

PAGINGS = ("shadow", "ept", "native")


@pytest.mark.parametrize("paging", PAGINGS)
def test_every_page_of_a_range_is_where_a_walk_leads(paging: sidecore.Paging) -> None:
    subject = stopped("paging_large_pages", paging, 2_000_000)
    ranges = page_map(subject).ranges
    assert {r.page for r in ranges} >= {"4K", "2M"}
    for r in ranges:
        for gva in (r.gva, r.end - 1):
            found = subject.walk(gva)
            assert isinstance(found, Translation)
            assert found.gpa == r.gpa + gva - r.gva
            assert ("w" in r.attributes, "u" in r.attributes, "x" in r.attributes) == (
                found.is_writable, found.is_user, not found.is_no_execute,
            )  # fmt: skip
    for before, after in pairwise(ranges):
        assert before.end <= after.gva
        assert subject.gpa_of(before.end) is None or before.end == after.gva


def test_a_range_is_cut_out_and_attributes_filter() -> None:
    subject = stopped("default", "ept", 2_000_000)
    assert [(r.gva, r.end) for r in page_map(subject, 0x100800, 0x101800).ranges] == [(0x100000, 0x102000)]
    assert all("u" in r.attributes for r in page_map(subject, attributes="u").ranges)
    users, others = page_map(subject, attributes="u").ranges, page_map(subject, attributes="-u").ranges
    assert users
    assert {r.gva for r in users}.isdisjoint({r.gva for r in others})
    assert page_map(subject, attributes="wd-ux").text() == "nothing is mapped there"
    assert page_map(subject, 1 << 47, (1 << 64) - (1 << 47)).ranges == ()


@pytest.mark.parametrize(
    ("start", "end", "attributes", "words"),
    [(5, 5, "", "no range"), (-1, 5, "", "no range"), (0, 1 << 65, "", "no range"), (0, 5, "r", "no attribute 'r'")],
)
def test_an_impossible_range_is_a_mistake_of_one_line(start: int, end: int, attributes: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        page_map(stopped("default", "ept", 1_000), start, end, attributes=attributes)


@pytest.mark.parametrize("paging", PAGINGS)
def test_tables_that_contain_themselves_come_to_an_end(paging: sidecore.Paging) -> None:
    subject = stopped("default", paging, 2_000_000)
    top = tables_of(subject)
    for index in range(512):
        put(subject, top, index, top | 7)
    shown = page_map(subject)
    assert shown.is_cut
    assert shown.text().endswith("and more, which was not looked at: give a range")
    assert aliases(subject, top).is_cut


def test_a_recursive_entry_makes_aliases_of_the_tables() -> None:
    subject = stopped("default", "ept", 2_000_000)
    top = tables_of(subject)
    put(subject, top, 511, top | 3)
    put(subject, top, 256, top | 3)
    found = aliases(subject, top + 5)
    assert [f"{r.gva:x}" for r in found.ranges[:2]] == ["ffff804020100000", "ffff8040201ff000"]
    assert len(found.ranges) == 16
    assert not found.is_cut


def test_32_bit_and_pae_tables_have_other_sizes() -> None:
    subject = stopped("default", "native", 2_000_000)
    top = tables_of(subject)
    subject.vmcs.save(f.GUEST_IA32_EFER, 0)
    subject.vmcs.save(f.GUEST_CR4, 0x10)
    subject.memory.write(top + 4 * 1023, (0x0040_2087).to_bytes(4, "little"))  # 4 MiB, with bit 32 of the address
    assert (
        page_map(subject).text() == "00000000ffc00000-00000000ffffffff 4M wux--- gpa 100400000 no memory, or a device"
    )
    subject.vmcs.save(f.GUEST_CR4, CR4_PAE)
    subject.memory.write(top, bytes(4096))
    put(subject, top, 3, top + 4096 | 1)
    put(subject, top + 4096, 511, 0x83)
    assert page_map(subject).text() == "00000000ffe00000-00000000ffffffff 2M w-x--- gpa 0"


def test_without_paging_addresses_are_as_they_are() -> None:
    subject = stopped("default", "native", 2_000_000)
    subject.vmcs.save(f.GUEST_CR0, 0x11)
    assert page_map(subject, 0, 4096).ranges[0].gpa == 0


def test_the_vmms_tables_are_listed() -> None:
    shadow = tables(stopped("paging_large_pages", "shadow", 2_000_000))
    assert [row.level for row in shadow.shadows if row.is_root] == ["PML4"]
    assert any(row.is_split and row.entry_count == 512 for row in shadow.shadows)
    ept = tables(stopped("default", "ept", 2_000_000))
    assert [row.level for row in ept.levels] == ["PML4", "PDPT", "PD", "PT"]
    assert ept.levels[0].table_count == 1
    assert tables(stopped("default", "native", 1_000)).text() == "the processor walks the guest's own tables"
