"""Hardware task switches: the processor makes none in non-root operation (SDM 3C 25.4.2), so the VMM does all of it.

    32-bit TSS   0 link | 4 stacks | 28 CR3 | 32 EIP | 36 EFLAGS | 40 EAX ... EDI | 72 ES ... GS | 96 LDT | 100 T
    16-bit TSS   0 link | 2 stacks |          14 IP  | 16 FLAGS  | 18 AX ... DI   | 34 ES ... DS | 42 LDT

    exit --> find_task, the memory of both tasks --fault: of the old task, and nothing has changed
               '--> save, load --> CR3 --> segments (task_segments.py) --> error code --fault: of the new task
                                                                             '--> the T bit: #DB, or the task runs

Source: SDM 3A 7.3 and table 7-1. The processor has made the checks of privilege before it exits.
"""

from dataclasses import dataclass, replace

from emulator.vmx import fields as f
from emulator.vmx import interruption as i
from emulator.vmx.guest_state import BLOCKING_BY_MOV_SS, BLOCKING_BY_STI
from emulator.vmx.qualifications import TASK_SWITCH_CALL, TASK_SWITCH_GATE, TASK_SWITCH_IRET, decode_task_switch
from emulator.x86 import (
    AR_D,
    AR_EXPAND_DOWN,
    AR_P,
    AR_S,
    AR_TYPE,
    CR0_TS,
    DEBUG_EXCEPTION,
    DR6_BT,
    GENERAL_PROTECTION,
    INVALID_TSS,
    PAGE_FAULT,
    RFLAGS_NT,
    RFLAGS_RESERVED_0,
    RFLAGS_RESERVED_1,
    RFLAGS_RF,
    RFLAGS_VM,
    SEGMENT_NOT_PRESENT,
    STACK_FAULT,
)
from vmm.cost import paths
from vmm.exits.system_memory import Fault, Pieces, SystemMemory
from vmm.exits.task_segments import (
    IS_LOCAL,
    SELECTOR_OF_ERROR,
    SS,
    TR,
    Segment,
    load_segments,
    read_descriptor,
    read_segment,
    rights_linear,
    set_selectors,
    write_segment,
)
from vmm.outcome import AGAIN, MOVED, Outcome
from vmm.paging.guest_walk import pdptes_are_valid
from vmm.vcpu import VCpu

