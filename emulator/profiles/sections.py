"""What a timing profile says of a machine: one table, the fields of the classes below.

A field is a parameter: its name ends in its unit (`UNITS`) or starts with `has_` or `is_`, its annotation is its type,
and `Parameter` holds one sentence and the range. Files, `--set`, `sidecore profiles` and
the checks are all driven by this table. To add a parameter: add its field, and a row to every profile.

All parameters are primitives of hardware: no handler, operation or benchmark has "a cost" here, and no result of the
sidecore paper is an input. Cycles are those of the time-stamp counter, which runs at the core's one frequency.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum
from types import MappingProxyType
from typing import Annotated, Any, get_args, get_type_hints

from emulator.vmx.exit_reasons import NAMES

UNITS = ("cycles", "hz", "bytes", "ns", "entries", "ways", "count", "cycles_per_100_instructions", "cycles_per_100")
FLAG_PREFIXES = ("has_", "is_")
CYCLES_MAX = 1_000_000


class Use(Enum):
    """Where a parameter matters."""

    ALWAYS = "always"
    CACHES = "where every access goes through caches and TLBs: `detailed`"
    LINES = "there, and for lines that cores share: with a sidecore or a NIC"


@dataclass(frozen=True)
class Parameter:
    """One row of the table. `least` and `most` are inclusive and mean nothing for a flag."""

    meaning: str
    least: int = 1
    most: int = CYCLES_MAX
    is_required: bool = True
    use: Use = Use.ALWAYS
    kind: type[int] | type[bool] = int  # the field's annotation has it


_SIZE_MAX = 1 << 32
_NONE = "; 0: there is none"
_SHARED = "; 0: they share the array of 4 KiB pages"


@dataclass(frozen=True, kw_only=True)
class Core:
    """[core]: clock and topology, front end and branch prediction, how other cores and the outside are reached."""

    frequency_hz: Annotated[int, Parameter("clock of a core and of its time-stamp counter", 10**6, 10**11)]
    package_count: Annotated[int, Parameter("packages (sockets) of the machine", most=256)]
    core_count: Annotated[int, Parameter("cores of a package", most=256)]
    thread_count: Annotated[int, Parameter("hyperthreads of a core; 1: no hyperthreading", most=8)]
    port_access_cycles: Annotated[int, Parameter("IN or OUT that reaches a device of the host")]
    mmio_access_cycles: Annotated[int, Parameter("load or store of a device's memory on the bus")]
    apic_timer_hz: Annotated[int, Parameter("input clock of a local APIC's timer, before its divider", 10**6, 10**10)]
    issue_width_count: Annotated[int, Parameter("micro-operations a cycle, at most", most=16)]
    mispredict_cycles: Annotated[int, Parameter("a branch predicted wrong: until the right path issues", most=1000)]
    predictor_entries_count: Annotated[int, Parameter("two-bit counters of the branch predictor", most=1 << 20)]
    target_entries_count: Annotated[int, Parameter("targets of indirect branches it remembers", most=1 << 20)]
    store_buffer_entries: Annotated[int, Parameter(
        "stores that wait for their line and stall nothing", most=1024, use=Use.CACHES
    )]  # fmt: skip
    dirty_line_cycles: Annotated[int, Parameter("a load of a line another core of the package modified", use=Use.LINES)]
    remote_dirty_line_cycles: Annotated[int, Parameter(
        "a load of a line a core of another package modified; 0: not known, for machines of one package", 0,
        use=Use.LINES,
    )]  # fmt: skip
    pause_cycles: Annotated[int, Parameter("PAUSE")]
    path_cycles_per_100_instructions: Annotated[int, Parameter(
        "software of the VMM whose code and data are in the L1, with predicted branches", most=10_000
    )]  # fmt: skip
    sibling_works_cycles_per_100: Annotated[int, Parameter(
        "cycles that 100 of work take while the other thread of the core works; without hyperthreading 100", 100, 1000
    )]  # fmt: skip
    sibling_pauses_cycles_per_100: Annotated[int, Parameter("... while it polls with PAUSE", 100, 1000)]
    sibling_mwaits_cycles_per_100: Annotated[int, Parameter("... while it is in MWAIT", 100, 1000)]
    sibling_halted_cycles_per_100: Annotated[int, Parameter("... while it is halted", 100, 1000)]


@dataclass(frozen=True, kw_only=True)
class Instructions:
    """[instructions]: by class (timing/instruction_classes.py); a latency overlaps with others, other cycles with none.

    A load's latency is caches.l1d_latency_cycles, and PAUSE's cycles core.pause_cycles.
    """

    move_latency_cycles: Annotated[int, Parameter("MOV, MOVZX, XCHG of registers, moves of vectors", 0, 1000)]
    alu_latency_cycles: Annotated[int, Parameter("integer arithmetic and logic in registers, CMP, TEST", 1, 1000)]
    carry_latency_cycles: Annotated[int, Parameter("ADC, SBB", 1, 1000)]
    conditional_latency_cycles: Annotated[int, Parameter("CMOVcc, SETcc, CMPXCHG without LOCK", 1, 1000)]
    shift_latency_cycles: Annotated[int, Parameter("shifts, rotates, bit tests", 1, 1000)]
    bit_scan_latency_cycles: Annotated[int, Parameter("BSF, BSR, POPCNT, CRC32", 1, 1000)]
    lea_latency_cycles: Annotated[int, Parameter("LEA", 1, 1000)]
    multiply_latency_cycles: Annotated[int, Parameter("MUL, IMUL, and multiplications in vectors", 1, 1000)]
    divide_latency_cycles: Annotated[int, Parameter("DIV, IDIV of 32 bits", 1, 1000)]
    divide_64_latency_cycles: Annotated[int, Parameter("DIV, IDIV of 64 bits", 1, 1000)]
    fp_add_latency_cycles: Annotated[int, Parameter("ADDSD and the like, comparison, conversion, FADD", 1, 1000)]
    fp_multiply_latency_cycles: Annotated[int, Parameter("MULSD and the like, FMUL", 1, 1000)]
    fp_divide_latency_cycles: Annotated[int, Parameter("DIVSD, SQRTSD and the like, FDIV", 1, 1000)]
    simd_latency_cycles: Annotated[int, Parameter("logic, integer arithmetic and shuffles of vectors", 1, 1000)]
    x87_latency_cycles: Annotated[int, Parameter("FLD, FST, FXCH and the like", 0, 1000)]
    x87_microcode_cycles: Annotated[int, Parameter("FSIN, FPATAN, FPREM, FLDCW and the like")]
    string_latency_cycles: Annotated[int, Parameter("MOVS, STOS, LODS, SCAS, CMPS without REP", 1, 1000)]
    rep_start_cycles: Annotated[int, Parameter("REP of any string instruction, once", 0)]
    rep_line_cycles: Annotated[int, Parameter("REP MOVS, REP STOS, for 64 bytes that are in the L1")]
    rep_scan_cycles: Annotated[int, Parameter("REP CMPS, SCAS, LODS, for each element in the L1")]
    locked_cycles: Annotated[int, Parameter("LOCK, and XCHG with memory: a line this core owns")]
    memory_fence_cycles: Annotated[int, Parameter("MFENCE with an empty store buffer")]
    load_fence_cycles: Annotated[int, Parameter("LFENCE, SFENCE")]
    cpuid_cycles: Annotated[int, Parameter("CPUID that does not exit")]
    rdtsc_cycles: Annotated[int, Parameter("RDTSC, RDTSCP, RDPMC")]
    rdmsr_cycles: Annotated[int, Parameter("RDMSR")]
    wrmsr_cycles: Annotated[int, Parameter("WRMSR")]
    mov_from_cr_cycles: Annotated[int, Parameter("MOV from a control register, SMSW")]
    mov_to_cr_cycles: Annotated[int, Parameter("MOV to CR0 or CR4, LMSW")]
    mov_to_cr3_cycles: Annotated[int, Parameter("MOV to CR3: flushes the TLBs; refilling them is extra")]
    mov_dr_cycles: Annotated[int, Parameter("MOV from or to a debug register")]
    clts_cycles: Annotated[int, Parameter("CLTS")]
    invlpg_cycles: Annotated[int, Parameter("INVLPG")]
    syscall_cycles: Annotated[int, Parameter("SYSCALL")]
    sysret_cycles: Annotated[int, Parameter("SYSRET")]
    sysenter_cycles: Annotated[int, Parameter("SYSENTER")]
    sysexit_cycles: Annotated[int, Parameter("SYSEXIT")]
    int_cycles: Annotated[int, Parameter("INT n, INT3, INTO up to the handler's first instruction")]
    iret_cycles: Annotated[int, Parameter("IRET")]
    far_transfer_cycles: Annotated[int, Parameter("far JMP, CALL and RET, also through call gates")]
    segment_load_cycles: Annotated[int, Parameter("MOV, POP or LDS and the like to a segment register")]
    swapgs_cycles: Annotated[int, Parameter("SWAPGS")]
    pushf_cycles: Annotated[int, Parameter("PUSHF")]
    popf_cycles: Annotated[int, Parameter("POPF")]
    cli_sti_cycles: Annotated[int, Parameter("CLI, STI")]
    descriptor_table_load_cycles: Annotated[int, Parameter("LGDT, LIDT, LLDT, LTR")]
    descriptor_table_store_cycles: Annotated[int, Parameter("SGDT, SIDT, SLDT, STR")]
    fxsave_cycles: Annotated[int, Parameter("FXSAVE into the L1")]
    fxrstor_cycles: Annotated[int, Parameter("FXRSTOR from the L1")]
    clflush_cycles: Annotated[int, Parameter("CLFLUSH")]
    wbinvd_cycles: Annotated[int, Parameter("WBINVD, INVD with clean caches", 1, 10**8)]
    hlt_cycles: Annotated[int, Parameter("HLT until the core sleeps; waking is events.mwait_wake_ns")]
    monitor_cycles: Annotated[int, Parameter("MONITOR")]
    mwait_cycles: Annotated[int, Parameter("MWAIT that does not wait, or until the core sleeps")]
    other_cycles: Annotated[int, Parameter("microcode without a row here: ENTER, LAR, VERR")]


@dataclass(frozen=True, kw_only=True)
class Vmx:
    """[vmx]: the hardware part of VM exits and entries, and what the processor offers."""

    exit_cycles: Annotated[int, Parameter("a VM exit, of a reason without a row of its own")]
    entry_cycles: Annotated[int, Parameter("a VM entry (VMRESUME)")]
    vmread_cycles: Annotated[int, Parameter("VMREAD of a field of the current VMCS")]
    vmwrite_cycles: Annotated[int, Parameter("VMWRITE of a field of the current VMCS")]
    vmptrld_cycles: Annotated[int, Parameter("VMPTRLD: make another VMCS current")]
    has_vpid: Annotated[bool, Parameter("whether exits and entries keep the TLBs; else they flush them")]
    has_ept: Annotated[bool, Parameter("whether the processor has extended page tables")]
    has_posted_interrupts: Annotated[bool, Parameter("a guest gets posted interrupts without a VM exit")]
    remote_tlb_flush_cycles: Annotated[int, Parameter("flush of another core's TLB without an interrupt; 0: none", 0)]
    exit_cycles_by_reason: Mapping[int, int]  # by basic exit reason; rows of [vmx.exit_cycles_by_reason], all optional


@dataclass(frozen=True, kw_only=True)
class Caches:
    """[caches]: latencies are load-to-use. L1 and L2 belong to a core, L3 to a package. 0 bytes: no such cache."""

    line_bytes: Annotated[int, Parameter(
        "line of every cache: the unit of transfer and coherence", 16, 256, use=Use.LINES
    )]  # fmt: skip
    l1i_size_bytes: Annotated[int, Parameter("instruction cache", most=_SIZE_MAX, use=Use.CACHES)]
    l1i_ways: Annotated[int, Parameter("its ways", most=1024, use=Use.CACHES)]
    l1d_size_bytes: Annotated[int, Parameter("level-1 data cache", most=_SIZE_MAX, use=Use.CACHES)]
    l1d_ways: Annotated[int, Parameter("its ways", most=1024, use=Use.CACHES)]
    l1d_latency_cycles: Annotated[int, Parameter("a load that hits it", 0)]
    l2_size_bytes: Annotated[int, Parameter("level-2 cache" + _NONE, 0, _SIZE_MAX, use=Use.CACHES)]
    l2_ways: Annotated[int, Parameter("its ways", 0, 1024, use=Use.LINES)]
    l2_latency_cycles: Annotated[int, Parameter("a load that hits it", 0, use=Use.LINES)]
    is_l2_shared: Annotated[bool, Parameter("whether the cores of a package share one L2", use=Use.LINES)]
    l3_size_bytes: Annotated[int, Parameter("level-3 cache, shared by a package" + _NONE, 0, _SIZE_MAX, use=Use.CACHES)]
    l3_ways: Annotated[int, Parameter("its ways", 0, 1024, use=Use.LINES)]
    l3_latency_cycles: Annotated[int, Parameter("a load that hits it", 0, use=Use.LINES)]


@dataclass(frozen=True, kw_only=True)
class Memory:
    """[memory]: loads that no cache of the core answers."""

    dram_latency_cycles: Annotated[int, Parameter("a load that misses every cache", use=Use.LINES)]


@dataclass(frozen=True, kw_only=True)
class Tlb:
    """[tlb]: ways equal to entries mean fully associative. What a walk costs follows from the caches."""

    itlb_4k_entries: Annotated[int, Parameter("instruction TLB, 4 KiB pages", most=65536, use=Use.CACHES)]
    itlb_4k_ways: Annotated[int, Parameter("its ways", most=65536, use=Use.CACHES)]
    itlb_2m_entries: Annotated[int, Parameter("instruction TLB, 2 MiB pages" + _SHARED, 0, 65536, use=Use.CACHES)]
    itlb_2m_ways: Annotated[int, Parameter("its ways", 0, 65536, use=Use.CACHES)]
    dtlb_4k_entries: Annotated[int, Parameter("data TLB, 4 KiB pages", most=65536, use=Use.CACHES)]
    dtlb_4k_ways: Annotated[int, Parameter("its ways", most=65536, use=Use.CACHES)]
    dtlb_2m_entries: Annotated[int, Parameter("data TLB, 2 MiB pages" + _SHARED, 0, 65536, use=Use.CACHES)]
    dtlb_2m_ways: Annotated[int, Parameter("its ways", 0, 65536, use=Use.CACHES)]
    stlb_entries: Annotated[int, Parameter("second-level TLB" + _NONE, 0, 65536, use=Use.CACHES)]
    stlb_ways: Annotated[int, Parameter("its ways", 0, 65536, use=Use.CACHES)]
    stlb_hit_cycles: Annotated[int, Parameter(
        "what a first-level miss takes that hits the second level", 0, use=Use.CACHES
    )]  # fmt: skip
    paging_structure_entries: Annotated[int, Parameter(
        "cache of page-directory entries, from which a walk may start" + _NONE, 0, 65536, use=Use.CACHES
    )]  # fmt: skip
    is_stlb_for_code: Annotated[bool, Parameter(
        "whether the second level serves instruction fetches too", use=Use.CACHES
    )]  # fmt: skip
    is_stlb_for_2m: Annotated[bool, Parameter("whether the second level holds 2 MiB pages too", use=Use.CACHES)]


@dataclass(frozen=True, kw_only=True)
class Events:
    """[events]: exceptions and interrupts the guest or the VMM takes without a VM exit, and idle cores."""

    page_fault_entry_cycles: Annotated[int, Parameter("#PF up to the first instruction of its handler")]
    exception_entry_cycles: Annotated[int, Parameter("any other exception up to the first instruction of its handler")]
    interrupt_entry_cycles: Annotated[int, Parameter("external interrupt up to the first instruction of its handler")]
    task_switch_cycles: Annotated[int, Parameter("hardware task switch, beside what starts it")]
    apic_access_cycles: Annotated[int, Parameter("load or store of a register of the core's local APIC")]
    ipi_send_cycles: Annotated[int, Parameter("the sender's store to the interrupt command register")]
    ipi_receive_cycles: Annotated[int, Parameter("from there until the receiver's first instruction of the handler")]
    mwait_wake_ns: Annotated[int, Parameter("from the store or interrupt until a core in MWAIT or HLT (C1) runs")]


SECTIONS: Mapping[str, type] = MappingProxyType(
    {
        "core": Core,
        "instructions": Instructions,
        "vmx": Vmx,
        "caches": Caches,
        "memory": Memory,
        "tlb": Tlb,
        "events": Events,
    }
)
BY_REASON = "vmx.exit_cycles_by_reason"  # the one table inside a section
REASONS: Mapping[str, int] = MappingProxyType({name: number for number, name in NAMES.items()})


def _parameters() -> dict[str, Parameter]:
    """Every parameter by its full name, in the order of the table."""
    table: dict[str, Parameter] = {}
    for section, section_class in SECTIONS.items():
        hints: dict[str, Any] = get_type_hints(section_class, include_extras=True)
        for field in fields(section_class):
            if f"{section}.{field.name}" == BY_REASON:
                row = Parameter("a VM exit of this reason", is_required=False)
                table |= {f"{BY_REASON}.{name}": row for name in REASONS}
            else:
                kind, row = get_args(hints[field.name])
                table[f"{section}.{field.name}"] = Parameter(**{**vars(row), "kind": kind})
    return table


PARAMETERS: Mapping[str, Parameter] = MappingProxyType(_parameters())
