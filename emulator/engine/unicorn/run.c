/* Running a CPU on Unicorn: hooks, the run itself, opening and closing. Only this folder knows Unicorn.
 *
 * The guest runs for ever in the engine's SVM guest mode, so that sensitive instructions and all exceptions come to
 * `on_intercept` with RIP at the instruction.
 */
#include <sys/mman.h>
#include "state.h"

/* The engine translates a whole block before it runs it, so a page that cannot be fetched faults although the instruction
 * at RIP lies before it. Then that instruction runs alone (the engine makes blocks of one in an interrupt shadow), and so
 * on, until the fault is due. */
static bool fetched_ahead(sc_cpu *cpu) {
    uint64_t at = linear_rip(cpu);
    if (cpu->port.step == STEP_ARMED || is_within(cpu, cpu->time.trapped, at)) return false;
    instruction in = decode(cpu);
    return in.id && (at & 0xfff) + in.length_bytes <= 0x1000;
}

static bool may_be_fetch(sc_cpu *cpu, unsigned code) {
    if (code == TRAP_NESTED_FAULT) return engine_error_code(cpu) & PF_FETCH;
    return code == TRAP_EXCEPTION + PAGE_FAULT && engine_fault_address(cpu) == (linear_rip(cpu) | 0xfff) + 1;
}

