"""Shadow page tables: what the processor walks in place of a guest's own tables.

    guest table page (gfn, level) ---- shadow table (hpa): same indexes, host-physical addresses
      entry -> next table (gfn')         entry -> shadow of (gfn', level - 1)
      entry -> page (gfn')               entry -> host page, writable only when dirty and not itself a guest table
      2 MiB page                         entry -> split table: 512 entries of 4 KiB, derived from the large page

    63 62..52 51........12 11..7  6 5 4 3 2 1 0
    NX    0   host address    0   D A 0 0 U W P

Shadows have 8-byte entries. A guest table of 4-byte entries (32-bit paging) has twice as many, so its shadow comes in
parts, under a page-directory-pointer table that has no counterpart in the guest:

    CR3 (gfn)                           ---- (gfn, PDPT): four entries, one for each part of the directory
    page directory (gfn)   1024 x 4 MiB ---- parts 0 1 2 3 of (gfn, 2): 512 x 2 MiB each, two for one of the guest's
    page table (gfn)       1024 x 4 KiB ---- parts 0 1 of (gfn, 1):     512 x 4 KiB each

Every guest page that is shadowed is write-protected in all its mappings, but those few that instructions write to which
nobody emulates: they are out of sync until the guest's next flush, as the TLB of a processor may be. So that protecting
is quick, the places of writable leaf entries are kept per guest page.

Who holds the domain's shadow lock pays for everything (shadow_pages.py). MODEL: the lists of writable places have no
addresses, so they cost instructions only; Xen searches instead.
"""

from collections.abc import Iterable

from emulator.engine import WATCHED_ENTRY
from emulator.x86 import ACCESSED, DIRTY, LARGE, NO_EXECUTE, PAGE_BYTES, PRESENT, USER, WRITABLE
from vmm.cost import paths
from vmm.domain import Domain
from vmm.paging.guest_walk import ADDRESS_MASK
from vmm.paging.host_pages import HostPages
from vmm.paging.shadow_pages import ENTRIES, Holder, ShadowPages, ShadowTable

UNSYNCED_MAX = 8
GIB = 1 << 30
PDPT = 5  # not a level of the walk: four-level tables have a level 3 of another format
RIGHTS = WRITABLE | USER | NO_EXECUTE
SPLIT_KEY_BITS = RIGHTS | DIRTY


