"""The page tables there are: the guest's that are in use, and those that the VMM keeps for it: `tables`.

With shadow paging a line for each shadow; with EPT, whose tables are built once, a line for each level.
"""

from dataclasses import dataclass

from emulator.vmx import fields as f
from emulator.x86 import LARGE
from vmm.paging.guest_walk import ADDRESS_MASK
from vmm.paging.shadow_pages import ENTRIES
from vmm.paging.shadow_tables import PDPT
from vmm.session.debugger.views.page_walk import EPT_RIGHTS
from vmm.session.debugger.views.subject import Subject
from vmm.session.debugger.views.values import Hex, View, lines_text

TABLES_MAX = 4096
LEVEL_NAMES = {4: "PML4", 3: "PDPT", 2: "PD", 1: "PT", PDPT: "PDPT (PAE)"}


@dataclass(frozen=True)
class ShadowRow:
    """One shadow page. `gfn` is the guest's table, of a split one the first page of the large page."""

    level: str
    hpa: Hex
    gfn: Hex
    part: int | None
    is_split: bool
    entry_count: int
    parent_count: int
    is_root: bool
    is_out_of_sync: bool


@dataclass(frozen=True)
class LevelRow:
    """Tables of one level, with their entries that are used, and how many of these map pages."""

    level: str
    table_count: int
    entry_count: int
    page_count: int


@dataclass(frozen=True)
class Tables(View):
    """What the VMM keeps; natively nothing."""

    kind: str
    root: Hex
    shadows: tuple[ShadowRow, ...]
    levels: tuple[LevelRow, ...]
    is_cut: bool

    def text(self) -> str:
        """A line for each shadow, or each level."""
        if self.kind == "native":
            return "the processor walks the guest's own tables"
        lines = [f"{self.kind}, root {self.root:x}"]
        if self.shadows:
            lines.append("level       of gfn       at hpa       entries parents")
        for row in self.shadows:
            marks = [f"part {row.part}"] if row.part is not None else []
            marks += ["split"] if row.is_split else []
            marks += ["root"] if row.is_root else []
            marks += ["out of sync"] if row.is_out_of_sync else []
            numbers = f"{row.gfn:<12x} {row.hpa:<12x} {row.entry_count:7} {row.parent_count:7}"
            lines.append(f"{row.level:<11} {numbers} {', '.join(marks)}")
        for level in self.levels:
            pages = f", {level.page_count} of them map pages" if level.page_count else ""
            lines.append(f"{level.level:<5} {level.table_count} tables, {level.entry_count} entries{pages}")
        if self.is_cut:
            lines.append("and more")
        return lines_text(lines)


def tables(subject: Subject) -> Tables:
    """The tables of its domain."""
    if subject.shadow is not None:
        return _shadows(subject)
    if subject.ept is not None:
        return _extended(subject)
    return Tables("native", Hex(subject.mode.cr3), (), (), False)


def _shadows(subject: Subject) -> Tables:
    assert subject.shadow is not None
    known, root = subject.shadow.mmu.tables, subject.read(f.GUEST_CR3)
    everything = known.all_tables()
    words = subject.host_memory.words
    rows = []
    for table in everything[:TABLES_MAX]:
        used = sum(1 for entry in words[table.base : table.base + ENTRIES].tolist() if entry)
        row = ShadowRow(
            level=LEVEL_NAMES[table.level],
            hpa=Hex(table.hpa),
            gfn=Hex(table.gfn),
            part=table.part,
            is_split=table.is_split,
            entry_count=used,
            parent_count=len(table.parents),
            is_root=table.hpa == root & ADDRESS_MASK,
            is_out_of_sync=not table.is_split and known.is_shadowed(table.gfn) and not known.is_protected(table.gfn),
        )
        rows.append(row)
    rows.sort(key=lambda row: (not row.is_root, row.level, row.gfn))
    return Tables("shadow", Hex(root), tuple(rows), (), len(everything) > TABLES_MAX)


def _extended(subject: Subject) -> Tables:
    """The tables below the EPT pointer, each counted once."""
    root, memory = subject.read(f.EPT_POINTER), subject.host_memory
    here, levels, left = {root & ADDRESS_MASK}, [], TABLES_MAX
    for level in (4, 3, 2, 1):
        below, entry_count, page_count = set(), 0, 0
        chosen = sorted(here)[:left]
        left -= len(chosen)
        for table in chosen:
            data = memory.read(table, 8 * ENTRIES) if memory.is_ram(table, 8 * ENTRIES) else b""
            for entry in memoryview(data).cast("Q"):
                if not entry & EPT_RIGHTS:
                    continue
                entry_count += 1
                if level == 1 or (level < 4 and entry & LARGE):
                    page_count += 1
                else:
                    below.add(entry & ADDRESS_MASK)
        levels.append(LevelRow(LEVEL_NAMES[level], len(chosen), entry_count, page_count))
        here = below
    return Tables("EPT", Hex(root), (), tuple(levels), left <= 0)
