/* The page that a guest shares with another core: every access to it stops to ask whether it may take place now, so that
 * cores access the page in order of time (emulator/interleave.py). It is no VM exit, and takes no time by itself.
 *
 *   shadow entry    host address | 11..9 watched | D A .. U W | P 0     closed: the access faults, the walk here finds it
 *   nested entry    not there                                            (EPT) closed: the engine's own, a guest has none
 *
 *   access --> trap --> PLATFORM_WATCHED_ACCESS --no--> stop: tried again in another turn
 *                                                \-yes-> open, one instruction alone, close, PLATFORM_WATCHED_DONE
 */
#include <string.h>
#include "engine.h"

static bool is_allowed(sc_cpu *cpu, uint64_t hpa, unsigned access) {
    uint64_t unused[4] = {0};
    int answer = sc_platform_callback(cpu->python, PLATFORM_WATCHED_ACCESS, hpa, access & ACCESS_WRITE, unused);
    if (!answer) cpu->s.stop_request = 1;
    return answer && !must_stop(cpu) && !is_due(cpu);
}

static void open_for(sc_cpu *cpu, unsigned access) {
    cpu->arch.opened.is_open = true;
    cpu->arch.opened.is_write = access & ACCESS_WRITE;
    engine_run_alone(cpu);
}

/* A #PF at `linear`: was it the watched page, which is closed? Then it is answered, and nothing else comes of it. */
bool access_watched(sc_cpu *cpu, uint64_t linear, unsigned access) {
    walk_result w = walk(cpu, linear, access);
    if (w.status != WALK_OK || !w.is_watched) return false;
    if (!is_allowed(cpu, w.hpa, access)) return true;
    uint64_t entry;
    memcpy(&entry, cpu->memory + w.entry_hpa, 8);
    entry |= PRESENT;
    memcpy(cpu->memory + w.entry_hpa, &entry, 8);
    cpu->arch.opened.entry_hpa = w.entry_hpa;
    open_for(cpu, access);
    return true;
}

/* The same for a nested page fault; `hpa` is what the EPT has for `gpa`. */
bool access_watched_nested(sc_cpu *cpu, uint64_t gpa, uint64_t hpa, unsigned access) {
    if (!cpu->s.watched_hpa || hpa >> 12 != cpu->s.watched_hpa >> 12) return false;
    if (!is_allowed(cpu, hpa, access)) return true;
    engine_map_nested(cpu, gpa, hpa, 7, false);
    cpu->arch.opened.entry_hpa = 0;
    cpu->arch.opened.gpa = gpa;
    open_for(cpu, access);
    return true;
}

/* The access took place, or something came before it. The entry may have become another one since. */
void close_watched(sc_cpu *cpu) {
    if (!cpu->arch.opened.is_open) return;
    cpu->arch.opened.is_open = false;
    if (cpu->arch.opened.entry_hpa) {
        uint64_t entry;
        memcpy(&entry, cpu->memory + cpu->arch.opened.entry_hpa, 8);
        if ((entry & (PRESENT | WATCHED_ENTRY)) == (PRESENT | WATCHED_ENTRY)) entry &= ~(uint64_t)PRESENT;
        memcpy(cpu->memory + cpu->arch.opened.entry_hpa, &entry, 8);
    } else {
        engine_unmap_nested(cpu, cpu->arch.opened.gpa);
    }
    engine_forget_data(cpu);
    uint64_t unused[4] = {0};
    if (cpu->arch.opened.is_write) sc_platform_callback(cpu->python, PLATFORM_WATCHED_DONE, 0, 0, unused);
}
