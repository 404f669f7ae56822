"""One walk of page tables, entry by entry: the guest's own, those that the processor walks, and EPT.

    guest     gva -> PML4E -> PDPTE -> PDE -> PTE -> gpa        guest_walk       entries lie in guest memory
    hardware  the same from the processor's CR3 -> hpa          hardware_walk    shadows, or natively the guest's own
    EPT       gpa -> EPT PML4E ... EPT PTE -> hpa               ept_walk

A walk has at most four entries, whatever is in them: tables that point to themselves or outside of memory end it.
"""

from dataclasses import dataclass

from emulator.vmx import fields as f
from emulator.vmx.check import secondary
from emulator.vmx.controls import PROC2_ENABLE_EPT
from emulator.x86 import LARGE, PAGE_BYTES
from vmm.paging.guest_walk import ADDRESS_MASK, NO_VISITS, GuestFault, Memory, PagingMode, Translation
from vmm.session.debugger.views import bits
from vmm.session.debugger.views.exit_words import page_fault_text
from vmm.session.debugger.views.subject import Subject
from vmm.session.debugger.views.values import Hex

ENTRY_NAMES = {4: "PML4E", 3: "PDPTE", 2: "PDE", 1: "PTE"}
EPT_RIGHTS = 7
RAM_END = 1 << 48


@dataclass(frozen=True)
class Access:
    """What is done with an address. Without anything: a supervisor reads."""

    is_write: bool = False
    is_user: bool = False
    is_fetch: bool = False


READ = Access()


@dataclass(frozen=True)
class Entry:
    """An entry that a walk has used: entry `index` of the table at `table`, at `address`, which has `value`."""

    level: int
    table: Hex
    index: int
    address: Hex
    value: Hex
    bits: tuple[str, ...]

    @property
    def name(self) -> str:
        """`PDE[3]`."""
        return f"{ENTRY_NAMES[self.level]}[{self.index}]"


@dataclass(frozen=True)
class Walk:
    """The entries used, top first, and where they lead: `target`, or None and why."""

    entries: tuple[Entry, ...]
    target: Hex | None
    page_shift: int
    is_writable: bool
    is_user: bool
    is_no_execute: bool
    end: str

    @property
    def last(self) -> Entry | None:
        """The entry where it ended."""
        return self.entries[-1] if self.entries else None

    def at(self, level: int) -> Entry | None:
        """The entry of a level."""
        return next((entry for entry in self.entries if entry.level == level), None)


def guest_walk(subject: Subject, gva: int, access: Access = READ) -> Walk:
    """The guest's own tables."""
    found = subject.walk(gva, write=access.is_write, user=access.is_user, fetch=access.is_fetch)
    return _walk(subject.memory, subject.mode, found)


def hardware_walk(subject: Subject, gva: int, access: Access = READ) -> Walk:
    """The tables that CR3 of the processor leads to. With EPT they are the guest's, and lie in guest memory."""
    if uses_ept(subject):
        return guest_walk(subject, gva, access)
    found = subject.walk_hardware(gva, write=access.is_write, user=access.is_user, fetch=access.is_fetch)
    return _walk(subject.host_memory, subject.hardware_mode, found)


def _walk(memory: Memory, mode: PagingMode, found: Translation | GuestFault | None) -> Walk:
    visits, top = NO_VISITS if found is None else found.visits, mode.level_count
    entries = tuple(
        _entry(memory, top - number, gpa, visits.entry_bytes, bits.ENTRY) for number, gpa in enumerate(visits.gpas)
    )
    if found is None:
        return Walk((), None, 0, False, False, True, "the address is not canonical: #GP")
    if isinstance(found, GuestFault):
        end = f"#PF, error code {found.error_code:#x}: {page_fault_text(found.error_code)}"
        return Walk(entries, None, 0, False, False, True, end)
    end = "" if mode.is_paging else "paging is off"
    rights = (found.is_writable, found.is_user, found.is_no_execute)
    return Walk(entries, Hex(found.gpa), found.page_shift, *rights, end)


def _entry(memory: Memory, level: int, address: int, size_bytes: int, names: bits.Bits) -> Entry:
    value = int.from_bytes(memory.read(address, size_bytes), "little")
    table = address & ~(PAGE_BYTES - 1)
    flags = bits.known_names(names, value)
    return Entry(level, Hex(table), (address - table) // size_bytes, Hex(address), Hex(value), tuple(flags))


def uses_ept(subject: Subject) -> bool:
    """Whether the processor translates guest-physical addresses by EPT."""
    if subject.vcpu is None:
        return False
    proc, proc2 = f.PRIMARY_PROCESSOR_BASED_CONTROLS, f.SECONDARY_PROCESSOR_BASED_CONTROLS
    return bool(secondary(subject.read(proc), subject.read(proc2)) & PROC2_ENABLE_EPT)


def ept_walk(subject: Subject, gpa: int) -> Walk:
    """The extended page tables."""
    if not 0 <= gpa < RAM_END:
        return Walk((), None, 0, False, False, True, "no EPT entry covers the address")
    entries: list[Entry] = []
    table, rights = subject.read(f.EPT_POINTER) & ADDRESS_MASK, EPT_RIGHTS
    for level in (4, 3, 2, 1):
        shift = 12 + 9 * (level - 1)
        entry = _entry(subject.host_memory, level, table + (gpa >> shift & 511) * 8, 8, bits.EPT_ENTRY)
        entries.append(entry)
        if not entry.value & EPT_RIGHTS:
            return Walk(tuple(entries), None, 0, False, False, True, "EPT violation: not present")
        rights &= entry.value
        table = entry.value & ADDRESS_MASK
        if level == 1 or (level < 4 and entry.value & LARGE):
            break
    mask = (1 << shift) - 1
    target = Hex(table & ~mask | gpa & mask)
    return Walk(tuple(entries), target, shift, bool(rights & 2), True, not rights & 4, "")
