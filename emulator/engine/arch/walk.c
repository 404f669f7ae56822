/* The page walks of the CPU itself, for what Unicorn leaves to us: event delivery, string I/O, code bytes.
 *
 *   4-level   47..39 | 38..30 | 29..21 | 20..12 | 11..0     8-byte entries; PS in the second and third: 1 GiB, 2 MiB
 *   PAE                31..30 | 29..21 | 20..12 | 11..0     8-byte entries; PS: 2 MiB
 *   32-bit                      31..22 | 21..12 | 11..0     4-byte entries; PS (with CR4.PSE): 4 MiB
 *
 * Every table address and the result are guest-physical when EPT is on, and go through walk_ept (SDM 3A 4, 3C 29.3).
 * MODEL: the four PDPTEs of PAE paging are read from memory at each walk, not cached at MOV CR3, as the engine does.
 */
#include <string.h>
#include "engine.h"

#define PHYSICAL_BITS 40 /* what the engine's CPU model has; CPUID leaf 0x80000008 says the same */
#define ADDRESS ((1ull << PHYSICAL_BITS) - 0x1000)
#define PAE_RESERVED 0x7ff0000000000000ull /* in 4-level paging software may use these bits */
#define PDPTE_RESERVED (0x1e6 | ~((1ull << PHYSICAL_BITS) - 1))
#define RESERVED (((1ull << 52) - 1) & ~((1ull << PHYSICAL_BITS) - 1))
enum { EPT_R = 1, EPT_W = 2, EPT_X = 4, EPT_LARGE = 0x80 };

static uint64_t load(const sc_cpu *cpu, uint64_t hpa, size_t bytes) {
    uint64_t value = ~0ull; /* nobody answers on the bus: all ones */
    if (is_ram(cpu, hpa, bytes)) {
        value = 0;
        memcpy(&value, cpu->memory + hpa, bytes);
    }
    return value;
}

static void store(sc_cpu *cpu, uint64_t hpa, uint64_t value, size_t bytes) {
    if (!is_ram(cpu, hpa, bytes)) return;
    memcpy(cpu->memory + hpa, &value, bytes);
    engine_note_store(cpu, hpa, bytes);
}

/* SDM 3C 29.3.3.1, "EPT Misconfigurations", for an entry that has any right; `shift` tells its level. */
static bool ept_misconfigured(uint64_t entry, int shift, bool leaf) {
    unsigned rights = entry & (EPT_R | EPT_W | EPT_X), memory_type = entry >> 3 & 7;
    if (!(rights & EPT_R)) return true; /* execute-only is not offered in IA32_VMX_EPT_VPID_CAP */
    if (entry & RESERVED) return true;
    if (!leaf) return entry & (shift == 39 ? 0xf8 : 0x78);
    uint64_t below_page = ((1ull << shift) - 1) & ~0xfffull;
    return (entry & below_page) || memory_type == 2 || memory_type == 3 || memory_type == 7;
}

/* MODEL: no accessed and dirty flags; every access to a guest's page table wants to write it, as nested paging of the
 * engine does. */
walk_result walk_ept(sc_cpu *cpu, uint64_t gpa, unsigned access, bool *large) {
    walk_result r = {.status = WALK_OK, .hpa = gpa, .ept_rights = EPT_R | EPT_W | EPT_X, .page_shift = 30};
    if (!secondary_control(cpu, PROC2_ENABLE_EPT)) return r;
    unsigned wanted = access & ACCESS_FETCH ? EPT_X : access & ACCESS_WRITE ? EPT_R | EPT_W : EPT_R;
    uint64_t table = SLOT(cpu, EPT_POINTER) & ADDRESS, entry;
    bool leaf = false;
    int shift = 48;
    r.gpa = gpa;
    do {
        shift -= 9;
        note_reference(cpu, table + (gpa >> shift & 511) * 8);
        entry = gpa >> 48 ? 0 : load(cpu, table + (gpa >> shift & 511) * 8, 8);
        leaf = shift == 12 || (shift < 39 && (entry & EPT_LARGE));
        r.ept_rights &= entry;
        if ((entry & 7) && ept_misconfigured(entry, shift, leaf)) r.status = WALK_EPT_MISCONFIG;
        table = entry & ADDRESS;
    } while (!leaf && (entry & 7) && r.status == WALK_OK);
    if (r.status == WALK_OK && (r.ept_rights & wanted) != wanted) r.status = WALK_EPT_VIOLATION;
    uint64_t offset_mask = (1ull << shift) - 1;
    r.hpa = (table & ~offset_mask) | (gpa & offset_mask);
    r.page_shift = (uint8_t)shift;
    if (large) *large = shift > 12;
    return r;
}

