"""Why a page table that the VMM keeps differs from the guest's own: why an access faults that the guest's tables allow.

    the guest's tables fault            the guest's own fault: the VMM injects it
    a device answers there              no entry: the VMM carries the access out
    a shared page (watched)             the entry is closed: the emulator is asked for each access, and nothing exits
    the guest's entry is not accessed   no shadow yet
    the guest's entry is not dirty      the shadow is read-only yet
    the page is a page table            write-protected: the VMM must see the store
    CR0.WP is 0 in the guest            only the processor obeys read-only pages: shadows follow at the fault
    none of these                       not filled yet

See vmm/paging/shadow_mmu.py and shadow_tables.py, which do all this.
"""

from dataclasses import replace

from emulator.engine import WATCHED_ENTRY
from emulator.x86 import ACCESSED, DIRTY, PRESENT
from vmm.session.debugger.views.page_walk import Access, Entry, Walk, guest_walk, hardware_walk
from vmm.session.debugger.views.subject import Subject


def shadow_reason(subject: Subject, gva: int, access: Access) -> str:
    """Why the processor's tables forbid what the guest's allow, or that they agree. Empty: not with shadow paging."""
    if subject.shadow is None:
        return ""
    guest, hardware = guest_walk(subject, gva, access), hardware_walk(subject, gva, access)
    if guest.target is None:
        return f"the guest's own tables forbid it: {guest.end}"
    if hardware.target is not None:
        return "the shadow tables allow it now"
    return _missing(subject, gva, guest, hardware, access)


def _missing(subject: Subject, gva: int, guest: Walk, hardware: Walk, access: Access) -> str:
    shadow = subject.shadow
    assert shadow is not None
    assert guest.target is not None
    gfn, last = guest.target >> 12, hardware.last
    if shadow.mmu.domain.is_device_page(gfn):
        return f"a device answers at gpa {guest.target:#x}, so there is no shadow entry"
    if last is not None and is_watched(last):
        return f"gpa {guest.target:#x} is in a page shared with another core (watched)"
    if access.is_write and _is_read_only(subject, gva, access):
        return _read_only(subject, guest, gfn)
    unused = next((entry for entry in guest.entries if entry.value & PRESENT and not entry.value & ACCESSED), None)
    if unused is not None:
        return f"the guest's {unused.name} is not accessed yet, so it has no shadow"
    name = "the entry" if last is None else last.name
    if last is not None and last.value & PRESENT:
        return f"shadow {name} has other rights than the guest's; it follows at this fault"
    return f"shadow {name} is empty: not filled yet, or dropped since"


def _read_only(subject: Subject, guest: Walk, gfn: int) -> str:
    shadow, leaf = subject.shadow, guest.last
    assert shadow is not None
    if shadow.mmu.tables.is_protected(gfn):
        return f"gfn {gfn:#x} is a page table of the guest, so it is write-protected"
    if leaf is not None and not leaf.value & DIRTY:
        return f"the guest's {leaf.name} is not dirty yet, so its shadow is read-only"
    if not guest.is_writable:
        return "the guest's CR0.WP is 0 and its entry read-only; the shadow follows at this fault"
    return "the shadow is read-only, and follows at this fault"


def _is_read_only(subject: Subject, gva: int, access: Access) -> bool:
    """Whether the processor's tables allow all but to write."""
    found = hardware_walk(subject, gva, replace(access, is_write=False))
    return found.target is not None and not found.is_writable


def is_watched(entry: Entry) -> bool:
    """Whether a shadow entry is closed because its page is shared with another core."""
    return entry.value & (PRESENT | WATCHED_ENTRY) == WATCHED_ENTRY
