/* The port to Unicorn: all that the other folders know of it. Part `port` of a CPU is written in this folder alone.
 *
 *   engine_run  ---> the guest runs, in Unicorn's SVM guest mode for ever, until something asks to stop. On the way
 *                    hooks call: arch/ trap_* for an intercept or exception    time/ add_block, start_block, refund,
 *                    arch/ settle behind it                                          access_memory
 *   engine_save ---> from Unicorn's raw state to the slots: at every trap, before anybody looks at them
 *   engine_load ---> back, before the guest goes on
 *
 * Between a save and the next load the slots are the state; while the guest runs, Unicorn's is.
 *
 *   run.c      opening, hooks, the run         state.c   slots <-> raw state       layout.c   where that lies, verified
 *   memory.c   what an access tells, and       nested.c  nested page tables        saved.c    what a snapshot has of it
 *              what lies where there is no RAM abort.c   where Unicorn would end the process
 *   clock.c    what time it is              spans.c   instructions before which Python is told
 *   code.c     translated code, and who changes it        places.c   memory of which Python is told
 */
#ifndef SC_PORT_H
#define SC_PORT_H
typedef struct sc_code_map sc_code_map;

/* What it traps, by the codes of SVM (AMD APM volume 2, appendix C). CR and DR: + the register's number. */
enum {
    TRAP_CR_READ = 0x00,
    TRAP_CR_WRITE = 0x10,
    TRAP_DR_READ = 0x20,
    TRAP_DR_WRITE = 0x30,
    TRAP_EXCEPTION = 0x40, /* + vector */
    TRAP_IDTR_READ = 0x66, /* SIDT SGDT SLDT STR LIDT LGDT LLDT LTR */
    TRAP_TR_WRITE = 0x6d,
    TRAP_RDTSC = 0x6e,
    TRAP_RDPMC = 0x6f,
    TRAP_CPUID = 0x72,
    TRAP_IRET = 0x74,
    TRAP_INT = 0x75,
    TRAP_INVD = 0x76,
    TRAP_PAUSE = 0x77,
    TRAP_HLT = 0x78,
    TRAP_INVLPG = 0x79,
    TRAP_MSR = 0x7c,
    TRAP_FAR_TRANSFER = 0x7d, /* SVM's task switch; by our edits gates too. Error code: selector, BY_* << 16 */
    TRAP_RDTSCP = 0x87,
    TRAP_ICEBP = 0x88,
    TRAP_WBINVD = 0x89,
    TRAP_NESTED_FAULT = 0x400
};

enum { RAW_SAVED_BYTES = 4920, SPANS_MAX = 64, PLACES_MAX = 64, NOTED_MAX = 16 };

typedef struct {
    void *uc, *context; /* Unicorn, and a context of it */
    uint8_t *raw;       /* CPUX86State bytes inside the context */
    uint8_t *arena;     /* memory of Unicorn's own: VMCB, MSR permission map, nested page tables */
    uint64_t arena_used_bytes;
    bool tells_accesses; /* every load and store calls sc_access */
    struct {             /* instructions before which Python is told: see spans.c */
        bool is_due;     /* the ranges have changed, the hooks have not */
        unsigned count, hook_count;
        uint64_t first[SPANS_MAX], last[SPANS_MAX];
    } spans;
    struct { /* memory of which Python is told: see places.c */
        unsigned count, noted_count;
        bool tells_accesses; /* one of them does */
        struct {
            uint64_t hpa, bytes;
            bool tells_accesses;
        } at[PLACES_MAX];
        const uint8_t *known; /* Python's: what it knows to be there, one place behind the other */
        uint64_t pc;          /* of the instruction that runs */
        struct {
            uint64_t hpa, bytes, is_write, pc;
        } noted[NOTED_MAX];
    } places;
    struct { /* registers as somebody wants them to be: see spans.c */
        bool is_due;
        uint64_t gpr[16], vmcs[VMCS_SLOT_COUNT], cr2;
    } edit;
    size_t msr_at[8];   /* where Unicorn keeps its MSRs, found at start-up */
    uint64_t loaded[5]; /* CR0 CR3 CR4 EFER EPTP as Unicorn has them */
    bool saved;         /* the slots are the state */
    uint32_t tlb_generation;
    enum { STEP_NONE, STEP_RUNS, STEP_ARMED } step; /* the instruction runs in a block of its own: see fetched_ahead */
    enum { ESCAPE_NONE, ESCAPE_IO, ESCAPE_SYSCALL, ESCAPE_SYSENTER, ESCAPE_EDIT } escape; /* see escape() in run.c */
    struct {
        uint16_t port;
        uint8_t size;
        bool in;
    } io; /* the port access that has escaped */
    /* why the run was left: */
    int error;            /* Unicorn's number, or that of an interrupt nobody knows; 0: none */
    bool is_unsafe;       /* see stop_before_unsafe in run.c */
    uint8_t code_hits;    /* breakpoints that the instruction stands at */
    struct {              /* see code.c */
        sc_code_map *map; /* of the host's memory */
        sc_cpu *next;     /* of those that share the map */
        uint8_t *is_mine; /* by page: it has translated code of this CPU */
        uint32_t *pages;  /* which those are, and perhaps others */
        uint32_t page_count, page_max, marks_seen;
    } code;
    uint32_t translated;      /* since translations were emptied: see code.c */
    uint32_t most_translated; /* the most there ever was of that, since Unicorn was opened */
    uint32_t aborts;          /* since Unicorn was opened: see abort.c */
} sc_port;

