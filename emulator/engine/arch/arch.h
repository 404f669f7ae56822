/* What a processor does: traps, VM exits, events, memory. Part `arch` of a CPU is written in this folder alone.
 *
 *   trap_*(cpu)   an instruction, exception or access was trapped, and the slots are saved. It ends in one of:
 *     vm_exit       a control of the VMCS asks for it: the slots tell what it was, Python is called
 *     deliver       an event goes to the guest through the IDT
 *     skip          the instruction is done here; RIP is behind it
 *     nothing       it is let run, or tried again
 *   settle(cpu)   behind each of them: what waits comes now, until the guest can run or something asks to stop
 *
 * No function here runs the guest but sc_run. Each works on the slots and returns; a VM exit that Python answers with
 * NEXT_LEAVE only sets `stop_request`, so whoever calls one must go on to its end.
 *
 *   loop.c        pending events, then run          exits.c            intercepts: which control asks for which exit
 *   boundary.c    exits between instructions        exits_events.c     exceptions, software interrupts, EPT
 *   events.c      exit or delivery, #DF             exits_registers.c  control and debug registers, MSRs
 *   delivery.c    one attempt through the IDT       exits_io.c         ports
 *   segments.c    descriptors and inner stacks      gates.c, tasks.c   call gates, task switches
 *   walk.c        page tables and EPT               hardware.c         what is done where nothing exits
 *   decode.c      the instruction at RIP            monitor.c  debug.c  watched_page.c
 */
#ifndef SC_ARCH_H
#define SC_ARCH_H

enum { INSTRUCTION_BYTES_MAX = 15 };

/* One access of the CPU to memory, and what became of it. */
enum { ACCESS_WRITE = 1, ACCESS_USER = 2, ACCESS_FETCH = 4, ACCESS_SYSTEM = 8, ACCESS_PROBE = 16 };
typedef enum { WALK_OK, WALK_FAULT, WALK_EPT_VIOLATION, WALK_EPT_MISCONFIG } walk_status;
typedef struct {
    walk_status status;
    uint64_t hpa;        /* WALK_OK */
    uint32_t error_code; /* WALK_FAULT: #PF error code */
    uint64_t gpa;        /* WALK_EPT_*: the guest-physical address that could not be translated */
    uint64_t ept_rights; /* WALK_EPT_*: R/W/X bits met on the way, for the exit qualification */
    bool in_page_walk;   /* WALK_EPT_*: the access was to a guest page-table entry */
    bool is_global;      /* WALK_OK: of a page marked global */
    uint64_t entry_hpa;  /* WALK_OK: of the last page-table entry */
    bool is_watched;     /* WALK_OK: the page's entry is closed: see watched_page.c */
    uint8_t page_shift;  /* WALK_OK: the smaller of the guest's and the EPT's page: 12, 21, 22, 30 */
} walk_result;

/* An event on its way to the guest (SDM 3C 25.8.3 and 25.9.2: interruption information); `type` is an EVENT_*. */
typedef struct {
    uint8_t vector, type;
    bool has_error;
    uint32_t error_code;
    uint64_t address;           /* #PF: linear address */
    uint64_t payload;           /* #DB: pending DR6 bits */
    uint32_t instruction_bytes; /* software events: return RIP = RIP + this */
} event;

/* An instruction as far as exits need it. */
typedef struct {
    unsigned id; /* capstone's x86_insn, 0 when undecodable */
    unsigned class;
    uint8_t length_bytes, last_byte, opcode[4];
    int reg;         /* register operand as index 0-15, or -1 */
    int control_reg; /* CRn / DRn operand, or -1 */
    bool to_control; /* MOV to CRn / DRn */
    bool has_memory, has_two;
    bool rep;
    uint8_t segment; /* of the memory operand: 0-5 = ES CS SS DS FS GS */
    uint8_t address_bytes, operand_bytes;
    uint64_t offset;      /* effective address of the memory operand (without the segment base) */
    int64_t displacement; /* and what the address is made of: registers 0-15, or -1 */
    int base, index;
    uint8_t scale;
    uint64_t other_offset; /* string instructions have two: of the other */
    uint8_t other_segment;
} instruction;

