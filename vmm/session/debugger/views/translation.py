"""A linear address through the guest's tables and, side by side, those that the processor walks: `walk`.

    guest (cr3 1000000)               shadow (cr3 13000)
    PML4E[0] 1001000 A U W P          PML4E[0] 14000 A U W P        frame, then the bits that are set
    ...                               ...
    gpa 100611                        hpa 900611

With EPT the right side is the walk of the guest-physical address. Entries stand beside each other by level.
"""

from dataclasses import dataclass

from emulator.engine import WATCHED_ENTRY
from emulator.vmx import fields as f
from emulator.x86 import ACCESSED, DIRTY, PRESENT, USER, WRITABLE
from vmm.paging.guest_walk import ADDRESS_MASK
from vmm.session.debugger.views.page_faults import is_watched, shadow_reason
from vmm.session.debugger.views.page_walk import (
    READ,
    Access,
    Entry,
    Walk,
    ept_walk,
    guest_walk,
    hardware_walk,
    uses_ept,
)
from vmm.session.debugger.views.subject import Subject
from vmm.session.debugger.views.values import COLUMNS, Hex, View, lines_text, wrapped

HALF = COLUMNS // 2


@dataclass(frozen=True)
class Difference:
    """Where the two walks differ at one level, and why."""

    entry: str
    what: str
    reason: str


@dataclass(frozen=True)
class Translation(View):
    """Both walks of `gva`; `other` is None natively, where the processor walks the guest's own tables."""

    gva: Hex
    symbol: str
    access: Access
    guest_cr3: Hex
    guest: Walk
    other_name: str
    other_root: Hex
    other: Walk | None
    differences: tuple[Difference, ...]
    fault: str  # why the access faults or exits; empty: it does not

    def text(self) -> str:
        """Both walks, a line for each level, then the differences."""
        what = "fetch" if self.access.is_fetch else "write" if self.access.is_write else "read"
        who = "user" if self.access.is_user else "supervisor"
        symbol = f" <{self.symbol}>" if self.symbol else ""
        lines = [f"{self.gva:x}{symbol}, {who} {what}"]
        left = [f"guest (cr3 {self.guest_cr3:x})"]
        right = [f"{self.other_name} ({self.other_root:x})"] if self.other is not None else []
        for level in (4, 3, 2, 1):
            entries = [self.guest.at(level), None if self.other is None else self.other.at(level)]
            if any(entries):
                left.append("" if entries[0] is None else entry_text(entries[0]))
                right.append("" if entries[1] is None else entry_text(entries[1]))
        left.append(_end(self.guest, "gpa"))
        right.append("" if self.other is None else _end(self.other, "hpa"))
        for number in range(max(len(left), len(right))):
            cells = [side[number] if number < len(side) else "" for side in (left, right)]
            if len(cells[0]) < HALF:
                lines.append(f"{cells[0]:<{HALF}}{cells[1]}")
            else:
                lines += [cells[0], " " * HALF + cells[1]]
        for difference in self.differences:
            lines += wrapped(f"{difference.entry}:", f"{difference.what}: {difference.reason}".split(), indent=4)
        if self.fault:
            lines += wrapped("The access faults:", self.fault.split(), indent=4)
        return lines_text(lines)


def entry_text(entry: Entry) -> str:
    """`PTE[17] 1234000 D A U W P`."""
    frame = entry.value & ADDRESS_MASK if entry.value else 0
    return f"{entry.name} {frame:x} {' '.join(entry.bits) or '-'}"


def _end(walk: Walk, space: str) -> str:
    if walk.target is None:
        return walk.end.partition(":")[0]
    size = {12: "4 KiB", 21: "2 MiB", 22: "4 MiB", 30: "1 GiB"}.get(walk.page_shift, "")
    return f"{space} {walk.target:x} ({walk.end or size})"


