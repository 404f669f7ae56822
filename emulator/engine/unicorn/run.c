/* Running a CPU on Unicorn: hooks, the run itself, opening and closing. Only this folder knows Unicorn.
 *
 * The guest runs for ever in the engine's SVM guest mode, so that sensitive instructions and all exceptions come to
 * `on_intercept` with RIP at the instruction.
 */
#include <stdlib.h>
#include <sys/mman.h>
#include "state.h"

/* The engine translates a whole block before it runs it, so a page that cannot be fetched faults although the instruction
 * at RIP lies before it. Then that instruction runs alone (the engine makes blocks of one in an interrupt shadow), and so
 * on, until the fault is due. */
static bool fetched_ahead(sc_cpu *cpu) {
    uint64_t at = linear_rip(cpu);
    if (cpu->step == STEP_ARMED || is_within(cpu, cpu->trapped, at)) return false;
    instruction in = decode(cpu);
    return in.id && (at & 0xfff) + in.length_bytes <= 0x1000;
}

static bool may_be_fetch(sc_cpu *cpu, unsigned code) {
    if (code == 0x400) return engine_error_code(cpu) & PF_FETCH;
    return code == 0x40 + PAGE_FAULT && engine_fault_address(cpu) == (linear_rip(cpu) | 0xfff) + 1;
}

static void take_intercept(sc_cpu *cpu, unsigned code) {
    close_watched(cpu);
    if (cpu->escape != ESCAPE_NONE) { /* the escape clobbered nothing that the context saved by escape() has not */
        int kind = cpu->escape;
        cpu->escape = ESCAPE_NONE;
        uc_context_restore(cpu->uc, cpu->context);
        engine_save(cpu);
        refund(cpu, linear_rip(cpu));
        if (kind == ESCAPE_IO) {
            trap_io(cpu);
        } else {
            instruction in = decode(cpu);
            if (!in.id)
                raise_fault(cpu, INVALID_OPCODE, 0); /* with LOCK, which the engine lets pass */
            else
                kind == ESCAPE_SYSCALL ? do_syscall(cpu, in.length_bytes) : do_sysenter(cpu);
        }
    } else {
        engine_save(cpu);
        refund(cpu, linear_rip(cpu));
        cpu->iret_unblocked = end_iret(cpu);
        bool ahead = may_be_fetch(cpu, code) && fetched_ahead(cpu);
        cpu->step = ahead ? STEP_ARMED : STEP_NONE;
        if (ahead)
            ; /* not yet */
        else if (code >= 0x40 && code < 0x60)
            trap_exception(cpu, code - 0x40);
        else if (code == 0x400)
            trap_nested_fault(cpu);
        else
            trap_instruction(cpu, code);
    }
    cpu->iret_unblocked = false;
    if (cpu->opened.is_open || cpu->iret == IRET_ARMED) { /* for the next instruction; what is pending comes after it */
        watch(cpu);
        engine_load(cpu);
        return;
    }
    settle(cpu);
    bool other_hook = wants_memory_hook(cpu) != (cpu->memory_hook != 0);
    if (must_stop(cpu) || is_due(cpu) || other_hook) /* code that cannot be fetched has no blocks where else to stop */
        uc_emu_stop(cpu->uc);
    else
        engine_load(cpu);
}

static void on_intercept(uc_engine *uc, uint32_t number, void *data) {
    sc_cpu *cpu = data;
    if (number < 0x100 || number > 0x100 + 0x400) {
        cpu->engine_error = (int)number;
        uc_emu_stop(uc);
        return;
    }
    void *guard = lift_guard();
    take_intercept(cpu, number - 0x100);
    restore_guard(guard);
}

/* Leave the middle of a block: reading an MSR that is intercepted makes the engine exit to on_intercept at once, with
 * RIP at the instruction. Port hooks and SYSCALL cannot be left otherwise: they run on to the end of the block. */
static void escape(sc_cpu *cpu, int kind) {
    uc_x86_msr msr = {.rid = 0, .value = 0};
    cpu->escape = kind;
    uc_context_save(cpu->uc, cpu->context);
    uc_reg_read(cpu->uc, UC_X86_REG_MSR, &msr);
}

static uint32_t on_in(uc_engine *uc, uint32_t port, int size, void *data) {
    sc_cpu *cpu = data;
    (void)uc;
    cpu->io.port = (uint16_t)port, cpu->io.size = (uint8_t)size, cpu->io.in = true;
    escape(cpu, ESCAPE_IO);
    return 0;
}

static void on_out(uc_engine *uc, uint32_t port, int size, uint32_t value, void *data) {
    sc_cpu *cpu = data;
    (void)uc, (void)value;
    cpu->io.port = (uint16_t)port, cpu->io.size = (uint8_t)size, cpu->io.in = false;
    escape(cpu, ESCAPE_IO);
}

static void on_syscall(uc_engine *uc, void *data) {
    (void)uc;
    escape(data, ESCAPE_SYSCALL);
}

static void on_sysenter(uc_engine *uc, void *data) {
    (void)uc;
    escape(data, ESCAPE_SYSENTER);
}