static walk_result fault(unsigned access, uint32_t cause, bool execute_disable) {
    uint32_t code = cause | (access & ACCESS_WRITE ? PF_WRITE : 0) | (access & ACCESS_USER ? PF_USER : 0);
    if ((access & ACCESS_FETCH) && execute_disable) code |= PF_FETCH;
    return (walk_result){.status = WALK_FAULT, .error_code = code};
}

/* Check the rights gathered on the way down against the access (SDM 3A 4.6). */
static bool permitted(sc_cpu *cpu, unsigned access, uint64_t rights, bool no_execute) {
    uint64_t cr0 = SLOT(cpu, GUEST_CR0), cr4 = SLOT(cpu, GUEST_CR4);
    if ((access & ACCESS_USER) && !(rights & USER)) return false;
    if ((access & ACCESS_WRITE) && !(rights & WRITABLE) && ((access & ACCESS_USER) || (cr0 & CR0_WP))) return false;
    if (access & ACCESS_FETCH) {
        if (no_execute) return false;
        if (!(access & ACCESS_USER) && (rights & USER) && (cr4 & CR4_SMEP)) return false;
    }
    return true;
}

/* A shadow entry of a watched page: all there but the present bit. With EPT the entries are the guest's own. */
static bool is_closed(const sc_cpu *cpu, uint64_t entry) {
    return (entry & (PRESENT | WATCHED_ENTRY)) == WATCHED_ENTRY && has_watched(cpu, entry & ADDRESS, 12) &&
           cpu->s.non_root && !secondary_control(cpu, PROC2_ENABLE_EPT);
}

walk_result walk(sc_cpu *cpu, uint64_t linear, unsigned access) {
    uint64_t cr0 = SLOT(cpu, GUEST_CR0), cr3 = SLOT(cpu, GUEST_CR3), cr4 = SLOT(cpu, GUEST_CR4);
    uint64_t efer = SLOT(cpu, GUEST_IA32_EFER);
    if (!(efer & EFER_LMA)) linear = (uint32_t)linear;
    if (!(cr0 & CR0_PG)) return walk_ept(cpu, linear, access, NULL);
    bool pae = cr4 & CR4_PAE, nxe = efer & EFER_NXE, ia32e = efer & EFER_LMA, xd = (nxe && pae) || (cr4 & CR4_SMEP);
    int shift = ia32e ? 39 : pae ? 30 : 22;
    size_t entry_bytes = pae ? 8 : 4;
    uint64_t table = ia32e ? cr3 & ADDRESS : pae ? cr3 & 0xffffffe0 : cr3 & 0xfffff000;
    uint64_t rights = WRITABLE | USER;
    bool no_execute = false;
    unsigned index_bits = pae ? 9 : 10;
    for (;; shift -= index_bits) {
        uint64_t index = linear >> shift & ((1u << index_bits) - 1);
        if (!ia32e && pae && shift == 30) index &= 3;
        unsigned table_access = access & ACCESS_PROBE ? 0 : ACCESS_WRITE; /* accessed and dirty bits */
        walk_result at = walk_ept(cpu, table + index * entry_bytes, table_access, NULL);
        if (at.status != WALK_OK) {
            at.in_page_walk = true;
            return at;
        }
        note_reference(cpu, at.hpa);
        uint64_t entry = load(cpu, at.hpa, entry_bytes), was = entry;
        bool pdpte = !ia32e && pae && shift == 30;
        bool leaf = shift == 12 || (!pdpte && shift != 39 && (entry & LARGE) && (pae || (cr4 & CR4_PSE)));
        bool watched = shift == 12 && is_closed(cpu, entry);
        if (!(entry & PRESENT) && !watched) return fault(access, 0, xd);
        uint64_t reserved = pae ? RESERVED | (nxe ? 0 : NO_EXECUTE) | (ia32e ? 0 : PAE_RESERVED) : 0;
        if (leaf && shift > 12) reserved |= ((1ull << shift) - 1) & ~0x1fffull & (pae ? ~0ull : 0x200000);
        if (shift == 39) reserved |= LARGE;
        if (!pdpte && (entry & reserved)) return fault(access, PF_RESERVED | PF_PRESENT, xd);
        if (!pdpte) rights &= entry;
        no_execute |= pae && (entry & NO_EXECUTE);
        if (leaf && !permitted(cpu, access, rights, no_execute)) return fault(access, PF_PRESENT, xd);
        if (!pdpte && !(access & ACCESS_PROBE)) {
            entry |= ACCESSED | (leaf && (access & ACCESS_WRITE) ? DIRTY : 0);
            if (entry != was) store(cpu, at.hpa, entry, entry_bytes);
        }
        if (leaf) {
            uint64_t mask = (1ull << shift) - 1;
            uint64_t page = entry & ADDRESS & ~mask;
            if (!pae && shift == 22) page |= (entry >> 13 & 0xff) << 32; /* PSE-36 */
            walk_result r = walk_ept(cpu, page | (linear & mask), access, NULL);
            r.is_global = (entry & GLOBAL) && (cr4 & CR4_PGE);
            if (shift < r.page_shift) r.page_shift = (uint8_t)shift;
            r.is_watched = watched;
            r.entry_hpa = at.hpa;
            return r;
        }
        table = entry & ADDRESS;
    }
}

