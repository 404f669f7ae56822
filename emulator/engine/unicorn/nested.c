/* The nested page tables that the engine walks with EPT on. They only repeat what the EPT says, filled on demand. */
#include <string.h>
#include "state.h"

void forget_nested(sc_cpu *cpu) {
    memset(cpu->port.arena + NESTED, 0, 0x1000);
    cpu->port.arena_used_bytes = NESTED + 0x1000;
}

/* Enter gpa -> hpa in the nested page tables that the engine walks (AMD APM volume 2, 15.25). They only repeat what the
 * EPT says, filled on demand; when the arena is full they begin anew. */
bool engine_map_nested(sc_cpu *cpu, uint64_t gpa, uint64_t hpa, uint64_t rights, bool large) {
    int last = large ? 21 : 12;
    if (cpu->port.arena_used_bytes + 3 * 0x1000 > ARENA_BYTES) {
        forget_nested(cpu);
        cpu->s.flush_tlb = FLUSH_ENGINE;
    }
    uint64_t table = NESTED;
    for (int shift = 39; shift > last; shift -= 9) {
        uint64_t *entry = &A64(table + (gpa >> shift & 511) * 8);
        if (*entry & 0x80) *entry = 0; /* was a large page */
        if (!(*entry & 1)) {
            memset(cpu->port.arena + cpu->port.arena_used_bytes, 0, 0x1000);
            *entry = (ARENA + cpu->port.arena_used_bytes) | 7;
            cpu->port.arena_used_bytes += 0x1000;
        }
        table = (*entry & 0xffffffffff000ull) - ARENA;
        if (table >= ARENA_BYTES) return false; /* of a snapshot that somebody made up */
    }
    uint64_t page = hpa & ~((1ull << last) - 1);
    A64(table + (gpa >> last & 511) * 8) =
        page | 4 | (rights & 1) | (rights & 2) | (large ? 0x80 : 0) | (rights & 4 ? 0 : 1ull << 63);
    return true;
}

void engine_unmap_nested(sc_cpu *cpu, uint64_t gpa) {
    uint64_t table = NESTED;
    for (int shift = 39; shift > 12; shift -= 9) {
        uint64_t entry = A64(table + (gpa >> shift & 511) * 8);
        if (!(entry & 1) || (entry & 0x80)) return;
        table = (entry & 0xffffffffff000ull) - ARENA;
        if (table >= ARENA_BYTES) return;
    }
    A64(table + (gpa >> 12 & 511) * 8) = 0;
}

/* After the nested tables' source changed (INVEPT). */
void sc_invept(sc_cpu *cpu) {
    forget_nested(cpu);
    cpu->s.flush_tlb = FLUSH_ALL;
}