TSS_16, TSS_32, BUSY = 1, 9, 2  # types of descriptors
LINK_BYTES = 2
DR7_LOCAL = 0x155  # LE, L3 to L0: they end with the task
REGISTER_COUNT, SEGMENT_COUNT = 8, 6


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things lie in a TSS. `cr3` and `trap` are 0 where there are none; `limit` is the least that does."""

    width: int
    cr3: int
    ip: int
    flags: int
    registers: int
    segments: int
    segment_count: int
    ldt: int
    trap: int
    limit: int


LAYOUT_16 = Layout(2, 0, 14, 16, 18, 34, 4, 42, 0, 0x2B)
LAYOUT_32 = Layout(4, 28, 32, 36, 40, 72, 6, 96, 100, 0x67)


def layout_of(tss: Segment) -> Layout:
    """The layout of a TSS, by its type."""
    return LAYOUT_32 if tss.rights & 8 else LAYOUT_16


@dataclass(frozen=True, slots=True)
class Start:
    """What starts a switch, and what the old task goes on with."""

    source: int
    selector: int
    rip: int
    rflags: int
    ext: int  # EXT of error codes: by an event from outside
    error_code: int | None  # for the new task

    @property
    def nests(self) -> bool:
        """The new task links to the old one, which stays busy."""
        return self.source in (TASK_SWITCH_CALL, TASK_SWITCH_GATE)


def handle_task_switch(vcpu: VCpu) -> Outcome:
    """CALL, JMP or IRET to a task, or an event whose gate in the IDT is that of one."""
    vcpu.meter.follow(paths.TASK_SWITCH)
    fault = switch_task(vcpu, _read_start(vcpu))
    if fault is None:
        return MOVED
    if fault.vector == PAGE_FAULT:
        vcpu.inject_page_fault(fault.gva, fault.error_code)
    else:
        vcpu.inject_exception(fault.vector, fault.error_code)
    return AGAIN


def _read_start(vcpu: VCpu) -> Start:
    switch = decode_task_switch(vcpu.read(f.EXIT_QUALIFICATION))
    rip, rflags = vcpu.read(f.GUEST_RIP), vcpu.read(f.GUEST_RFLAGS)
    behind = rip + vcpu.read(f.VM_EXIT_INSTRUCTION_LENGTH) & 0xFFFF_FFFF
    if switch.source != TASK_SWITCH_GATE:
        cleared = RFLAGS_RF | (RFLAGS_NT if switch.source == TASK_SWITCH_IRET else 0)
        return Start(switch.source, switch.tss_selector, behind, rflags & ~cleared, 0, None)
    event = i.unpack(vcpu.read(f.IDT_VECTORING_INFORMATION))
    is_software = event.type in i.SOFTWARE_TYPES
    ext = 0 if is_software and event.type != i.PRIVILEGED_SOFTWARE_EXCEPTION else 1
    error_code = vcpu.read(f.IDT_VECTORING_ERROR_CODE) if event.has_error_code else None
    return Start(switch.source, switch.tss_selector, behind if is_software else rip, rflags, ext, error_code)


def switch_task(vcpu: VCpu, start: Start) -> Fault | None:
    """Switch to the task of `start.selector`. A fault is the old task's until TR has changed, then the new one's."""
    memory, old = SystemMemory(vcpu), read_segment(vcpu, TR)
    new = find_task(vcpu, memory, start)
    if isinstance(new, Fault):
        return new
    if old.limit + 1 < layout_of(old).ldt:
        return Fault(INVALID_TSS, old.selector & SELECTOR_OF_ERROR | start.ext)
    places = _find_all(vcpu, memory, old, new, start)
    if isinstance(places, Fault):
        return places
    if not start.nests:
        _mark_busy(memory, places["old descriptor"], is_busy=False)
    _save(vcpu, memory, places["old state"], layout_of(old), start)
    memory.write(places["link"], old.selector.to_bytes(LINK_BYTES, "little"))
    image = memory.read(places["new state"])
    _mark_busy(memory, places["new descriptor"], is_busy=True)
    write_segment(vcpu, TR, replace(new, rights=new.rights | BUSY))
    return _begin(vcpu, image, layout_of(new), start)


# --- the old task -----------------------------------------------------------------------------------------------------


def find_task(vcpu: VCpu, memory: SystemMemory, start: Start) -> Segment | Fault:
    """The new TSS: free, or by IRET busy."""
    error_code = start.selector & SELECTOR_OF_ERROR | start.ext
    vector = INVALID_TSS if start.source == TASK_SWITCH_IRET else GENERAL_PROTECTION
    if start.selector & IS_LOCAL:
        return Fault(vector, error_code)
    new = read_descriptor(vcpu, memory, start.selector, vector, start.ext)
    if isinstance(new, Fault):
        return new
    wanted = BUSY if start.source == TASK_SWITCH_IRET else 0
    if new.rights & (AR_S | AR_TYPE) not in (TSS_16 | wanted, TSS_32 | wanted):
        return Fault(vector, error_code)
    if not new.rights & AR_P:
        return Fault(SEGMENT_NOT_PRESENT, error_code)
    return new if new.limit >= layout_of(new).limit else Fault(INVALID_TSS, error_code)


def _find_all(vcpu: VCpu, memory: SystemMemory, old: Segment, new: Segment, start: Start) -> dict[str, Pieces] | Fault:
    """All of memory that the switch reads and writes, but for the new task's segments; what is not needed is empty."""
    saved, loaded = layout_of(old), layout_of(new)
    places: dict[str, Pieces] = {}
    for name, linear, size_bytes, write in (
        ("old state", old.base + saved.ip, saved.ldt - saved.ip, True),
        ("new state", new.base, loaded.limit + 1, False),
        ("link", new.base, LINK_BYTES if start.nests else 0, True),
        ("old descriptor", rights_linear(vcpu, old.selector), 0 if start.nests else 1, True),
        ("new descriptor", rights_linear(vcpu, new.selector), 0 if start.source == TASK_SWITCH_IRET else 1, True),
    ):
        found = memory.find(linear, size_bytes, write=write)
        if isinstance(found, Fault):
            return found
        places[name] = found
    return places


def _mark_busy(memory: SystemMemory, place: Pieces, *, is_busy: bool) -> None:
    if place:
        (rights,) = memory.read(place)
        memory.write(place, bytes([rights | BUSY if is_busy else rights & ~BUSY]))


