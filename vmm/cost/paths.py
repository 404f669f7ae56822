"""The VMM's software paths: how many instructions each takes. The one place that says so; handlers `follow` them.

A path holds the instructions that hit the first-level cache. What is left out, because it is charged where it happens:
VMREAD and VMWRITE, and memory words with an address of their own (`VCpu.touch`): page tables, the structures of a
domain and a vCPU, locks. Cycles: instructions x `core.path_cycles_per_100_instructions` / 100, rounded half up.

The counts are those of Xen in September 2006 (unstable, on the way to 3.0.3), whose files and functions the column
`place` names; nobody has counted the ones that say guess. To add a path: a constant below.
MODEL: a path takes the same every time, whatever its branches.
"""

from dataclasses import dataclass

from emulator.profiles.profile import Profile

PATH_PARAMETER = "core.path_cycles_per_100_instructions"


@dataclass(frozen=True, slots=True, eq=False)
class Path:
    """`instructions` that Xen executes at `place` to do `what`; `confidence` is one of `profile_file.CONFIDENCES`."""

    what: str
    instructions: int
    confidence: str
    place: str

    @property
    def parts(self) -> "tuple[Path, ...]":
        """Of a `Route` there are more."""
        return (self,)

    @property
    def source(self) -> str:
        """For people."""
        return f"Xen of September 2006, {self.place} ({self.confidence})"

    def cycles(self, profile: Profile) -> int:
        """What the path takes on a machine."""
        return (self.instructions * profile.core.path_cycles_per_100_instructions + 50) // 100


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """Paths one after the other, charged at once."""

    parts: tuple[Path, ...]

    def cycles(self, profile: Profile) -> int:
        """What they take on a machine."""
        return sum(part.cycles(profile) for part in self.parts)


# fmt: off
# --- every exit and entry
EXIT           = Path("save registers, dispatch", 60, "guess", "exits.S: 15 pushes; vmx_vmexit_handler: a jump table")
CHECK_EVENTS   = Path("look for softirqs and interrupts", 45, "guess", "exits.S: softirq test; vmx_intr_assist")
ENTRY          = Path("restore registers", 20, "recalled", "exits.S: test of the launch state, 15 pops")
ADVANCE_RIP    = Path("step over the instruction", 15, "guess", "__update_guest_eip: an addition, a test")
INJECT         = Path("inject an event", 30, "guess", "vmx_inject_hw_exception: compose the information word")
REINJECT       = Path("deliver an event again", 25, "guess", "vmx_idtv_reinject: copy the vectoring information")

# --- instructions that exit
CPUID          = Path("emulate CPUID", 60, "guess", "vmx_vmexit_do_cpuid: masks by leaf; without the host's own CPUID")
HYPERCALL      = Path("look up the hypercall", 30, "guess", "hypercall entry: bound check, indirect call")
READ_MSR       = Path("emulate RDMSR", 40, "guess", "vmx_do_msr_read: a switch by index")
WRITE_MSR      = Path("emulate WRMSR", 45, "guess", "vmx_do_msr_write: a switch by index")
CR_DECODE      = Path("decode a CR access", 30, "guess", "vmx_cr_access: switches by kind and register")
CR_WRITE       = Path("check and set a CR", 60, "guess", "mov_to_cr, vmx_set_cr0: reserved bits, changes of mode")
IO_DECODE      = Path("decode an I/O instruction", 50, "guess", "vmx_io_instruction: fields of the qualification")
PORT           = Path("access a virtual port", 120, "guess", "hvm_portio_intercept: a search; a device model in Xen")
MMIO           = Path("access a virtual device", 120, "guess", "hvm_mmio_intercept: a search; a device model in Xen")
STRING_ELEMENT = Path("move an element of INS or OUTS", 40, "guess", "send_pio_req with an address")
TASK_SWITCH    = Path("switch tasks", 500, "guess", "hvm_task_switch, of 2007: checks, two TSSs, their descriptors")
LOAD_SEGMENT   = Path("load a segment of a new task", 60, "guess", "hvm_load_segment_selector, of 2007: its checks")
INVLPG         = Path("emulate INVLPG", 40, "guess", "vmx_do_invlpg, shadow_invlpg")

