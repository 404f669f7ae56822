/* A guest's own page tables, walked by a VMM in software (SDM 3A 4): vmm/paging/guest_walk.py asks for it.
 *
 *   4-level   47..39 | 38..30 | 29..21 | 20..12 | 11..0     levels 4 3 2 1
 *   PAE                31..30 | 29..21 | 20..12 | 11..0     levels   3 2 1    (level 3: four PDPTEs)
 *   32-bit                      31..22 | 21..12 | 11..0     levels     2 1    (4-byte entries)
 *
 * Nothing here belongs to a CPU: arch/walk.c is the walk that a processor makes. This one sets accessed and dirty bits
 * when it has succeeded, all at once. Where there is no memory, entries are all ones.
 */
#include <string.h>
#include "engine.h"

#define ADDRESS 0xfffffff000ull /* 40 physical address bits */
#define RESERVED_ADDRESS 0xfff0000000000ull
#define RESERVED_IN_PAE 0x7ff0000000000000ull /* 4-level paging ignores these */
#define PSE_RESERVED 0x200000                 /* of an entry that maps 4 MiB in 32-bit paging */

static uint64_t hpa_of(const sc_table_memory *m, uint64_t address, bool *is_ram) {
    for (unsigned i = 0; i < m->piece_count; i++) {
        const sc_piece *piece = &m->pieces[i];
        *is_ram = address >= piece->start && address < piece->end;
        if (*is_ram) return piece->hpa + address - piece->start;
    }
    return m->nobody_hpa | (address & m->nobody_mask);
}

/* Pieces are whole pages, so an entry lies in one or in none. */
static uint64_t visit(const sc_table_memory *m, sc_table_walk *ret, uint64_t address, unsigned entry_bytes) {
    bool is_ram = false;
    sc_visit *v = &ret->visits[ret->visit_count++];
    *v = (sc_visit){.gpa = address, .hpa = hpa_of(m, address, &is_ram)};
    if (is_ram)
        memcpy(&v->entry, m->memory + v->hpa, entry_bytes);
    else
        v->entry = entry_bytes == 8 ? ~0ull : UINT32_MAX;
    return v->entry;
}

static void mark(const sc_table_memory *m, sc_table_walk *ret, sc_visit *v, uint64_t bits, unsigned entry_bytes) {
    bool is_ram = false;
    if ((v->entry | bits) == v->entry) return;
    v->entry |= bits;
    ret->marked_hpas[ret->mark_count++] = v->hpa;
    hpa_of(m, v->gpa, &is_ram);
    if (!is_ram) return;
    memcpy(m->memory + v->hpa, &v->entry, entry_bytes);
    sc_code_written(m->code, v->hpa, entry_bytes);
}

static bool permitted(uint64_t cr0, uint64_t cr4, uint64_t rights, unsigned access) {
    bool write = access & ACCESS_WRITE, user = access & ACCESS_USER, fetch = access & ACCESS_FETCH;
    if (user && !(rights & USER)) return false;
    if (write && !(rights & WRITABLE) && (user || (cr0 & CR0_WP))) return false;
    if (fetch && (rights & NO_EXECUTE)) return false;
    return !(fetch && !user && (rights & USER) && (cr4 & CR4_SMEP));
}

static void fault(sc_table_walk *ret, uint64_t error_code) { ret->is_fault = true, ret->error_code = error_code; }

/* Walk for `access` (ACCESS_*), with paging on; ACCESS_PROBE sets no accessed and dirty bits. */
void sc_walk_tables(const sc_table_memory *m, uint64_t cr0, uint64_t cr3, uint64_t cr4, uint64_t efer, uint64_t linear,
                    unsigned access, sc_table_walk *ret) {
    bool is_long = efer & EFER_LMA, pae = cr4 & CR4_PAE, has_no_execute = (efer & EFER_NXE) && pae;
    unsigned level = is_long ? 4 : pae ? 3 : 2, bits = pae ? 9 : 10, entry_bytes = pae ? 8 : 4, shift;
    uint64_t code = (access & ACCESS_WRITE ? PF_WRITE : 0) | (access & ACCESS_USER ? PF_USER : 0);
    if ((access & ACCESS_FETCH) && (has_no_execute || (cr4 & CR4_SMEP))) code |= PF_FETCH;
    uint64_t always_reserved = pae ? RESERVED_ADDRESS | (has_no_execute ? 0 : NO_EXECUTE) : 0;
    if (pae && !is_long) always_reserved |= RESERVED_IN_PAE;
    uint64_t table = cr3 & (is_long ? ADDRESS : pae ? 0xffffffe0 : 0xfffff000), entry;
    *ret = (sc_table_walk){.rights = WRITABLE | USER};
    if (!is_long) linear = (uint32_t)linear;
    for (;; level--) {
        shift = 12 + bits * (level - 1);
        bool is_pdpte = level == 3 && !is_long;
        uint64_t index = linear >> shift & ((1u << bits) - 1);
        entry = visit(m, ret, table + (is_pdpte ? index & 3 : index) * entry_bytes, entry_bytes);
        if (!(entry & PRESENT)) return fault(ret, code);
        bool is_large = (entry & LARGE) && (level == 2 || level == 3) && !is_pdpte && (pae || (cr4 & CR4_PSE));
        bool is_leaf = level == 1 || is_large;
        uint64_t reserved = always_reserved;
        if (pae && level == 4) reserved |= LARGE;
        if (is_large) reserved |= pae ? ((1ull << shift) - 1) & ~0x1fffull : PSE_RESERVED;
        if (!is_pdpte) {
            if (entry & reserved) return fault(ret, code | PF_PRESENT | PF_RESERVED);
            ret->rights &= entry | NO_EXECUTE;
            if (pae) ret->rights |= entry & NO_EXECUTE;
        }
        table = entry & (pae ? ADDRESS : 0xfffff000);
        if (is_leaf) break;
    }
    if (!permitted(cr0, cr4, ret->rights, access)) return fault(ret, code | PF_PRESENT);
    for (unsigned i = 0; i < ret->visit_count && !(access & ACCESS_PROBE); i++) {
        bool is_last = i + 1 == ret->visit_count, is_pdpte = pae && !is_long && i == 0;
        uint64_t used = is_pdpte ? 0 : ACCESSED | (is_last && (access & ACCESS_WRITE) ? DIRTY : 0);
        mark(m, ret, &ret->visits[i], used, entry_bytes);
    }
    uint64_t offset_mask = (1ull << shift) - 1;
    uint64_t frame = table & ~offset_mask;
    if (!pae && level == 2) frame |= (entry >> 13 & 0xff) << 32; /* PSE-36 */
    ret->gpa = frame | (linear & offset_mask);
    ret->is_dirty = ret->visits[ret->visit_count - 1].entry & DIRTY;
    ret->page_shift = shift;
}
