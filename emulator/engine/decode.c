/* Decoding by capstone: how many instructions a block has, and what the instruction at RIP is.
 *
 * The block cache holds a copy of every block's bytes as they were when it was translated. They are compared with
 * memory each time the block is about to run, so a change is noticed whoever made it: this CPU through any mapping,
 * another CPU, or the VMM.
 *
 *   block_heads[hash(pc)] -> blocks[i] -> blocks[i].next -> ...     code_bytes[bytes_at]: code | start bits
 */
#include <capstone/capstone.h>
#include <stdlib.h>
#include <string.h>
#include "engine.h"

enum { BLOCK_LIMIT = 1 << 19, HEADS = 1 << 18, CODE_BYTES_LIMIT = 1 << 26 };

static const cs_mode MODES[3] = {CS_MODE_16, CS_MODE_32, CS_MODE_64};

bool decode_open(sc_cpu *cpu) {
    for (int i = 0; i < 3; i++)
        for (int detail = 0; detail < 2; detail++) {
            csh handle;
            if (cs_open(CS_ARCH_X86, MODES[i], &handle) != CS_ERR_OK) return false;
            cs_option(handle, CS_OPT_DETAIL, detail ? CS_OPT_ON : CS_OPT_OFF);
            cpu->decoder[i][detail] = handle;
        }
    cpu->decoded = cs_malloc(cpu->decoder[2][1]);
    cpu->blocks = malloc(sizeof(block) * BLOCK_LIMIT);
    cpu->block_heads = calloc(HEADS, sizeof(uint32_t));
    cpu->code_bytes = malloc(CODE_BYTES_LIMIT);
    cpu->hot_blocks = aligned_alloc(64, HOT_BLOCKS * sizeof(hot_block));
    if (cpu->hot_blocks) memset(cpu->hot_blocks, 0, HOT_BLOCKS * sizeof(hot_block));
    cpu->block_count = 1; /* index 0 ends a chain */
    return cpu->decoded && cpu->hot_blocks && cpu->blocks && cpu->block_heads && cpu->code_bytes;
}

void decode_close(sc_cpu *cpu) {
    for (int i = 0; i < 3; i++)
        for (int detail = 0; detail < 2; detail++) {
            csh handle = cpu->decoder[i][detail];
            if (handle) cs_close(&handle);
        }
    if (cpu->decoded) cs_free(cpu->decoded, 1);
    free(cpu->blocks);
    free(cpu->block_heads);
    free(cpu->code_bytes);
    free(cpu->hot_blocks);
}

unsigned code_bits(const sc_cpu *cpu) {
    uint64_t rights = SLOT(cpu, GUEST_CS_ACCESS_RIGHTS);
    if (long_mode(cpu) && (rights & 0x2000)) return 64;
    return rights & 0x4000 ? 32 : 16;
}

/* Has the instruction of `bytes` bytes a LOCK prefix where it cannot be? Capstone knows, but for instructions that load; and it takes LOCK with REP for
 * XACQUIRE and XRELEASE, which it lets pass with anything: ask again without REP. */
static bool has_bad_lock(sc_cpu *cpu, const uint8_t *code, size_t bytes, unsigned bits) {
    uint8_t plain[INSTRUCTION_BYTES_MAX];
    size_t count = 0, opcode_at = 0;
    bool lock = false, prefix = true;
    if (bytes > sizeof plain) bytes = sizeof plain;
    for (size_t i = 0; i < bytes; i++) {
        uint8_t byte = code[i];
        bool rep = byte == 0xf2 || byte == 0xf3, rex = bits == 64 && (byte & 0xf0) == 0x40;
        prefix = prefix && (rep || rex || byte == 0xf0 || (byte & 0xe7) == 0x26 || (byte >= 0x64 && byte <= 0x67));
        lock |= prefix && byte == 0xf0;
        if (!prefix && !lock) return false;
        if (!prefix && !opcode_at) opcode_at = i;
        if (!prefix || !rep) plain[count++] = byte;
    }
    bool to_register = opcode_at && code[opcode_at] < 0x40 && (code[opcode_at] & 6) == 2; /* as ADD r, r/m */
    if (lock && to_register) return true;
    const uint8_t *next = plain;
    uint64_t address = 0;
    return lock && !cs_disasm_iter(cpu->decoder[bits == 64   ? 2
                                                : bits == 32 ? 1
                                                             : 0][0],
                                   &next, &count, &address, cpu->decoded);
}