static void take_intercept(sc_cpu *cpu, unsigned code) {
    pause_watched(cpu);
    if (cpu->port.escape != ESCAPE_NONE) { /* the escape clobbered nothing that the context saved by escape() has not */
        int kind = cpu->port.escape;
        cpu->port.escape = ESCAPE_NONE;
        uc_context_restore(cpu->port.uc, cpu->port.context);
        engine_save(cpu);
        refund(cpu, linear_rip(cpu));
        if (kind == ESCAPE_IO) {
            trap_io(cpu);
        } else if (kind == ESCAPE_EDIT) {
            take_edits(cpu);
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
        forget_accesses_at(cpu, linear_rip(cpu));
        begin_trap(cpu);
        bool ahead = may_be_fetch(cpu, code) && fetched_ahead(cpu);
        cpu->port.step = ahead ? STEP_ARMED : STEP_NONE;
        if (ahead)
            ; /* not yet */
        else if (code >= TRAP_EXCEPTION && code < TRAP_EXCEPTION + 32)
            trap_exception(cpu, code - TRAP_EXCEPTION);
        else if (code == TRAP_NESTED_FAULT)
            trap_nested_fault(cpu);
        else
            trap_instruction(cpu, code);
    }
    end_trap(cpu);
    if (!cpu->arch.opened.is_open) close_watched(cpu);
    bool is_let_run = cpu->arch.opened.is_open || cpu->arch.state.iret == IRET_ARMED;
    if (is_let_run) { /* what is pending comes after this instruction */
        watch(cpu);
        engine_load(cpu);
        return;
    }
    settle(cpu);
    bool other_hook = wants_accesses(cpu) != cpu->port.tells_accesses || cpu->port.spans.is_due;
    if (must_stop(cpu) || is_due(cpu) || other_hook) /* code that cannot be fetched has no blocks where else to stop */
        uc_emu_stop(cpu->port.uc);
    else
        engine_load(cpu);
}

enum { FIRST_TRAP = 0x100 }; /* EXCP_VMEXIT: what it reports beside these, nothing here asks for */

static void on_intercept(uc_engine *uc, uint32_t number, void *data) {
    sc_cpu *cpu = data;
    if (number < FIRST_TRAP || number > FIRST_TRAP + TRAP_NESTED_FAULT) {
        cpu->port.error = (int)number;
        uc_emu_stop(uc);
        return;
    }
    void *guard = lift_guard();
    take_intercept(cpu, number - FIRST_TRAP);
    restore_guard(guard);
}

/* Leave the middle of a block: reading an MSR that is intercepted makes the engine exit to on_intercept at once, with
 * RIP at the instruction. Port hooks and SYSCALL cannot be left otherwise: they run on to the end of the block. */
static void escape(sc_cpu *cpu, int kind) {
    uc_x86_msr msr = {.rid = 0, .value = 0};
    cpu->port.escape = kind;
    uc_context_save(cpu->port.uc, cpu->port.context);
    uc_reg_read(cpu->port.uc, UC_X86_REG_MSR, &msr);
}

void engine_escape_edit(sc_cpu *cpu) { escape(cpu, ESCAPE_EDIT); }

static uint32_t on_in(uc_engine *uc, uint32_t port, int size, void *data) {
    sc_cpu *cpu = data;
    (void)uc;
    cpu->port.io.port = (uint16_t)port, cpu->port.io.size = (uint8_t)size, cpu->port.io.in = true;
    escape(cpu, ESCAPE_IO);
    return 0;
}

static void on_out(uc_engine *uc, uint32_t port, int size, uint32_t value, void *data) {
    sc_cpu *cpu = data;
    (void)uc, (void)value;
    cpu->port.io.port = (uint16_t)port, cpu->port.io.size = (uint8_t)size, cpu->port.io.in = false;
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

/* `b` has an instruction with a LOCK prefix where it cannot be, which the engine lets pass. What lies before runs, each
 * instruction alone, until a block is the one; then that is #UD. The block does not run. */
static void stop_before_unsafe(sc_cpu *cpu, const block *b) {
    cpu->port.is_unsafe = b->bad_lock_at == 0;
    cpu->port.step = cpu->port.is_unsafe ? STEP_NONE : STEP_ARMED;
    uc_emu_stop(cpu->port.uc);
}

/* A breakpoint on an instruction faults before it, unless RF is set, which is for one instruction (SDM 3B 18.3.1.1). */
static bool stop_at_breakpoint(sc_cpu *cpu, uint64_t pc, uint32_t size) {
    bool inside = false;
    unsigned hits = code_breakpoints(cpu, pc, size, &inside);
    if (hits) engine_window(cpu);
    cpu->port.code_hits = hits && !(SLOT(cpu, GUEST_RFLAGS) & RFLAGS_RF) ? (uint8_t)hits : 0;
    if (!cpu->port.code_hits && (!inside || cpu->port.step != STEP_NONE)) return false;
    cpu->port.step = cpu->port.code_hits ? STEP_NONE : STEP_ARMED;
    uc_emu_stop(cpu->port.uc);
    return true;
}

static bool has_to_stop(sc_cpu *cpu) {
    return is_due(cpu) || must_settle(cpu) || engine_must_empty(cpu) || cpu->port.spans.is_due;
}

static __attribute__((noinline)) void begin_any_block(sc_cpu *cpu, block *b) {
    bool restart = b->instructions == 1 && is_restart(cpu, b);
    if (restart) refund(cpu, b->pc);
    if (cpu->s.clock_cycles >= cpu->arch.check_at_cycles) {
        if (end_iret(cpu)) watch(cpu);
        if (cpu->port.step != STEP_NONE && --cpu->port.step == STEP_NONE) {
            note_boundary(cpu);
            watch(cpu);
        }
        if (cpu->port.step == STEP_NONE && cpu->arch.opened.is_open) { /* the access is done */
            uc_emu_stop(cpu->port.uc);
            return;
        }
        if (!restart && has_to_stop(cpu)) { /* stopped here, a store would only restart again */
            uc_emu_stop(cpu->port.uc);
            return;
        }
        if (has_breakpoints(cpu) && stop_at_breakpoint(cpu, b->pc, b->size_bytes)) return;
        let_iret_run(cpu);
    }
    if (b->branch == BRANCH_UNSAFE)
        stop_before_unsafe(cpu, b);
    else
        start_block(cpu, b);
}

/* A translated block is about to run: see emulator/unicorn_build/edits.py. */
void helper_sc_block(void *begun) {
    block *b = begun;
    sc_cpu *cpu = b->cpu;
    bool must_look = cpu->s.clock_cycles >= cpu->arch.check_at_cycles;
    if (b->is_plain && !must_look)
        start_plain(cpu, b);
    else if (b->may_repeat && b == cpu->time.last && !must_look)
        repeat_block(cpu, b);
    else
        begin_any_block(cpu, b);
}

static bool add_hooks(sc_cpu *cpu) {
    uc_hook h;
    uc_engine *uc = cpu->port.uc;
    sc_set_owner(uc, cpu);
    uc_ctl_flush_tb(uc); /* of what ran before, no block is known */
    return !uc_hook_add(uc, &h, UC_HOOK_INTR, (void *)on_intercept, cpu, 1, 0) &&
           !uc_hook_add(uc, &h, UC_HOOK_INSN, (void *)on_in, cpu, 1, 0, UC_X86_INS_IN) &&
           !uc_hook_add(uc, &h, UC_HOOK_INSN, (void *)on_out, cpu, 1, 0, UC_X86_INS_OUT) &&
           !uc_hook_add(uc, &h, UC_HOOK_INSN, (void *)on_syscall, cpu, 1, 0, UC_X86_INS_SYSCALL) &&
           !uc_hook_add(uc, &h, UC_HOOK_INSN, (void *)on_sysenter, cpu, 1, 0, UC_X86_INS_SYSENTER);
}

static bool open_unicorn(sc_cpu *cpu) {
    return !uc_open(UC_ARCH_X86, UC_MODE_64, (uc_engine **)&cpu->port.uc) &&
           !uc_ctl_set_cpu_model(cpu->port.uc, CPU_MODEL) && !uc_ctl_set_tcg_buffer_size(cpu->port.uc, BUFFER_BYTES) &&
           map_memory(cpu) && !uc_mem_map_ptr(cpu->port.uc, ARENA, ARENA_BYTES, UC_PROT_ALL, cpu->port.arena);
}

/* The saved context goes on in it; translations are made again. */
bool engine_reopen(sc_cpu *cpu) {
    uc_engine *old = cpu->port.uc;
    cpu->port.uc = NULL;
    cpu->port.tells_accesses = false;
    cpu->port.spans.hook_count = 0;
    cpu->port.spans.is_due = cpu->port.spans.count || cpu->port.places.count;
    cpu->port.most_translated = 0;
    code_forget_pages(cpu);
    bool ready = open_unicorn(cpu) && add_hooks(cpu);
    uc_close(old);
    return ready;
}

bool engine_run(sc_cpu *cpu) {
    uc_err error = UC_ERR_OK;
    bool nowhere = false; /* a fetch where nobody answers: all ones are no instruction */
    cpu->port.is_unsafe = false;
    cpu->port.code_hits = 0;
    show_clock(cpu);
    if (!engine_hook_spans(cpu)) {
        cpu->port.error = UC_ERR_NOMEM;
        return false;
    }
    engine_watch_memory(cpu, wants_accesses(cpu));
    code_begin_run(cpu);
    engine_load(cpu);
    bool alone = cpu->port.step == STEP_ARMED;
    bool translated = start_guarded(cpu, &error);
    alone = alone && cpu->port.step == STEP_ARMED;
    if (translated && engine_must_empty(cpu)) engine_forget_code(cpu);
    if (!cpu->port.saved) engine_save(cpu);
    close_watched(cpu);
    show_clock(NULL);
    if (error == UC_ERR_FETCH_PROT) error = UC_ERR_OK, nowhere = true;
    if (!translated && ++cpu->port.aborts % ABORTS_MAX == 0) { /* one that has had its aborts */
        if (!engine_reopen(cpu)) error = UC_ERR_RESOURCE;
        cpu->s.flush_tlb = FLUSH_ALL;
    }
    if (error && !cpu->port.error) cpu->port.error = (int)error;
    if (!cpu->port.error && (nowhere || cpu->port.is_unsafe || !translated)) { /* no instruction, at RIP or behind it */
        leave_block(cpu);
        bool is_next = nowhere ? !fetched_ahead(cpu) : cpu->port.is_unsafe || alone;
        cpu->port.step = is_next ? STEP_NONE : STEP_ARMED;
        if (is_next) raise_fault(cpu, INVALID_OPCODE, 0);
    }
    if (!cpu->port.error && cpu->port.code_hits) {
        leave_block(cpu);
        raise_debug(cpu, cpu->port.code_hits);
    }
    return !cpu->port.error;
}

void engine_forget_error(sc_cpu *cpu) { cpu->port.error = 0; }
void engine_run_alone(sc_cpu *cpu) { cpu->port.step = STEP_ARMED; }

bool engine_open(sc_cpu *cpu, sc_code_map *code, const char **problem) {
    cpu->port.tlb_generation = 1;
    if (!code_open(cpu, code)) return false;
    void *arena = mmap(NULL, ARENA_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (arena == MAP_FAILED) return false;
    cpu->port.arena = arena;
    *problem = "cannot open the engine";
    catch_aborts();
    if (!open_unicorn(cpu) || uc_context_alloc(cpu->port.uc, (uc_context **)&cpu->port.context)) return false;
    uc_x86_msr hsave = {.rid = 0xc0010117, .value = ARENA + HOST_SAVE};
    if (!find_raw_state(cpu, problem) || uc_reg_write(cpu->port.uc, UC_X86_REG_MSR, &hsave)) return false;
    if (!verify_layout(cpu, problem)) return false;
    *problem = "hooks";
    if (!add_hooks(cpu)) return false;
    reset_state(cpu);
    return true;
}

void engine_close(sc_cpu *cpu) {
    if (cpu->port.context) uc_context_free(cpu->port.context);
    if (cpu->port.uc) uc_close(cpu->port.uc);
    code_close(cpu);
    if (cpu->port.arena) munmap(cpu->port.arena, ARENA_BYTES);
}
