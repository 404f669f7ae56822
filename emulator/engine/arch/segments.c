/* What far transfers share, whatever starts one: descriptors, segment registers, the stack of an inner ring and what is pushed
 * there (SDM 3A 3.4, 5 and 6.12.1). Nothing here changes a register but set_segment().
 */
#include <string.h>
#include "engine.h"

static const outcome ok = {.what = DONE};

outcome faulted(unsigned vector, uint32_t error_code) {
    return (outcome){FAULT,
                     {.vector = vector, .type = EVENT_HARDWARE_EXCEPTION, .has_error = true, .error_code = error_code}};
}

outcome access_failed(walk_result w, unsigned access) {
    if (w.status != WALK_FAULT) return (outcome){.what = UNMAPPED, .walk = w, .access = access};
    outcome o = faulted(PAGE_FAULT, w.error_code);
    o.next.address = w.hpa;
    return o;
}

/* Read the 8-byte descriptor of `selector`; `fault_vector` is raised when it lies outside its table. */
outcome read_descriptor(sc_cpu *cpu, uint16_t selector, unsigned fault_vector, uint32_t ext, uint64_t *ret) {
    bool local = selector & 4;
    uint64_t base = local ? SLOT(cpu, GUEST_LDTR_BASE) : SLOT(cpu, GUEST_GDTR_BASE);
    uint64_t limit = local ? SLOT(cpu, GUEST_LDTR_LIMIT) : SLOT(cpu, GUEST_GDTR_LIMIT);
    if (local && (SLOT(cpu, GUEST_LDTR_ACCESS_RIGHTS) & 0x10000)) limit = 0;
    if ((selector | 7u) > limit) return faulted(fault_vector, (selector & 0xfffc) | ext);
    walk_result w = linear_read(cpu, base + (selector & ~7u), ret, 8, ACCESS_SYSTEM);
    return w.status == WALK_OK ? ok : access_failed(w, 0);
}

segment unpack_descriptor(uint16_t selector, uint64_t d) {
    uint32_t limit = (d & 0xffff) | (d >> 32 & 0xf0000);
    if (d >> 55 & 1) limit = limit << 12 | 0xfff;
    return (segment){selector, (d >> 16 & 0xffffff) | (d >> 32 & 0xff000000), limit, (d >> 40 & 0xf0ff)};
}

/* A segment register is loaded from descriptor `d` of `selector`: its accessed bit is set. */
outcome mark_accessed(sc_cpu *cpu, uint16_t selector, uint64_t d) {
    uint64_t base = selector & 4 ? SLOT(cpu, GUEST_LDTR_BASE) : SLOT(cpu, GUEST_GDTR_BASE);
    uint8_t rights = d >> 40 | AR_ACCESSED;
    if (d >> 40 & AR_ACCESSED) return ok;
    walk_result w = linear_write(cpu, base + (selector & ~7u) + 5, &rights, 1, ACCESS_SYSTEM);
    return w.status == WALK_OK ? ok : access_failed(w, ACCESS_WRITE);
}

segment get_segment(const sc_cpu *cpu, int index) {
    return (segment){.selector = (uint16_t)cpu->s.vmcs[VMCS_GUEST_ES_SELECTOR + index],
                     .base = cpu->s.vmcs[VMCS_GUEST_ES_BASE + index],
                     .limit = (uint32_t)cpu->s.vmcs[VMCS_GUEST_ES_LIMIT + index],
                     .rights = (uint32_t)cpu->s.vmcs[VMCS_GUEST_ES_ACCESS_RIGHTS + index]};
}

void set_segment(sc_cpu *cpu, int index, segment s) {
    cpu->s.vmcs[VMCS_GUEST_ES_SELECTOR + index] = s.selector;
    cpu->s.vmcs[VMCS_GUEST_ES_BASE + index] = s.base;
    cpu->s.vmcs[VMCS_GUEST_ES_LIMIT + index] = s.limit;
    cpu->s.vmcs[VMCS_GUEST_ES_ACCESS_RIGHTS + index] = s.rights;
}

