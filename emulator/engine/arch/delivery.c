/* One attempt to deliver an event through the IDT (SDM 3A 6 and 7): Unicorn delivers nothing by itself.
 *
 *   event -> gate (IDT) -> code segment (GDT/LDT) -> stack (IST / TSS / current) -> push frame -> new CS:RIP
 *
 *   64-bit gate  offset 63..32 | offset 31..16 | P DPL 0 type | IST | selector | offset 15..0      16 bytes
 *   32-bit gate                  offset 31..16 | P DPL 0 type |  0  | selector | offset 15..0       8 bytes
 *   real mode                                                         segment  | offset 15..0       4 bytes
 *
 * A delivery works on a copy of the few slots it changes; a fault leaves the state as it was before the event.
 */
#include <string.h>
#include "engine.h"

enum { GATE_TASK = 5, GATE_INT16 = 6, GATE_TRAP16 = 7, GATE_INT32 = 14, GATE_TRAP32 = 15 };

/* The state that every delivery leaves behind. */
static void enter_handler(sc_cpu *cpu, uint64_t rip, uint64_t rflags) {
    SLOT(cpu, GUEST_RIP) = rip;
    SLOT(cpu, GUEST_RFLAGS) = rflags;
    SLOT(cpu, GUEST_INTERRUPTIBILITY_STATE) &= ~(BLOCKING_BY_STI | BLOCKING_BY_MOV_SS);
    SLOT(cpu, GUEST_ACTIVITY_STATE) = ACTIVITY_ACTIVE;
}

static bool is_software(event e) { return EVENT_SOFTWARE_TYPES >> e.type & 1; }

/* Real mode (SDM 3A 21.1.4): FLAGS, CS and IP are pushed, no error code; the table is where IDTR says, at 0 after reset. */
static outcome deliver_in_real_mode(sc_cpu *cpu, event e) {
    uint64_t rflags = SLOT(cpu, GUEST_RFLAGS), old_sp = SLOT(cpu, GUEST_RSP), sp = old_sp;
    uint32_t vector = 0;
    if (e.vector * 4u + 3 > SLOT(cpu, GUEST_IDTR_LIMIT)) return faulted(GENERAL_PROTECTION, 0);
    walk_result w = linear_read(cpu, SLOT(cpu, GUEST_IDTR_BASE) + e.vector * 4u, &vector, 4, ACCESS_SYSTEM);
    if (w.status != WALK_OK) return access_failed(w, 0);
    segment cs = get_segment(cpu, CS), ss = get_segment(cpu, SS);
    ss.rights &= ~0x4000u; /* the stack pointer is SP */
    if ((vector & 0xffff) > cs.limit) return faulted(GENERAL_PROTECTION, 0);
    uint64_t frame[3] = {rflags, cs.selector, SLOT(cpu, GUEST_RIP) + (is_software(e) ? e.instruction_bytes : 0)};
    outcome o = push_all(cpu, &ss, 0, &sp, 2, frame, 3, ACCESS_SYSTEM);
    if (o.what != DONE) return o;
    /* once more, as the frame may lie there */
    linear_read(cpu, SLOT(cpu, GUEST_IDTR_BASE) + e.vector * 4u, &vector, 4, ACCESS_SYSTEM);
    cs.selector = vector >> 16;
    cs.base = (uint64_t)cs.selector << 4;
    set_segment(cpu, CS, cs);
    SLOT(cpu, GUEST_RSP) = (old_sp & ~0xffffull) | sp;
    enter_handler(cpu, vector & 0xffff, rflags & ~(uint64_t)(RFLAGS_IF | RFLAGS_TF | RFLAGS_RF | RFLAGS_AC));
    return (outcome){.what = DONE};
}

/* What is saved of RFLAGS. MODEL: RF is kept to the end of the block by an IRET. */
static uint64_t saved_flags(const sc_cpu *cpu, event e) {
    bool is_fault = e.type == EVENT_HARDWARE_EXCEPTION && e.vector != DEBUG_EXCEPTION && e.vector != DOUBLE_FAULT;
    return cpu->s.vmcs[VMCS_GUEST_RFLAGS] | (is_fault ? RFLAGS_RF : 0); /* SDM 3B 18.3.1.1 */
}

