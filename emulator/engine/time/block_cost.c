/* What a basic block takes when nothing stalls it: a small model of an out-of-order core.
 *
 *   cost = max(micro-operations / issue width,  longest loop-carried chain)  +  occupancy of microcoded instructions
 *
 * A chain is carried from a register's value before the block to its value behind it. A block that follows itself can
 * run no faster than its longest chain (`mov rax, [rax]`: one load latency); one that does not is taken as if its
 * neighbours continued its chains. Costs are in 64ths of a cycle, so that three micro-operations on a core four wide
 * are three quarters.
 * MODEL: chains through memory, partial registers and x87 stack slots are not followed; chains from one register to
 * another (a swap) neither.
 */
#include <capstone/capstone.h>
#include <string.h>
#include "engine.h"

enum { CHAIN_FLAGS = 16, CHAIN_XMM = 17, CHAIN_X87 = 33, CHAINS = 34, NO_PATH = -1 };
typedef struct {
    int path[CHAINS][CHAINS]; /* latency from the value `second` had before the block to the value `first` has now */
    bool written[CHAINS];
} chains;

static int chain_of(unsigned reg) {
    int general = register_index(reg);
    if (general >= 0) return general;
    if (reg == X86_REG_EFLAGS) return CHAIN_FLAGS;
    if (reg >= X86_REG_XMM0 && reg <= X86_REG_XMM15) return CHAIN_XMM + (int)(reg - X86_REG_XMM0);
    if ((reg >= X86_REG_ST0 && reg <= X86_REG_ST7) || reg == X86_REG_FPSW) return CHAIN_X87;
    return -1;
}

static bool is_read(const cs_x86_op *op) { return op->access & CS_AC_READ; }
static bool is_written(const cs_x86_op *op) { return op->access & CS_AC_WRITE; }

/* A register combined with itself to zero does not wait for its old value. */
static bool is_zeroing(const cs_insn *insn) {
    const cs_x86_op *op = insn->detail->x86.operands;
    bool zeroes = insn->id == X86_INS_XOR || insn->id == X86_INS_SUB || insn->id == X86_INS_PXOR ||
                  insn->id == X86_INS_XORPS || insn->id == X86_INS_XORPD;
    return zeroes && insn->detail->x86.op_count == 2 && op[0].type == X86_OP_REG && op[1].type == X86_OP_REG &&
           op[0].reg == op[1].reg;
}

static void begin(chains *c) {
    memset(c->written, 0, sizeof c->written);
    for (int i = 0; i < CHAINS; i++)
        for (int j = 0; j < CHAINS; j++) c->path[i][j] = i == j ? 0 : NO_PATH;
}

static void wait_for(const chains *c, unsigned reg, int latency, int ready[CHAINS]) {
    int from = chain_of(reg);
    for (int s = 0; from >= 0 && s < CHAINS; s++)
        if (c->path[from][s] != NO_PATH && c->path[from][s] + latency > ready[s]) ready[s] = c->path[from][s] + latency;
}

static void settle_on(chains *c, unsigned reg, const int ready[CHAINS]) {
    int to = chain_of(reg);
    if (to < 0) return;
    memcpy(c->path[to], ready, sizeof c->path[to]);
    c->written[to] = true;
}

static void follow(chains *c, const cs_insn *insn, int latency, int load_latency, bool is_move) {
    const cs_x86 *x86 = &insn->detail->x86;
    int ready[CHAINS];
    for (int s = 0; s < CHAINS; s++) ready[s] = NO_PATH;
    bool zeroing = is_zeroing(insn);
    for (int i = 0; i < x86->op_count && !zeroing; i++) {
        const cs_x86_op *op = &x86->operands[i];
        if (op->type == X86_OP_REG && is_read(op)) wait_for(c, op->reg, latency, ready);
        if (op->type != X86_OP_MEM || insn->id == X86_INS_NOP) continue;
        int until = insn->id == X86_INS_LEA ? latency : is_move ? load_latency : load_latency + latency;
        wait_for(c, op->mem.base, until, ready);
        wait_for(c, op->mem.index, until, ready);
    }
    for (int i = 0; i < insn->detail->regs_read_count && !zeroing; i++)
        wait_for(c, insn->detail->regs_read[i], latency, ready);
    for (int i = 0; i < x86->op_count; i++)
        if (x86->operands[i].type == X86_OP_REG && is_written(&x86->operands[i]))
            settle_on(c, x86->operands[i].reg, ready);
    for (int i = 0; i < insn->detail->regs_write_count; i++) settle_on(c, insn->detail->regs_write[i], ready);
}