# --- shadow paging
PAGE_FAULT     = Path("begin with a page fault", 90, "guess", "vmx_vmexit_handler, sh_page_fault: prologue, counters")
LOCK           = Path("take a lock", 6, "recalled", "spinlock.h: lock decb, jns; who holds it is noted")
UNLOCK         = Path("release a lock", 4, "recalled", "spinlock.h: movb")
WALK           = Path("begin a software walk", 40, "guess", "guest_walk_tables: prologue, result, tests of the rights")
WALK_STEP      = Path("a step of a walk", 15, "guess", "guest_walk_tables: index, frame to address, test of the flags")
MARK_USED      = Path("set accessed or dirty", 10, "guess", "guest_walk_set_ad_bits")
LOOK_UP        = Path("find a shadow", 20, "guess", "shadow_hash_lookup: hash, a comparison or two")
NEW_SHADOW     = Path("make a shadow", 150, "guess", "shadow_alloc, shadow_hash_insert, clear_page")
FREE_SHADOW    = Path("free a shadow", 80, "guess", "shadow_hash_delete, shadow_free")
SCAN_TABLE     = Path("go through 512 entries", 2048, "guess", "SHADOW_FOREACH_L1E: 4 instructions for an entry")
FILL_TABLE     = Path("derive 512 entries", 7680, "guess", "make_fl1_shadow: 15 instructions for an entry")
DERIVE         = Path("derive a shadow entry", 35, "guess", "_sh_propagate: rights, accessed, dirty, host frame")
SET_ENTRY      = Path("set a shadow entry", 15, "guess", "shadow_set_l1e and shadow_set_l2e: references, the store")
EMULATE        = Path("emulate an instruction", 250, "guess", "x86_emulate_memop with its callbacks: decode, execute")
FETCH          = Path("fetch a piece of an instruction", 40, "guess", "sh_x86_emulate_insn_fetch, hvm_copy")
GUEST_COPY     = Path("access guest memory", 30, "guess", "sh_x86_emulate_write: map the page, copy")
UPDATE_CR3     = Path("switch to another shadow root", 150, "guess", "sh_update_cr3: the root's shadow, references")

# --- sidecore: a polling loop of our own, after the paper's section IV
POLL           = Path("look at a slot", 4, "guess", "our loop: a load, a comparison, a branch, the next slot's address")
SIDECALL       = Path("begin a sidecall", 25, "guess", "our loop: request to registers, checks, an indirect call")
SIDECALL_ANSWER = Path("end a sidecall", 10, "guess", "our loop: results and state to the slot")
QUEUE          = Path("begin with a receive queue", 15, "guess", "our loop: the count, whose it is, an indirect call")
SEND_FLUSH     = Path("ask others to flush TLBs", 40, "guess", "flush_tlb_mask: lock, mask, ICR; not the waiting")
TAKE_FLUSH     = Path("flush for another core", 60, "guess", "smp_invalidate_interrupt: saved registers, EOI, mask")
REGISTER_PAGE  = Path("share a page", 400, "guess", "our hypercall: checks, page reference, list of pages")

# --- interrupts and sleep
DEVICE_INTERRUPT = Path("take a device's interrupt", 150, "guess", "do_IRQ, __do_IRQ_guest: acknowledge, who has it")
MANAGE_VIF     = Path("give out a virtual interface", 600, "guess", "our hypercall: checks, a message to the NIC")
SET_EVENT      = Path("set an event pending", 60, "guess", "evtchn_set_pending: port to vCPU, pending, mask")
NOTIFY         = Path("notify another domain", 120, "guess", "do_event_channel_op, evtchn_send: port, lock")
GRANT_COPY     = Path("copy between two domains", 400, "guess", "gnttab_copy: frames, two mappings; without the copy")
UPCALL         = Path("ask for an upcall", 40, "guess", "vcpu_mark_events_pending, vcpu_kick: flags, is it running?")
TIMERS         = Path("run the timer softirq", 200, "guess", "apic_timer_interrupt, do_softirq, timer_softirq_action")
INTERRUPT      = Path("acknowledge a virtual interrupt", 80, "guess", "cpu_get_interrupt, the virtual 8259")
SLEEP          = Path("put the vCPU to sleep", 250, "guess", "hvm_hlt, do_block, schedule to the idle vCPU")
SWITCH         = Path("load another vCPU", 400, "guess", "schedule, context_switch, vmx_ctxt_switch_to: state, MSRs")
WAKE           = Path("wake the vCPU", 300, "guess", "vcpu_wake, schedule, context switch from the idle vCPU")
# fmt: on

ENTRY_WITHOUT_EVENTS = Route((CHECK_EVENTS, ENTRY))


def all_paths() -> tuple[Path, ...]:
    """Every path."""
    return tuple(value for value in globals().values() if isinstance(value, Path))


def cycles_by_path(profile: Profile) -> dict[Path | Route, int]:
    """What each path takes on a machine, as plain numbers for the exit path."""
    followed: tuple[Path | Route, ...] = (*all_paths(), ENTRY_WITHOUT_EVENTS)
    return {path: path.cycles(profile) for path in followed}
