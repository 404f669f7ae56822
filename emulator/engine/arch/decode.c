/* Decoding by capstone: the instruction at RIP, and where code lies in memory. */
#include <capstone/capstone.h>
#include <stdlib.h>
#include <string.h>
#include "engine.h"

static const cs_mode MODES[3] = {CS_MODE_16, CS_MODE_32, CS_MODE_64};

bool decode_open(sc_cpu *cpu) {
    for (int i = 0; i < 3; i++)
        for (int detail = 0; detail < 2; detail++) {
            csh handle;
            if (cs_open(CS_ARCH_X86, MODES[i], &handle) != CS_ERR_OK) return false;
            cs_option(handle, CS_OPT_DETAIL, detail ? CS_OPT_ON : CS_OPT_OFF);
            cpu->arch.decoder[i][detail] = handle;
        }
    cpu->arch.decoded = cs_malloc(cpu->arch.decoder[2][1]);
    return cpu->arch.decoded;
}

void decode_close(sc_cpu *cpu) {
    for (int i = 0; i < 3; i++)
        for (int detail = 0; detail < 2; detail++) {
            csh handle = cpu->arch.decoder[i][detail];
            if (handle) cs_close(&handle);
        }
    if (cpu->arch.decoded) cs_free(cpu->arch.decoded, 1);
}

void forget_decoded(sc_cpu *cpu) { memset(cpu->arch.decoded_before, 0, sizeof cpu->arch.decoded_before); }

unsigned code_bits(const sc_cpu *cpu) {
    uint64_t rights = SLOT(cpu, GUEST_CS_ACCESS_RIGHTS);
    if (long_mode(cpu) && (rights & AR_L)) return 64;
    return rights & AR_D ? 32 : 16;
}

static bool is_rep(uint8_t byte) { return byte == 0xf2 || byte == 0xf3; }

static bool is_prefix(uint8_t byte, unsigned bits) {
    bool rex = bits == 64 && (byte & 0xf0) == 0x40;
    return is_rep(byte) || rex || byte == 0xf0 || (byte & 0xe7) == 0x26 || (byte >= 0x64 && byte <= 0x67);
}

/* Has the instruction of `bytes` bytes a LOCK prefix where it cannot be? Capstone knows, except for instructions that load;
 * and it takes LOCK with REP for XACQUIRE and XRELEASE, which it lets pass with anything: it is asked without REP. */
bool has_bad_lock(sc_cpu *cpu, const uint8_t *code, size_t bytes, unsigned bits) {
    csh handle = cpu->arch.decoder[bits == 64 ? 2 : bits == 32 ? 1 : 0][0];
    uint8_t plain[INSTRUCTION_BYTES_MAX];
    size_t count = 0, opcode_at = 0;
    bool lock = false, prefix = true;
    if (bytes > sizeof plain) bytes = sizeof plain;
    for (size_t i = 0; i < bytes; i++) {
        uint8_t byte = code[i];
        prefix = prefix && is_prefix(byte, bits);
        lock |= prefix && byte == 0xf0;
        if (!prefix && !lock) return false;
        if (!prefix && !opcode_at) opcode_at = i;
        if (!prefix || !is_rep(byte)) plain[count++] = byte;
    }
    bool loads = opcode_at && code[opcode_at] < 0x40 && (code[opcode_at] & 6) == 2; /* such as ADD r, r/m */
    const uint8_t *next = plain;
    uint64_t address = 0;
    return lock && (loads || !cs_disasm_iter(handle, &next, &count, &address, cpu->arch.decoded));
}

/* Bases count but for CS, DS, ES and SS in 64-bit mode; `segment`: 0-5 = ES CS SS DS FS GS. */
uint64_t linear_of(const sc_cpu *cpu, unsigned segment, uint64_t offset) {
    if (code_bits(cpu) == 64) return segment >= 4 ? offset + cpu->s.vmcs[VMCS_GUEST_ES_BASE + segment] : offset;
    return (uint32_t)(offset + cpu->s.vmcs[VMCS_GUEST_ES_BASE + segment]);
}

