"""A guest's own page tables, walked by the VMM in software (SDM 3A 4).

    4-level   47..39 | 38..30 | 29..21 | 20..12 | 11..0     levels 4 3 2 1
    PAE                31..30 | 29..21 | 20..12 | 11..0     levels   3 2 1    (level 3: four PDPTEs)
    32-bit                      31..22 | 21..12 | 11..0     levels     2 1    (4-byte entries)

The walk reads guest memory at its host-physical place and sets accessed and dirty bits there as a processor would.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from emulator.x86 import (
    ACCESSED,
    CR0_PG,
    CR0_WP,
    CR4_PAE,
    CR4_PSE,
    CR4_SMEP,
    DIRTY,
    EFER_LMA,
    EFER_NXE,
    LARGE,
    NO_EXECUTE,
    PF_FETCH,
    PF_PRESENT,
    PF_RESERVED,
    PF_USER,
    PF_WRITE,
    PRESENT,
    USER,
    WRITABLE,
)
from vmm.cost import paths
from vmm.cost.meter import Meter
from vmm.domain import Domain
from vmm.vcpu import VCpu

ADDRESS_MASK = 0xFF_FFFF_F000  # 40 physical address bits
PDPTE_RESERVED = 0xFFFF_FF00_0000_01E6
PSE_RESERVED = 1 << 21  # of an entry that maps 4 MiB in 32-bit paging
RESERVED_ADDRESS = 0xF_FF00_0000_0000  # bits 51:40
RESERVED_IN_PAE = 0x7FF0_0000_0000_0000  # bits 62:52, which 4-level paging ignores


@dataclass(frozen=True, slots=True)
class PagingMode:
    """The guest's registers that decide how addresses translate."""

    cr0: int
    cr3: int
    cr4: int
    efer: int

    @property
    def is_paging(self) -> bool:
        """CR0.PG."""
        return bool(self.cr0 & CR0_PG)

    @property
    def is_long(self) -> bool:
        """IA-32e mode: 4-level tables."""
        return bool(self.efer & EFER_LMA)

    @property
    def is_pae(self) -> bool:
        """8-byte entries."""
        return bool(self.cr4 & CR4_PAE)


@dataclass(frozen=True, slots=True)
class GuestFault:
    """The walk ends in #PF with this error code at this linear address."""

    gva: int
    error_code: int


class Step(NamedTuple):
    """One entry used by a walk, after accessed and dirty bits were set: entry `slot` of its table."""

    level: int
    table_gfn: int
    slot: int
    entry: int


class Translation(NamedTuple):
    """Where a linear address leads: `gpa`, the rights of the whole path, and the entries on it, top first."""

    gpa: int
    is_writable: bool
    is_user: bool
    is_no_execute: bool
    is_dirty: bool
    page_shift: int
    steps: tuple[Step, ...]


class Memory(Protocol):
    """Where tables lie: a `Domain`, or the host's memory where the guest has the machine to itself."""

    def read(self, address: int, length_bytes: int, /) -> bytes:
        """Bytes at a physical address; all ones where there is no RAM."""
        ...

    def write(self, address: int, data: bytes, /) -> None:
        """Store; dropped where there is no RAM."""
        ...


class Visit(NamedTuple):
    """An access of the walk to the entry at `gpa`."""

    gpa: int
    size_bytes: int
    is_write: bool


def paging_mode(vcpu: VCpu) -> PagingMode:
    """How the guest's own tables translate now."""
    return PagingMode(vcpu.guest_cr0, vcpu.paging.guest_cr3(vcpu), vcpu.guest_cr4, vcpu.guest_efer)


def walk(
    vcpu: VCpu, mode: PagingMode, gva: int, *, write: bool = False, user: bool = False, fetch: bool = False
) -> Translation | GuestFault:
    """The VMM walks the guest's own page tables, and is charged for it."""
    visited: list[Visit] = []
    found = walk_tables(vcpu.domain, mode, gva, write=write, user=user, fetch=fetch, visited=visited)
    charge_walk(vcpu.meter, vcpu.domain, visited)
    return found


def charge_walk(meter: Meter, domain: Domain, visited: list[Visit]) -> None:
    """Charge a walk that touches these entries."""
    meter.follow(paths.WALK)
    for gpa, size_bytes, is_write in visited:
        meter.follow(paths.MARK_USED if is_write else paths.WALK_STEP)
        meter.touch(domain.hpa_of(gpa), size_bytes, is_write)


