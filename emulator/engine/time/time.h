/* What the guest's time is: every cycle that passes while it runs passes here. Part `time` of a CPU is written in this
 * folder alone; the counters in the shared struct (guest_cycles, memory_cycles, ...) and `instructions` too, but that a
 * software interrupt is counted where it is delivered.
 *
 *   add_block     a block is translated: what is known of it                                blocks.c, block_cost.c
 *   start_block   it is charged whole: prediction, fetch, its own cost                      timing.c
 *   refund        it was left in the middle: what lies behind is given back
 *   retire        an instruction that arch/ has done
 *   elapse_event  a delivery       access_memory  a load or store (detailed)
 *
 * Costs are in 64ths of a cycle until they are on the clock. The models of caches and TLBs are numba's kernels: pointers
 * in sc_timing (timing.h), which Python fills.
 */
#ifndef SC_TIME_H
#define SC_TIME_H
#include "timing.h"

/* How a block ends, for the predictor; BRANCH_REPEAT: in a string instruction with REP, which the engine enters anew for
 * each iteration. */
enum {
    BRANCH_NONE,
    BRANCH_CONDITIONAL,
    BRANCH_CALL,
    BRANCH_CALL_INDIRECT,
    BRANCH_INDIRECT,
    BRANCH_RETURN,
    BRANCH_REPEAT,
    BRANCH_UNSAFE /* it is not run as it is: see stop_before_unsafe in unicorn/run.c */
};
enum { SLOW_MAX = 8, ACCESSES_MAX = 4095, BLOCK_BYTES_MAX = 0x1000 };
typedef struct { /* an instruction that occupies the front end */
    uint16_t offset_bytes;
    uint32_t cost_64ths;
} slow_instruction;

typedef struct { /* what block_cost.c finds of a block */
    uint32_t instructions, cost_64ths, slow_64ths, slow_count, accesses;
    uint32_t bad_lock_at; /* offset of the first instruction whose LOCK prefix makes it #UD; or the size of the block */
    unsigned branch;
    bool drains; /* the store buffer: LOCK, MFENCE */
    slow_instruction slow[SLOW_MAX];
} block_cost;

/* A translated basic block: what running it takes, on one cache line; then what leaving it takes. */
typedef struct __attribute__((aligned(64))) block {
    sc_cpu *cpu;
    uint64_t pc, end;
    int64_t cost_64ths, stall_64ths; /* in 64ths of a cycle: its instructions, and their loads and stores in `fast` */
    uint8_t *counter;                /* of the predictor, for the branch that it ends with */
    uint16_t instructions, size_bytes;
    uint8_t branch;
    bool is_plain; /* start_plain() is enough for it; or, when it follows itself, repeat_block() */
    bool may_repeat;
    bool is_known; /* false: it is not in RAM, or there was no room */
    bool drains;
    uint8_t code_bits, slow_count;
    uint16_t bad_lock_at;
    uint32_t bytes_at, slow_64ths; /* in code_bytes: see blocks.c; the part of its slow instructions */
    const uint8_t *host[2];        /* where its bytes lie in host memory; [1] when it crosses a page */
} block;

enum { PREDICTOR_MAX = 1 << 14, TARGETS_MAX = 1 << 12, RETURNS = 16, REFERENCES_MAX = 32 };

typedef struct {           /* of what has run, what the time of the next block depends on; a snapshot has it as it is */
    uint64_t fetched_line; /* the line of code fetched last */
    uint64_t return_at;
    uint8_t predictor[PREDICTOR_MAX];
    uint64_t targets[TARGETS_MAX], returns[RETURNS];
} history;

typedef struct {
    sc_timing parameters;
    uint8_t *code_bytes; /* copies of the blocks' bytes, and what is known of their instructions */
    block *blocks;
    uint32_t block_count;
    uint64_t code_bytes_used;
    block *last;       /* that ran, or runs: how it ends is what its successor is predicted by. Never NULL */
    block forgotten;   /* that block, where the others are forgotten */
    block *trapped;    /* the block that the last trap left */
    bool is_recording; /* walk() notes the entries it reads */
    uint32_t reference_count;
    int64_t references[REFERENCES_MAX];
    history history;
} sc_time;

/* blocks.c */
bool blocks_open(sc_cpu *cpu);
void blocks_close(sc_cpu *cpu);
void forget_blocks(sc_cpu *cpu);
uint64_t blocks_used_bytes(const sc_cpu *cpu);
void leave_block(sc_cpu *cpu);           /* no block is being executed, and none was left by a trap */
block *current_block(const sc_cpu *cpu); /* the one being executed; NULL: none, or nothing is known of it */
block *next_block(sc_cpu *cpu);
void add_block(sc_cpu *cpu, uint64_t pc, uint32_t bytes, unsigned bits, const uint8_t *const host[2]);
block *lone_block(sc_cpu *cpu, uint64_t pc, const uint8_t *code, uint32_t size, unsigned bits);
bool is_restart(const sc_cpu *cpu, const block *b);
bool is_within(const sc_cpu *cpu, const block *b, uint64_t linear);
uint64_t offset_in(const sc_cpu *cpu, const block *b, uint64_t linear);
uint32_t instructions_before(const sc_cpu *cpu, const block *b, uint64_t bytes, uint64_t *slow_64ths);

/* block_cost.c */
void cost_block(sc_cpu *cpu, const uint8_t *code, size_t bytes, unsigned bits, uint8_t *starts, block_cost *ret);
struct cs_insn;
unsigned class_of(const sc_cpu *cpu, const struct cs_insn *insn);

/* timing.c */
void start_block(sc_cpu *cpu, block *b);
void start_plain(sc_cpu *cpu, block *b);
void repeat_block(sc_cpu *cpu, block *b);
void prepare_block(sc_cpu *cpu, block *b, uint32_t accesses);
void end_at(sc_cpu *cpu, uint64_t end, unsigned branch);
void refund(sc_cpu *cpu, uint64_t pc);
void retire(sc_cpu *cpu);
void elapse_event(sc_cpu *cpu, event e);
void elapse_task_switch(sc_cpu *cpu);
void access_memory(sc_cpu *cpu, uint64_t hpa, uint64_t linear, unsigned bytes, bool is_write);
void note_reference(sc_cpu *cpu, uint64_t hpa); /* a walk reads a page-table entry */
void forget_translations(sc_cpu *cpu, bool keep_global);
void forget_page(sc_cpu *cpu, uint64_t linear);

/* saved.c: what a snapshot has of it */
typedef struct {
    history history;
    uint64_t last_end; /* of the block that ran last */
    uint32_t last_branch;
    uint64_t current_pc; /* the block that ran last, to know a restart: see is_restart */
    uint32_t current_bytes, current_bits;
    uint8_t current_code[BLOCK_BYTES_MAX];
} saved_time;
void time_keep(const sc_cpu *cpu, saved_time *ret);
bool time_can_restore(const saved_time *from);
void time_restore(sc_cpu *cpu, const saved_time *from);
#endif