/* How many instructions the block has, and where they start. */
static uint32_t count_instructions(sc_cpu *cpu, block *b, const uint8_t *code, uint8_t *starts) {
    csh handle = cpu->decoder[b->code_bits == 64 ? 2 : b->code_bits == 32 ? 1 : 0][0];
    uint32_t count = 0;
    size_t bytes = b->size_bytes;
    b->bad_lock_at = (uint16_t)bytes;
    memset(starts, 0, (bytes + 7) / 8);
    for (size_t at = 0; at < bytes; count++) {
        const uint8_t *next = code + at;
        size_t left = bytes - at;
        uint64_t address = at;
        starts[at / 8] |= 1u << (at & 7);
        bool known = cs_disasm_iter(handle, &next, &left, &address, cpu->decoded);
        if (b->bad_lock_at == bytes && has_bad_lock(cpu, code + at, bytes - at - (known ? left : 0), b->code_bits))
            b->bad_lock_at = (uint16_t)at;
        if (!known) {
            count++; /* the engine executed it, so it ends the block: the rest is one instruction */
            break;
        }
        at = bytes - left;
    }
    return count;
}

/* Bases count but for CS, DS, ES and SS in 64-bit mode; `segment`: 0-5 = ES CS SS DS FS GS. */
uint64_t linear_of(const sc_cpu *cpu, unsigned segment, uint64_t offset) {
    if (code_bits(cpu) == 64) return segment >= 4 ? offset + cpu->s.vmcs[VMCS_GUEST_ES_BASE + segment] : offset;
    return (uint32_t)(offset + cpu->s.vmcs[VMCS_GUEST_ES_BASE + segment]);
}

uint64_t linear_rip(const sc_cpu *cpu) { return linear_of(cpu, 1, SLOT(cpu, GUEST_RIP)); }

static const uint8_t *code_host(sc_cpu *cpu, uint64_t linear) {
    uint64_t page = linear >> 12;
    typeof(&cpu->code_tlb[0]) entry = &cpu->code_tlb[page & 255];
    if (!entry->host || entry->generation != cpu->tlb_generation ||
        entry->page != page) { /* absence is not remembered */
        walk_result w = walk(cpu, linear & ~0xfffull, ACCESS_FETCH | ACCESS_PROBE | (cpl(cpu) == 3 ? ACCESS_USER : 0));
        /* Rights are the engine's business: it runs this code already. Only where it lies matters. */
        if (w.status == WALK_FAULT) w = walk(cpu, linear & ~0xfffull, ACCESS_PROBE);
        if (w.status == WALK_FAULT) w = walk(cpu, linear & ~0xfffull, ACCESS_PROBE | ACCESS_USER);
        if (w.status != WALK_OK || w.hpa >= cpu->memory_bytes || cpu->memory_bytes - w.hpa < 0x1000)
            return NULL; /* it may be mapped without a flush */
        entry->page = page;
        entry->host = cpu->memory + w.hpa;
        entry->generation = cpu->tlb_generation;
    }
    return entry->host + (linear & 0xfff);
}

typedef uint64_t pair __attribute__((vector_size(16)));

static inline uint64_t load8(const uint8_t *from) {
    uint64_t value;
    memcpy(&value, from, 8);
    return value;
}

static inline uint32_t load4(const uint8_t *from) {
    uint32_t value;
    memcpy(&value, from, 4);
    return value;
}

/* memcmp for the few dozen bytes of a block, inline and without branches on what they are: it runs before every block. */
static inline bool same_bytes(const uint8_t *a, const uint8_t *b, size_t bytes) {
    if (bytes >= 16) {
        pair differ = {0, 0}, x, y;
        for (size_t i = 0; i + 16 < bytes; i += 16) {
            memcpy(&x, a + i, 16);
            memcpy(&y, b + i, 16);
            differ |= x ^ y;
        }
        memcpy(&x, a + bytes - 16, 16); /* the last sixteen, overlapping */
        memcpy(&y, b + bytes - 16, 16);
        differ |= x ^ y;
        return !(differ[0] | differ[1]);
    }
    if (bytes >= 8) return !((load8(a) ^ load8(b)) | (load8(a + bytes - 8) ^ load8(b + bytes - 8)));
    if (bytes >= 4) return !((load4(a) ^ load4(b)) | (load4(a + bytes - 4) ^ load4(b + bytes - 4)));
    uint8_t differ = 0;
    for (size_t i = 0; i < bytes; i++) differ |= a[i] ^ b[i];
    return !differ;
}

