/* Hardware task switches (SDM 3A 7): by CALL, JMP and IRET here, through task gates of the IDT for delivery.c.
 *
 *   32-bit TSS   0 link | 4 stacks | 28 CR3 | 32 EIP | 36 EFLAGS | 40 EAX ... EDI | 72 ES ... GS | 96 LDT | 100 T | 102 I/O map
 *   16-bit TSS   0 link | 2 stacks |          14 IP  | 16 FLAGS  | 18 AX ... DI   | 34 ES ... DS | 42 LDT
 *
 *   find_task ------> the descriptor of the new TSS is right, else the old task faults
 *   switch_task ----> old and new TSS are there, else the old task faults; save, load; what is wrong with
 *                     the new task's segments is a fault of the new task
 *
 * In non-root operation the VM exit comes between the two (SDM 3C 26.4.2): a VMM does the rest.
 */
#include <string.h>
#include "engine.h"

enum { TSS16 = 1, TSS32 = 9, BUSY = 2, TASK_GATE = 5, LDT = 2, LDTR = 6, TR = 7 };
enum { DR7_LOCAL = 0x155, IMAGE_BYTES = 0x68, LINK_BYTES = 2 };

typedef struct { /* where things lie in a TSS */
    uint8_t width, cr3, ip, flags, gpr, segments, segment_count, ldt, trap, limit;
} layout;
static const layout LAYOUT16 = {2, 0, 0x0e, 0x10, 0x12, 0x22, 4, 0x2a, 0, 0x2b};
static const layout LAYOUT32 = {4, 0x1c, 0x20, 0x24, 0x28, 0x48, 6, 0x60, 0x64, 0x67};

static const outcome passes = {.what = DONE};

static const layout *layout_of(uint32_t rights) { return rights & 8 ? &LAYOUT32 : &LAYOUT16; }

static uint32_t get(const uint8_t *image, unsigned at, unsigned width) {
    uint32_t value = 0;
    memcpy(&value, image + at, width);
    return value;
}

static void put(uint8_t *image, unsigned at, unsigned width, uint64_t value) { memcpy(image + at, &value, width); }

/* --- before anything changes -------------------------------------------------------------------------------------- */

outcome find_task(sc_cpu *cpu, uint16_t selector, int by, uint32_t ext, segment *ret) {
    uint32_t error = (selector & 0xfffc) | ext;
    unsigned vector = by == BY_IRET ? INVALID_TSS : GENERAL_PROTECTION;
    uint64_t d = 0;
    if (selector & 4) return faulted(vector, error); /* a TSS is in the GDT */
    outcome o = read_descriptor(cpu, selector, vector, ext, &d);
    if (o.what != DONE) return o;
    *ret = unpack_descriptor(selector, d);
    unsigned type = ret->rights & (AR_S | AR_TYPE), wanted = by == BY_IRET ? BUSY : 0;
    if (type != (TSS16 | wanted) && type != (TSS32 | wanted)) return faulted(vector, error);
    if (!(ret->rights & AR_P)) return faulted(SEGMENT_NOT_PRESENT, error);
    if (ret->limit < layout_of(ret->rights)->limit) return faulted(INVALID_TSS, error);
    return passes;
}

/* A far CALL or JMP to descriptor `d` of a TSS or a task gate. */
static outcome find_named_task(sc_cpu *cpu, uint16_t selector, uint64_t d, int by, segment *ret) {
    unsigned level = d >> 45 & 3;
    if (level < cpl(cpu) || level < (selector & 3u)) return faulted(GENERAL_PROTECTION, selector & 0xfffc);
    if ((d >> 40 & 31) != TASK_GATE) return find_task(cpu, selector, by, 0, ret);
    if (!(d >> 47 & 1)) return faulted(SEGMENT_NOT_PRESENT, selector & 0xfffc);
    return find_task(cpu, d >> 16 & 0xffff, by, 0, ret);
}