/* `b` has an instruction that the engine must not run: with a LOCK prefix where it cannot be, which it lets pass, or
 * perhaps with lengths that end the process. What lies before runs, each instruction alone, until a block is the one; then
 * that is #UD. True: the block does not run. */
static bool stop_before_unsafe(sc_cpu *cpu, const block *b) {
    bool alone = cpu->step != STEP_NONE, locks = b->bad_lock_at < b->size_bytes;
    cpu->is_unsafe = locks ? b->bad_lock_at == 0 : alone && !lengths_are_safe(cpu, b);
    if (!locks && alone && !cpu->is_unsafe) return false;
    cpu->step = cpu->is_unsafe ? STEP_NONE : STEP_ARMED;
    uc_emu_stop(cpu->uc);
    return true;
}

bool must_empty(const sc_cpu *cpu) { return cpu->translated > TRANSLATED_MAX; }

/* A breakpoint on an instruction faults before it, unless RF is set, which is for one instruction (SDM 3B 18.3.1.1). */
static bool stop_at_breakpoint(sc_cpu *cpu, uint64_t pc, uint32_t size) {
    bool inside = false;
    unsigned hits = code_breakpoints(cpu, pc, size, &inside);
    if (hits) engine_window(cpu);
    cpu->code_hits = hits && !(SLOT(cpu, GUEST_RFLAGS) & RFLAGS_RF) ? (uint8_t)hits : 0;
    if (!cpu->code_hits && (!inside || cpu->step != STEP_NONE)) return false;
    cpu->step = cpu->code_hits ? STEP_NONE : STEP_ARMED;
    uc_emu_stop(cpu->uc);
    return true;
}

static bool has_to_stop(sc_cpu *cpu) { return is_due(cpu) || must_settle(cpu) || must_empty(cpu); }

static void on_block(uc_engine *uc, uint64_t pc, uint32_t size, void *data) {
    sc_cpu *cpu = data;
    bool changed = false, restart;
    const hot_block *h = find_block(cpu, pc, size, &changed);
    if (changed) {
        cpu->retranslate = true;
        cpu->empty_cache = !h->block;
        cpu->retranslate_pc = pc;
        cpu->retranslate_bytes = size;
        uc_emu_stop(uc);
        return;
    }
    restart = h->instructions == 1 && h->block && is_restart(cpu, &cpu->blocks[h->block]);
    if (restart) refund(cpu, pc);
    if (cpu->s.clock_cycles >= cpu->check_at_cycles) {
        if (end_iret(cpu)) watch(cpu);
        if (cpu->step != STEP_NONE && --cpu->step == STEP_NONE) {
            note_boundary(cpu);
            watch(cpu);
        }
        if (cpu->step == STEP_NONE && cpu->opened.is_open) { /* the access is done */
            uc_emu_stop(uc);
            return;
        }
        if (!restart && has_to_stop(cpu)) { /* stopped here, a store would only restart again */
            uc_emu_stop(uc);
            return;
        }
        if (has_breakpoints(cpu) && stop_at_breakpoint(cpu, pc, size)) return;
        if (cpu->iret == IRET_ARMED) cpu->iret = IRET_RUNS;
    }
    if (h->branch != BRANCH_UNSAFE || !stop_before_unsafe(cpu, &cpu->blocks[h->block])) start_block(cpu, h);
}

/* A block has been translated. When its buffer of translations is full the engine empties it and forgets where code lies;
 * a guest may notice, where it changed a mapping without flushing it. How large translations are depends on where the
 * workstation has put things: so they are emptied before, by their count. */
static void on_translation(uc_engine *uc, uc_tb *made, uc_tb *before, void *data) {
    sc_cpu *cpu = data;
    (void)uc, (void)before;
    cpu->translated += made->icount + BLOCK_WEIGHT;
    if (must_empty(cpu)) cpu->check_at_cycles = 0;
}

static bool add_hooks(sc_cpu *cpu) {
    uc_hook h;
    uc_engine *uc = cpu->uc;
    return !uc_hook_add(uc, &h, UC_HOOK_INTR, (void *)on_intercept, cpu, 1, 0) &&
           !uc_hook_add(uc, &h, UC_HOOK_EDGE_GENERATED, (void *)on_translation, cpu, 1, 0) &&
           !uc_hook_add(uc, &h, UC_HOOK_BLOCK, (void *)on_block, cpu, 1, 0) &&
           !uc_hook_add(uc, &h, UC_HOOK_INSN, (void *)on_in, cpu, 1, 0, UC_X86_INS_IN) &&
           !uc_hook_add(uc, &h, UC_HOOK_INSN, (void *)on_out, cpu, 1, 0, UC_X86_INS_OUT) &&
           !uc_hook_add(uc, &h, UC_HOOK_INSN, (void *)on_syscall, cpu, 1, 0, UC_X86_INS_SYSCALL) &&
           !uc_hook_add(uc, &h, UC_HOOK_INSN, (void *)on_sysenter, cpu, 1, 0, UC_X86_INS_SYSENTER);
}