def walk_tables(
    memory: Memory,
    mode: PagingMode,
    gva: int,
    *,
    write: bool = False,
    user: bool = False,
    fetch: bool = False,
    probe: bool = False,
    visited: list[Visit] | None = None,
) -> Translation | GuestFault:
    """Translate `gva` for the access; `probe` sets no accessed and dirty bits. `visited` gets the entries touched."""
    if not mode.is_paging:
        return Translation(gva & 0xFFFF_FFFF, True, True, False, True, 30, ())
    pae = mode.is_pae
    no_execute_on = bool(mode.efer & EFER_NXE) and pae
    level, bits, entry_bytes = (4, 9, 8) if mode.is_long else (3, 9, 8) if pae else (2, 10, 4)
    if not mode.is_long:
        gva &= 0xFFFF_FFFF
    code = (PF_WRITE if write else 0) | (PF_USER if user else 0)
    if fetch and (no_execute_on or mode.cr4 & CR4_SMEP):
        code |= PF_FETCH
    always_reserved = reserved_bits(mode)
    table = mode.cr3 & (ADDRESS_MASK if mode.is_long else 0xFFFF_FFE0 if pae else 0xFFFF_F000)
    rights, no_execute = WRITABLE | USER, False
    steps: list[Step] = []
    places: list[tuple[int, int]] = []
    while True:
        shift = 12 + bits * (level - 1)
        is_pdpte = level == 3 and not mode.is_long
        index = (gva >> shift) & ((1 << bits) - 1)
        if is_pdpte:  # the table of four lies anywhere in its page
            table, index = table & ~0xFFF, ((table & 0xFFF) >> 3) + (gva >> 30 & 3)
        at = table + index * entry_bytes
        if visited is not None:
            visited.append(Visit(at, entry_bytes, False))
        entry = int.from_bytes(memory.read(at, entry_bytes), "little")
        if not entry & PRESENT:
            return GuestFault(gva, code)
        is_large = bool(entry & LARGE) and level in (2, 3) and not is_pdpte and (pae or bool(mode.cr4 & CR4_PSE))
        is_leaf = level == 1 or is_large
        reserved = _reserved_at(level, is_leaf=is_leaf) if pae else PSE_RESERVED * is_large
        if not is_pdpte and entry & (reserved | always_reserved):
            return GuestFault(gva, code | PF_PRESENT | PF_RESERVED)
        if not is_pdpte:
            rights &= entry
            no_execute |= pae and bool(entry & NO_EXECUTE)
            places.append((at, entry))
        if is_leaf:
            break
        steps.append(Step(level, table >> 12, index, entry))
        table = entry & ADDRESS_MASK if pae else entry & 0xFFFF_F000
        level -= 1
    if not _permitted(mode, rights, no_execute, write=write, user=user, fetch=fetch):
        return GuestFault(gva, code | PF_PRESENT)
    if not probe:
        entry = _mark_used(memory, places, entry_bytes, visited, write=write)
    steps.append(Step(level, table >> 12, index, entry))
    page_mask = (1 << shift) - 1
    frame = (entry & (ADDRESS_MASK if pae else 0xFFFF_F000)) & ~page_mask
    if not pae and level == 2:
        frame |= (entry >> 13 & 0xFF) << 32  # PSE-36
    return Translation(
        frame | gva & page_mask,
        bool(rights & WRITABLE),
        bool(rights & USER),
        no_execute,
        bool(entry & DIRTY),
        shift,
        tuple(steps),
    )


def pdptes_are_valid(domain: Domain, mode: PagingMode) -> bool:
    """Whether the four entries that PAE paging loads with CR3 are well-formed (SDM 3A 4.4.1)."""
    if not mode.is_paging or not mode.is_pae or mode.is_long:
        return True
    table = domain.read(mode.cr3 & 0xFFFF_FFE0, 32)
    entries = (int.from_bytes(table[at : at + 8], "little") for at in range(0, 32, 8))
    return not any(entry & PRESENT and entry & PDPTE_RESERVED for entry in entries)


def reserved_bits(mode: PagingMode) -> int:
    """The bits that no present entry of any level may have (PDPTEs are checked when they are loaded)."""
    if not mode.is_pae:
        return 0
    no_execute = 0 if mode.efer & EFER_NXE else NO_EXECUTE
    return RESERVED_ADDRESS | no_execute | (0 if mode.is_long else RESERVED_IN_PAE)


def _reserved_at(level: int, *, is_leaf: bool) -> int:
    """Those that an 8-byte entry of `level` may not have besides."""
    if level == 4:
        return LARGE
    return ((1 << (12 + 9 * (level - 1))) - 1) & ~0x1FFF if is_leaf and level > 1 else 0


def _permitted(mode: PagingMode, rights: int, no_execute: bool, *, write: bool, user: bool, fetch: bool) -> bool:
    if user and not rights & USER:
        return False
    if write and not rights & WRITABLE and (user or mode.cr0 & CR0_WP):
        return False
    if fetch and no_execute:
        return False
    return not (fetch and not user and rights & USER and mode.cr4 & CR4_SMEP)


def _mark_used(
    memory: Memory, places: list[tuple[int, int]], entry_bytes: int, visited: list[Visit] | None, *, write: bool
) -> int:
    """Set the accessed bits, and the dirty bit of the last entry for a write; returns the last entry."""
    entry = 0
    for at, entry in places:
        marked = entry | ACCESSED | (DIRTY if write and at == places[-1][0] else 0)
        if marked != entry:
            if visited is not None:
                visited.append(Visit(at, entry_bytes, True))
            memory.write(at, marked.to_bytes(entry_bytes, "little"))
            entry = marked
    return entry