static uint64_t busy_byte(const sc_cpu *cpu, uint16_t selector) {
    return SLOT(cpu, GUEST_GDTR_BASE) + (selector & ~7u) + 5;
}

/* All of memory that the switch writes and reads, but for the new task's segments. */
static outcome check_memory(sc_cpu *cpu, const segment *old, const segment *new, int by) {
    const layout *from = layout_of(old->rights), *to = layout_of(new->rights);
    bool nests = by == BY_CALL || by == BY_GATE;
    struct {
        uint64_t linear;
        unsigned bytes, access;
    } all[] = {
        {old->base + from->ip, from->ldt - from->ip, ACCESS_WRITE},
        {new->base, to->limit + 1u, 0},
        {new->base, nests ? LINK_BYTES : 0, ACCESS_WRITE},
        {busy_byte(cpu, old->selector), nests ? 0 : 1, ACCESS_WRITE},
        {busy_byte(cpu, new->selector), by == BY_IRET ? 0 : 1, ACCESS_WRITE},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        walk_result w = linear_check(cpu, all[i].linear, all[i].bytes, all[i].access | ACCESS_SYSTEM);
        if (w.status != WALK_OK) return access_failed(w, all[i].access);
    }
    return passes;
}

/* --- saving and loading ------------------------------------------------------------------------------------------- */

static void mark_busy(sc_cpu *cpu, uint16_t selector, bool busy) {
    uint8_t rights = 0;
    linear_read(cpu, busy_byte(cpu, selector), &rights, 1, ACCESS_SYSTEM);
    rights = busy ? rights | BUSY : rights & ~BUSY;
    linear_write(cpu, busy_byte(cpu, selector), &rights, 1, ACCESS_SYSTEM);
}

static void save_task(sc_cpu *cpu, const segment *tss, uint64_t rip, uint64_t rflags) {
    const layout *to = layout_of(tss->rights);
    uint8_t image[IMAGE_BYTES] = {0};
    unsigned bytes = to->ldt - to->ip;
    linear_read(cpu, tss->base + to->ip, image + to->ip, bytes, ACCESS_SYSTEM);
    put(image, to->ip, to->width, rip);
    put(image, to->flags, to->width, rflags);
    for (unsigned i = 0; i < 8; i++) put(image, to->gpr + i * to->width, to->width, gpr_read(cpu, (int)i));
    for (unsigned i = 0; i < to->segment_count; i++)
        put(image, to->segments + i * to->width, 2, get_segment(cpu, (int)i).selector);
    linear_write(cpu, tss->base + to->ip, image + to->ip, bytes, ACCESS_SYSTEM);
}

/* The registers, and of segments the selectors: what they select comes later. */
static void load_registers(sc_cpu *cpu, const uint8_t *image, const layout *from) {
    uint32_t upper = from->width == 2 ? 0xffff0000 : 0; /* undefined by the manual; as the first 32-bit processors */
    SLOT(cpu, GUEST_RIP) = get(image, from->ip, from->width);
    SLOT(cpu, GUEST_RFLAGS) = (get(image, from->flags, from->width) & ~RFLAGS_RESERVED_0) | RFLAGS_RESERVED_1;
    for (unsigned i = 0; i < 8; i++)
        gpr_write(cpu, (int)i, upper | get(image, from->gpr + i * from->width, from->width), 4);
    for (unsigned i = 0; i < 6; i++) {
        uint16_t selector = i < from->segment_count ? (uint16_t)get(image, from->segments + i * from->width, 2) : 0;
        segment none = {.selector = selector, .rights = AR_UNUSABLE};
        if (i == CS || i == SS) none.rights |= get(image, from->segments + CS * from->width, 1) << AR_DPL_SHIFT & 0x60;
        set_segment(cpu, (int)i, none);
    }
    set_segment(cpu, LDTR, (segment){.selector = (uint16_t)get(image, from->ldt, 2), .rights = AR_UNUSABLE});
}

/* --- segments of the new task: what is wrong with them is its own fault -------------------------------------------- */

