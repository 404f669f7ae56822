/* Time goes by: what blocks, single instructions, events, wrong predictions and memory accesses add to the clock.
 *
 *   run.c ----> start_block --> predictor --> [fetch kernel] --> cost of the block (block_cost.c)
 *   sc_access (detailed) ------> data kernel --(-1: TLB miss)--> walk, walk kernel, again
 *
 * The kernels are numba's (emulator/timing); they know caches and TLBs, and nothing of this folder.
 */
#include "engine.h"

/* The clock goes on by `cycles`, negative when some are given back, and by what a sibling thread makes of them. */
static inline void elapse(sc_cpu *cpu, int64_t cycles) {
    cpu->s.clock_cycles += (uint64_t)cycles;
    if (__builtin_expect(!cpu->s.slow_percent, 1)) return;
    int64_t hundredths = cycles * cpu->s.slow_percent + cpu->s.slow_rest, whole = hundredths / 100;
    if (whole * 100 > hundredths) whole--;
    cpu->s.slow_rest = hundredths - whole * 100;
    cpu->s.sibling_cycles += (uint64_t)whole;
    cpu->s.clock_cycles += (uint64_t)whole;
}

/* Add work and stalls, both in 64ths of a cycle and possibly negative; what is less than a cycle is kept for later. */
static inline void charge_64ths(sc_cpu *cpu, int64_t work_64ths, int64_t stall_64ths) {
    int64_t work = cpu->s.work_64ths + work_64ths, stall = cpu->s.stall_64ths + stall_64ths;
    cpu->s.work_64ths = work & 63;
    cpu->s.stall_64ths = stall & 63;
    cpu->s.guest_cycles += (uint64_t)(work >> 6);
    cpu->s.memory_cycles += (uint64_t)(stall >> 6);
    elapse(cpu, (work >> 6) + (stall >> 6));
}

/* --- single instructions and events ------------------------------------------------------------------------------ */

/* The instruction decoded last was executed by this folder; it is counted. MODEL: a REP string instruction counts once
 * per iteration and once for the test that ends it, in the engine and in do_io alike. */
void retire(sc_cpu *cpu) {
    const sc_timing *t = &cpu->time.parameters;
    cpu->s.instructions++;
    note_boundary(cpu);
    if (!t->issue_width) return charge_64ths(cpu, 64, 0);
    const sc_class_cost *cost = &t->costs[cpu->arch.state.decoded_class];
    charge_64ths(cpu, cost->occupancy_cycles * 64ll + cost->uops * 64ll / t->issue_width, 0);
}

/* An event goes through the IDT (or tries to). */
void elapse_event(sc_cpu *cpu, event e) {
    const sc_timing *t = &cpu->time.parameters;
    bool is_page_fault = e.type == EVENT_HARDWARE_EXCEPTION && e.vector == PAGE_FAULT;
    uint64_t cycles = is_page_fault ? t->page_fault_entry_cycles : t->exception_entry_cycles;
    if (e.type == EVENT_EXTERNAL_INTERRUPT) cycles = t->interrupt_entry_cycles;
    if (e.type >= EVENT_SOFTWARE_INTERRUPT) cycles = t->issue_width ? t->costs[CLASS_INT].occupancy_cycles : 0;
    if (!cycles) cycles = 1; /* time goes on even where a handler's first instruction faults */
    cpu->s.event_cycles += cycles;
    elapse(cpu, (int64_t)cycles);
}

void elapse_task_switch(sc_cpu *cpu) {
    cpu->s.event_cycles += cpu->time.parameters.task_switch_cycles;
    elapse(cpu, cpu->time.parameters.task_switch_cycles);
}

/* --- prediction ---------------------------------------------------------------------------------------------------
 * Two-bit counters by address of the block that ends in the branch, last targets for indirect branches, and a stack
 * of return addresses. MODEL: no history: a branch that alternates is mispredicted. */

/* Counters go from 0 to 3, and foretell "taken" from 2 on. */
static uint8_t *counter_of(sc_cpu *cpu, uint64_t end) {
    uint64_t key = end ^ end >> 13;
    return &cpu->time.history.predictor[key & (cpu->time.parameters.predictor_entries - 1) & (PREDICTOR_MAX - 1)];
}

/* What ran last is forgotten, but that it ended so. */
void end_at(sc_cpu *cpu, uint64_t end, unsigned branch) {
    cpu->time.forgotten = (block){.cpu = cpu, .end = end, .branch = (uint8_t)branch, .counter = counter_of(cpu, end)};
    cpu->time.last = &cpu->time.forgotten;
}

static inline bool foretold(uint8_t *counter, bool taken) {
    uint8_t was = *counter, now = taken ? was + (was < 3) : was - (was > 0);
    if (now != was) *counter = now; /* mostly it stays */
    return was >> 1 == taken;
}