typedef struct { /* what lasts from one instruction to the next, beside the slots; a snapshot has it as it is */
    uint64_t timer_end_cycles; /* of the VMX-preemption timer */
    uint64_t pause_first_cycles, pause_last_cycles;
    uint32_t decoded_class;                         /* of the instruction decoded last */
    enum { IRET_NONE, IRET_ARMED, IRET_RUNS } iret; /* it ends blocking by NMI: see trap_instruction */
    uint8_t data_hits;                              /* breakpoints that the instruction has hit: see debug.c */
    bool is_entered : 1, monitor_trap_due : 1, pause_seen : 1; /* see boundary.c */
    bool iret_unblocked : 1;                                   /* the IRET that faults now has ended blocking by NMI */
    bool monitor_armed : 1;                                    /* by MONITOR, for MWAIT */
} arch_state;

enum { OPENED_MAX = 8 }; /* an instruction has two pages of code and at most four of data */
typedef struct {
    bool is_write;
    uint64_t hpa, entry_hpa, gpa; /* what is accessed; the shadow entry; with EPT no entry, but the page's address */
    uint64_t taken;               /* of the entry's bits, while it is open */
} opened_page;

typedef struct {
    arch_state state;
    uint64_t check_at_cycles; /* when begin_any_block in unicorn/run.c has to look closer: see watch */
    struct {                  /* what the next VM exit tells of events; 0: nothing */
        uint64_t interruption, vectoring;
        uint32_t interruption_error_code, vectoring_error_code;
        uint32_t vectored_bytes; /* SDM 3C 28.2.5: the length of the INT that was being delivered */
    } exiting;
    struct { /* watched pages are open for one instruction: see watched_page.c */
        bool is_open;
        unsigned count;
        opened_page pages[OPENED_MAX];
    } opened;
    size_t decoder[3][2]; /* capstone handles: 16/32/64-bit code, without and with operands */
    void *decoded;        /* what they decode into; time/block_cost.c borrows both */
    struct {
        unsigned bits;
        instruction in;
        uint8_t code[INSTRUCTION_BYTES_MAX];
    } decoded_before[64];
    struct {
        uint64_t page;
        const uint8_t *host;
        uint32_t generation;
    } code_tlb[256]; /* where code lies in host memory */
} sc_arch;

/* state.c */
void arch_reset(sc_cpu *cpu); /* the slots too */
bool arch_can_restore(const arch_state *from);
void arch_restore(sc_cpu *cpu, const arch_state *from);

/* loop.c */
void begin_trap(sc_cpu *cpu);   /* an intercept or exception came, and the slots are saved */
void end_trap(sc_cpu *cpu);     /* what comes of it has been done */
void let_iret_run(sc_cpu *cpu); /* the block that begins is the IRET's */
bool end_iret(sc_cpu *cpu);
bool iret_unblocks_nmis(const sc_cpu *cpu);
bool is_due(const sc_cpu *cpu); /* the deadline has come */
bool must_stop(const sc_cpu *cpu);
bool must_settle(sc_cpu *cpu);
void watch(sc_cpu *cpu);  /* decide when a block that begins has to look closer */
void settle(sc_cpu *cpu); /* after anything happened: pending events, window, deadline; then ready to run or to stop */
void skip(sc_cpu *cpu, uint32_t instruction_bytes);
void end_instruction(sc_cpu *cpu); /* it is done, and RIP is where it leads */

/* exits.c */
void vm_exit(sc_cpu *cpu, uint32_t reason, uint64_t qualification, uint32_t instruction_bytes);
void trap_instruction(sc_cpu *cpu, unsigned code);

/* exits_events.c */
void vm_exit_event(sc_cpu *cpu, event e);
void vm_exit_ept(sc_cpu *cpu, walk_result w, unsigned access, uint64_t linear, bool linear_valid);
void set_vectoring(sc_cpu *cpu, event e); /* the next exit interrupts the delivery of `e` */
bool exception_exits(const sc_cpu *cpu, event e);
void trap_exception(sc_cpu *cpu, unsigned vector);
void trap_software_interrupt(sc_cpu *cpu, const instruction *in);
void trap_nested_fault(sc_cpu *cpu);
uint64_t fault_address(sc_cpu *cpu); /* of the #PF that the engine reports */

