/* Far CALL and JMP to what is no code segment: through call gates (SDM 2A "CALL", "JMP"; 3A 5.8.3 to 5.8.5).
 *
 *   16-bit gate                                  P DPL 0 type | parameters | selector | offset 15..0      8 bytes
 *   32-bit gate                  offset 31..16 | P DPL 0 type | parameters | selector | offset 15..0      8 bytes
 *   64-bit gate  offset 63..32 | offset 31..16 | P DPL 0 type |     --     | selector | offset 15..0     16 bytes
 *
 * On the stack of an inner ring, from the top: SS and SP of the outer one, the parameters, CS and IP of the caller.
 * All checks come before the first change; a fault leaves the state as it was, but for accessed bits.
 * MODEL: it takes as long as a far transfer without a gate.
 */
#include "engine.h"

enum { CALL_GATE16 = 4, CALL_GATE = 12, PARAMETERS_MAX = 31, FRAME_MAX = PARAMETERS_MAX + 4 };
enum { LONG_CODE = AR_L | AR_D }; /* of these, 64-bit code has L alone */

typedef struct {
    uint64_t target, code; /* where it leads, and the descriptor of the code there */
    segment cs;
    unsigned width, parameters; /* bytes of a word that is pushed; how many are copied */
} call_gate;

static const outcome passes = {.what = DONE};

static outcome denied(uint16_t selector) { return faulted(GENERAL_PROTECTION, selector & 0xfffc); }

/* The second half of a 64-bit gate. */
static outcome read_upper_half(sc_cpu *cpu, uint16_t selector, uint64_t *ret) {
    if (selector >= 0xfff8) return denied(selector);
    outcome o = read_descriptor(cpu, selector + 8, GENERAL_PROTECTION, 0, ret);
    if (o.what == FAULT && o.next.vector == GENERAL_PROTECTION) return denied(selector);
    return o.what == DONE && (*ret >> 40 & 31) ? denied(selector) : o;
}

/* The code that the gate leads to, where `by` may go from the current level. */
static outcome read_code(sc_cpu *cpu, uint16_t selector, int by, call_gate *ret) {
    if (!(selector & 0xfffc)) return denied(0);
    outcome o = read_descriptor(cpu, selector, GENERAL_PROTECTION, 0, &ret->code);
    if (o.what != DONE) return o;
    ret->cs = unpack_descriptor(selector, ret->code);
    unsigned rights = ret->cs.rights, level = rights >> AR_DPL_SHIFT & 3;
    bool conforms = rights & AR_EXPAND_DOWN;
    if ((rights & (AR_S | AR_CODE)) != (AR_S | AR_CODE) || level > cpl(cpu)) return denied(selector);
    if (by == BY_JMP && !conforms && level != cpl(cpu)) return denied(selector);
    if (long_mode(cpu) && (rights & LONG_CODE) != AR_L) return denied(selector);
    if (!(rights & AR_P)) return faulted(SEGMENT_NOT_PRESENT, selector & 0xfffc);
    return passes;
}

static outcome read_gate(sc_cpu *cpu, uint16_t selector, uint64_t d, int by, call_gate *ret) {
    uint64_t upper = 0;
    outcome o;
    bool wide = long_mode(cpu);
    unsigned type = d >> 40 & 31, level = d >> 45 & 3;
    if (type != CALL_GATE && (wide || type != CALL_GATE16)) return denied(selector);
    if (level < cpl(cpu) || level < (selector & 3u)) return denied(selector);
    if (!(d >> 47 & 1)) return faulted(SEGMENT_NOT_PRESENT, selector & 0xfffc);
    if (wide && (o = read_upper_half(cpu, selector, &upper)).what != DONE) return o;
    ret->width = wide ? 8 : type == CALL_GATE ? 4 : 2;
    ret->parameters = wide ? 0 : d >> 32 & PARAMETERS_MAX;
    ret->target = (d & 0xffff) | (type == CALL_GATE ? d >> 32 & 0xffff0000 : 0) | upper << 32;
    return read_code(cpu, d >> 16 & 0xffff, by, ret);
}

static outcome check_target(const sc_cpu *cpu, const call_gate *gate) {
    bool reached = long_mode(cpu) ? canonical(gate->target) : gate->target <= gate->cs.limit;
    return reached ? passes : denied(0);
}

/* The words that the caller has pushed, the one pushed first comes first. */
static outcome read_parameters(sc_cpu *cpu, const call_gate *gate, uint64_t *ret) {
    segment ss = get_segment(cpu, SS);
    for (unsigned i = 0; i < gate->parameters; i++) {
        uint64_t at = SLOT(cpu, GUEST_RSP) + (uint64_t)(gate->parameters - 1 - i) * gate->width;
        at &= ss.rights & AR_D ? 0xffffffff : 0xffff;
        if (!in_limit(&ss, at, gate->width)) return faulted(STACK_FAULT, 0);
        walk_result w = linear_read(cpu, ss.base + at, &ret[i], gate->width, cpl(cpu) == 3 ? ACCESS_USER : 0);
        if (w.status != WALK_OK) return access_failed(w, 0);
    }
    return passes;
}

static bool is_canonical_stack(uint64_t sp, unsigned words) {
    return canonical(sp - 1) && canonical(sp - 8ull * words);
}

