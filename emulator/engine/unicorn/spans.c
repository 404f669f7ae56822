/* Spans of linear addresses: Python is told before each instruction that lies there (a debugger's breakpoints and steps).
 *
 *   sc_watch_instructions ---> spans, is_due: the run is left between two blocks ---> engine_hook_spans: hooks ---> on_code
 *
 * Only blocks that have an address of a span are translated with a hook, so the others run as ever. Watching changes
 * nothing: the slots, in which the state is shown in the middle of a block, are then as they were.
 * MODEL: a block that has a hook for each instruction may be too long for the engine's buffer, and is cut in two.
 */
#include <string.h>
#include "state.h"

static void on_code(uc_engine *uc, uint64_t pc, uint32_t size, void *data) {
    sc_cpu *cpu = data;
    (void)uc, (void)size;
    uint64_t gpr[16], vmcs[sizeof cpu->s.vmcs / 8], cr2 = cpu->s.cr2;
    memcpy(gpr, cpu->s.gpr, sizeof gpr);
    memcpy(vmcs, cpu->s.vmcs, sizeof vmcs);
    void *guard = lift_guard();
    engine_peek(cpu);
    SLOT(cpu, GUEST_RIP) = engine_code_bits(cpu) == 64 ? pc : (uint32_t)(pc - SLOT(cpu, GUEST_CS_BASE));
    sc_instruction_callback(cpu->python);
    restore_guard(guard);
    memcpy(cpu->s.gpr, gpr, sizeof gpr);
    memcpy(cpu->s.vmcs, vmcs, sizeof vmcs);
    cpu->s.cr2 = cr2;
    watch(cpu);
}

bool engine_hook_spans(sc_cpu *cpu) {
    if (!cpu->port.spans.is_due) return true;
    if (cpu->port.spans.hook_count && !engine_reopen(cpu)) return false; /* uc_hook_del would walk the guest's tables */
    for (unsigned i = 0; i < cpu->port.spans.count; i++) {
        uc_hook h;
        if (uc_hook_add(cpu->port.uc, &h, UC_HOOK_CODE, (void *)on_code, cpu, cpu->port.spans.first[i],
                        cpu->port.spans.last[i]))
            return false;
        cpu->port.spans.hook_count++;
    }
    cpu->port.spans.is_due = false;
    empty_translations(cpu); /* translated code does not see the change */
    return true;
}

/* Tell before instructions at [first, last] of `count` spans, which replace those of before. False: too many. */
bool sc_watch_instructions(sc_cpu *cpu, const uint64_t *spans, uint64_t count) {
    if (count > SPANS_MAX) return false;
    for (uint64_t i = 0; i < count; i++) {
        cpu->port.spans.first[i] = spans[2 * i];
        cpu->port.spans.last[i] = spans[2 * i + 1];
    }
    cpu->port.spans.count = (unsigned)count;
    cpu->port.spans.is_due = count || cpu->port.spans.hook_count;
    watch(cpu);
    return true;
}
