/* The blocks that are translated: what each costs, and its bytes.
 *
 * A block is made when Unicorn translates it, and its translation has its address: when it runs nothing is looked up. Who
 * changes code takes the translation away (unicorn/code.c); the block stays, as what ran last, until all are forgotten.
 *
 *   code_bytes[bytes_at]: code | one bit per byte: an instruction starts here | slow instructions
 */
#include <string.h>
#include <sys/mman.h>
#include "engine.h"

/* More than the translations that there can be before they are emptied (TRANSLATED_MAX in unicorn/state.h). */
enum { BLOCK_LIMIT = 1 << 18, CODE_BYTES_LIMIT = 1 << 26 };
enum { BLOCKS_BYTES = sizeof(block) * BLOCK_LIMIT };

/* Zeros, which the workstation gives when they are touched, and takes back when they are forgotten. */
static void *reserve(size_t bytes) {
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

static void release(void *at, size_t bytes) {
    if (at) munmap(at, bytes);
}

bool blocks_open(sc_cpu *cpu) {
    cpu->time.blocks = reserve(BLOCKS_BYTES);
    cpu->time.code_bytes = reserve(CODE_BYTES_LIMIT);
    end_at(cpu, 0, BRANCH_NONE);
    return cpu->time.blocks && cpu->time.code_bytes;
}

void blocks_close(sc_cpu *cpu) {
    release(cpu->time.blocks, BLOCKS_BYTES);
    release(cpu->time.code_bytes, CODE_BYTES_LIMIT);
}

uint64_t blocks_used_bytes(const sc_cpu *cpu) {
    return cpu->time.block_count * sizeof(block) + cpu->time.code_bytes_used;
}

block *current_block(const sc_cpu *cpu) { return cpu->time.last->is_known ? cpu->time.last : NULL; }

void leave_block(sc_cpu *cpu) {
    end_at(cpu, cpu->time.last->end, cpu->time.last->branch);
    cpu->time.trapped = NULL;
}

void forget_blocks(sc_cpu *cpu) {
    leave_block(cpu);
    madvise(cpu->time.blocks, BLOCKS_BYTES, MADV_DONTNEED);
    madvise(cpu->time.code_bytes, CODE_BYTES_LIMIT, MADV_DONTNEED);
    cpu->time.block_count = 0;
    cpu->time.code_bytes_used = 0;
}

/* The block that is being translated: it counts from add_block() on. */
block *next_block(sc_cpu *cpu) { return &cpu->time.blocks[cpu->time.block_count]; }

static bool has_room(const sc_cpu *cpu, uint64_t bytes) {
    uint64_t room = bytes + (bytes + 7) / 8 + SLOW_MAX * sizeof(slow_instruction);
    return cpu->time.block_count < BLOCK_LIMIT - 1 && cpu->time.code_bytes_used + room <= CODE_BYTES_LIMIT;
}

static void remember(sc_cpu *cpu, block *b, const uint8_t *first, size_t first_bytes, const uint8_t *second) {
    uint8_t *code = cpu->time.code_bytes + b->bytes_at, *starts = code + b->size_bytes;
    memcpy(code, first, first_bytes);
    if (first_bytes < b->size_bytes) memcpy(code + first_bytes, second, b->size_bytes - first_bytes);
    block_cost cost;
    cost_block(cpu, code, b->size_bytes, b->code_bits, starts, &cost);
    memcpy(starts + (b->size_bytes + 7) / 8, cost.slow, cost.slow_count * sizeof cost.slow[0]);
    b->is_known = true;
    b->instructions = (uint16_t)cost.instructions;
    b->cost_64ths = cost.cost_64ths;
    b->slow_64ths = cost.slow_64ths;
    b->slow_count = (uint8_t)cost.slow_count;
    b->branch = (uint8_t)cost.branch;
    b->bad_lock_at = (uint16_t)cost.bad_lock_at;
    b->drains = cost.drains;
    prepare_block(cpu, b, cost.accesses < ACCESSES_MAX ? cost.accesses : ACCESSES_MAX);
    cpu->time.code_bytes_used += b->size_bytes + (b->size_bytes + 7) / 8 + b->slow_count * sizeof(slow_instruction);
}

/* next_block() is the code of `bytes` bytes at `pc`, which lies at host[0], and host[1] from the next page on; NULL: not
 * in RAM. Nothing is known of such a block but that it takes a cycle. */
void add_block(sc_cpu *cpu, uint64_t pc, uint32_t bytes, unsigned bits, const uint8_t *const host[2]) {
    block *b = next_block(cpu);
    size_t first = 0x1000 - (pc & 0xfff);
    *b = (block){.cpu = cpu,
                 .pc = pc,
                 .end = pc + bytes,
                 .host = {host[0], host[1]},
                 .size_bytes = (uint16_t)bytes,
                 .bytes_at = (uint32_t)cpu->time.code_bytes_used,
                 .code_bits = (uint8_t)bits,
                 .instructions = 1,
                 .cost_64ths = 64};
    prepare_block(cpu, b, 0);
    if (!has_room(cpu, bytes)) return;
    cpu->time.block_count++;
    bool is_ram = host[0] && (host[1] || bytes <= first);
    if (is_ram && bytes <= BLOCK_BYTES_MAX) remember(cpu, b, host[0], first < bytes ? first : bytes, host[1]);
}

/* A block that ran on another CPU, of which only this is known. NULL: it is no code. */
block *lone_block(sc_cpu *cpu, uint64_t pc, const uint8_t *code, uint32_t size, unsigned bits) {
    block *b = next_block(cpu);
    size_t first = 0x1000 - (pc & 0xfff);
    add_block(cpu, pc, size, bits, (const uint8_t *[2]){code, first < size ? code + first : NULL});
    b->host[0] = b->host[1] = NULL;
    return b->is_known && cpu->time.code_bytes[b->bytes_at + b->size_bytes] & 1 ? b : NULL;
}

/* A store that changes the very block it is in makes the engine leave that block, and run the store again as a block of
 * one instruction: `b` is such a one. MODEL: not noticed where the store ends its block (REP, CALL): it counts twice. */
bool is_restart(const sc_cpu *cpu, const block *b) {
    const block *left = current_block(cpu);
    if (!left || !b->is_known) return false;
    uint64_t at = b->pc - left->pc;
    if (at >= left->size_bytes || at + b->size_bytes >= left->size_bytes) return false;
    const uint8_t *starts = cpu->time.code_bytes + left->bytes_at + left->size_bytes;
    return starts[at / 8] >> (at & 7) & 1;
}

/* How far behind the start of `b` an address lies; the engine does not wrap the addresses of its blocks at 4 GiB. */
uint64_t offset_in(const sc_cpu *cpu, const block *b, uint64_t linear) {
    return code_bits(cpu) == 64 ? linear - b->pc : (uint32_t)(linear - b->pc);
}

bool is_within(const sc_cpu *cpu, const block *b, uint64_t linear) {
    return b && offset_in(cpu, b, linear) < b->size_bytes;
}

/* How many instructions begin in the first `bytes` of a block, and what the slow ones among them occupy. */
uint32_t instructions_before(const sc_cpu *cpu, const block *b, uint64_t bytes, uint64_t *slow_64ths) {
    const uint8_t *starts = cpu->time.code_bytes + b->bytes_at + b->size_bytes;
    const uint8_t *at = starts + (b->size_bytes + 7) / 8;
    uint32_t count = 0;
    *slow_64ths = 0;
    for (uint64_t i = 0; i < bytes; i++) count += starts[i / 8] >> (i & 7) & 1;
    for (unsigned i = 0; i < b->slow_count; i++) {
        slow_instruction slow;
        memcpy(&slow, at + i * sizeof slow, sizeof slow);
        if (slow.offset_bytes < bytes) *slow_64ths += slow.cost_64ths;
    }
    return count;
}