/* Behind a task switch: the error code, on the stack of the new task. */
static outcome push_error_code(sc_cpu *cpu, event e, uint32_t ext) {
    unsigned width = SLOT(cpu, GUEST_TR_ACCESS_RIGHTS) & 8 ? 4 : 2;
    segment ss = get_segment(cpu, SS);
    uint64_t sp = SLOT(cpu, GUEST_RSP), old_sp = sp, code = e.error_code;
    outcome o = push_all(cpu, &ss, ext, &sp, width, &code, 1, cpl(cpu) == 3 ? ACCESS_USER : ACCESS_SYSTEM);
    if (o.what == DONE) SLOT(cpu, GUEST_RSP) = ss.rights & AR_D ? sp : (old_sp & 0xffff0000) | sp;
    return o;
}

/* A task gate outside IA-32e mode. */
static outcome deliver_to_task(sc_cpu *cpu, event e, uint16_t selector, uint32_t ext) {
    segment task;
    uint64_t rip = SLOT(cpu, GUEST_RIP) + (is_software(e) ? e.instruction_bytes : 0), rflags = saved_flags(cpu, e);
    outcome o = find_task(cpu, selector, BY_GATE, ext, &task);
    if (o.what != DONE) return o;
    SLOT(cpu, GUEST_RFLAGS) = rflags; /* SDM 3C 28.3.3: a VM exit has RF as the old TSS would get it */
    if (cpu->s.non_root) {            /* SDM 3C 26.4.2 */
        set_vectoring(cpu, e);
        vm_exit(cpu, EXIT_REASON_TASK_SWITCH, selector | (uint64_t)BY_GATE << 30, 0);
        return (outcome){.what = LEFT};
    }
    o = switch_task(cpu, &task, BY_GATE, (uint32_t)rip, rflags, ext);
    bool traps = o.task_trap;
    if (o.what == DONE && e.has_error) o = push_error_code(cpu, e, ext);
    o.task_trap = traps;
    return o;
}