/* Are the four entries that PAE paging loads with CR3 well-formed (SDM 3A 4.4.1)? MODEL: one whose place EPT does not map
 * passes; a processor would exit. */
bool pdptes_valid(sc_cpu *cpu, uint64_t cr3) {
    for (unsigned i = 0; i < 4; i++) {
        walk_result at = walk_ept(cpu, (cr3 & 0xffffffe0) + 8 * i, 0, NULL);
        uint64_t entry = at.status == WALK_OK ? load(cpu, at.hpa, 8) : 0;
        if ((entry & PRESENT) && (entry & PDPTE_RESERVED)) return false;
    }
    return true;
}

void physical_write(sc_cpu *cpu, uint64_t hpa, const void *data, size_t bytes) {
    if (!is_ram(cpu, hpa, bytes)) return;
    memcpy(cpu->memory + hpa, data, bytes);
    engine_note_store(cpu, hpa, bytes);
}

/* Do `action` for each page that [linear, linear + bytes) touches. */
static walk_result each_page(sc_cpu *cpu, uint64_t linear, uint8_t *data, size_t bytes, unsigned access, int action) {
    walk_result w = {.status = WALK_OK};
    while (bytes) {
        size_t here = 0x1000 - (linear & 0xfff);
        if (here > bytes) here = bytes;
        w = walk(cpu, linear, access);
        if (w.status != WALK_OK) {
            w.hpa = long_mode(cpu) ? linear : (uint32_t)linear; /* the linear address that failed: CR2 */
            return w;
        }
        bool ram = is_ram(cpu, w.hpa, here);
        if (action == 'r' && ram) memcpy(data, cpu->memory + w.hpa, here);
        if (action == 'r' && !ram) memset(data, 0xff, here);
        if (action == 'w') physical_write(cpu, w.hpa, data, here);
        linear += here;
        if (data) data += here;
        bytes -= here;
    }
    return w;
}

walk_result linear_read(sc_cpu *cpu, uint64_t linear, void *data, size_t bytes, unsigned access) {
    return each_page(cpu, linear, data, bytes, access, 'r');
}

walk_result linear_write(sc_cpu *cpu, uint64_t linear, const void *data, size_t bytes, unsigned access) {
    walk_result w = each_page(cpu, linear, NULL, bytes, access | ACCESS_WRITE, 'c'); /* all or nothing */
    if (w.status != WALK_OK) return w;
    return each_page(cpu, linear, (uint8_t *)(uintptr_t)data, bytes, access | ACCESS_WRITE, 'w');
}

walk_result linear_check(sc_cpu *cpu, uint64_t linear, size_t bytes, unsigned access) {
    return each_page(cpu, linear, NULL, bytes, access, 'c');
}