static int longest_chain(const chains *c) {
    int longest = 0;
    for (int r = 0; r < CHAINS; r++)
        if (c->written[r] && c->path[r][r] > longest) longest = c->path[r][r];
    return longest;
}

static bool in_group(const cs_insn *insn, unsigned group) {
    for (int i = 0; i < insn->detail->groups_count; i++)
        if (insn->detail->groups[i] == group) return true;
    return false;
}

/* How the predictor sees the end of a block whose last instruction this is. */
static unsigned branch_of(const cs_insn *insn) {
    const cs_x86 *x86 = &insn->detail->x86;
    bool direct = x86->op_count > 0 && x86->operands[0].type == X86_OP_IMM;
    switch (insn->id) {
    case X86_INS_RET: return BRANCH_RETURN;
    case X86_INS_CALL: return direct ? BRANCH_CALL : BRANCH_CALL_INDIRECT;
    case X86_INS_JMP: return direct ? BRANCH_NONE : BRANCH_INDIRECT;
    case X86_INS_LJMP:
    case X86_INS_LCALL:
    case X86_INS_RETF:
    case X86_INS_RETFQ: return BRANCH_NONE; /* they serialise: their class has the cost */
    default: return in_group(insn, X86_GRP_JUMP) ? BRANCH_CONDITIONAL : BRANCH_NONE;
    }
}

static bool is_segment(unsigned reg) {
    return reg == X86_REG_ES || reg == X86_REG_CS || reg == X86_REG_SS || reg == X86_REG_DS || reg == X86_REG_FS ||
           reg == X86_REG_GS;
}

static bool is_vector(unsigned reg) { return reg >= X86_REG_XMM0 && reg <= X86_REG_XMM15; }

/* The class of an instruction: by its number, and where that is not enough by its operands. */
unsigned class_of(const sc_cpu *cpu, const cs_insn *insn) {
    const cs_x86 *x86 = &insn->detail->x86;
    if (insn->id >= cpu->time.parameters.instruction_count) return CLASS_OTHER;
    unsigned to = x86->op_count > 0 && x86->operands[0].type == X86_OP_REG ? x86->operands[0].reg : 0;
    unsigned from = x86->op_count > 1 && x86->operands[1].type == X86_OP_REG ? x86->operands[1].reg : 0;
    switch (insn->id) {
    case X86_INS_MOV:
        if (to == X86_REG_CR3) return CLASS_MOV_TO_CR3;
        if (to >= X86_REG_CR0 && to <= X86_REG_CR15) return CLASS_MOV_TO_CR;
        if (from >= X86_REG_CR0 && from <= X86_REG_CR15) return CLASS_MOV_FROM_CR;
        if ((to >= X86_REG_DR0 && to <= X86_REG_DR15) || (from >= X86_REG_DR0 && from <= X86_REG_DR15))
            return CLASS_MOV_DR; /* fall through */
    case X86_INS_POP:
        if (is_segment(to)) return CLASS_SEGMENT_LOAD;
        break;
    case X86_INS_MOVSD:
        if (is_vector(to) || is_vector(from)) return CLASS_MOVE;
        break;
    case X86_INS_CMPSD:
        if (is_vector(to)) return CLASS_FP_ADD;
        break;
    case X86_INS_DIV:
    case X86_INS_IDIV:
        if (x86->operands[0].size == 8) return CLASS_DIVIDE_64;
        break;
    }
    return cpu->time.parameters.class_of[insn->id];
}

static bool is_repeated(const cs_insn *insn, unsigned class) {
    unsigned prefix = insn->detail->x86.prefix[0];
    return (prefix == X86_PREFIX_REP || prefix == X86_PREFIX_REPNE) &&
           (class == CLASS_STRING || class == CLASS_STRING_SCAN);
}

static uint32_t memory_accesses(const cs_insn *insn, bool *reads, bool *writes) {
    const cs_x86 *x86 = &insn->detail->x86;
    uint32_t accesses = 0;
    for (int i = 0; i < x86->op_count; i++) {
        const cs_x86_op *op = &x86->operands[i];
        if (op->type != X86_OP_MEM || insn->id == X86_INS_LEA || insn->id == X86_INS_NOP) continue;
        *reads |= is_read(op);
        *writes |= is_written(op);
        accesses += (is_read(op) ? 1 : 0) + (is_written(op) ? 1 : 0);
    }
    switch (insn->id) {
    case X86_INS_PUSH:
    case X86_INS_CALL:
    case X86_INS_PUSHF:
    case X86_INS_PUSHFD:
    case X86_INS_PUSHFQ: *writes = true; return accesses + 1;
    case X86_INS_POP:
    case X86_INS_RET:
    case X86_INS_LEAVE:
    case X86_INS_POPF:
    case X86_INS_POPFD:
    case X86_INS_POPFQ: *reads = true; return accesses + 1;
    default: return accesses;
    }
}

