/* Translated code, and who changes it.
 *
 * A code map is shared by all CPUs of a host's memory. It has for each page how many of them have translated code of it.
 * Whoever changes a page that has some takes the translations of what it changes away, of every CPU:
 *
 *   a store of a guest          slow where the page has code: sc_code_stored      Unicorn's TLB
 *   this folder, arch/          engine_note_store                                 event delivery, A and D flags, ...
 *   Python: VMM, devices        HostMemory.write -> sc_code_written
 *
 * A CPU that gets the first code of a page makes its own stores there slow at once; the others, when they run next.
 * Pages of the VMM itself (shadow tables, EPT) are written without a word: no guest runs them.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "state.h"

struct sc_code_map {
    uint8_t *counts; /* by page; 255: that many or more, for ever */
    uint64_t pages;
    uint32_t marks; /* how often a page got its first code */
    uint32_t users; /* CPUs, and Python */
    sc_cpu *first;
};

static void *zeros(size_t bytes) {
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

static void drop(sc_code_map *map) {
    if (--map->users) return;
    munmap(map->counts, map->pages);
    free(map);
}

/* The map of a memory of so many pages; NULL: no memory. */
sc_code_map *sc_code_open(uint64_t pages) {
    sc_code_map *map = calloc(1, sizeof *map);
    if (!map) return NULL;
    *map = (sc_code_map){.counts = zeros(pages), .pages = pages, .users = 1};
    if (map->counts) return map;
    free(map);
    return NULL;
}

void sc_code_close(sc_code_map *map) { drop(map); }
uint8_t *sc_code_counts(sc_code_map *map) { return map->counts; }

bool code_open(sc_cpu *cpu, sc_code_map *map) {
    cpu->port.code.is_mine = zeros(map->pages);
    if (!cpu->port.code.is_mine) return false;
    cpu->port.code.map = map;
    cpu->port.code.next = map->first;
    map->first = cpu;
    map->users++;
    return true;
}

void code_close(sc_cpu *cpu) {
    sc_code_map *map = cpu->port.code.map;
    if (!map) return;
    code_forget_pages(cpu);
    sc_cpu **link = &map->first;
    while (*link != cpu) link = &(*link)->port.code.next;
    *link = cpu->port.code.next;
    munmap(cpu->port.code.is_mine, map->pages);
    free(cpu->port.code.pages);
    drop(map);
}

static void end_page(sc_cpu *cpu, uint64_t page) {
    uint8_t *count = &cpu->port.code.map->counts[page];
    if (!cpu->port.code.is_mine[page]) return;
    cpu->port.code.is_mine[page] = 0;
    if (*count != UINT8_MAX) --*count;
}

/* This CPU has no translations any more. */
void code_forget_pages(sc_cpu *cpu) {
    for (uint32_t i = 0; i < cpu->port.code.page_count; i++) end_page(cpu, cpu->port.code.pages[i]);
    cpu->port.code.page_count = 0;
    cpu->port.translated = 0;
    forget_blocks(cpu);
}

void engine_forget_code(sc_cpu *cpu) {
    uc_ctl_flush_tb(cpu->port.uc);
    code_forget_pages(cpu);
}

/* The page that lies at `host`; false: it is Unicorn's own. */
static bool find_page(const sc_cpu *cpu, const uint8_t *host, uint64_t *ret) {
    if (!cpu) return false;
    *ret = (uint64_t)(host - cpu->memory) >> 12;
    return host >= cpu->memory && *ret < cpu->port.code.map->pages;
}

/* --- what Unicorn tells and asks: see emulator/unicorn_build/edits.py -------------------------------------------------
 * `owner` is NULL while the layout of its state is verified. */

void *sc_next_block(void *owner) { return next_block(owner); }

/* A block of `bytes` bytes, `instructions` of them, has been translated. When the buffer of translations is full the
 * engine empties it and forgets where code lies; a guest may notice, where it changed a mapping without flushing it. How
 * large translations are depends on where the workstation has put things: so they are emptied before, by their count. */
void sc_block_translated(void *owner, uint64_t pc, uint32_t bytes, uint32_t instructions, uint32_t hflags,
                         const uint8_t *first, const uint8_t *second) {
    sc_cpu *cpu = owner;
    if (!cpu) return;
    unsigned bits = hflags & HF_CS64 ? 64 : hflags & HF_CS32 ? 32 : 16;
    add_block(cpu, pc, bytes, bits, (const uint8_t *[2]){first, second});
    cpu->port.translated += instructions + BLOCK_WEIGHT;
    if (cpu->port.translated > cpu->port.most_translated) cpu->port.most_translated = cpu->port.translated;
    if (engine_must_empty(cpu)) watch(cpu);
}

bool engine_must_empty(const sc_cpu *cpu) { return cpu->port.translated > TRANSLATED_MAX; }

/* The page at `host` has translated code from now on. */
void sc_code_begins(void *owner, const uint8_t *host) {
    sc_cpu *cpu = owner;
    uint64_t page;
    if (!find_page(cpu, host, &page) || cpu->port.code.is_mine[page]) return;
    if (cpu->port.code.page_count == cpu->port.code.page_max) {
        uint32_t max = cpu->port.code.page_max ? 2 * cpu->port.code.page_max : 256;
        void *pages = realloc(cpu->port.code.pages, max * sizeof(uint32_t));
        if (!pages) abort();
        cpu->port.code.pages = pages;
        cpu->port.code.page_max = max;
    }
    cpu->port.code.pages[cpu->port.code.page_count++] = (uint32_t)page;
    cpu->port.code.is_mine[page] = 1;
    uint8_t *count = &cpu->port.code.map->counts[page];
    if (!*count) cpu->port.code.map->marks++;
    if (*count != UINT8_MAX) ++*count;
}

void sc_code_ends(void *owner, const uint8_t *host) {
    uint64_t page;
    if (find_page(owner, host, &page)) end_page(owner, page);
}

/* Has the page at `host` translated code, of any CPU? */
bool sc_has_code(void *owner, const uint8_t *host) {
    const sc_cpu *cpu = owner;
    uint64_t page;
    return find_page(cpu, host, &page) && cpu->port.code.map->counts[page];
}

/* Take away the translations of what changed, of all CPUs but `besides`. */
static void forget(sc_code_map *map, uint64_t hpa, uint64_t bytes, const sc_cpu *besides) {
    for (sc_cpu *cpu = map->first; cpu; cpu = cpu->port.code.next) {
        uint64_t from = hpa, end = hpa + bytes;
        while (cpu != besides && from < end) {
            uint64_t next = (from | 0xfff) + 1 < end ? (from | 0xfff) + 1 : end;
            if (cpu->port.code.is_mine[from >> 12]) sc_forget_code(cpu->port.uc, cpu->memory + from, next - from);
            from = next;
        }
    }
}

/* This CPU stores to a page that has code; Unicorn itself takes away its own translations. */
void sc_code_stored(void *owner, const uint8_t *host, uint64_t bytes) {
    sc_cpu *cpu = owner;
    uint64_t page;
    if (find_page(cpu, host, &page)) forget(cpu->port.code.map, (uint64_t)(host - cpu->memory), bytes, cpu);
}

/* --- what others tell ------------------------------------------------------------------------------------------------ */

/* [hpa, hpa + bytes) has changed. */
void sc_code_written(sc_code_map *map, uint64_t hpa, uint64_t bytes) {
    if (bytes && hpa < map->pages << 12 && bytes <= (map->pages << 12) - hpa) forget(map, hpa, bytes, NULL);
}

void engine_note_store(sc_cpu *cpu, uint64_t hpa, uint64_t bytes) {
    const uint8_t *counts = cpu->port.code.map->counts;
    if (counts[hpa >> 12] || counts[(hpa + bytes - 1) >> 12]) forget(cpu->port.code.map, hpa, bytes, NULL);
}

/* Unicorn has set accessed or dirty flags in the page-table entry at `hpa`. */
void sc_entry_marked(void *owner, uint64_t hpa) {
    sc_cpu *cpu = owner;
    if (cpu && is_ram(cpu, hpa, 4)) engine_note_store(cpu, hpa, 4);
}

/* Others may have got code since this CPU ran: its stores there are slow from now on. */
void code_begin_run(sc_cpu *cpu) {
    if (cpu->port.code.marks_seen == cpu->port.code.map->marks) return;
    cpu->port.code.marks_seen = cpu->port.code.map->marks;
    sc_slow_code_stores(cpu->port.uc);
}