/* run.c */
bool engine_open(sc_cpu *cpu, sc_code_map *code, const char **problem); /* false: `*problem` is not as expected */
void engine_close(sc_cpu *cpu);
bool engine_run(sc_cpu *cpu); /* until the deadline or something to settle; false: `error` says why not */
void engine_forget_error(sc_cpu *cpu);
void engine_run_alone(sc_cpu *cpu); /* let the next instruction have a block of its own */
bool engine_reopen(sc_cpu *cpu);    /* a new Unicorn in place of the old: without translations, or its memory */

/* code.c */
bool engine_must_empty(const sc_cpu *cpu); /* it is time to stop and empty the translations */
void engine_forget_code(sc_cpu *cpu);      /* all translations, and the blocks */
void sc_code_written(sc_code_map *map, uint64_t hpa, uint64_t bytes); /* somebody else than a CPU has changed that */
void engine_note_store(sc_cpu *cpu, uint64_t hpa,
                       uint64_t bytes); /* RAM was changed: by what is not the guest's store */

/* state.c */
void engine_save(sc_cpu *cpu);
void engine_load(sc_cpu *cpu);
void engine_peek(sc_cpu *cpu);                     /* as engine_save, in the middle of a block, which goes on */
void engine_window(sc_cpu *cpu);                   /* refresh RFLAGS and interruptibility in the slots, nothing else */
uint64_t engine_flags(sc_cpu *cpu);                /* RFLAGS, between blocks */
unsigned engine_code_bits(sc_cpu *cpu);            /* 16, 32 or 64, between blocks */
uint64_t *engine_msr(sc_cpu *cpu, uint32_t index); /* where Unicorn keeps an MSR that it uses itself, or NULL */
int engine_error_code(sc_cpu *cpu);                /* of the exception it reports; and its address, */
uint64_t engine_fault_address(sc_cpu *cpu);        /* linear, or guest-physical of a nested page fault; */
uint64_t engine_debug_status(sc_cpu *cpu);         /* DR6 bits of a #DB that it raises */
void engine_forget_data(sc_cpu *cpu);              /* a data page's entry has changed in memory */

/* nested.c */
bool engine_map_nested(sc_cpu *cpu, uint64_t gpa, uint64_t hpa, uint64_t rights, bool large);
void engine_unmap_nested(sc_cpu *cpu, uint64_t gpa); /* the 4 KiB page at `gpa` */

/* saved.c: what a snapshot has of it. The used part of the arena lies elsewhere. */
typedef struct {
    uint8_t raw[RAW_SAVED_BYTES];
    uint32_t hflags, hflags2, step, code_hits;
    uint64_t loaded[5], arena_used_bytes;
} saved_port;
void engine_keep(const sc_cpu *cpu, saved_port *ret, uint8_t *ret_arena);
bool engine_can_restore(const sc_cpu *cpu, const saved_port *from, uint64_t arena_bytes);
void engine_restore(sc_cpu *cpu, const saved_port *from, const uint8_t *arena);
#endif
