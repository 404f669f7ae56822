"""The segments of a new task: descriptors, and the checks of each register (SDM 3A 7.3, table 7-1).

    63..56 base | 55 G 54 D 53 L | 51..48 limit | 47 P | 46..45 DPL | 44 S | 43..40 type | 39..16 base | 15..0 limit

What is wrong with one of them is a fault of the new task, whose registers have been loaded.
"""

from dataclasses import dataclass

from emulator.vmx import fields as f
from emulator.x86 import (
    AR_ACCESSED,
    AR_CODE,
    AR_EXPAND_DOWN,
    AR_P,
    AR_READABLE,
    AR_S,
    AR_TYPE,
    AR_UNUSABLE,
    GENERAL_PROTECTION,
    INVALID_TSS,
    RFLAGS_VM,
    SEGMENT_NOT_PRESENT,
    SELECTOR_RPL,
    STACK_FAULT,
    dpl,
)
from vmm.cost import paths
from vmm.exits.system_memory import Fault, SystemMemory
from vmm.vcpu import VCpu

ES, CS, SS, DS, FS, GS, LDTR, TR = range(8)  # as VMCS fields have them
LOADED = (SS, DS, ES, FS, GS, CS)  # in this order: a fault of CS finds a stack
LDT_TYPE = 2
IS_LOCAL, INDEX, SELECTOR_OF_ERROR = 4, 0xFFF8, 0xFFFC
VIRTUAL_8086_RIGHTS = 0xF3
FLAT_CODE_RIGHTS, FLAT_LIMIT = 0xC09B, 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment register; `rights` in the format of the VMCS."""

    selector: int
    base: int = 0
    limit: int = 0
    rights: int = AR_UNUSABLE

    @property
    def level(self) -> int:
        """DPL."""
        return dpl(self.rights)


def read_segment(vcpu: VCpu, index: int) -> Segment:
    """Segment register `index` of the guest."""
    fields = (f.GUEST_ES_SELECTOR, f.GUEST_ES_BASE, f.GUEST_ES_LIMIT, f.GUEST_ES_ACCESS_RIGHTS)
    return Segment(*(vcpu.read(field + 2 * index) for field in fields))


def write_segment(vcpu: VCpu, index: int, segment: Segment) -> None:
    """Set segment register `index` of the guest."""
    vcpu.write(f.GUEST_ES_SELECTOR + 2 * index, segment.selector)
    vcpu.write(f.GUEST_ES_BASE + 2 * index, segment.base)
    vcpu.write(f.GUEST_ES_LIMIT + 2 * index, segment.limit)
    vcpu.write(f.GUEST_ES_ACCESS_RIGHTS + 2 * index, segment.rights)


def unpack(selector: int, descriptor: int) -> Segment:
    """The segment that a descriptor describes."""
    limit = descriptor & 0xFFFF | descriptor >> 32 & 0xF_0000
    if descriptor >> 55 & 1:
        limit = limit << 12 | 0xFFF
    base = descriptor >> 16 & 0xFF_FFFF | descriptor >> 32 & 0xFF00_0000
    return Segment(selector, base, limit, descriptor >> 40 & 0xF0FF)


def rights_linear(vcpu: VCpu, selector: int) -> int:
    """Where the byte lies that has type, S, DPL and P of a descriptor."""
    base = f.GUEST_LDTR_BASE if selector & IS_LOCAL else f.GUEST_GDTR_BASE
    return vcpu.read(base) + (selector & INDEX) + 5


def read_descriptor(vcpu: VCpu, memory: SystemMemory, selector: int, vector: int, ext: int) -> Segment | Fault:
    """The descriptor of `selector`, or `vector` where its table does not reach so far."""
    is_local = bool(selector & IS_LOCAL)
    limit = vcpu.read(f.GUEST_LDTR_LIMIT if is_local else f.GUEST_GDTR_LIMIT)
    if is_local and vcpu.read(f.GUEST_LDTR_ACCESS_RIGHTS) & AR_UNUSABLE:
        limit = 0
    if selector | 7 > limit:
        return Fault(vector, selector & SELECTOR_OF_ERROR | ext)
    found = memory.find(rights_linear(vcpu, selector) - 5, 8)
    if isinstance(found, Fault):
        return found
    return unpack(selector, int.from_bytes(memory.read(found), "little"))


def set_selectors(vcpu: VCpu, selectors: list[int], *, is_v86: bool) -> None:
    """The segment registers have these selectors, and nothing behind them yet; in virtual-8086 mode nothing comes.

    CS looks like code of its level meanwhile, so that the guest can be entered for a fault.
    """
    level = selectors[CS] & SELECTOR_RPL
    for index, selector in enumerate(selectors):
        if is_v86:
            segment = Segment(selector, selector << 4, 0xFFFF, VIRTUAL_8086_RIGHTS)
        elif index == CS:
            segment = Segment(selector, 0, FLAT_LIMIT, FLAT_CODE_RIGHTS | level << 5)
        else:
            segment = Segment(selector, rights=AR_UNUSABLE | (level << 5 if index == SS else 0))
        write_segment(vcpu, index, segment)


def load_segments(vcpu: VCpu, memory: SystemMemory, ldt: int, selectors: list[int], ext: int) -> Fault | None:
    """Load LDTR and what the selectors select."""
    fault = _load_ldt(vcpu, memory, ldt, ext)
    if fault is None and not vcpu.read(f.GUEST_RFLAGS) & RFLAGS_VM:
        level = selectors[CS] & SELECTOR_RPL
        for index in LOADED:
            fault = fault or _load(vcpu, memory, index, selectors[index], level, ext)
    if fault is None and vcpu.read(f.GUEST_RIP) > vcpu.read(f.GUEST_CS_LIMIT):
        return Fault(GENERAL_PROTECTION, ext)
    return fault


def _load_ldt(vcpu: VCpu, memory: SystemMemory, selector: int, ext: int) -> Fault | None:
    write_segment(vcpu, LDTR, Segment(selector))
    invalid = Fault(INVALID_TSS, selector & SELECTOR_OF_ERROR | ext)
    if selector & IS_LOCAL:
        return invalid
    if not selector & SELECTOR_OF_ERROR:
        return None
    ldt = read_descriptor(vcpu, memory, selector, INVALID_TSS, ext)
    if isinstance(ldt, Fault):
        return ldt
    if ldt.rights & (AR_S | AR_TYPE | AR_P) != LDT_TYPE | AR_P:
        return invalid
    write_segment(vcpu, LDTR, ldt)
    return None


def _load(vcpu: VCpu, memory: SystemMemory, index: int, selector: int, level: int, ext: int) -> Fault | None:
    vcpu.meter.follow(paths.LOAD_SEGMENT)
    if not selector & SELECTOR_OF_ERROR:
        return Fault(INVALID_TSS, ext) if index in (CS, SS) else None
    segment = read_descriptor(vcpu, memory, selector, INVALID_TSS, ext)
    if isinstance(segment, Fault):
        return segment
    vector = _fault_vector(index, segment, level)
    if vector is not None:
        return Fault(vector, selector & SELECTOR_OF_ERROR | ext)
    if not segment.rights & AR_ACCESSED:
        found = memory.find(rights_linear(vcpu, selector), 1, write=True)
        if isinstance(found, Fault):
            return found
        memory.write(found, bytes([segment.rights & 0xFF | AR_ACCESSED]))
    write_segment(vcpu, index, Segment(selector, segment.base, segment.limit, segment.rights | AR_ACCESSED))
    return None


def _fault_vector(index: int, segment: Segment, level: int) -> int | None:
    """The exception of loading `segment` into a register at the new task's `level`, if any."""
    rights, rpl = segment.rights, segment.selector & SELECTOR_RPL
    is_code = bool(rights & AR_CODE)
    conforms = is_code and bool(rights & AR_EXPAND_DOWN)
    is_readable = bool(rights & AR_READABLE)  # of code; writable, of data
    if index == CS:
        is_valid = is_code and (segment.level <= rpl if conforms else segment.level == rpl)
    elif index == SS:
        is_valid = not is_code and is_readable and segment.level == rpl == level
    else:
        is_valid = (is_readable or not is_code) and (conforms or segment.level >= max(level, rpl))
    if not rights & AR_S or not is_valid:
        return INVALID_TSS
    if rights & AR_P:
        return None
    return STACK_FAULT if index == SS else SEGMENT_NOT_PRESENT
