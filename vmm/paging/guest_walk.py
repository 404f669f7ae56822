"""A guest's own page tables, walked by the VMM in software (SDM 3A 4).

    vCPU's registers ---> PagingMode --walk_tables--> Translation, or the GuestFault that the guest would get
                                           |
                                           '-- Visits: the entries read and marked --> charge_walk

The walk itself is emulator/engine/tables.c: it reads guest memory at its host-physical place, and sets accessed and
dirty bits there as a processor would.
"""

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from emulator.engine import page_tables as t
from emulator.engine.page_tables import TableMemory
from emulator.memory import HostMemory
from emulator.x86 import (
    CR0_PG,
    CR4_PAE,
    DIRTY,
    EFER_LMA,
    EFER_NXE,
    NO_EXECUTE,
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
RESERVED_ADDRESS = 0xF_FF00_0000_0000  # bits 51:40
RESERVED_IN_PAE = 0x7FF0_0000_0000_0000  # bits 62:52, which 4-level paging ignores


class PagingMode(NamedTuple):
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

    @property
    def level_count(self) -> int:
        """How many tables a walk goes through, at most."""
        return 4 if self.is_long else 3 if self.is_pae else 2


class Visits(NamedTuple):
    """The entries that a walk has read, top first, and where those lie that it has written to then."""

    gpas: list[int]
    hpas: list[int]
    entries: list[int]  # after that
    marked_hpas: list[int]
    entry_bytes: int


NO_VISITS = Visits([], [], [], [], 8)


@dataclass(slots=True)
class GuestFault:
    """The walk ends in #PF with this error code at this linear address."""

    gva: int
    error_code: int
    visits: Visits = field(default=NO_VISITS, compare=False)


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
    visits: Visits
    mode: PagingMode

    @property
    def steps(self) -> tuple[Step, ...]:
        """The entries on the path, top first."""
        entry_bytes, top = self.visits.entry_bytes, self.mode.level_count
        return tuple(
            Step(top - number, gpa >> 12, (gpa & 0xFFF) // entry_bytes, entry)
            for number, (gpa, entry) in enumerate(zip(self.visits.gpas, self.visits.entries, strict=True))
        )


class Memory(Protocol):
    """Where tables lie: a `Domain`, or the host's memory where the guest has the machine to itself."""

    def read(self, address: int, length_bytes: int, /) -> bytes:
        """Bytes at a physical address; all ones where there is no RAM."""
        ...

    def write(self, address: int, data: bytes, /) -> None:
        """Store; dropped where there is no RAM."""
        ...


def paging_mode(vcpu: VCpu) -> PagingMode:
    """How the guest's own tables translate now."""
    return PagingMode(vcpu.guest_cr0, vcpu.paging.guest_cr3(vcpu), vcpu.guest_cr4, vcpu.guest_efer)


def walk(
    vcpu: VCpu, mode: PagingMode, gva: int, *, write: bool = False, user: bool = False, fetch: bool = False
) -> Translation | GuestFault:
    """The VMM walks the guest's own page tables, and is charged for it."""
    found = walk_tables(vcpu.domain, mode, gva, write=write, user=user, fetch=fetch)
    charge_walk(vcpu.meter, found.visits)
    return found


def charge_walk(meter: Meter, visits: Visits) -> None:
    """Charge a walk that touches these entries."""
    meter.follow(paths.WALK)
    meter.follow(paths.WALK_STEP, len(visits.hpas))
    meter.touch_words(visits.hpas, visits.entry_bytes, False)
    if visits.marked_hpas:
        meter.follow(paths.MARK_USED, len(visits.marked_hpas))
        meter.touch_words(visits.marked_hpas, visits.entry_bytes, True)


def walk_tables(
    memory: Memory,
    mode: PagingMode,
    gva: int,
    *,
    write: bool = False,
    user: bool = False,
    fetch: bool = False,
    probe: bool = False,
) -> Translation | GuestFault:
    """Translate `gva` for the access; `probe` sets no accessed and dirty bits."""
    if not mode.is_paging:
        return Translation(gva & 0xFFFF_FFFF, True, True, False, True, 30, NO_VISITS, mode)
    access = (t.WRITE if write else 0) | (t.USER if user else 0) | (t.FETCH if fetch else 0) | (t.PROBE if probe else 0)
    found = _tables_of(memory).walk(*mode, gva, access)
    count, end = found[t.VISIT_COUNT], t.VISITS + t.VISIT_WORDS * found[t.VISIT_COUNT]
    visits = Visits(
        found[t.VISITS : end : t.VISIT_WORDS],
        found[t.VISITS + 1 : end : t.VISIT_WORDS],
        found[t.VISITS + 2 : end : t.VISIT_WORDS],
        found[t.MARKED : t.MARKED + found[t.MARK_COUNT]],
        8 if mode.is_pae else 4,
    )
    if found[t.IS_FAULT]:
        return GuestFault(gva if mode.is_long else gva & 0xFFFF_FFFF, found[t.ERROR_CODE], visits)
    rights = found[t.RIGHTS]
    return Translation(
        found[t.ADDRESS],
        bool(rights & WRITABLE),
        bool(rights & USER),
        bool(rights & NO_EXECUTE),
        bool(visits.entries[count - 1] & DIRTY),
        found[t.PAGE_SHIFT],
        visits,
        mode,
    )


def _tables_of(memory: Memory) -> TableMemory:
    if isinstance(memory, Domain):
        return memory.memory.tables
    assert isinstance(memory, HostMemory)
    return TableMemory.of_host(memory)


def pdptes_are_valid(domain: Domain, mode: PagingMode) -> bool:
    """Whether the four entries that PAE paging loads with CR3 are well-formed (SDM 3A 4.4.1)."""
    if not mode.is_paging or not mode.is_pae or mode.is_long:
        return True
    table = domain.read(mode.cr3 & 0xFFFF_FFE0, 32)
    entries = memoryview(table).cast("Q")
    return not any(entry & PRESENT and entry & PDPTE_RESERVED for entry in entries)


def reserved_bits(mode: PagingMode) -> int:
    """The bits that no present entry of any level may have (PDPTEs are checked when they are loaded)."""
    if not mode.is_pae:
        return 0
    no_execute = 0 if mode.efer & EFER_NXE else NO_EXECUTE
    return RESERVED_ADDRESS | no_execute | (0 if mode.is_long else RESERVED_IN_PAE)
