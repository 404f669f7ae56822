/* Spans of linear addresses: Python is told before each instruction that lies there (a debugger's breakpoints and steps).
 *
 *   sc_watch_instructions ---> spans, is_due: the run is left between two blocks ---> engine_hook_spans: hooks ---> on_code
 *
 * Only blocks on the page of a span are translated with hooks, from its begin on, so the others run as ever. (The rest of
 * a block has them too, because spans may change while Python is told, and it is not translated anew then.) Watching
 * changes nothing: the slots, in which the state is shown in the middle of a block, are then as they were.
 * MODEL: a block that has a hook for each instruction may be too long for the engine's buffer, and is cut in two.
 */
#include <string.h>
#include "state.h"

enum { PAGE_MASK = 0xfff, LENGTH_MAX = 15 };

static bool is_in_span(const sc_cpu *cpu, uint64_t pc) {
    for (unsigned i = 0; i < cpu->port.spans.count; i++)
        if (pc >= cpu->port.spans.first[i] && pc <= cpu->port.spans.last[i]) return true;
    return false;
}

static void on_code(uc_engine *uc, uint64_t pc, uint32_t size, void *data) {
    sc_cpu *cpu = data;
    (void)uc, (void)size;
    if (!is_in_span(cpu, pc) && !are_places_told(cpu)) {
        cpu->port.places.pc = pc;
        return;
    }
    uint64_t gpr[16], vmcs[sizeof cpu->s.vmcs / 8], cr2 = cpu->s.cr2;
    memcpy(gpr, cpu->s.gpr, sizeof gpr);
    memcpy(vmcs, cpu->s.vmcs, sizeof vmcs);
    void *guard = lift_guard();
    engine_peek(cpu);
    SLOT(cpu, GUEST_RIP) = engine_code_bits(cpu) == 64 ? pc : (uint32_t)(pc - SLOT(cpu, GUEST_CS_BASE));
    sc_instruction_callback(cpu->python);
    restore_guard(guard);
    cpu->port.places.pc = pc;
    if (cpu->port.edit.is_due) {
        memcpy(cpu->port.edit.gpr, cpu->s.gpr, sizeof gpr);
        memcpy(cpu->port.edit.vmcs, cpu->s.vmcs, sizeof vmcs);
        cpu->port.edit.cr2 = cpu->s.cr2;
    }
    memcpy(cpu->s.gpr, gpr, sizeof gpr);
    memcpy(cpu->s.vmcs, vmcs, sizeof vmcs);
    cpu->s.cr2 = cr2;
    watch(cpu);
    if (cpu->port.edit.is_due) engine_escape_edit(cpu);
}

/* From sc_instruction_callback: what it has written to the slots stays. The block is left, and begins anew. */
void sc_keep_edits(sc_cpu *cpu) { cpu->port.edit.is_due = true; }

void take_edits(sc_cpu *cpu) {
    cpu->port.edit.is_due = false;
    memcpy(cpu->s.gpr, cpu->port.edit.gpr, sizeof cpu->s.gpr);
    memcpy(cpu->s.vmcs, cpu->port.edit.vmcs, sizeof cpu->s.vmcs);
    cpu->s.cr2 = cpu->port.edit.cr2;
}

/* Up to where a span's blocks may reach. */
static uint64_t hook_end(const sc_cpu *cpu, unsigned i) {
    uint64_t page_end = cpu->port.spans.last[i] | PAGE_MASK;
    return page_end > UINT64_MAX - LENGTH_MAX ? UINT64_MAX : page_end + LENGTH_MAX;
}

bool engine_hook_spans(sc_cpu *cpu) {
    if (!cpu->port.spans.is_due) return true;
    if (cpu->port.spans.hook_count && !engine_reopen(cpu)) return false; /* uc_hook_del would walk the guest's tables */
    if (cpu->port.places.count) {                                        /* everywhere */
        uc_hook h;
        if (uc_hook_add(cpu->port.uc, &h, UC_HOOK_CODE, (void *)on_code, cpu, 1, 0)) return false;
        cpu->port.spans.hook_count++;
    }
    for (unsigned i = 0; i < cpu->port.spans.count && !cpu->port.places.count;) {
        uint64_t first = cpu->port.spans.first[i], last = hook_end(cpu, i);
        while (++i < cpu->port.spans.count && cpu->port.spans.first[i] <= last) /* one hook: it would be told twice */
            if (hook_end(cpu, i) > last) last = hook_end(cpu, i);
        uc_hook h;
        if (uc_hook_add(cpu->port.uc, &h, UC_HOOK_CODE, (void *)on_code, cpu, first, last)) return false;
        cpu->port.spans.hook_count++;
    }
    cpu->port.spans.is_due = false;
    engine_forget_code(cpu); /* translated code does not see the change */
    return true;
}

/* Tell before instructions at [first, last] of `count` spans, ascending, which replace those of before. False: too many. */
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