/* exits_registers.c */
void trap_cr_read(sc_cpu *cpu, const instruction *in);
void trap_cr_write(sc_cpu *cpu, const instruction *in);
void trap_msr(sc_cpu *cpu, const instruction *in);
void trap_dr(sc_cpu *cpu, const instruction *in);

/* exits_io.c */
bool io_denied(sc_cpu *cpu);
void trap_io(sc_cpu *cpu);

/* boundary.c */
bool has_monitor_trap(const sc_cpu *cpu);
void note_boundary(sc_cpu *cpu); /* an instruction or an event is done */
void begin_entry(sc_cpu *cpu);
void end_entry(sc_cpu *cpu);
bool boundary_exit_due(const sc_cpu *cpu);
void exit_at_boundary(sc_cpu *cpu);
bool inject_monitor_trap(sc_cpu *cpu, unsigned type);
bool pause_exits(sc_cpu *cpu);

/* events.c */
bool deliver(sc_cpu *cpu, event e);      /* false: something else came of it */
bool pushes_error_code(unsigned vector); /* of exceptions, SDM 3A 6.15 */
void raise_event(sc_cpu *cpu, event e);  /* an exit if a control asks for it, else delivery */
void raise_fault(sc_cpu *cpu, unsigned vector, uint32_t error_code); /* a fault of the instruction at RIP */
void raise_debug(sc_cpu *cpu, uint64_t payload); /* a #DB trap behind the instruction that is done */
bool window_open(const sc_cpu *cpu); /* may an external interrupt be delivered before the next instruction? */

/* recent.c: the last events */
void note_delivery(sc_cpu *cpu, event e);
void note_exit(sc_cpu *cpu, uint32_t reason, uint64_t qualification);

/* segments.c: what far transfers share */
typedef struct {
    enum { DONE, FAULT, UNMAPPED, LEFT } what; /* LEFT: a VM exit took place instead */
    event next;                                /* FAULT: what the transfer itself raised */
    walk_result walk;                          /* UNMAPPED: of an access that EPT has no mapping for */
    unsigned access;
    bool task_trap; /* DONE: a #DB follows, by the T bit of the new task */
} outcome;
typedef struct {
    uint16_t selector;
    uint64_t base;
    uint32_t limit, rights; /* rights in VMCS format */
} segment;
outcome faulted(unsigned vector, uint32_t error_code);
outcome access_failed(walk_result w, unsigned access);
outcome read_descriptor(sc_cpu *cpu, uint16_t selector, unsigned fault_vector, uint32_t ext, uint64_t *ret);
segment unpack_descriptor(uint16_t selector, uint64_t d);
segment get_segment(const sc_cpu *cpu, int index);
void set_segment(sc_cpu *cpu, int index, segment s);
outcome mark_accessed(sc_cpu *cpu, uint16_t selector, uint64_t d);
bool in_limit(const segment *s, uint64_t offset, uint64_t bytes);
bool has_stack_room(const segment *ss, uint64_t sp, unsigned width, int count);
outcome inner_stack(sc_cpu *cpu, unsigned level, unsigned ist, uint32_t ext, uint64_t *sp, uint16_t *ss);
outcome load_inner_ss(sc_cpu *cpu, uint16_t selector, unsigned level, uint32_t ext, segment *ret);
outcome push_all(sc_cpu *cpu, const segment *ss, uint32_t ss_error, uint64_t *sp, unsigned width,
                 const uint64_t *values, int count, unsigned access);

/* gates.c */
enum { BY_CALL, BY_IRET, BY_JMP, BY_GATE }; /* as a task switch tells where it comes from: SDM 3C table 28-2 */
void trap_far_transfer(sc_cpu *cpu, const instruction *in);