def walk(subject: Subject, gva: int, access: Access = READ) -> Translation:
    """What an access to `gva` meets in all tables on its way."""
    guest = guest_walk(subject, gva, access)
    other_name, root, other, fault = "", 0, None, ""
    differences: tuple[Difference, ...] = ()
    if uses_ept(subject):
        other_name, root = "EPT", subject.read(f.EPT_POINTER)
        other = None if guest.target is None else ept_walk(subject, guest.target)
        fault = guest.end if guest.target is None else _ept_fault(subject, guest.target, other, access)
        differences = tuple(_tables_without_memory(subject, guest))
    elif subject.shadow is not None:
        other_name, root = "shadow", subject.read(f.GUEST_CR3)
        other = hardware_walk(subject, gva, access)
        fault = shadow_reason(subject, gva, access) if other.target is None else ""
        differences = tuple(_differences(subject, guest, other))
    elif guest.target is None:
        fault = guest.end
    return Translation(
        gva=Hex(gva),
        symbol=subject.symbols.name_of(gva),
        access=access,
        guest_cr3=Hex(subject.mode.cr3),
        guest=guest,
        other_name=other_name,
        other_root=Hex(root),
        other=other,
        differences=differences,
        fault=fault,
    )


def _ept_fault(subject: Subject, gpa: int, found: Walk | None, access: Access) -> str:
    if found is None:
        return ""
    if found.target is None:
        is_device = subject.domain is not None and subject.domain.is_device_page(gpa >> 12)
        return "EPT violation: " + ("a device answers there, so there is no entry" if is_device else "no entry")
    if (access.is_write and not found.is_writable) or (access.is_fetch and found.is_no_execute):
        return "EPT violation: an entry does not allow it"
    return ""


def _tables_without_memory(subject: Subject, guest: Walk) -> list[Difference]:
    """Entries of the guest's that lie where it has no memory."""
    reason = "the guest has no memory there, and reads all ones"
    return [
        Difference(entry.name, f"its table is at gpa {entry.table:x}", reason)
        for entry in guest.entries
        if subject.hpa_of(entry.address) is None
    ]


def _differences(subject: Subject, guest: Walk, shadow: Walk) -> list[Difference]:
    found = []
    assert subject.shadow is not None
    tables = subject.shadow.mmu.tables
    for own in guest.entries:
        gfn = own.table >> 12
        if tables.is_shadowed(gfn) and not tables.is_protected(gfn):
            reason = "the guest may write to it unseen; its shadows follow at the next flush or fault"
            found.append(Difference(own.name, f"its table, gfn {gfn:x}, is out of sync", reason))
        other = shadow.at(own.level)
        if other is not None and own.value & PRESENT:
            found += _of_entry(subject, guest, own, other)
    levels = {entry.level for entry in guest.entries}
    split = next((entry for entry in shadow.entries if entry.level not in levels), None)
    if split is not None and guest.target is not None and guest.last is not None and guest.page_shift > 12:
        found.append(Difference(split.name, "the guest has no such entry", "large pages are split in the shadow"))
        found += _of_entry(subject, guest, guest.last, split)
    return found


def _of_entry(subject: Subject, guest: Walk, own: Entry, other: Entry) -> list[Difference]:
    """What a shadow entry lacks of the guest's."""
    if not other.value & PRESENT:
        return [Difference(own.name, "the shadow entry is not present", _why_absent(subject, guest, own, other))]
    lost = [name for name, bit in (("W", WRITABLE), ("U", USER)) if own.value & bit and not other.value & bit]
    gained = [name for name, bit in (("W", WRITABLE),) if other.value & bit and not own.value & bit]
    is_pointer = own.level == 3 and not subject.mode.is_long  # it has no rights in PAE paging
    if is_pointer or not (lost or gained):
        return []
    if gained or "U" in lost:
        return [
            Difference(own.name, f"{' and '.join(gained + lost)} differs", "CR0.WP is 0 in the guest: see its store")
        ]
    return [Difference(own.name, "the shadow entry is read-only", _why_read_only(subject, guest, own))]


def _why_absent(subject: Subject, guest: Walk, own: Entry, other: Entry) -> str:
    assert subject.shadow is not None
    if is_watched(other):
        return f"a page shared with another core (bit {WATCHED_ENTRY.bit_length() - 1}): the emulator is asked"
    if not own.value & ACCESSED:
        return "the guest's is not accessed yet"
    if guest.target is not None and subject.shadow.mmu.domain.is_device_page(guest.target >> 12):
        return "a device answers there"
    return "not filled yet, or dropped since"


def _why_read_only(subject: Subject, guest: Walk, own: Entry) -> str:
    assert subject.shadow is not None
    if guest.target is not None and subject.shadow.mmu.tables.is_protected(guest.target >> 12):
        return "write-protected, since the page is a page table of the guest"
    if not own.value & DIRTY:
        return "the guest's is not dirty yet"
    return "it follows at the next store"
