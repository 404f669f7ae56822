/* The part of a CPU that Python sees; build.py gives this same text to cffi. */
typedef struct {          /* one of the last events: see arch/recent.c */
    uint64_t cycles, rip; /* when, and where the guest was */
    uint64_t detail;      /* the qualification of a VM exit, the address of a #PF */
    uint32_t what;        /* the reason of a VM exit; with bit 31 interruption information: an event for the guest */
    uint32_t error_code;
} sc_recent;
typedef struct {
    uint64_t gpr[16]; /* RAX RCX RDX RBX - RBP RSI RDI R8-R15; RSP is VMCS field GUEST_RSP, gpr[4] is unused */
    uint64_t vmcs[VMCS_SLOT_COUNT];     /* by slot: emulator/vmx/fields.py */
    uint64_t cr2, dr[4], dr6;           /* what the VMCS has no field for */
    uint64_t clock_cycles;              /* the core's clock; Python adds what exits cost */
    uint64_t guest_cycles;              /* of these, spent on guest instructions, */
    uint64_t memory_cycles;             /* on stalls: caches, memory, */
    uint64_t walk_cycles;               /* on page walks, */
    uint64_t branch_cycles;             /* on wrong predictions, */
    uint64_t event_cycles;              /* on events delivered without a VM exit */
    uint64_t sibling_cycles;            /* on waiting for what a sibling thread of the core uses */
    uint64_t instructions;              /* retired by the guest */
    uint64_t deadline_cycles;           /* sc_run returns at the first block boundary at or after it */
    uint64_t horizon_cycles;            /* RDTSC beyond it stops the run: another core may be behind (interleave.py) */
    uint64_t tsc_base;                  /* TSC = clock_cycles + tsc_base (+ TSC offset in non-root mode) */
    sc_recent recent[RECENT_MAX];       /* a ring: number n is at n % RECENT_MAX */
    uint64_t recent_count;              /* of all so far */
    uint64_t watched_hpas[WATCHED_MAX]; /* pages shared with other cores: each access asks first; 0: no more */
    int64_t work_64ths, stall_64ths;    /* in guest_cycles, memory_cycles later: less than a cycle each, in 64ths */
    int64_t slow_percent, slow_rest;    /* how much longer all of this takes beside a sibling; hundredths left over */
    uint8_t non_root;                   /* VMX non-root operation: the VMCS controls apply */
    uint8_t interrupt_pending;          /* level of the core's INTR pin */
    uint8_t nmi_pending;                /* an NMI waits; the engine clears it when it takes it */
    uint8_t stop_request;               /* by a callback, or NEXT_LEAVE: return before the next instruction */
    uint8_t flush_tlb;                  /* FLUSH_*; set after a mapping was changed, applied at the next entry */
    uint8_t shutdown;                   /* triple fault without a VMM */
} sc_cpu_shared;