/* Stack pointer (and selector) for privilege level `level` from the TSS. */
outcome inner_stack(sc_cpu *cpu, unsigned level, unsigned ist, uint32_t ext, uint64_t *sp, uint16_t *ss) {
    uint64_t base = SLOT(cpu, GUEST_TR_BASE), limit = SLOT(cpu, GUEST_TR_LIMIT);
    uint32_t tr_error = (SLOT(cpu, GUEST_TR_SELECTOR) & 0xfffc) | ext;
    unsigned type = SLOT(cpu, GUEST_TR_ACCESS_RIGHTS) & 15;
    uint64_t at, bytes;
    uint8_t data[8] = {0};
    if (long_mode(cpu)) {
        at = ist ? 0x1c + ist * 8 : 4 + level * 8;
        bytes = 8;
    } else if (type & 8) {
        at = 4 + level * 8;
        bytes = 6;
    } else {
        at = 2 + level * 4;
        bytes = 4;
    }
    if (at + bytes - 1 > limit) return faulted(INVALID_TSS, tr_error);
    walk_result w = linear_read(cpu, base + at, data, bytes, ACCESS_SYSTEM);
    if (w.status != WALK_OK) return access_failed(w, 0);
    *sp = 0;
    memcpy(sp, data, bytes == 6 ? 4 : bytes == 4 ? 2 : 8);
    *ss = 0;
    if (bytes != 8) memcpy(ss, data + (bytes == 6 ? 4 : 2), 2);
    return ok;
}

/* The checks of a stack segment loaded from a 32-bit TSS (SDM 3A 6.12.1.3). */
outcome load_inner_ss(sc_cpu *cpu, uint16_t selector, unsigned level, uint32_t ext, segment *ret) {
    uint64_t d;
    if (!(selector & 0xfffc)) return faulted(INVALID_TSS, ext);
    outcome o = read_descriptor(cpu, selector, INVALID_TSS, ext, &d);
    if (o.what != DONE) return o;
    *ret = unpack_descriptor(selector, d);
    unsigned dpl = ret->rights >> 5 & 3;
    bool writable_data = (ret->rights & 0x1a) == 0x12;
    if ((selector & 3u) != level || dpl != level || !writable_data)
        return faulted(INVALID_TSS, (selector & 0xfffc) | ext);
    if (!(ret->rights & 0x80)) return faulted(STACK_FAULT, (selector & 0xfffc) | ext);
    ret->rights |= AR_ACCESSED;
    return mark_accessed(cpu, selector, d);
}

/* Does [offset, offset + bytes) lie in a data segment? (SDM 3A 5.3) */
bool in_limit(const segment *s, uint64_t offset, uint64_t bytes) {
    uint64_t last = offset + bytes - 1, highest = s->rights & 0x4000 ? 0xffffffff : 0xffff;
    bool grows_down = (s->rights & 0xc) == 4;
    return grows_down ? offset > s->limit && last <= highest : last <= s->limit;
}

/* Is there room for `count` values of `width` bytes below `sp` in a stack segment? */
bool has_stack_room(const segment *ss, uint64_t sp, unsigned width, int count) {
    uint64_t mask = ss->rights & AR_D ? 0xffffffff : 0xffff;
    for (int i = 1; i <= count; i++)
        if (!in_limit(ss, (sp - (uint64_t)i * width) & mask, width)) return false;
    return true;
}

static bool crosses_page(uint64_t linear, unsigned bytes) { return (linear & 0xfff) + bytes > 0x1000; }

/* Push `count` values of `width` bytes below `sp` in stack segment `ss` (NULL in 64-bit mode), all or nothing; the
 * first push that fails, from the top down, is the one to report. */
outcome push_all(sc_cpu *cpu, const segment *ss, uint32_t ss_error, uint64_t *sp, unsigned width,
                 const uint64_t *values, int count, unsigned access) {
    uint64_t base = ss ? ss->base : 0, mask = !ss ? ~0ull : ss->rights & 0x4000 ? 0xffffffff : 0xffff;
    uint64_t pages[2] = {~0ull, ~0ull}, hpas[2]; /* of the stack: where the two lie that were asked for last */
    for (int i = 1; i <= count; i++) {
        uint64_t at = (*sp - (uint64_t)i * width) & mask, linear = base + at;
        if (ss && !in_limit(ss, at, width)) return faulted(STACK_FAULT, ss_error);
        if (linear >> 12 == pages[0] && !crosses_page(linear, width)) continue;
        walk_result w = linear_check(cpu, linear, width, access | ACCESS_WRITE);
        if (w.status != WALK_OK) return access_failed(w, ACCESS_WRITE);
        if (crosses_page(linear, width)) continue;
        pages[1] = pages[0], hpas[1] = hpas[0];
        pages[0] = linear >> 12, hpas[0] = w.hpa & ~0xfffull;
    }
    for (int i = 0; i < count; i++) {
        *sp = (*sp - width) & mask;
        uint64_t linear = base + *sp, page = linear >> 12;
        bool is_first = page == pages[0], is_known = (is_first || page == pages[1]) && !crosses_page(linear, width);
        if (is_known)
            physical_write(cpu, hpas[!is_first] | (linear & 0xfff), &values[i], width);
        else
            linear_write(cpu, linear, &values[i], width, access);
    }
    return ok;
}