/* Whether `pc` was expected behind `last`. */
static bool predicted(sc_cpu *cpu, const block *last, uint64_t pc) {
    uint64_t end = last->end, key = end ^ end >> 13;
    switch (last->branch) {
    case BRANCH_CONDITIONAL: return foretold(last->counter, pc != end);
    case BRANCH_CALL: cpu->time.history.returns[++cpu->time.history.return_at & (RETURNS - 1)] = end; return true;
    case BRANCH_RETURN: return cpu->time.history.returns[cpu->time.history.return_at-- & (RETURNS - 1)] == pc;
    case BRANCH_CALL_INDIRECT:
        cpu->time.history.returns[++cpu->time.history.return_at & (RETURNS - 1)] = end; /* fall through */
    case BRANCH_INDIRECT: {
        uint64_t *target =
            &cpu->time.history.targets[key & (cpu->time.parameters.target_entries - 1) & (TARGETS_MAX - 1)];
        bool right = *target == pc;
        *target = pc;
        return right;
    }
    default: return true;
    }
}

/* --- the memory hierarchy ------------------------------------------------------------------------------------------ */

static void stall(sc_cpu *cpu, int64_t cycles) {
    if (cycles <= 0) return;
    cpu->s.memory_cycles += (uint64_t)cycles;
    elapse(cpu, cycles);
}

void note_reference(sc_cpu *cpu, uint64_t hpa) {
    if (cpu->time.is_recording && cpu->time.reference_count < REFERENCES_MAX)
        cpu->time.references[cpu->time.reference_count++] = (int64_t)hpa;
}

/* The model's TLB misses: walk as hardware does, tell the model which entries that reads. `linear` maps to `hpa`. */
static void page_walk(sc_cpu *cpu, int kind, uint64_t hpa, uint64_t linear) {
    const sc_timing *t = &cpu->time.parameters;
    cpu->time.reference_count = 0;
    cpu->time.is_recording = true;
    walk_result w = walk(cpu, linear, ACCESS_PROBE);
    cpu->time.is_recording = false;
    int64_t page_kind = (w.page_shift > 12 ? PAGE_IS_LARGE : 0) | (w.is_global ? PAGE_IS_GLOBAL : 0);
    int64_t cycles = t->walk(t->state, t->pcpu, kind, (int64_t)hpa, (int64_t)(linear >> 12), page_kind,
                             cpu->time.references, cpu->time.reference_count, (int64_t)cpu->s.clock_cycles);
    if (cycles <= 0) return;
    cpu->s.walk_cycles += (uint64_t)cycles;
    elapse(cpu, cycles);
}

void access_memory(sc_cpu *cpu, uint64_t hpa, uint64_t linear, unsigned bytes, bool is_write) {
    const sc_timing *t = &cpu->time.parameters;
    if (!t->data || !is_ram(cpu, hpa, 1)) return;
    if (bytes > 0x1000 - (hpa & 0xfff)) bytes = 0x1000 - (hpa & 0xfff); /* MODEL: what crosses a page touches one */
    int64_t size_write = (int64_t)bytes << 1 | is_write, now = (int64_t)cpu->s.clock_cycles;
    int64_t cycles = t->data(t->state, t->pcpu, (int64_t)hpa, size_write, now);
    if (cycles < 0) {
        page_walk(cpu, DATA_WALK, hpa, linear);
        cycles = t->data(t->state, t->pcpu, (int64_t)hpa, size_write, (int64_t)cpu->s.clock_cycles);
    }
    stall(cpu, cycles);
}

static void fetch_piece(sc_cpu *cpu, uint64_t hpa, uint64_t linear, uint64_t bytes) {
    const sc_timing *t = &cpu->time.parameters;
    int64_t cycles = t->fetch(t->state, t->pcpu, (int64_t)hpa, (int64_t)bytes, (int64_t)cpu->s.clock_cycles);
    if (cycles < 0) {
        page_walk(cpu, CODE_WALK, hpa, linear);
        cycles = t->fetch(t->state, t->pcpu, (int64_t)hpa, (int64_t)bytes, (int64_t)cpu->s.clock_cycles);
    }
    stall(cpu, cycles);
}

/* Bring the code of a block in; code in the line fetched last is there already. */
static void fetch(sc_cpu *cpu, const block *b) {
    uint64_t hpa = (uint64_t)(b->host[0] - cpu->memory), first = 0x1000 - (b->pc & 0xfff), bytes = b->size_bytes;
    if (hpa >> 6 == cpu->time.history.fetched_line && (hpa + bytes - 1) >> 6 == cpu->time.history.fetched_line) return;
    if (first > bytes) first = bytes;
    fetch_piece(cpu, hpa, b->pc, first);
    cpu->time.history.fetched_line = (hpa + first - 1) >> 6;
    if (first == bytes) return;
    hpa = (uint64_t)(b->host[1] - cpu->memory);
    fetch_piece(cpu, hpa, b->pc + first, bytes - first);
    cpu->time.history.fetched_line = (hpa + bytes - first - 1) >> 6;
}

/* Translations are gone: all, all but global ones, or those of one page. */
void forget_translations(sc_cpu *cpu, bool keep_global) {
    cpu->time.history.fetched_line = ~0ull;
    if (cpu->time.parameters.flush)
        cpu->time.parameters.flush(cpu->time.parameters.state, cpu->time.parameters.pcpu, keep_global);
}

