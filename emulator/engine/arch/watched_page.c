/* Pages that a guest shares with other cores: every access to one stops to ask whether it may take place now, so that
 * cores access the page in order of time (emulator/interleave.py). It is no VM exit, and takes no time by itself.
 *
 *   shadow entry    host address | 11..9 watched | D A .. U W | P 0     closed: the access faults, the walk here finds it
 *   nested entry    not there                                            (EPT) closed: the engine's own, a guest has none
 *
 *   access --> trap --> PLATFORM_WATCHED_ACCESS --no--> stop: tried again in another turn
 *                                                \-yes-> open, one instruction alone, close, PLATFORM_WATCHED_DONE
 *
 * An instruction that accesses a second such page (MOVS, a pushed word, what crosses a page) traps again; then it is run
 * with both open. For a load a page is opened read-only: an instruction that loads and then stores asks for both.
 */
#include <string.h>
#include "engine.h"

/* Does the page of 1 << shift bytes at `hpa` have a watched page in it? */
bool has_watched(const sc_cpu *cpu, uint64_t hpa, unsigned shift) {
    for (int i = 0; i < WATCHED_MAX && cpu->s.watched_hpas[i]; i++)
        if (cpu->s.watched_hpas[i] >> shift == hpa >> shift) return true;
    return false;
}

static bool is_allowed(sc_cpu *cpu, uint64_t hpa, unsigned access) {
    uint64_t unused[4] = {0};
    int answer = sc_platform_callback(cpu->python, PLATFORM_WATCHED_ACCESS, hpa, access & ACCESS_WRITE, unused);
    if (!answer) cpu->s.stop_request = 1;
    return answer && !must_stop(cpu) && !is_due(cpu);
}

/* The entry may have become another one since it was closed. */
static void set_entry(sc_cpu *cpu, opened_page *page, bool is_open) {
    uint64_t entry, from = is_open ? 0 : PRESENT;
    memcpy(&entry, cpu->memory + page->entry_hpa, 8);
    if ((entry & (PRESENT | WATCHED_ENTRY)) != (from | WATCHED_ENTRY)) return;
    entry ^= PRESENT;
    if (is_open) page->taken = page->is_write ? 0 : entry & WRITABLE;
    entry ^= page->taken;
    memcpy(cpu->memory + page->entry_hpa, &entry, 8);
    engine_note_store(cpu, page->entry_hpa, 8);
}

static void open_page(sc_cpu *cpu, opened_page *page) {
    if (page->entry_hpa)
        set_entry(cpu, page, true);
    else
        engine_map_nested(cpu, page->gpa, page->hpa & ~0xfffull, page->is_write ? 7 : 5, false);
}

static bool is_same(const opened_page *one, const opened_page *other) {
    return one->entry_hpa == other->entry_hpa && one->gpa >> 12 == other->gpa >> 12;
}

/* Open the page for one instruction, with those that it has accessed before. If this is one of them, the instruction stores
 * where it has loaded; or it has begun anew. */
static void open_for(sc_cpu *cpu, opened_page page) {
    opened_page *before = NULL;
    for (unsigned i = 0; i < cpu->arch.opened.count; i++)
        if (is_same(&cpu->arch.opened.pages[i], &page)) before = &cpu->arch.opened.pages[i];
    if (before && page.is_write && !before->is_write) {
        *before = page;
    } else {
        if (before || cpu->arch.opened.count == OPENED_MAX) cpu->arch.opened.count = 0;
        cpu->arch.opened.pages[cpu->arch.opened.count++] = page;
    }
    for (unsigned i = 0; i < cpu->arch.opened.count; i++) open_page(cpu, &cpu->arch.opened.pages[i]);
    cpu->arch.opened.is_open = true;
    engine_run_alone(cpu);
}

/* A #PF at `linear`: was it a watched page, which is closed? Then it is answered, and nothing else comes of it. */
bool access_watched(sc_cpu *cpu, uint64_t linear, unsigned access) {
    walk_result w = walk(cpu, linear, access);
    if (w.status != WALK_OK || !w.is_watched) return false;
    if (is_allowed(cpu, w.hpa, access))
        open_for(cpu, (opened_page){.is_write = access & ACCESS_WRITE, .hpa = w.hpa, .entry_hpa = w.entry_hpa});
    return true;
}

/* The same for a nested page fault; `hpa` is what the EPT has for `gpa`. */
bool access_watched_nested(sc_cpu *cpu, uint64_t gpa, uint64_t hpa, unsigned access) {
    if (!has_watched(cpu, hpa, 12)) return false;
    if (is_allowed(cpu, hpa, access))
        open_for(cpu, (opened_page){.is_write = access & ACCESS_WRITE, .hpa = hpa, .gpa = gpa});
    return true;
}

/* A trap: close the pages. They stay known until it is clear what comes of it: see open_for. */
void pause_watched(sc_cpu *cpu) {
    if (!cpu->arch.opened.is_open) return;
    cpu->arch.opened.is_open = false;
    for (unsigned i = 0; i < cpu->arch.opened.count; i++) {
        opened_page *page = &cpu->arch.opened.pages[i];
        if (page->entry_hpa)
            set_entry(cpu, page, false);
        else
            engine_unmap_nested(cpu, page->gpa);
    }
    engine_forget_data(cpu);
    uint64_t unused[4] = {0};
    for (unsigned i = 0; i < cpu->arch.opened.count; i++) {
        const opened_page *page = &cpu->arch.opened.pages[i];
        if (page->is_write) sc_platform_callback(cpu->python, PLATFORM_WATCHED_DONE, page->hpa, 0, unused);
    }
}

/* The accesses took place, or something came before them. */
void close_watched(sc_cpu *cpu) {
    pause_watched(cpu);
    cpu->arch.opened.count = 0;
}