static bool same_code(const sc_cpu *cpu, const block *b) {
    size_t first = 0x1000 - (b->pc & 0xfff);
    if (first > b->size_bytes) first = b->size_bytes;
    const uint8_t *code = cpu->code_bytes + b->bytes_at;
    return same_bytes(b->host[0], code, first) &&
           (first == b->size_bytes || same_bytes(b->host[1], code + first, b->size_bytes - first));
}

static void remember(sc_cpu *cpu, block *b, unsigned bits) {
    size_t first = 0x1000 - (b->pc & 0xfff);
    if (first > b->size_bytes) first = b->size_bytes;
    uint8_t *code = cpu->code_bytes + b->bytes_at;
    memcpy(code, b->host[0], first);
    if (first < b->size_bytes) memcpy(code + first, b->host[1], b->size_bytes - first);
    b->code_bits = bits;
    b->instructions = count_instructions(cpu, b, code, code + b->size_bytes);
}

/* The block about to run, or NULL where its bytes are not in memory or the cache is full (then the caller empties it).
 * `changed`: the bytes are no longer those the engine translated. */
static block *find_any_block(sc_cpu *cpu, uint64_t pc, uint32_t size, bool *changed) {
    uint32_t *head = &cpu->block_heads[(pc ^ pc >> 17 ^ size << 9) & (HEADS - 1)];
    for (uint32_t i = *head; i; i = cpu->blocks[i].next) {
        block *b = &cpu->blocks[i];
        if (b->pc == pc && b->size_bytes == size && b->generation == cpu->tlb_generation) {
            *changed = !same_code(cpu, b);
            if (*changed) remember(cpu, b, b->code_bits);
            return b;
        }
    }
    const uint8_t *host = code_host(cpu, pc), *host2 = NULL;
    if ((pc & 0xfff) + size > 0x1000) host2 = code_host(cpu, (pc & ~0xfffull) + 0x1000);
    if (!host || ((pc & 0xfff) + size > 0x1000 && !host2) || size > 0x1000) return NULL;
    unsigned bits = engine_code_bits(cpu); /* far jumps change it without a trap */
    for (uint32_t i = *head; i; i = cpu->blocks[i].next) {
        block *b = &cpu->blocks[i];
        if (b->pc != pc || b->size_bytes != size || b->host[0] != host || b->host[1] != host2 || b->code_bits != bits)
            continue;
        b->generation = cpu->tlb_generation;
        *changed = !same_code(cpu, b);
        if (*changed) remember(cpu, b, bits);
        return b;
    }
    uint64_t room = size + (size + 7) / 8;
    if (cpu->block_count == BLOCK_LIMIT || cpu->code_bytes_used + room > CODE_BYTES_LIMIT) {
        memset(cpu->block_heads, 0, HEADS * sizeof(uint32_t));
        memset(cpu->hot_blocks, 0, HOT_BLOCKS * sizeof(hot_block));
        cpu->block_count = 1;
        cpu->code_bytes_used = 0;
        *changed = true; /* translations and their copies live and die together */
        return NULL;
    }
    block *b = &cpu->blocks[cpu->block_count];
    *b = (block){.pc = pc,
                 .host = {host, host2},
                 .size_bytes = size,
                 .generation = cpu->tlb_generation,
                 .next = *head,
                 .bytes_at = cpu->code_bytes_used};
    remember(cpu, b, bits);
    *head = cpu->block_count++;
    cpu->code_bytes_used += room;
    return b;
}

block *find_block(sc_cpu *cpu, uint64_t pc, uint32_t size, uint32_t *instructions, bool *changed) {
    hot_block *hot = &cpu->hot_blocks[(pc ^ pc >> 14) & (HOT_BLOCKS - 1)];
    if (hot->pc == pc && hot->size_bytes == size && hot->generation == cpu->tlb_generation &&
        same_bytes(cpu->memory + hot->host_at, cpu->code_bytes + hot->code_at, size)) {
        *instructions = hot->instructions;
        return &cpu->blocks[hot->block];
    }
    block *b = find_any_block(cpu, pc, size, changed);
    *instructions = b ? b->instructions : 1;
    hot->generation = 0;
    if (b && (pc & 0xfff) + size <= 0x1000 && b->bad_lock_at == size)
        *hot = (hot_block){pc,
                           (uint32_t)(b->host[0] - cpu->memory),
                           b->bytes_at,
                           cpu->tlb_generation,
                           (uint32_t)(b - cpu->blocks),
                           (uint16_t)size,
                           (uint16_t)b->instructions};
    return b;
}

/* A store that changes the very block it is in makes the engine leave that block, and run the store again as a block of
 * one instruction: `b` is such a one. MODEL: not noticed where the store ends its block (REP, CALL): it counts twice. */