class ShadowTables:
    """All shadow tables of one domain. Methods that allocate raise `OutOfHostMemory`."""

    WIRED = ("_words",)

    def __init__(self, domain: Domain, pages: HostPages) -> None:
        self._words = domain.machine.memory.words
        self._base_hpa = domain.base_hpa
        self._page_count = domain.page_count
        self._memory = domain.memory
        self._domain = domain
        self.pages = ShadowPages(domain.machine.memory, pages)
        self._tables: dict[tuple[int, int, int | None], ShadowTable] = {}  # (gfn, level, part)
        self._splits: dict[tuple[int, int], ShadowTable] = {}  # (first gfn, guest flags)
        self._splits_of_frame: dict[int, list[ShadowTable]] = {}  # first gfn
        self._by_gfn: dict[int, list[ShadowTable]] = {}
        self._by_hpa: dict[int, ShadowTable] = {}
        self._unsynced: dict[int, None] = {}  # shadowed guest pages that the guest may write, in order of `let_write`
        self._writable: dict[int, set[int]] = {}  # gfn -> words of writable leaf entries outside split tables
        self._watched_hpas: frozenset[int] = frozenset()  # see watch
        self.needs_flush = False  # a right was taken away: the TLB must be flushed before the guest goes on

    def is_shadowed(self, gfn: int) -> bool:
        """Whether `gfn` is a guest table that is shadowed, so write-protected."""
        return gfn in self._by_gfn

    def is_protected(self, gfn: int) -> bool:
        """Whether a store to `gfn` must not pass unseen."""
        return gfn in self._by_gfn and gfn not in self._unsynced

    @property
    def tracked_count(self) -> int:
        """Guest pages of which writable mappings are remembered."""
        return len(self._writable)

    def all_tables(self) -> list[ShadowTable]:
        """Every shadow table, split tables too."""
        return list(self._by_hpa.values())

    def table(self, holder: Holder, gfn: int, level: int, part: int | None = None) -> ShadowTable:
        """The shadow (or this part of it) of guest table `gfn` used at `level`, made now if there is none."""
        self.pages.look_up(holder, gfn)
        table = self._tables.get((gfn, level, part))
        if table is None:
            table = ShadowTable(self.pages.allocate(holder, gfn), gfn, level, part)
            self._tables[gfn, level, part] = self._by_hpa[table.hpa] = table
            if gfn not in self._by_gfn:
                self._by_gfn[gfn] = []
                self._write_protect(holder, gfn)
            self._by_gfn[gfn].append(table)
        return table

    def split(self, holder: Holder, entry: int) -> ShadowTable:
        """The split table of the 2 MiB page that guest entry `entry` maps, filled whole."""
        first = (entry & ADDRESS_MASK) >> 12 & ~(ENTRIES - 1)
        key = (first, entry & SPLIT_KEY_BITS)
        self.pages.look_up(holder, first)
        table = self._splits.get(key)
        if table is None:
            table = ShadowTable(self.pages.allocate(holder, first), first, 1, is_split=True)
            holder.meter.follow(paths.FILL_TABLE)
            holder.meter.touch(table.hpa, PAGE_BYTES, True)
            self._splits[key] = self._by_hpa[table.hpa] = table
            self._splits_of_frame.setdefault(first, []).append(table)
            make = self.leaf
            for index in range(ENTRIES):
                self._words[table.base + index] = make(first + index, entry)
        return table

    def split_gib(self, holder: Holder, entry: int) -> ShadowTable:
        """The level 2 table that stands for the 1 GiB page of guest entry `entry`; its entries come when needed."""
        key = (entry & ADDRESS_MASK & ~(GIB - 1) | 1, entry & SPLIT_KEY_BITS)  # odd: no 2 MiB page has this key
        self.pages.look_up(holder, key[0] >> 12)
        table = self._splits.get(key)
        if table is None:
            table = ShadowTable(self.pages.allocate(holder, key[0] >> 12), key[0] >> 12, 2, is_split=True)
            self._splits[key] = self._by_hpa[table.hpa] = table
        return table

    def leaf(self, gfn: int, entry: int) -> int:
        """The shadow of leaf entry `entry` (of any page size) for guest page `gfn`; none for a device's page."""
        shadow = entry & (USER | NO_EXECUTE) | PRESENT | ACCESSED | DIRTY
        if entry & DIRTY and entry & WRITABLE and not self.is_protected(gfn):
            shadow |= WRITABLE
        if gfn < self._page_count or self._memory.is_ram(gfn << 12):
            hpa = self._base_hpa + (gfn << 12) if gfn < self._page_count else self._memory.hpa_of(gfn << 12)
            return shadow | hpa if hpa not in self._watched_hpas else shadow & ~PRESENT | WATCHED_ENTRY | hpa
        if self._domain.is_device_page(gfn):
            return 0
        return shadow | self._domain.hpa_of(gfn << 12)

    def watch(self, hpas: Iterable[int]) -> None:
        """Let every access to the pages at `hpas` fault, for emulator/engine/arch/watched_page.c alone."""
        before, self._watched_hpas = self._watched_hpas, frozenset(hpas)
        closed, opened = self._watched_hpas - before, before - self._watched_hpas
        for table in self.all_tables():
            if table.level == 1:
                for index, entry in enumerate(self._words[table.base : table.base + ENTRIES].tolist()):
                    if entry and entry & ADDRESS_MASK in closed:
                        self._words[table.base + index] = entry & ~PRESENT | WATCHED_ENTRY
                    elif entry and entry & ADDRESS_MASK in opened:
                        self._words[table.base + index] = entry & ~WATCHED_ENTRY | PRESENT

    def link(self, holder: Holder, table: ShadowTable, index: int, child: ShadowTable, entry: int) -> None:
        """Let a shadow entry lead to `child` with the rights of guest entry `entry`."""
        word = table.base + index
        holder.meter.follow(paths.DERIVE)
        wanted = child.hpa | PRESENT | (ACCESSED | entry & RIGHTS if table.level != PDPT else 0)
        old = self.pages.get(holder, word)
        if old == wanted:
            return
        if old:
            self._unlink(holder, word, old)
        self.pages.put(holder, word, wanted)
        child.parents.add(word)

    def _unlink(self, holder: Holder, word: int, old: int) -> None:
        self._forget_parent(word, old)
        self.pages.put(holder, word, 0)

    def _forget_parent(self, word: int, entry: int) -> None:
        child = self._by_hpa.get(entry & ADDRESS_MASK)
        if child is not None:
            child.parents.discard(word)

    def set_leaf(self, holder: Holder, table: ShadowTable, index: int, gfn: int, shadow: int) -> None:
        """Store a leaf entry for guest page `gfn` in a table of level 1."""
        word = table.base + index
        if table.is_split:
            self.pages.put(holder, word, shadow)
            return
        self._forget_writable(word, self.pages.get(holder, word))
        self.pages.put(holder, word, shadow)
        if shadow & WRITABLE and (
            gfn < self._page_count or self._memory.is_ram(gfn << 12)
        ):  # where there is no RAM there are no tables to protect
            places = self._writable.get(gfn)
            if places is None:
                self._writable[gfn] = {word}
            else:
                places.add(word)

    def _drop_leaf(self, holder: Holder, word: int) -> None:
        self._forget_writable(word, self.pages.get(holder, word))
        self.pages.put(holder, word, 0)

    def _forget_writable(self, word: int, entry: int) -> None:
        if entry & WRITABLE:
            gfn = (entry & ADDRESS_MASK) - self._base_hpa >> 12
            if not 0 <= gfn < self._page_count:
                gpa = self._memory.gpa_of(entry & ADDRESS_MASK)
                if gpa is None:
                    return
                gfn = gpa >> 12
            places = self._writable.get(gfn)
            if places is not None:
                places.discard(word)

    def _write_protect(self, holder: Holder, gfn: int) -> None:
        for word in self._writable.pop(gfn, ()):
            self.pages.put(holder, word, self.pages.get(holder, word) & ~WRITABLE)
            self.needs_flush = True
        for table in self._splits_of_frame.get(gfn & ~(ENTRIES - 1), ()):
            word = table.base + (gfn & ENTRIES - 1)
            if self.pages.get(holder, word) & WRITABLE:
                self.pages.put(holder, word, self._words[word] & ~WRITABLE)
                self.needs_flush = True

    def guest_wrote(self, holder: Holder, gpa: int, size_bytes: int) -> None:
        """Guest memory [gpa, gpa + size_bytes), inside one page, has changed: every shadow of it follows at once."""
        page, first, last = gpa & ~0xFFF, gpa & 0xFFF, (gpa & 0xFFF) + size_bytes - 1
        for table in self._by_gfn.get(gpa >> 12, ()):
            entry_bytes = 8 if table.part is None else 4
            follow = self._follow if table.part is None else self._follow_narrow
            for index in range(first // entry_bytes, last // entry_bytes + 1):
                holder.meter.touch(self._domain.hpa_of(page + index * entry_bytes), entry_bytes, False)
                entry = self._domain.read(page + index * entry_bytes, entry_bytes)
                follow(holder, table, index, int.from_bytes(entry, "little"))

    def _follow(self, holder: Holder, table: ShadowTable, index: int, entry: int) -> None:
        if table.level == 1:
            self._follow_leaf(holder, table, index, entry)
        else:
            self._follow_link(holder, table, index, entry, None)

    def _follow_narrow(self, holder: Holder, table: ShadowTable, index: int, entry: int) -> None:
        """Entry `index` of 1024; `table` is one part of the shadow, and another one may have it."""
        if table.level == 1 and index >> 9 == table.part:
            self._follow_leaf(holder, table, index & 511, entry)
        elif table.level == 2 and index >> 8 == table.part:
            for half in (0, 1):
                self._follow_link(holder, table, index << 1 & 511 | half, entry, half)

    def _is_used(self, holder: Holder, entry: int) -> bool:
        """Whether a guest entry can have a shadow: one that was not used yet, or is malformed, must fault first."""
        return entry & (PRESENT | ACCESSED) == PRESENT | ACCESSED and not entry & holder.reserved_bits

    def _follow_leaf(self, holder: Holder, table: ShadowTable, index: int, entry: int) -> None:
        if self._is_used(holder, entry):
            target = (entry & ADDRESS_MASK) >> 12
            holder.meter.follow(paths.DERIVE)
            self.set_leaf(holder, table, index, target, self.leaf(target, entry))
        else:
            self._drop_leaf(holder, table.base + index)

    def _follow_link(self, holder: Holder, table: ShadowTable, index: int, entry: int, child_part: int | None) -> None:
        word = table.base + index
        old = self.pages.get(holder, word)
        if old:
            self._unlink(holder, word, old)
        if self._is_used(holder, entry) and not entry & LARGE:
            self.pages.look_up(holder, (entry & ADDRESS_MASK) >> 12)
            child = self._tables.get(((entry & ADDRESS_MASK) >> 12, table.level - 1, child_part))
            if child is not None:
                self.link(holder, table, index, child, entry)

    def let_write(self, holder: Holder, gfn: int) -> None:
        """Let the guest write to its shadowed table `gfn`: its shadows follow at the next `resync` or `protect`."""
        if len(self._unsynced) >= UNSYNCED_MAX:
            self.protect(holder)
        self._unsynced[gfn] = None

    def resync(self, holder: Holder) -> None:
        """Let shadows follow what the guest wrote to the tables it may write."""
        for gfn in self._unsynced:
            self.guest_wrote(holder, gfn * PAGE_BYTES, PAGE_BYTES)

    def protect(self, holder: Holder) -> None:
        """Let shadows follow, and no store pass unseen any more."""
        self.resync(holder)
        unsynced, self._unsynced = self._unsynced, {}
        for gfn in unsynced:
            self._write_protect(holder, gfn)

    def unshadow(self, holder: Holder, gfn: int) -> None:
        """Forget every shadow of guest table `gfn`; its page can become writable again."""
        self.pages.look_up(holder, gfn)
        self._unsynced.pop(gfn, None)
        for table in self._by_gfn.pop(gfn, ()):
            del self._tables[gfn, table.level, table.part]
            self._destroy(holder, table)
        self.needs_flush = True

    def _destroy(self, holder: Holder, table: ShadowTable) -> None:
        base = table.base
        holder.meter.follow(paths.SCAN_TABLE)
        holder.meter.touch(table.hpa, PAGE_BYTES, False)
        for index, shadow in enumerate(self._words[base : base + ENTRIES].tolist()):
            if not shadow:
                continue
            if table.level > 1:
                self._forget_parent(base + index, shadow)
            elif not table.is_split:
                self._forget_writable(base + index, shadow)
        for word in table.parents:
            self.pages.put(holder, word, 0)
        del self._by_hpa[table.hpa]
        self.pages.free(holder, table)

    def forget_all(self, holder: Holder) -> None:
        """Start anew: no page is shadowed, every shadow page is free."""
        for table in self.all_tables():
            self.pages.free(holder, table)
        for memo in (self._tables, self._splits, self._splits_of_frame, self._by_gfn, self._by_hpa, self._writable):
            memo.clear()
        self._unsynced.clear()
        self.needs_flush = True