outcome deliver_once(sc_cpu *cpu, event e) {
    if (!(SLOT(cpu, GUEST_CR0) & CR0_PE)) return deliver_in_real_mode(cpu, e);
    bool wide = long_mode(cpu), v86 = SLOT(cpu, GUEST_RFLAGS) & RFLAGS_VM, software = is_software(e);
    uint32_t ext = software && e.type != EVENT_PRIVILEGED_SOFTWARE_EXCEPTION ? 0 : 1;
    uint32_t idt_error = (uint32_t)e.vector * 8 + 2 + ext;
    unsigned gate_bytes = wide ? 16 : 8, old_cpl = cpl(cpu);
    uint64_t gate[2] = {0, 0}, rflags = SLOT(cpu, GUEST_RFLAGS);
    if (v86 && e.type == EVENT_SOFTWARE_INTERRUPT && (rflags >> 12 & 3) < 3) return faulted(GENERAL_PROTECTION, 0);
    if ((uint64_t)e.vector * gate_bytes + gate_bytes - 1 > SLOT(cpu, GUEST_IDTR_LIMIT))
        return faulted(GENERAL_PROTECTION, idt_error);
    walk_result w =
        linear_read(cpu, SLOT(cpu, GUEST_IDTR_BASE) + e.vector * gate_bytes, gate, gate_bytes, ACCESS_SYSTEM);
    if (w.status != WALK_OK) return access_failed(w, 0);

    unsigned type = gate[0] >> 40 & 31, gate_dpl = gate[0] >> 45 & 3;
    bool known = type == GATE_INT32 || type == GATE_TRAP32 || (!wide && (type == GATE_INT16 || type == GATE_TRAP16));
    bool switches_task = type == GATE_TASK && !wide;
    if (!known && !switches_task) return faulted(GENERAL_PROTECTION, idt_error);
    if (software && e.type != EVENT_PRIVILEGED_SOFTWARE_EXCEPTION && gate_dpl < old_cpl)
        return faulted(GENERAL_PROTECTION, idt_error);
    if (!(gate[0] >> 47 & 1)) return faulted(SEGMENT_NOT_PRESENT, idt_error);
    if (switches_task) return deliver_to_task(cpu, e, gate[0] >> 16 & 0xffff, ext);
    uint64_t target = (gate[0] & 0xffff) | (gate[0] >> 32 & 0xffff0000) | (wide ? gate[1] << 32 : 0);
    bool narrow_gate = !(type & 8);
    if (narrow_gate) target &= 0xffff;

    uint16_t selector = gate[0] >> 16 & 0xffff;
    uint64_t d;
    if (!(selector & 0xfffc)) return faulted(GENERAL_PROTECTION, ext);
    outcome o = read_descriptor(cpu, selector, GENERAL_PROTECTION, ext, &d);
    if (o.what != DONE) return o;
    segment cs = unpack_descriptor(selector, d), ss = {0};
    unsigned cs_dpl = cs.rights >> 5 & 3;
    uint32_t cs_error = (selector & 0xfffc) | ext;
    if ((cs.rights & 0x18) != 0x18 || cs_dpl > old_cpl) return faulted(GENERAL_PROTECTION, cs_error);
    if (wide && (cs.rights & 0x6000) != 0x2000) return faulted(GENERAL_PROTECTION, cs_error);
    if (!(cs.rights & 0x80)) return faulted(SEGMENT_NOT_PRESENT, cs_error);
    unsigned new_cpl = cs.rights & 4 ? old_cpl : cs_dpl; /* conforming code keeps the level */
    if (v86 && new_cpl != 0) return faulted(GENERAL_PROTECTION, cs_error);
    if (wide && !canonical(target)) return faulted(GENERAL_PROTECTION, ext);
    if (!wide && target > cs.limit) return faulted(GENERAL_PROTECTION, ext);

    unsigned ist = wide ? gate[0] >> 32 & 7 : 0;
    uint64_t old_sp = SLOT(cpu, GUEST_RSP), sp = old_sp;
    uint32_t ss_error = ext;
    bool switched = new_cpl != old_cpl || ist;
    uint16_t new_ss = 0;
    if (switched) {
        o = inner_stack(cpu, new_cpl, ist, ext, &sp, &new_ss);
        if (o.what != DONE) return o;
        if (!wide) {
            o = load_inner_ss(cpu, new_ss, new_cpl, ext, &ss);
            if (o.what != DONE) return o;
            ss_error |= new_ss & 0xfffc;
        }
    } else if (!wide) {
        ss = get_segment(cpu, SS);
    }
    unsigned width = wide ? 8 : narrow_gate ? 2 : 4;
    if (wide) {
        if (!canonical(sp)) return faulted(STACK_FAULT, ext);
        sp &= ~15ull;
    }

    uint64_t return_rip = SLOT(cpu, GUEST_RIP) + (software ? e.instruction_bytes : 0);
    uint64_t frame[10];
    int n = 0;
    static const int v86_data[] = {GS, FS, DS, ES}; /* pushed, then null: SDM 3A 21.3.1 */
    for (int i = 0; v86 && i < 4; i++) frame[n++] = get_segment(cpu, v86_data[i]).selector;
    if (wide || new_cpl != old_cpl) {
        frame[n++] = SLOT(cpu, GUEST_SS_SELECTOR);
        frame[n++] = old_sp;
    }
    frame[n++] = saved_flags(cpu, e);
    frame[n++] = SLOT(cpu, GUEST_CS_SELECTOR);
    frame[n++] = return_rip;
    if (e.has_error) frame[n++] = e.error_code;
    if ((o = mark_accessed(cpu, selector, d)).what != DONE) return o;
    o = push_all(cpu, wide ? NULL : &ss, ss_error, &sp, width, frame, n, new_cpl == 3 ? ACCESS_USER : ACCESS_SYSTEM);
    if (o.what != DONE) return o;

    cs.selector = (selector & ~3u) | new_cpl;
    cs.rights |= 1;
    if (wide) cs.base = 0; /* it means nothing in 64-bit code, but the engine adds it */
    set_segment(cpu, CS, cs);
    if (wide && new_cpl != old_cpl)
        set_segment(cpu, SS, (segment){new_cpl, 0, 0, 0x10000 | new_cpl << 5});
    else if (!wide && new_cpl != old_cpl)
        set_segment(cpu, SS, ss);
    for (int i = 0; v86 && i < 4; i++) set_segment(cpu, v86_data[i], (segment){.rights = 0x10000});
    SLOT(cpu, GUEST_RSP) = wide || (ss.rights & 0x4000) ? sp : (old_sp & 0xffff0000) | sp;
    bool interrupt_gate = type == GATE_INT32 || type == GATE_INT16;
    uint64_t cleared = RFLAGS_TF | RFLAGS_NT | RFLAGS_RF | RFLAGS_VM | (interrupt_gate ? RFLAGS_IF : 0);
    enter_handler(cpu, target, rflags & ~cleared);
    return (outcome){.what = DONE};
}