static outcome load_ldt(sc_cpu *cpu, uint32_t ext) {
    uint16_t selector = (uint16_t)SLOT(cpu, GUEST_LDTR_SELECTOR);
    uint32_t error = (selector & 0xfffc) | ext;
    uint64_t d = 0;
    if (selector & 4) return faulted(INVALID_TSS, error);
    if (!(selector & 0xfffc)) return passes;
    outcome o = read_descriptor(cpu, selector, INVALID_TSS, ext, &d);
    if (o.what != DONE) return o;
    segment ldt = unpack_descriptor(selector, d);
    if ((ldt.rights & (AR_S | AR_TYPE | AR_P)) != (LDT | AR_P)) return faulted(INVALID_TSS, error);
    set_segment(cpu, LDTR, ldt);
    return passes;
}

/* May segment register `index` have this at the new task's level? The fault, or 0. */
static unsigned segment_fault(int index, const segment *s, unsigned level) {
    unsigned rights = s->rights, dpl = rights >> AR_DPL_SHIFT & 3, rpl = s->selector & 3;
    bool code = rights & AR_CODE, conforms = code && (rights & AR_EXPAND_DOWN);
    if (!(rights & AR_S)) return INVALID_TSS;
    if (index == CS && (!code || (conforms ? dpl > rpl : dpl != rpl))) return INVALID_TSS;
    if (index == SS && (code || !(rights & AR_READABLE) || dpl != level || rpl != level)) return INVALID_TSS;
    bool is_data = index != CS && index != SS;
    if (is_data && code && !(rights & AR_READABLE)) return INVALID_TSS;
    if (is_data && !conforms && (dpl < level || dpl < rpl)) return INVALID_TSS;
    return rights & AR_P ? 0 : index == SS ? STACK_FAULT : SEGMENT_NOT_PRESENT;
}

static outcome load_segment(sc_cpu *cpu, int index, unsigned level, uint32_t ext) {
    uint16_t selector = get_segment(cpu, index).selector;
    uint64_t d = 0;
    bool needed = index == CS || index == SS;
    if (!(selector & 0xfffc)) return needed ? faulted(INVALID_TSS, ext) : passes;
    outcome o = read_descriptor(cpu, selector, INVALID_TSS, ext, &d);
    if (o.what != DONE) return o;
    segment s = unpack_descriptor(selector, d);
    unsigned vector = segment_fault(index, &s, level);
    if (vector) return faulted(vector, (selector & 0xfffc) | ext);
    if ((o = mark_accessed(cpu, selector, d)).what != DONE) return o;
    s.rights |= AR_ACCESSED;
    set_segment(cpu, index, s);
    return passes;
}

static outcome load_segments(sc_cpu *cpu, uint32_t ext) {
    static const uint8_t order[] = {SS, DS, ES, FS, GS, CS}; /* a fault of CS finds a stack */
    unsigned level = SLOT(cpu, GUEST_CS_SELECTOR) & 3;
    outcome o = load_ldt(cpu, ext);
    bool v86 = SLOT(cpu, GUEST_RFLAGS) & RFLAGS_VM;
    for (size_t i = 0; i < sizeof order && o.what == DONE; i++) {
        uint16_t selector = get_segment(cpu, order[i]).selector;
        if (v86)
            set_segment(cpu, order[i], (segment){selector, (uint64_t)selector << 4, 0xffff, 0xf3});
        else
            o = load_segment(cpu, order[i], level, ext);
    }
    if (o.what == DONE && SLOT(cpu, GUEST_RIP) > get_segment(cpu, CS).limit) return faulted(GENERAL_PROTECTION, ext);
    return o;
}

