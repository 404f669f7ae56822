/* The last events of a CPU: what is shown when its guest ends. No instruction pays for them.
 *
 * Each attempt to deliver an event has an entry, so a chain of faults that ends in a shutdown is in it from its first one on;
 * the RIP of all of them is the same.
 */
#include "engine.h"

static sc_recent *next_entry(sc_cpu *cpu) {
    sc_recent *entry = &cpu->s.recent[cpu->s.recent_count++ % RECENT_MAX];
    *entry = (sc_recent){.cycles = cpu->s.clock_cycles, .rip = SLOT(cpu, GUEST_RIP)};
    return entry;
}

void note_delivery(sc_cpu *cpu, event e) {
    sc_recent *entry = next_entry(cpu);
    entry->what = EVENT_VALID | (uint32_t)e.type << EVENT_TYPE_SHIFT | e.vector;
    if (e.has_error) entry->what |= EVENT_ERROR_CODE_VALID;
    entry->error_code = e.has_error ? e.error_code : 0;
    if (e.type == EVENT_HARDWARE_EXCEPTION && e.vector == PAGE_FAULT) entry->detail = e.address;
}

void note_exit(sc_cpu *cpu, uint32_t reason, uint64_t qualification) {
    sc_recent *entry = next_entry(cpu);
    entry->what = reason;
    entry->detail = qualification;
}
