/* What a snapshot has of the time: predictors and the like, and the block that ran last. */
#include <string.h>
#include "engine.h"

void time_keep(const sc_cpu *cpu, saved_time *ret) {
    const block *current = current_block(cpu);
    memcpy(&ret->history, &cpu->time.history, sizeof ret->history);
    ret->last_end = cpu->time.last->end;
    ret->last_branch = cpu->time.last->branch;
    if (!current) return;
    ret->current_pc = current->pc;
    ret->current_bytes = current->size_bytes;
    ret->current_bits = current->code_bits;
    memcpy(ret->current_code, cpu->time.code_bytes + current->bytes_at, current->size_bytes);
}

bool time_can_restore(const saved_time *from) {
    unsigned bits = from->current_bits;
    bool is_block = from->current_bytes <= BLOCK_BYTES_MAX && (bits == 16 || bits == 32 || bits == 64);
    return (!from->current_bytes || is_block) && from->last_branch <= BRANCH_UNSAFE;
}

void time_restore(sc_cpu *cpu, const saved_time *from) {
    leave_block(cpu);
    memcpy(&cpu->time.history, &from->history, sizeof from->history);
    end_at(cpu, from->last_end, from->last_branch);
    block *current = NULL;
    if (from->current_bytes)
        current = lone_block(cpu, from->current_pc, from->current_code, from->current_bytes, from->current_bits);
    if (current) cpu->time.last = current;
}
