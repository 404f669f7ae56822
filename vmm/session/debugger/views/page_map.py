"""What a guest's page tables map, as merged ranges, and all linear addresses of one frame.

    tables -> pages in order of linear address -> ranges: as long as addresses go on and attributes are the same

However the tables are made (they may contain themselves), at most ENTRIES_MAX entries are looked at: then `is_cut`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from emulator.errors import ConfigError
from emulator.x86 import (
    ACCESSED,
    CR4_PSE,
    DIRTY,
    EFER_NXE,
    GLOBAL,
    LARGE,
    NO_EXECUTE,
    PAGE_BYTES,
    PRESENT,
    USER,
    WRITABLE,
)
from vmm.paging.guest_walk import ADDRESS_MASK, PagingMode
from vmm.session.debugger.views.subject import WORD, Subject
from vmm.session.debugger.views.values import Hex, View, lines_text

ENTRIES_MAX = 1 << 19
RANGES_MAX = 4096
SIZES = {12: "4K", 21: "2M", 22: "4M", 30: "1G"}
ATTRIBUTES = "wuxgad"  # in the order in which they are shown


class Page(NamedTuple):
    """A page that is mapped: `attributes` are letters of ATTRIBUTES."""

    gva: int
    gpa: int
    shift: int
    attributes: str


@dataclass(frozen=True)
class Range:
    """Linear addresses [gva, end) that lead to guest-physical ones from `gpa` on."""

    gva: Hex
    end: Hex
    gpa: Hex
    page: str
    attributes: str
    target: str  # empty: RAM


@dataclass(frozen=True)
class PageMap(View):
    """Ranges in order of address; `is_cut` when there is more than could be looked at."""

    ranges: tuple[Range, ...]
    is_cut: bool

    def text(self) -> str:
        """A line for each."""
        lines = []
        for r in self.ranges:
            letters = "".join(letter if letter in r.attributes else "-" for letter in ATTRIBUTES)
            target = f" {r.target}" if r.target else ""
            lines.append(f"{r.gva:016x}-{r.end - 1 & WORD:016x} {r.page} {letters} gpa {r.gpa:x}{target}")
        if self.is_cut:
            lines.append("and more, which was not looked at: give a range")
        return lines_text(lines or ["nothing is mapped there"])


class _Budget:
    """How many entries may still be looked at."""

    def __init__(self) -> None:
        self.left = ENTRIES_MAX


def page_map(subject: Subject, start: int = 0, end: int = 1 << 64, *, attributes: str = "") -> PageMap:
    """What is mapped in [start, end). `attributes`: those that must be, as in `wx`; behind `-` those that must not.

    Raises ConfigError.
    """
    wanted, unwanted = read_attributes(attributes)
    if not 0 <= start < end <= 1 << 64:
        raise ConfigError(f"{start:#x} to {end:#x} is no range of addresses")
    budget, is_cut = _Budget(), False
    ranges: list[Range] = []
    for page in _pages(subject, start, end, budget):
        if not wanted <= set(page.attributes) or unwanted & set(page.attributes):
            continue
        last = ranges[-1] if ranges else None
        length, page_name = 1 << page.shift, SIZES[page.shift]
        target = _target(subject, page.gpa)
        if last is not None and _goes_on(last, page, page_name, target):
            ranges[-1] = replace(last, end=Hex(page.gva + length))
        elif len(ranges) == RANGES_MAX:
            is_cut = True
            break
        else:
            new = Range(Hex(page.gva), Hex(page.gva + length), Hex(page.gpa), page_name, page.attributes, target)
            ranges.append(new)
    return PageMap(tuple(ranges), is_cut or budget.left <= 0)


def aliases(subject: Subject, gpa: int) -> PageMap:
    """All pages that lead to the frame of guest-physical `gpa`."""
    budget = _Budget()
    found: list[Range] = []
    for page in _pages(subject, 0, 1 << 64, budget):
        length = 1 << page.shift
        if page.gpa <= gpa < page.gpa + length and len(found) < RANGES_MAX:
            gva = page.gva + (gpa - page.gpa & ~(PAGE_BYTES - 1))
            frame = Hex(gpa & ~(PAGE_BYTES - 1))
            size = SIZES[page.shift]
            target = _target(subject, gpa)
            found.append(Range(Hex(gva), Hex(gva + PAGE_BYTES), frame, size, page.attributes, target))
    return PageMap(tuple(found), budget.left <= 0)


def read_attributes(text: str) -> tuple[set[str], set[str]]:
    """Letters that must be, and that must not be: `wx-u`. Raises ConfigError."""
    wanted, _, unwanted = text.replace(" ", "").partition("-")
    for letter in wanted + unwanted:
        if letter not in ATTRIBUTES:
            names = "writable, user, executable, global, accessed, dirty"
            raise ConfigError(f"no attribute {letter!r}; there are {' '.join(ATTRIBUTES)}: {names}")
    return set(wanted), set(unwanted)


def _goes_on(last: Range, page: Page, page_name: str, target: str) -> bool:
    is_next = last.end == page.gva and last.gpa + (last.end - last.gva) == page.gpa
    return is_next and (last.page, last.attributes, last.target) == (page_name, page.attributes, target)


def _target(subject: Subject, gpa: int) -> str:
    if subject.hpa_of(gpa) is not None:
        return ""
    if subject.domain is not None and subject.domain.is_device_page(gpa >> 12):
        return "a device"
    return "no memory" if subject.domain is not None else "no memory, or a device"


# --- tables ----------------------------------------------------------------------------------------------------------


def _pages(subject: Subject, start: int, end: int, budget: _Budget) -> Iterator[Page]:
    """The pages that lie in [start, end), in order."""
    mode = subject.mode
    if not mode.is_paging:
        yield from _identity(start, min(end, 1 << 32))
        return
    level = 4 if mode.is_long else 3 if mode.is_pae else 2
    mask = ADDRESS_MASK if mode.is_long else 0xFFFF_FFE0 if mode.is_pae else 0xFFFF_F000
    halves = [(0, 1 << 47), ((1 << 64) - (1 << 47), 1 << 64)] if mode.is_long else [(0, 1 << 32)]
    for low, high in halves:
        if start < high and end > low:
            yield from _of_table(
                subject, mode, mode.cr3 & mask, level, "wux", low, max(start, low), min(end, high), budget
            )


def _identity(start: int, end: int) -> Iterator[Page]:
    for gva in range(start >> 30 << 30, end, 1 << 30):
        yield Page(gva, gva, 30, "wux")


def _of_table(
    subject: Subject, mode: PagingMode, table: int, level: int, rights: str, base: int, start: int, end: int,
    budget: _Budget,
) -> Iterator[Page]:  # fmt: skip
    """Pages of one table that maps from `base` on, for the part of it in [start, end)."""
    shift = 12 + (9 if mode.is_pae else 10) * (level - 1)
    is_top_half = level == 4 and base != 0
    first = 256 if is_top_half else 0
    entries = _entries(subject, mode, table, level)
    low = max(first, (start - base >> shift) + first)
    high = min(len(entries), (end - 1 - base >> shift) + first + 1)
    for index in range(low, high):
        budget.left -= 1
        if budget.left < 0:
            return
        entry = entries[index]
        if not entry & PRESENT:
            continue
        gva = base + (index - first << shift)
        is_pointer = level == 3 and not mode.is_long
        allowed = rights if is_pointer else _rights(mode, entry, rights)
        has_large = mode.is_pae or bool(mode.cr4 & CR4_PSE)
        if level == 1 or (entry & LARGE and level in (2, 3) and not is_pointer and has_large):
            yield Page(gva, _frame(mode, entry, shift), shift, _attributes(entry, allowed))
        else:
            next_table = entry & (ADDRESS_MASK if mode.is_pae else 0xFFFF_F000)
            inside = max(start, gva), min(end, gva + (1 << shift))
            yield from _of_table(subject, mode, next_table, level - 1, allowed, gva, *inside, budget)


def _entries(subject: Subject, mode: PagingMode, table: int, level: int) -> Sequence[int]:
    """The entries of a table; those that lie where no memory is lead nowhere, and are left out."""
    length_bytes = 32 if level == 3 and not mode.is_long else PAGE_BYTES
    data = subject.read_gpa(table, length_bytes)
    return () if data is None else memoryview(data).cast("Q" if mode.is_pae else "I")


def _rights(mode: PagingMode, entry: int, rights: str) -> str:
    lost = "" if entry & WRITABLE else "w"
    lost += "" if entry & USER else "u"
    lost += "x" if entry & NO_EXECUTE and mode.is_pae and mode.efer & EFER_NXE else ""
    return "".join(letter for letter in rights if letter not in lost)


def _attributes(entry: int, rights: str) -> str:
    marks = (("g", GLOBAL), ("a", ACCESSED), ("d", DIRTY))
    return rights + "".join(letter for letter, bit in marks if entry & bit)


def _frame(mode: PagingMode, entry: int, shift: int) -> int:
    frame = entry & (ADDRESS_MASK if mode.is_pae else 0xFFFF_F000) & ~((1 << shift) - 1)
    return frame | (entry >> 13 & 0xFF) << 32 if shift == 22 else frame