static bool open_engine(sc_cpu *cpu) {
    return !uc_open(UC_ARCH_X86, UC_MODE_64, (uc_engine **)&cpu->uc) && !uc_ctl_set_cpu_model(cpu->uc, CPU_MODEL) &&
           !uc_ctl_set_tcg_buffer_size(cpu->uc, BUFFER_BYTES) &&
           !uc_mem_map_ptr(cpu->uc, 0, cpu->memory_bytes, UC_PROT_ALL, cpu->memory) &&
           !uc_mem_map_ptr(cpu->uc, ARENA, ARENA_BYTES, UC_PROT_ALL, cpu->arena) && map_holes(cpu);
}

void empty_translations(sc_cpu *cpu) {
    uc_ctl_flush_tb(cpu->uc);
    cpu->translated = 0;
}

/* A new engine in place of one that has had its aborts. The saved context goes on in it; translations are made again. */
static bool reopen(sc_cpu *cpu) {
    uc_engine *old = cpu->uc;
    cpu->uc = NULL;
    cpu->memory_hook = 0;
    cpu->translated = 0;
    cpu->s.flush_tlb = FLUSH_ALL;
    bool ready = open_engine(cpu) && add_hooks(cpu);
    uc_close(old);
    return ready;
}

bool engine_run(sc_cpu *cpu) {
    uc_err error = UC_ERR_OK;
    bool nowhere = false; /* a fetch where nobody answers: all ones are no instruction */
    cpu->retranslate = cpu->is_unsafe = false;
    cpu->code_hits = 0;
    engine_watch_memory(cpu, wants_memory_hook(cpu));
    engine_load(cpu);
    bool alone = cpu->step == STEP_ARMED;
    bool translated = start_guarded(cpu, &error);
    alone = alone && cpu->step == STEP_ARMED;
    if (cpu->retranslate && !error) {
        if (cpu->empty_cache)
            empty_translations(cpu);
        else
            uc_ctl_remove_cache(cpu->uc, cpu->retranslate_pc, cpu->retranslate_pc + cpu->retranslate_bytes);
    }
    if (translated && must_empty(cpu)) empty_translations(cpu);
    if (!cpu->saved) engine_save(cpu);
    close_watched(cpu);
    if (error == UC_ERR_FETCH_PROT) error = UC_ERR_OK, nowhere = true;
    if (!translated && ++cpu->aborts % ABORTS_MAX == 0 && !reopen(cpu)) error = UC_ERR_RESOURCE;
    if (error && !cpu->engine_error) cpu->engine_error = (int)error;
    if (!cpu->engine_error && (nowhere || cpu->is_unsafe || !translated)) { /* no instruction, at RIP or behind it */
        cpu->trapped = cpu->current = NULL;
        bool is_next = nowhere ? !fetched_ahead(cpu) : cpu->is_unsafe || alone;
        cpu->step = is_next ? STEP_NONE : STEP_ARMED;
        if (is_next) raise_fault(cpu, INVALID_OPCODE, 0);
    }
    if (!cpu->engine_error && cpu->code_hits) {
        cpu->trapped = cpu->current = NULL;
        raise_debug(cpu, cpu->code_hits);
    }
    return !cpu->engine_error;
}

void sc_close(sc_cpu *cpu) {
    if (!cpu) return;
    if (cpu->context) uc_context_free(cpu->context);
    if (cpu->uc) uc_close(cpu->uc);
    if (cpu->arena) munmap(cpu->arena, ARENA_BYTES);
    decode_close(cpu);
    blocks_close(cpu);
    free(cpu);
}

/* A CPU over `memory`, in reset-like state. NULL on failure, with `*problem` naming what is not as expected. */
sc_cpu *sc_open(uint8_t *memory, uint64_t memory_bytes, void *python, const char **problem) {
    sc_cpu *cpu = calloc(1, sizeof *cpu);
    *problem = "out of memory";
    if (!cpu) return NULL;
    cpu->python = python;
    cpu->memory = memory;
    cpu->memory_bytes = memory_bytes;
    cpu->tlb_generation = 1;
    cpu->arena = mmap(NULL, ARENA_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (cpu->arena == MAP_FAILED) cpu->arena = NULL;
    uc_x86_msr hsave = {.rid = 0xc0010117, .value = ARENA + HOST_SAVE};
    bool ready = cpu->arena && decode_open(cpu) && blocks_open(cpu);
    if (ready) {
        *problem = "cannot open the engine";
        ready = open_engine(cpu) && !uc_context_alloc(cpu->uc, (uc_context **)&cpu->context);
        catch_aborts();
    }
    ready = ready && find_raw_state(cpu, problem) && !uc_reg_write(cpu->uc, UC_X86_REG_MSR, &hsave) &&
            verify_layout(cpu, problem);
    if (ready) {
        *problem = "hooks";
        ready = add_hooks(cpu);
    }
    if (!ready) {
        sc_close(cpu);
        return NULL;
    }
    reset_state(cpu);
    *problem = NULL;
    return cpu;
}