bool is_restart(const sc_cpu *cpu, const block *b) {
    const block *left = cpu->current;
    if (!left) return false;
    uint64_t at = b->pc - left->pc;
    if (at >= left->size_bytes || at + b->size_bytes >= left->size_bytes) return false;
    const uint8_t *starts = cpu->code_bytes + left->bytes_at + left->size_bytes;
    return starts[at / 8] >> (at & 7) & 1;
}

/* How far behind the start of `b` an address lies; the engine does not wrap the addresses of its blocks at 4 GiB. */
static uint64_t offset_in(const sc_cpu *cpu, const block *b, uint64_t linear) {
    return code_bits(cpu) == 64 ? linear - b->pc : (uint32_t)(linear - b->pc);
}

bool is_within(const sc_cpu *cpu, const block *b, uint64_t linear) {
    return b && offset_in(cpu, b, linear) < b->size_bytes;
}

/* A block is charged whole when it begins: give back what was not executed when it is left at linear address `pc`. */
void refund(sc_cpu *cpu, uint64_t pc) {
    block *b = cpu->trapped = cpu->current;
    cpu->current = NULL;
    if (!b) return;
    uint64_t done_bytes = offset_in(cpu, b, pc);
    if (done_bytes >= b->size_bytes) return;
    const uint8_t *starts = cpu->code_bytes + b->bytes_at + b->size_bytes;
    uint32_t done = 0;
    for (uint64_t i = 0; i < done_bytes; i++) done += starts[i / 8] >> (i & 7) & 1;
    uint64_t cycles = (uint64_t)(b->instructions - done) * cpu->s.cycles_per_instruction;
    cpu->s.instructions -= b->instructions - done;
    cpu->s.guest_cycles -= cycles;
    cpu->s.clock_cycles -= cycles;
}

static int register_index(unsigned reg) {
    static const uint16_t families[16][4] = {
        {X86_REG_RAX, X86_REG_EAX, X86_REG_AX, X86_REG_AL},
        {X86_REG_RCX, X86_REG_ECX, X86_REG_CX, X86_REG_CL},
        {X86_REG_RDX, X86_REG_EDX, X86_REG_DX, X86_REG_DL},
        {X86_REG_RBX, X86_REG_EBX, X86_REG_BX, X86_REG_BL},
        {X86_REG_RSP, X86_REG_ESP, X86_REG_SP, X86_REG_SPL},
        {X86_REG_RBP, X86_REG_EBP, X86_REG_BP, X86_REG_BPL},
        {X86_REG_RSI, X86_REG_ESI, X86_REG_SI, X86_REG_SIL},
        {X86_REG_RDI, X86_REG_EDI, X86_REG_DI, X86_REG_DIL},
        {X86_REG_R8, X86_REG_R8D, X86_REG_R8W, X86_REG_R8B},
        {X86_REG_R9, X86_REG_R9D, X86_REG_R9W, X86_REG_R9B},
        {X86_REG_R10, X86_REG_R10D, X86_REG_R10W, X86_REG_R10B},
        {X86_REG_R11, X86_REG_R11D, X86_REG_R11W, X86_REG_R11B},
        {X86_REG_R12, X86_REG_R12D, X86_REG_R12W, X86_REG_R12B},
        {X86_REG_R13, X86_REG_R13D, X86_REG_R13W, X86_REG_R13B},
        {X86_REG_R14, X86_REG_R14D, X86_REG_R14W, X86_REG_R14B},
        {X86_REG_R15, X86_REG_R15D, X86_REG_R15W, X86_REG_R15B},
    };
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 4; j++)
            if (families[i][j] == reg) return i;
    return -1;
}

static uint64_t register_value(sc_cpu *cpu, unsigned reg, uint64_t next_rip) {
    if (reg == X86_REG_RIP || reg == X86_REG_EIP) return next_rip;
    int i = register_index(reg);
    if (i < 0) return 0;
    return i == 4 ? SLOT(cpu, GUEST_RSP) : cpu->s.gpr[i];
}

/* The code bytes at RIP: of the block that trapped, as it was translated; else from memory as it is mapped now. (What
 * runs from the TLB may have lost its mapping since.) Returns how many of the at most 15 are there. */
