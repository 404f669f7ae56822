/* What a snapshot has of Unicorn: the raw state that no slot holds, and the used part of the arena. */
#include <string.h>
#include "state.h"

/* Of the raw state: from a20_mask to before error_code, the FPU, SSE and MSRs. Segments and control registers are in the
 * slots, debug registers too; behind those the engine has pointers. */
enum { SAVED_FROM = 464 };
_Static_assert(SAVED_FROM + RAW_SAVED_BYTES == RAW_ERROR_CODE, "the saved part of the raw state");

void engine_keep(const sc_cpu *cpu, saved_port *ret, uint8_t *ret_arena) {
    memcpy(ret->raw, cpu->port.raw + SAVED_FROM, RAW_SAVED_BYTES);
    ret->hflags = R32(RAW_HFLAGS);
    ret->hflags2 = R32(RAW_HFLAGS2);
    ret->step = cpu->port.step;
    ret->code_hits = cpu->port.code_hits;
    memcpy(ret->loaded, cpu->port.loaded, sizeof ret->loaded);
    ret->arena_used_bytes = cpu->port.arena_used_bytes;
    memcpy(ret_arena, cpu->port.arena, cpu->port.arena_used_bytes);
}

bool engine_can_restore(const sc_cpu *cpu, const saved_port *from, uint64_t arena_bytes) {
    for (int i = 0; i < 8; i++)
        if (cpu->port.msr_at[i] < SAVED_FROM || cpu->port.msr_at[i] + 8 > RAW_ERROR_CODE) return false;
    return from->step <= STEP_ARMED && arena_bytes == from->arena_used_bytes && arena_bytes <= ARENA_BYTES &&
           arena_bytes >= NESTED + 0x1000 && !(arena_bytes & 0xfff);
}

void engine_restore(sc_cpu *cpu, const saved_port *from, const uint8_t *arena) {
    memcpy(cpu->port.raw + SAVED_FROM, from->raw, RAW_SAVED_BYTES);
    R32(cpu->port.msr_at[MSR_AT_EFER] + 8) &= 7; /* the top of the FPU's stack, by which the engine indexes */
    R32(RAW_HFLAGS) = from->hflags;
    R32(RAW_HFLAGS2) = from->hflags2;
    cpu->port.step = from->step;
    cpu->port.code_hits = from->code_hits & 15;
    memcpy(cpu->port.loaded, from->loaded, sizeof from->loaded);
    cpu->port.arena_used_bytes = from->arena_used_bytes;
    memcpy(cpu->port.arena, arena, from->arena_used_bytes);
    cpu->port.tlb_generation++;
    uc_ctl_flush_tlb(cpu->port.uc);
    cpu->port.saved = true;
}
