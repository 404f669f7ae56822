/* What of a CPU goes into a snapshot: all that its next instruction, or its time, depends on. One struct and the used part
 * of the engine's own memory, as bytes; they mean something only to the same version of this folder.
 *
 * Not in it: what is derived and comes back by itself (translated blocks, decoded instructions). MODEL: the engine's TLB
 * neither: a translation that the guest changed without flushing it is gone after a restore, as it may be on hardware.
 * No address of the workstation is in it, and nothing in it is used as an index unchecked.
 */
#include <string.h>
#include "unicorn/state.h"

/* Of the raw state: from a20_mask to before error_code, the FPU, SSE and MSRs. Segments and control registers are in the
 * slots, debug registers too; behind those the engine has pointers. */
enum { SAVED_FROM = 464, SAVED_BYTES = RAW_ERROR_CODE - SAVED_FROM, CODE_MAX = 0x1000 };

typedef struct {
    sc_cpu_shared s;
    uint8_t raw[SAVED_BYTES];
    uint32_t hflags, hflags2;
    uint64_t loaded[5], arena_used_bytes, last_end, fetched_line;
    uint32_t last_branch, return_at, step, decoded_class;
    /* see arch/boundary.c, trap_instruction, arch/debug.c */
    uint32_t iret, is_entered, monitor_trap_due, iret_unblocked, pause_seen, data_hits, code_hits, monitor_armed;
    uint64_t timer_end_cycles, pause_first_cycles, pause_last_cycles;
    uint64_t current_pc; /* the block that ran last, to know a restart: see is_restart */
    uint32_t current_bytes, current_bits;
    uint8_t current_code[CODE_MAX];
    uint8_t predictor[PREDICTOR_MAX];
    uint64_t targets[TARGETS_MAX], returns[RETURNS];
    typeof(((sc_cpu *)0)->frames) frames;
} saved_cpu;

uint64_t sc_saved_bytes(const sc_cpu *cpu) { return sizeof(saved_cpu) + cpu->arena_used_bytes; }

/* Not while the CPU runs. */
void sc_save(const sc_cpu *cpu, uint8_t *ret) {
    saved_cpu *to = (saved_cpu *)ret;
    memset(to, 0, sizeof *to);
    to->s = cpu->s;
    memcpy(to->raw, cpu->raw + SAVED_FROM, SAVED_BYTES);
    to->hflags = R32(RAW_HFLAGS);
    to->hflags2 = R32(RAW_HFLAGS2);
    memcpy(to->loaded, cpu->loaded, sizeof to->loaded);
    to->arena_used_bytes = cpu->arena_used_bytes;
    to->last_end = cpu->last_end;
    to->fetched_line = cpu->fetched_line;
    to->last_branch = cpu->last_branch;
    to->return_at = cpu->return_at;
    to->step = cpu->step;
    to->decoded_class = cpu->decoded_class;
    to->iret = cpu->iret;
    to->is_entered = cpu->is_entered;
    to->monitor_trap_due = cpu->monitor_trap_due;
    to->iret_unblocked = cpu->iret_unblocked;
    to->monitor_armed = cpu->monitor_armed;
    to->data_hits = cpu->data_hits;
    to->code_hits = cpu->code_hits;
    to->timer_end_cycles = cpu->timer_end_cycles;
    to->pause_seen = cpu->pause.seen;
    to->pause_first_cycles = cpu->pause.first_cycles;
    to->pause_last_cycles = cpu->pause.last_cycles;
    if (cpu->current) {
        to->current_pc = cpu->current->pc;
        to->current_bytes = cpu->current->size_bytes;
        to->current_bits = cpu->current->code_bits;
        memcpy(to->current_code, cpu->code_bytes + cpu->current->bytes_at, to->current_bytes);
    }
    memcpy(to->predictor, cpu->predictor, sizeof to->predictor);
    memcpy(to->targets, cpu->targets, sizeof to->targets);
    memcpy(to->returns, cpu->returns, sizeof to->returns);
    memcpy(to->frames, cpu->frames, sizeof to->frames);
    memcpy(ret + sizeof *to, cpu->arena, cpu->arena_used_bytes);
}

static bool is_possible(const sc_cpu *cpu, const saved_cpu *from, uint64_t bytes) {
    for (int i = 0; i < 8; i++)
        if (cpu->msr_at[i] < SAVED_FROM || cpu->msr_at[i] + 8 > SAVED_FROM + SAVED_BYTES) return false;
    bool whole = bytes == sizeof *from + from->arena_used_bytes && from->arena_used_bytes <= ARENA_BYTES &&
                 from->arena_used_bytes >= NESTED + 0x1000 && !(from->arena_used_bytes & 0xfff);
    unsigned bits = from->current_bits;
    bool block = !from->current_bytes || bits == 16 || bits == 32 || bits == 64;
    return whole && block && from->current_bytes <= CODE_MAX && from->step <= STEP_ARMED && from->iret <= IRET_RUNS &&
           from->last_branch <= BRANCH_UNSAFE && from->decoded_class < CLASS_COUNT;
}

/* Into a CPU that has not run, and has its timing. False: these are not the bytes of a CPU. */
bool sc_restore(sc_cpu *cpu, const uint8_t *bytes, uint64_t count) {
    const saved_cpu *from = (const saved_cpu *)bytes;
    if (count < sizeof *from || !is_possible(cpu, from, count)) return false;
    cpu->s = from->s;
    memcpy(cpu->raw + SAVED_FROM, from->raw, SAVED_BYTES);
    R32(cpu->msr_at[MSR_AT_EFER] + 8) &= 7; /* the top of the FPU's stack, by which the engine indexes */
    R32(RAW_HFLAGS) = from->hflags;
    R32(RAW_HFLAGS2) = from->hflags2;
    memcpy(cpu->loaded, from->loaded, sizeof cpu->loaded);
    cpu->arena_used_bytes = from->arena_used_bytes;
    cpu->last_end = from->last_end;
    cpu->fetched_line = from->fetched_line;
    cpu->last_branch = from->last_branch;
    cpu->return_at = from->return_at;
    cpu->step = from->step;
    cpu->decoded_class = from->decoded_class;
    cpu->iret = from->iret;
    cpu->is_entered = from->is_entered;
    cpu->monitor_trap_due = from->monitor_trap_due;
    cpu->iret_unblocked = from->iret_unblocked;
    cpu->monitor_armed = from->monitor_armed;
    cpu->data_hits = from->data_hits & 15;
    cpu->code_hits = from->code_hits & 15;
    cpu->timer_end_cycles = from->timer_end_cycles;
    cpu->pause.seen = from->pause_seen;
    cpu->pause.first_cycles = from->pause_first_cycles;
    cpu->pause.last_cycles = from->pause_last_cycles;
    memcpy(cpu->predictor, from->predictor, sizeof cpu->predictor);
    memcpy(cpu->targets, from->targets, sizeof cpu->targets);
    memcpy(cpu->returns, from->returns, sizeof cpu->returns);
    memcpy(cpu->frames, from->frames, sizeof cpu->frames);
    memcpy(cpu->arena, bytes + sizeof *from, from->arena_used_bytes);
    cpu->current = from->current_bytes
                       ? lone_block(cpu, from->current_pc, from->current_code, from->current_bytes, from->current_bits)
                       : NULL;
    cpu->trapped = NULL;
    cpu->tlb_generation++;
    uc_ctl_flush_tlb(cpu->uc);
    cpu->saved = true;
    return true;
}