/* So many bytes below the stack pointer, which is SP, ESP or RSP. */
uint64_t linear_of_stack(const sc_cpu *cpu, uint64_t below_bytes) {
    bool narrow = code_bits(cpu) != 64 && !(SLOT(cpu, GUEST_SS_ACCESS_RIGHTS) & AR_D);
    uint64_t offset = SLOT(cpu, GUEST_RSP) - below_bytes;
    return linear_of(cpu, SS, narrow ? offset & 0xffff : offset);
}

uint64_t linear_rip(const sc_cpu *cpu) { return linear_of(cpu, CS, SLOT(cpu, GUEST_RIP)); }

/* Where the code at a linear address lies in host memory, or NULL. */
const uint8_t *code_host(sc_cpu *cpu, uint64_t linear) {
    uint64_t page = linear >> 12;
    typeof(&cpu->arch.code_tlb[0]) entry = &cpu->arch.code_tlb[page & 255];
    if (!entry->host || entry->generation != cpu->port.tlb_generation ||
        entry->page != page) { /* absence is not remembered */
        walk_result w = walk(cpu, linear & ~0xfffull, ACCESS_FETCH | ACCESS_PROBE | (cpl(cpu) == 3 ? ACCESS_USER : 0));
        /* Rights are the engine's business: it runs this code already. Only where it lies matters. */
        if (w.status == WALK_FAULT) w = walk(cpu, linear & ~0xfffull, ACCESS_PROBE);
        if (w.status == WALK_FAULT) w = walk(cpu, linear & ~0xfffull, ACCESS_PROBE | ACCESS_USER);
        if (w.status != WALK_OK || !is_ram(cpu, w.hpa, 0x1000)) return NULL; /* it may be mapped without a flush */
        entry->page = page;
        entry->host = cpu->memory + w.hpa;
        entry->generation = cpu->port.tlb_generation;
    }
    return entry->host + (linear & 0xfff);
}

int register_index(unsigned reg) {
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
    return i == RSP ? SLOT(cpu, GUEST_RSP) : cpu->s.gpr[i];
}

/* The code bytes at RIP: of the block that trapped, as it was translated; else from memory as it is mapped now. (What
 * runs from the TLB may have lost its mapping since.) Returns how many of the at most 15 are there. */
size_t code_at_rip(sc_cpu *cpu, uint8_t ret[INSTRUCTION_BYTES_MAX]) {
    uint64_t linear = linear_rip(cpu);
    const block *b = cpu->time.trapped;
    size_t bytes = 0;
    if (is_within(cpu, b, linear)) {
        uint64_t at = offset_in(cpu, b, linear);
        bytes = b->size_bytes - at;
        if (bytes > INSTRUCTION_BYTES_MAX) bytes = INSTRUCTION_BYTES_MAX;
        memcpy(ret, cpu->time.code_bytes + b->bytes_at + at, bytes);
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
    cs_insn *insn = cpu->arch.decoded;
    if (!cs_disasm_iter(cpu->arch.decoder[bits == 64 ? 2 : bits == 32 ? 1 : 0][1], &next, &bytes, &address, insn))
        return in;
    const cs_x86 *x86 = &insn->detail->x86;
    in.id = insn->id;
    in.class = cpu->time.parameters.issue_width ? class_of(cpu, insn) : CLASS_OTHER;
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
            in.base = register_index(op->mem.base);
            in.index = register_index(op->mem.index);
            in.scale = (uint8_t)op->mem.scale;
            bool relative = op->mem.base == X86_REG_RIP || op->mem.base == X86_REG_EIP;
            in.displacement = op->mem.disp + (relative ? (int64_t)(rip + in.length_bytes) : 0);
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
    typeof(&cpu->arch.decoded_before[0]) before = &cpu->arch.decoded_before[SLOT(cpu, GUEST_RIP) & 63];
    size_t length = before->in.length_bytes;
    if (before->bits != bits || !length || length > bytes || memcmp(before->code, code, length)) {
        instruction in = decode_bytes(cpu, code, bytes, bits);
        cpu->arch.state.decoded_class = in.class;
        if (!in.id || in.has_memory) return in;
        before->bits = bits;
        before->in = in;
        memcpy(before->code, code, sizeof code);
    }
    cpu->arch.state.decoded_class = before->in.class;
    return before->in;
}