/* tasks.c */
bool is_task(uint64_t d); /* a descriptor of a TSS or a task gate */
outcome find_task(sc_cpu *cpu, uint16_t selector, int by, uint32_t ext, segment *ret);
outcome switch_task(sc_cpu *cpu, const segment *to, int by, uint64_t rip, uint64_t rflags, uint32_t ext);
outcome to_named_task(sc_cpu *cpu, uint16_t selector, uint64_t d, int by, const instruction *in);
outcome to_linked_task(sc_cpu *cpu, const instruction *in);

/* delivery.c */
outcome deliver_once(sc_cpu *cpu, event e);

/* walk.c */
walk_result walk(sc_cpu *cpu, uint64_t linear, unsigned access);
walk_result walk_ept(sc_cpu *cpu, uint64_t gpa, unsigned access, bool *large);
bool pdptes_valid(sc_cpu *cpu, uint64_t cr3);
walk_result linear_read(sc_cpu *cpu, uint64_t linear, void *data, size_t bytes, unsigned access);
void physical_write(sc_cpu *cpu, uint64_t hpa, const void *data, size_t bytes); /* dropped where there is no RAM */
walk_result linear_write(sc_cpu *cpu, uint64_t linear, const void *data, size_t bytes, unsigned access);
walk_result linear_check(sc_cpu *cpu, uint64_t linear, size_t bytes, unsigned access);

/* decode.c */
bool decode_open(sc_cpu *cpu);
void decode_close(sc_cpu *cpu);
void forget_decoded(sc_cpu *cpu);
unsigned code_bits(const sc_cpu *cpu);
uint64_t linear_of(const sc_cpu *cpu, unsigned segment, uint64_t offset);
uint64_t linear_of_stack(const sc_cpu *cpu, uint64_t below_bytes);
uint64_t linear_rip(const sc_cpu *cpu);
size_t code_at_rip(sc_cpu *cpu, uint8_t ret[INSTRUCTION_BYTES_MAX]);
instruction decode(sc_cpu *cpu);
const uint8_t *code_host(sc_cpu *cpu, uint64_t linear);
bool has_bad_lock(sc_cpu *cpu, const uint8_t *code, size_t bytes, unsigned bits);
int register_index(unsigned reg); /* 0-15 of a general register of any width, or -1 */

/* hardware.c: what an instruction does where no control asks for an exit */
uint64_t gpr_read(const sc_cpu *cpu, int index);
void gpr_write(sc_cpu *cpu, int index, uint64_t value, unsigned bytes);
bool write_cr0(sc_cpu *cpu, uint64_t value); /* false: #GP(0), as of the next ones */
bool write_cr3(sc_cpu *cpu, uint64_t value);
bool write_cr4(sc_cpu *cpu, uint64_t value);
bool read_msr(sc_cpu *cpu, uint32_t index, uint64_t *ret);
bool write_msr(sc_cpu *cpu, uint32_t index, uint64_t value);
bool memory_fault(sc_cpu *cpu, walk_result w, unsigned access);
uint64_t read_tsc(const sc_cpu *cpu);
void do_cpuid(sc_cpu *cpu);
void do_io(sc_cpu *cpu, const instruction *in);
void do_syscall(sc_cpu *cpu, uint32_t instruction_bytes);
void do_sysenter(sc_cpu *cpu);

/* monitor.c */
void trap_monitor(sc_cpu *cpu, const instruction *in);

/* debug.c */
bool has_breakpoints(const sc_cpu *cpu);
unsigned code_breakpoints(const sc_cpu *cpu, uint64_t pc, uint32_t size, bool *inside);
bool has_data_breakpoints(const sc_cpu *cpu);
void note_data_access(sc_cpu *cpu, uint64_t linear, unsigned bytes, bool is_write);
void record_debug(sc_cpu *cpu, uint64_t payload);
void move_debug_register(sc_cpu *cpu, const instruction *in);

/* watched_page.c */
bool has_watched(const sc_cpu *cpu, uint64_t hpa, unsigned shift);
bool access_watched(sc_cpu *cpu, uint64_t linear, unsigned access);
bool access_watched_nested(sc_cpu *cpu, uint64_t gpa, uint64_t hpa, unsigned access);
void pause_watched(sc_cpu *cpu);
void close_watched(sc_cpu *cpu);
#endif