size_t code_at_rip(sc_cpu *cpu, uint8_t ret[INSTRUCTION_BYTES_MAX]) {
    uint64_t linear = linear_rip(cpu);
    const block *b = cpu->trapped;
    size_t bytes = 0;
    if (is_within(cpu, b, linear)) {
        uint64_t at = offset_in(cpu, b, linear);
        bytes = b->size_bytes - at;
        if (bytes > INSTRUCTION_BYTES_MAX) bytes = INSTRUCTION_BYTES_MAX;
        memcpy(ret, cpu->code_bytes + b->bytes_at + at, bytes);
    } /* a block may end within an instruction that is unknown to the engine */
    while (bytes < INSTRUCTION_BYTES_MAX) { /* at most two pages */
        const uint8_t *host = code_host(cpu, linear + bytes);
        size_t here = 0x1000 - ((linear + bytes) & 0xfff);
        if (!host) break;
        if (here > INSTRUCTION_BYTES_MAX - bytes) here = INSTRUCTION_BYTES_MAX - bytes;
        memcpy(ret + bytes, host, here);
        bytes += here;
    }
    return bytes;
}

static instruction decode_bytes(sc_cpu *cpu, const uint8_t *code, size_t bytes, unsigned bits) {
    instruction in = {.reg = -1, .control_reg = -1};
    uint64_t rip = SLOT(cpu, GUEST_RIP), address = rip;
    const uint8_t *next = code;
    cs_insn *insn = cpu->decoded;
    if (!cs_disasm_iter(cpu->decoder[bits == 64 ? 2 : bits == 32 ? 1 : 0][1], &next, &bytes, &address, insn)) return in;
    const cs_x86 *x86 = &insn->detail->x86;
    in.id = insn->id;
    in.length_bytes = insn->size;
    in.last_byte = code[insn->size - 1];
    memcpy(in.opcode, x86->opcode, sizeof in.opcode);
    in.rep = x86->prefix[0] == X86_PREFIX_REP || x86->prefix[0] == X86_PREFIX_REPNE;
    in.address_bytes = x86->addr_size;
    for (int i = 0; i < x86->op_count; i++) {
        const cs_x86_op *op = &x86->operands[i];
        if (op->type == X86_OP_REG && op->reg >= X86_REG_CR0 && op->reg <= X86_REG_CR15) {
            in.control_reg = op->reg - X86_REG_CR0;
            in.to_control = i == 0;
        } else if (op->type == X86_OP_REG && op->reg >= X86_REG_DR0 && op->reg <= X86_REG_DR15) {
            in.control_reg = op->reg - X86_REG_DR0;
            in.to_control = i == 0;
        } else if (op->type == X86_OP_REG && in.reg < 0) {
            in.reg = register_index(op->reg);
            in.operand_bytes = op->size;
        } else if (op->type == X86_OP_MEM) {
            static const uint16_t segments[6] = {X86_REG_ES, X86_REG_CS, X86_REG_SS,
                                                 X86_REG_DS, X86_REG_FS, X86_REG_GS};
            bool stack = op->mem.base == X86_REG_RSP || op->mem.base == X86_REG_ESP || op->mem.base == X86_REG_RBP ||
                         op->mem.base == X86_REG_EBP || op->mem.base == X86_REG_BP;
            in.other_segment = in.segment;
            in.other_offset = in.offset;
            in.has_two = in.has_memory;
            in.segment = stack ? 2 : 3;
            for (int s = 0; s < 6; s++)
                if (op->mem.segment == segments[s]) in.segment = s;
            in.has_memory = true;
            in.operand_bytes = op->size;
            in.offset = register_value(cpu, op->mem.base, rip + in.length_bytes) +
                        register_value(cpu, op->mem.index, 0) * op->mem.scale + op->mem.disp;
            if (in.address_bytes < 8) in.offset &= (1ull << 8 * in.address_bytes) - 1;
        }
    }
    return in;
}

/* The instruction at RIP; id 0 when its bytes cannot be read or decoded. Those without a memory operand depend on their
 * bytes alone, and are remembered. */
instruction decode(sc_cpu *cpu) {
    uint8_t code[INSTRUCTION_BYTES_MAX] = {0};
    size_t bytes = code_at_rip(cpu, code);
    unsigned bits = code_bits(cpu);
    typeof(&cpu->decoded_before[0]) before = &cpu->decoded_before[SLOT(cpu, GUEST_RIP) & 63];
    size_t length = before->in.length_bytes;
    if (before->bits == bits && length && length <= bytes && !memcmp(before->code, code, length)) return before->in;
    instruction in = decode_bytes(cpu, code, bytes, bits);
    if (in.id && !in.has_memory) {
        before->bits = bits;
        before->in = in;
        memcpy(before->code, code, sizeof code);
    }
    return in;
}