static bool is_locked(const cs_insn *insn) {
    const cs_x86 *x86 = &insn->detail->x86;
    bool stores = false;
    for (int i = 0; i < x86->op_count; i++)
        stores |= x86->operands[i].type == X86_OP_MEM && is_written(&x86->operands[i]);
    return x86->prefix[0] == X86_PREFIX_LOCK || (insn->id == X86_INS_XCHG && stores);
}

/* What an instruction occupies; of a string instruction with REP, one iteration. */
static uint32_t occupancy_64ths(const sc_cpu *cpu, const cs_insn *insn, unsigned class) {
    const cs_x86 *x86 = &insn->detail->x86;
    const sc_timing *t = &cpu->time.parameters;
    if (is_repeated(insn, class))
        return class == CLASS_STRING ? t->rep_line_cycles * x86->operands[0].size : t->rep_scan_cycles * 64;
    return (t->costs[class].occupancy_cycles + (is_locked(insn) ? t->costs[CLASS_LOCKED].occupancy_cycles : 0)) * 64;
}

static void add_slow(block_cost *c, size_t offset, uint32_t cost_64ths) {
    if (!cost_64ths) return;
    c->slow_64ths += cost_64ths;
    if (c->slow_count < SLOW_MAX) c->slow[c->slow_count++] = (slow_instruction){.offset_bytes = (uint16_t)offset};
    c->slow[c->slow_count - 1].cost_64ths += cost_64ths;
}

/* Count and cost the instructions of `code`; what was counted goes to `*ret`, one bit for each first byte to `starts`. */
void cost_block(sc_cpu *cpu, const uint8_t *code, size_t bytes, unsigned bits, uint8_t *starts, block_cost *ret) {
    csh handle = cpu->arch.decoder[bits == 64 ? 2 : bits == 32 ? 1 : 0][1];
    cs_insn *insn = cpu->arch.decoded;
    const sc_timing *t = &cpu->time.parameters;
    chains c;
    uint64_t uops = 0;
    memset(starts, 0, (bytes + 7) / 8);
    memset(ret, 0, sizeof *ret);
    if (t->issue_width) begin(&c);
    ret->bad_lock_at = (uint32_t)bytes;
    for (size_t at = 0; at < bytes; ret->instructions++) {
        const uint8_t *next = code + at;
        size_t left = bytes - at;
        uint64_t address = at;
        starts[at / 8] |= 1u << (at & 7);
        if (ret->bad_lock_at == bytes && has_bad_lock(cpu, next, left, bits)) ret->bad_lock_at = (uint32_t)at;
        if (!cs_disasm_iter(handle, &next, &left, &address, insn)) {
            ret->instructions++; /* the engine executed it, so it ends the block: the rest is one instruction */
            uops++;
            break;
        }
        at = bytes - left;
        unsigned class = t->issue_width ? class_of(cpu, insn) : CLASS_OTHER;
        if (at == bytes) ret->branch = is_repeated(insn, class) ? BRANCH_REPEAT : branch_of(insn);
        if (!t->issue_width) continue;
        bool reads = false, writes = false;
        ret->accesses += memory_accesses(insn, &reads, &writes);
        bool is_load = reads && class == CLASS_MOVE, is_store = writes && class == CLASS_MOVE;
        add_slow(ret, bytes - left - insn->size, occupancy_64ths(cpu, insn, class));
        ret->drains |= class == CLASS_MEMORY_FENCE || is_locked(insn);
        if (is_repeated(insn, class)) continue;
        uops += t->costs[class].uops + (reads && !is_load) + (writes && !is_store);
        follow(&c, insn, t->costs[class].latency_cycles, (int)t->load_latency_cycles, is_load);
    }
    if (ret->bad_lock_at < bytes) ret->branch = BRANCH_UNSAFE;
    if (!t->issue_width) { /* flat: an instruction is a cycle */
        ret->cost_64ths = ret->instructions * 64;
        return;
    }
    uint64_t issue_64ths = uops * 64 / t->issue_width;
    uint64_t chain_64ths = (uint64_t)longest_chain(&c) * 64;
    ret->cost_64ths = (uint32_t)(issue_64ths > chain_64ths ? issue_64ths : chain_64ths) + ret->slow_64ths;
}