void forget_page(sc_cpu *cpu, uint64_t linear) {
    cpu->time.history.fetched_line = ~0ull;
    if (cpu->time.parameters.flush_page)
        cpu->time.parameters.flush_page(cpu->time.parameters.state, cpu->time.parameters.pcpu, (int64_t)(linear >> 12));
}

/* --- blocks -------------------------------------------------------------------------------------------------------- */

/* What starting a block needs is known when it is translated. */
void prepare_block(sc_cpu *cpu, block *b, uint32_t accesses) {
    b->stall_64ths = (int64_t)accesses * cpu->time.parameters.access_allowance_64ths;
    b->counter = counter_of(cpu, b->end);
    bool is_simple = b->is_known && !cpu->time.parameters.fetch && !cpu->time.parameters.drain;
    b->is_plain = is_simple && b->instructions > 1 && b->branch < BRANCH_REPEAT;
    b->may_repeat = is_simple && b->branch == BRANCH_REPEAT;
}

static __attribute__((noinline)) void mispredict(sc_cpu *cpu) {
    cpu->s.branch_cycles += cpu->time.parameters.mispredict_cycles;
    elapse(cpu, cpu->time.parameters.mispredict_cycles);
}

static inline void charge_block(sc_cpu *cpu, block *b) {
    cpu->time.last = b;
    cpu->s.instructions += b->instructions;
    charge_64ths(cpu, b->cost_64ths, b->stall_64ths);
}

/* The block runs now. It is charged whole; refund() gives back what a trap leaves undone. */
void start_plain(sc_cpu *cpu, block *b) {
    const block *last = cpu->time.last;
    bool right = true;
    if (last->branch == BRANCH_CONDITIONAL)
        right = foretold(last->counter, b->pc != last->end);
    else if (last->branch != BRANCH_NONE && last->branch < BRANCH_REPEAT)
        right = predicted(cpu, last, b->pc);
    if (!right) mispredict(cpu);
    charge_block(cpu, b);
}

/* A string instruction goes on: nothing has happened since its last iteration, which was this block. */
void repeat_block(sc_cpu *cpu, block *b) {
    cpu->s.instructions += b->instructions;
    charge_64ths(cpu, b->cost_64ths, b->stall_64ths);
}

/* The same for every block. */
void start_block(sc_cpu *cpu, block *b) {
    const block *last = cpu->time.last;
    if (last->branch != BRANCH_NONE) {
        bool repeats = last->branch == BRANCH_REPEAT && b->end == last->end;
        if (last->branch < BRANCH_REPEAT && !predicted(cpu, last, b->pc)) mispredict(cpu);
        if (!repeats && b->branch == BRANCH_REPEAT) charge_64ths(cpu, cpu->time.parameters.rep_start_cycles * 64ll, 0);
    } else if (b->branch == BRANCH_REPEAT) {
        charge_64ths(cpu, cpu->time.parameters.rep_start_cycles * 64ll, 0);
    }
    if (cpu->time.parameters.fetch && b->is_known) fetch(cpu, b);
    if (cpu->time.parameters.drain && b->drains) /* when it begins. MODEL: not where LOCK stands */
        stall(cpu, cpu->time.parameters.drain(cpu->time.parameters.state, cpu->time.parameters.pcpu,
                                              (int64_t)cpu->s.clock_cycles));
    charge_block(cpu, b);
}

/* Give back what was not executed of the current block when it is left at linear address `pc`. What is pipelined is
 * shared evenly among the instructions. */
void refund(sc_cpu *cpu, uint64_t pc) {
    block *b = cpu->time.trapped = current_block(cpu);
    end_at(cpu, cpu->time.last->end, BRANCH_NONE);
    cpu->time.history.fetched_line = ~0ull;
    uint64_t done_bytes, slow_64ths;
    if (!b || (done_bytes = offset_in(cpu, b, pc)) >= b->size_bytes) return;
    uint32_t left = b->instructions - instructions_before(cpu, b, done_bytes, &slow_64ths);
    uint64_t even_64ths = (uint64_t)b->cost_64ths - b->slow_64ths;
    cpu->s.instructions -= left;
    int64_t stalls_64ths = b->stall_64ths * left / b->instructions;
    charge_64ths(cpu, -(int64_t)(even_64ths * left / b->instructions + b->slow_64ths - slow_64ths), -stalls_64ths);
}

/* `t` from now on; blocks are costed anew. Not while the CPU runs. */
void sc_set_timing(sc_cpu *cpu, const sc_timing *t) {
    int64_t core = cpu->time.parameters.pcpu;
    cpu->time.parameters = *t;
    cpu->time.parameters.pcpu = core;
    end_at(cpu, cpu->time.last->end, BRANCH_NONE);
    engine_forget_code(cpu);
    forget_decoded(cpu);
}

/* Run on another core of the machine. MODEL: the branch predictor moves along. */
void sc_set_core(sc_cpu *cpu, int64_t core) {
    cpu->time.parameters.pcpu = core;
    cpu->time.history.fetched_line = ~0ull;
}