def _save(vcpu: VCpu, memory: SystemMemory, place: Pieces, to: Layout, start: Start) -> None:
    """The old task's registers into its TSS: from IP up to the segments, whose upper halves stay."""
    state = bytearray(to.ip) + memory.read(place)

    def put(at: int, width: int, value: int) -> None:
        state[at : at + width] = (value & (1 << 8 * width) - 1).to_bytes(width, "little")

    put(to.ip, to.width, start.rip)
    put(to.flags, to.width, start.rflags)
    for index in range(REGISTER_COUNT):
        put(to.registers + index * to.width, to.width, vcpu.read_gpr(index))
    for index in range(to.segment_count):
        put(to.segments + index * to.width, 2, vcpu.read(f.GUEST_ES_SELECTOR + 2 * index))
    memory.write(place, bytes(state[to.ip :]))


# --- the new task -----------------------------------------------------------------------------------------------------


def _begin(vcpu: VCpu, image: bytes, layout: Layout, start: Start) -> Fault | None:
    """Load the new task; TR has been."""

    def get(at: int, width: int) -> int:
        return int.from_bytes(image[at : at + width], "little")

    width = layout.width
    upper = 0xFFFF_0000 if width == 2 else 0  # undefined by the manual; as the first 32-bit processors
    rflags = get(layout.flags, width) & ~RFLAGS_RESERVED_0 | RFLAGS_RESERVED_1 | (RFLAGS_NT if start.nests else 0)
    selectors = [
        get(layout.segments + index * width, 2) if index < layout.segment_count else 0 for index in range(SEGMENT_COUNT)
    ]
    vcpu.write(f.GUEST_RIP, get(layout.ip, width))
    vcpu.write(f.GUEST_RFLAGS, rflags)
    for index in range(REGISTER_COUNT):
        vcpu.write_gpr(index, upper | get(layout.registers + index * width, width))
    set_selectors(vcpu, selectors, is_v86=bool(rflags & RFLAGS_VM))
    vcpu.write(f.GUEST_CR0, vcpu.read(f.GUEST_CR0) | CR0_TS)  # which no way of paging keeps from the guest
    vcpu.write(f.GUEST_DR7, vcpu.read(f.GUEST_DR7) & ~DR7_LOCAL)
    blocking = vcpu.read(f.GUEST_INTERRUPTIBILITY_STATE)
    vcpu.write(f.GUEST_INTERRUPTIBILITY_STATE, blocking & ~(BLOCKING_BY_STI | BLOCKING_BY_MOV_SS))
    fault = _load_cr3(vcpu, get(layout.cr3, 4), start.ext) if layout.cr3 else None
    memory = SystemMemory(vcpu)
    fault = fault or load_segments(vcpu, memory, get(layout.ldt, 2), selectors, start.ext)
    if fault is None and start.error_code is not None:
        fault = _push(vcpu, memory, start.error_code, width, start.ext)
    if fault is None and layout.trap and image[layout.trap] & 1:
        vcpu.shared.dr6 |= DR6_BT
        vcpu.inject(DEBUG_EXCEPTION, i.HARDWARE_EXCEPTION)
    return fault


def _load_cr3(vcpu: VCpu, cr3: int, ext: int) -> Fault | None:
    """CR3 of the new task, where there is paging."""
    mode = SystemMemory(vcpu).mode
    if not mode.is_paging or cr3 == mode.cr3:
        return None
    vcpu.meter.follow(paths.CR_WRITE)
    if not pdptes_are_valid(vcpu.domain, mode._replace(cr3=cr3)):
        return Fault(GENERAL_PROTECTION, ext)
    vcpu.paging.write_cr3(vcpu, cr3)
    return None


def _push(vcpu: VCpu, memory: SystemMemory, value: int, width: int, ext: int) -> Fault | None:
    """The error code of the event, on the stack of the new task."""
    ss, esp = read_segment(vcpu, SS), vcpu.read(f.GUEST_RSP)
    mask = 0xFFFF_FFFF if ss.rights & AR_D else 0xFFFF
    at = esp - width & mask
    grows_down = bool(ss.rights & AR_EXPAND_DOWN)
    if not (ss.limit < at and at + width - 1 <= mask if grows_down else at + width - 1 <= ss.limit):
        return Fault(STACK_FAULT, ext)
    found = memory.find(ss.base + at, width, write=True, user=ss.level == 3)
    if isinstance(found, Fault):
        return found
    memory.write(found, (value & (1 << 8 * width) - 1).to_bytes(width, "little"))
    vcpu.write(f.GUEST_RSP, esp & ~mask & 0xFFFF_FFFF | at)
    return None