/* The stack that is pushed to: of `level`, from the TSS, where that is an inner one. */
static outcome find_stack(sc_cpu *cpu, unsigned level, segment *ret_ss, uint64_t *ret_sp) {
    uint16_t selector = 0;
    uint64_t d = 0;
    *ret_ss = get_segment(cpu, SS);
    *ret_sp = SLOT(cpu, GUEST_RSP);
    if (level == cpl(cpu)) return passes;
    outcome o = inner_stack(cpu, level, 0, 0, ret_sp, &selector);
    if (o.what != DONE) return o;
    if (long_mode(cpu)) {
        *ret_ss = (segment){.selector = level, .rights = AR_UNUSABLE | level << AR_DPL_SHIFT};
        return passes;
    }
    o = load_inner_ss(cpu, selector, level, 0, ret_ss);
    if (o.what != DONE) return o;
    o = read_descriptor(cpu, selector, INVALID_TSS, 0, &d);
    return o.what == DONE ? mark_accessed(cpu, selector, d) : o;
}

static outcome call(sc_cpu *cpu, const call_gate *gate, unsigned level, uint64_t next_rip) {
    segment ss, cs = get_segment(cpu, CS);
    uint64_t sp, old_sp = SLOT(cpu, GUEST_RSP), frame[FRAME_MAX] = {0};
    bool wide = long_mode(cpu), inner = level != cpl(cpu);
    outcome o = find_stack(cpu, level, &ss, &sp);
    if (o.what != DONE) return o;
    uint32_t ss_error = inner ? ss.selector & 0xfffc : 0;
    int n = 0, words = inner ? (int)gate->parameters + 4 : 2;
    if (wide ? !is_canonical_stack(sp, words) : !has_stack_room(&ss, sp, gate->width, words))
        return faulted(STACK_FAULT, ss_error);
    if ((o = check_target(cpu, gate)).what != DONE) return o;
    if (inner) {
        frame[n++] = SLOT(cpu, GUEST_SS_SELECTOR);
        frame[n++] = old_sp;
        if ((o = read_parameters(cpu, gate, &frame[n])).what != DONE) return o;
        n += (int)gate->parameters;
    }
    frame[n++] = cs.selector;
    frame[n++] = next_rip;
    if ((o = mark_accessed(cpu, gate->cs.selector, gate->code)).what != DONE) return o;
    o = push_all(cpu, wide ? NULL : &ss, ss_error, &sp, gate->width, frame, n, level == 3 ? ACCESS_USER : 0);
    if (o.what != DONE) return o;
    if (inner) set_segment(cpu, SS, ss);
    SLOT(cpu, GUEST_RSP) = wide || (ss.rights & AR_D) ? sp : (old_sp & 0xffff0000) | sp;
    return passes;
}

static outcome through_call_gate(sc_cpu *cpu, uint16_t selector, uint64_t d, int by, uint64_t next_rip) {
    call_gate gate = {0};
    outcome o = read_gate(cpu, selector, d, by, &gate);
    if (o.what != DONE) return o;
    bool conforms = gate.cs.rights & AR_EXPAND_DOWN;
    unsigned level = conforms || by == BY_JMP ? cpl(cpu) : gate.cs.rights >> AR_DPL_SHIFT & 3;
    if (by == BY_CALL) {
        o = call(cpu, &gate, level, next_rip);
    } else {
        o = check_target(cpu, &gate);
        if (o.what == DONE) o = mark_accessed(cpu, gate.cs.selector, gate.code);
    }
    if (o.what != DONE) return o;
    gate.cs.selector = (gate.cs.selector & 0xfffc) | level;
    gate.cs.rights |= AR_ACCESSED;
    if (long_mode(cpu)) gate.cs.base = 0; /* it means nothing in 64-bit code, but the engine adds it */
    set_segment(cpu, CS, gate.cs);
    SLOT(cpu, GUEST_RIP) = gate.target;
    end_instruction(cpu);
    return passes;
}

static outcome transfer(sc_cpu *cpu, uint16_t selector, int by, const instruction *in) {
    uint64_t d = 0, next_rip = SLOT(cpu, GUEST_RIP) + in->length_bytes;
    if (by == BY_IRET) return to_linked_task(cpu, in);
    outcome o = read_descriptor(cpu, selector, GENERAL_PROTECTION, 0, &d);
    if (o.what != DONE) return o;
    if (!long_mode(cpu) && is_task(d)) return to_named_task(cpu, selector, d, by, in);
    return through_call_gate(cpu, selector, d, by, code_bits(cpu) == 64 ? next_rip : (uint32_t)next_rip);
}

/* A far CALL or JMP whose selector is that of no code segment, or an IRET with NT set. */
void trap_far_transfer(sc_cpu *cpu, const instruction *in) {
    unsigned operand = (unsigned)engine_error_code(cpu); /* the selector, and above it a BY_* */
    outcome o = transfer(cpu, operand & 0xffff, (int)(operand >> 16), in);
    if (o.what == FAULT) raise_event(cpu, o.next);
    if (o.what == UNMAPPED) vm_exit_ept(cpu, o.walk, o.access, o.walk.hpa, true);
}