/* `rip` and `rflags` are what the old task goes on with. */
outcome switch_task(sc_cpu *cpu, const segment *to, int by, uint64_t rip, uint64_t rflags, uint32_t ext) {
    segment old = get_segment(cpu, TR), new = *to;
    const layout *from = layout_of(new.rights);
    uint8_t image[IMAGE_BYTES] = {0};
    bool nests = by == BY_CALL || by == BY_GATE;
    if (old.limit + 1ull < layout_of(old.rights)->ldt) return faulted(INVALID_TSS, (old.selector & 0xfffc) | ext);
    outcome o = check_memory(cpu, &old, &new, by);
    if (o.what != DONE) return o;
    if (by != BY_GATE) retire(cpu);
    elapse_task_switch(cpu);
    if (!nests) mark_busy(cpu, old.selector, false);
    save_task(cpu, &old, rip, by == BY_IRET ? rflags & ~(uint64_t)RFLAGS_NT : rflags);
    if (nests) linear_write(cpu, new.base, &old.selector, LINK_BYTES, ACCESS_SYSTEM);
    linear_read(cpu, new.base, image, from->limit + 1u, ACCESS_SYSTEM);
    if (by != BY_IRET) mark_busy(cpu, new.selector, true);
    new.rights |= BUSY;
    set_segment(cpu, TR, new);
    load_registers(cpu, image, from);
    if (nests) SLOT(cpu, GUEST_RFLAGS) |= RFLAGS_NT;
    SLOT(cpu, GUEST_CR0) |= CR0_TS;
    SLOT(cpu, GUEST_DR7) &= ~(uint64_t)DR7_LOCAL;
    SLOT(cpu, GUEST_INTERRUPTIBILITY_STATE) &= ~(BLOCKING_BY_STI | BLOCKING_BY_MOV_SS);
    SLOT(cpu, GUEST_ACTIVITY_STATE) = ACTIVITY_ACTIVE;
    uint32_t cr3 = get(image, from->cr3, 4);
    bool pages = from->cr3 && (SLOT(cpu, GUEST_CR0) & CR0_PG) && cr3 != SLOT(cpu, GUEST_CR3);
    if (pages && !write_cr3(cpu, cr3)) return faulted(GENERAL_PROTECTION, ext);
    o = load_segments(cpu, ext);
    o.task_trap = from->trap && (image[from->trap] & 1);
    return o;
}

/* --- by an instruction -------------------------------------------------------------------------------------------- */

static outcome start(sc_cpu *cpu, const segment *to, int by, const instruction *in) {
    uint64_t rip = (uint32_t)(SLOT(cpu, GUEST_RIP) + in->length_bytes);
    if (cpu->s.non_root) {
        vm_exit(cpu, EXIT_REASON_TASK_SWITCH, to->selector | (uint64_t)by << 30, in->length_bytes);
        return (outcome){.what = LEFT};
    }
    outcome o = switch_task(cpu, to, by, rip, SLOT(cpu, GUEST_RFLAGS) & ~(uint64_t)RFLAGS_RF, 0);
    if (o.what == DONE && o.task_trap) raise_debug(cpu, DR6_BT);
    return o;
}

bool is_task(uint64_t d) {
    unsigned type = d >> 40 & 31;
    return type == TASK_GATE || (type & ~(unsigned)BUSY) == TSS16 || (type & ~(unsigned)BUSY) == TSS32;
}

outcome to_named_task(sc_cpu *cpu, uint16_t selector, uint64_t d, int by, const instruction *in) {
    segment to;
    outcome o = find_named_task(cpu, selector, d, by, &to);
    return o.what == DONE ? start(cpu, &to, by, in) : o;
}

/* IRET with NT set: to the task that the TSS in use links to. */
outcome to_linked_task(sc_cpu *cpu, const instruction *in) {
    segment to;
    uint16_t selector = 0;
    walk_result w = linear_read(cpu, SLOT(cpu, GUEST_TR_BASE), &selector, LINK_BYTES, ACCESS_SYSTEM);
    outcome o = w.status == WALK_OK ? find_task(cpu, selector, BY_IRET, 0, &to) : access_failed(w, 0);
    return o.what == DONE ? start(cpu, &to, BY_IRET, in) : o;
}
