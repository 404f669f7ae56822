/* The cache of basic blocks: what each costs, and whether its bytes are still those that were translated.
 *
 * The cache holds a copy of every block's bytes as they were when it was translated. They are compared with memory each
 * time the block is about to run, so a change is noticed whoever made it: this CPU through any mapping, another CPU, or
 * the VMM.
 *
 *   block_heads[hash(pc)] -> blocks[i] -> blocks[i].next -> ...
 *   code_bytes[bytes_at]: code | one bit per byte: an instruction starts here | slow instructions
 */
#include <string.h>
#include <sys/mman.h>
#include "engine.h"

enum { BLOCK_LIMIT = 1 << 19, HEADS = 1 << 18, CODE_BYTES_LIMIT = 1 << 26 };

enum {
    BLOCKS_BYTES = sizeof(block) * BLOCK_LIMIT,
    HEADS_BYTES = sizeof(uint32_t) * HEADS,
    HOT_BYTES = sizeof(hot_block) * HOT_BLOCKS
};

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
    cpu->time.block_heads = reserve(HEADS_BYTES);
    cpu->time.code_bytes = reserve(CODE_BYTES_LIMIT);
    cpu->time.hot_blocks = reserve(HOT_BYTES);
    if (!cpu->time.hot_blocks || !cpu->time.blocks || !cpu->time.block_heads || !cpu->time.code_bytes) return false;
    cpu->time.block_count = 1; /* index 0 ends a chain */
    return true;
}

void blocks_close(sc_cpu *cpu) {
    release(cpu->time.blocks, BLOCKS_BYTES);
    release(cpu->time.block_heads, HEADS_BYTES);
    release(cpu->time.code_bytes, CODE_BYTES_LIMIT);
    release(cpu->time.hot_blocks, HOT_BYTES);
}

uint64_t blocks_used_bytes(const sc_cpu *cpu) {
    return cpu->time.block_count * sizeof(block) + cpu->time.code_bytes_used;
}

void leave_block(sc_cpu *cpu) { cpu->time.current = cpu->time.trapped = NULL; }

void forget_blocks(sc_cpu *cpu) {
    madvise(cpu->time.block_heads, HEADS_BYTES, MADV_DONTNEED);
    madvise(cpu->time.hot_blocks, HOT_BYTES, MADV_DONTNEED);
    madvise(cpu->time.blocks, BLOCKS_BYTES, MADV_DONTNEED);
    madvise(cpu->time.code_bytes, CODE_BYTES_LIMIT, MADV_DONTNEED);
    cpu->time.block_count = 1;
    cpu->time.code_bytes_used = 0;
    leave_block(cpu);
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
    const uint8_t *code = cpu->time.code_bytes + b->bytes_at;
    return same_bytes(b->host[0], code, first) &&
           (first == b->size_bytes || same_bytes(b->host[1], code + first, b->size_bytes - first));
}

static void remember(sc_cpu *cpu, block *b, unsigned bits) {
    size_t first = 0x1000 - (b->pc & 0xfff);
    if (first > b->size_bytes) first = b->size_bytes;
    uint8_t *code = cpu->time.code_bytes + b->bytes_at, *starts = code + b->size_bytes;
    memcpy(code, b->host[0], first);
    if (first < b->size_bytes) memcpy(code + first, b->host[1], b->size_bytes - first);
    block_cost cost;
    cost_block(cpu, code, b->size_bytes, bits, starts, &cost);
    memcpy(starts + (b->size_bytes + 7) / 8, cost.slow, cost.slow_count * sizeof cost.slow[0]);
    b->instructions = cost.instructions;
    b->cost_64ths = cost.cost_64ths;
    b->slow_64ths = cost.slow_64ths;
    b->slow_count = (uint8_t)cost.slow_count;
    b->accesses = cost.accesses < ACCESSES_MAX ? cost.accesses : ACCESSES_MAX;
    b->branch = (uint8_t)cost.branch;
    b->bad_lock_at = (uint16_t)cost.bad_lock_at;
    b->far_return_at = (uint16_t)cost.far_return_at;
    b->far_return_bytes = (uint8_t)cost.far_return_bytes;
    b->drains = cost.drains;
    b->code_bits = bits;
}

/* The block about to run, or NULL where its bytes are not in memory or the cache is full (then the caller empties it).
 * `changed`: the bytes are no longer those the engine translated. */
static block *find_any_block(sc_cpu *cpu, uint64_t pc, uint32_t size, bool *changed) {
    uint32_t *head = &cpu->time.block_heads[(pc ^ pc >> 17 ^ size << 9) & (HEADS - 1)];
    for (uint32_t i = *head; i; i = cpu->time.blocks[i].next) {
        block *b = &cpu->time.blocks[i];
        if (b->pc == pc && b->size_bytes == size && b->generation == cpu->port.tlb_generation) {
            *changed = !same_code(cpu, b);
            if (*changed) remember(cpu, b, b->code_bits);
            return b;
        }
    }
    const uint8_t *host = code_host(cpu, pc), *host2 = NULL;
    if ((pc & 0xfff) + size > 0x1000) host2 = code_host(cpu, (pc & ~0xfffull) + 0x1000);
    if (!host || ((pc & 0xfff) + size > 0x1000 && !host2) || size > 0x1000) return NULL;
    unsigned bits = engine_code_bits(cpu); /* far jumps change it without a trap */
    for (uint32_t i = *head; i; i = cpu->time.blocks[i].next) {
        block *b = &cpu->time.blocks[i];
        if (b->pc != pc || b->size_bytes != size || b->host[0] != host || b->host[1] != host2 || b->code_bits != bits)
            continue;
        b->generation = cpu->port.tlb_generation;
        *changed = !same_code(cpu, b);
        if (*changed) remember(cpu, b, bits);
        return b;
    }
    uint64_t room = size + (size + 7) / 8 + SLOW_MAX * sizeof(slow_instruction);
    if (cpu->time.block_count == BLOCK_LIMIT || cpu->time.code_bytes_used + room > CODE_BYTES_LIMIT) {
        forget_blocks(cpu);
        *changed = true; /* translations and their copies live and die together */
        return NULL;
    }
    block *b = &cpu->time.blocks[cpu->time.block_count];
    *b = (block){.pc = pc,
                 .host = {host, host2},
                 .size_bytes = size,
                 .generation = cpu->port.tlb_generation,
                 .next = *head,
                 .bytes_at = cpu->time.code_bytes_used};
    remember(cpu, b, bits);
    *head = cpu->time.block_count++;
    cpu->time.code_bytes_used += room - (SLOW_MAX - b->slow_count) * sizeof(slow_instruction);
    return b;
}

/* The block about to run; its `block` is 0 where nothing is known of it. `changed` as above. */
const hot_block *find_block(sc_cpu *cpu, uint64_t pc, uint32_t size, bool *changed) {
    hot_block *hot = &cpu->time.hot_blocks[(pc ^ pc >> 14) & (HOT_BLOCKS - 1)];
    if (hot->pc == pc && hot->size_bytes == size && hot->generation == cpu->port.tlb_generation &&
        same_bytes(cpu->memory + hot->host_at, cpu->time.code_bytes + hot->code_at, size))
        return hot;
    block *b = find_any_block(cpu, pc, size, changed);
    hot->generation = 0;
    if (!b || (pc & 0xfff) + size > 0x1000) hot = &cpu->time.cold_block;
    *hot = (hot_block){.pc = pc, .size_bytes = size & 0xfff, .instructions = 1, .cost_64ths = 64};
    if (!b) return hot;
    hot->host_at = (uint64_t)(b->host[0] - cpu->memory) & HOST_AT_MASK;
    hot->code_at = b->bytes_at;
    hot->generation = cpu->port.tlb_generation;
    hot->block = (uint32_t)(b - cpu->time.blocks);
    hot->size_bytes = size;
    hot->instructions = (uint16_t)b->instructions;
    hot->cost_64ths = b->cost_64ths;
    hot->accesses = b->accesses;
    hot->branch = b->branch;
    return hot;
}

/* A store that changes the very block it is in makes the engine leave that block, and run the store again as a block of
 * one instruction: `b` is such a one. MODEL: not noticed where the store ends its block (REP, CALL): it counts twice. */
bool is_restart(const sc_cpu *cpu, const block *b) {
    const block *left = cpu->time.current;
    if (!left) return false;
    uint64_t at = b->pc - left->pc;
    if (at >= left->size_bytes || at + b->size_bytes >= left->size_bytes) return false;
    const uint8_t *starts = cpu->time.code_bytes + left->bytes_at + left->size_bytes;
    return starts[at / 8] >> (at & 7) & 1;
}

/* A block that ran on another CPU, of which only this is known; it is found by nobody. NULL: it is no code. */
block *lone_block(sc_cpu *cpu, uint64_t pc, const uint8_t *code, uint32_t size, unsigned bits) {
    block *b = &cpu->time.blocks[cpu->time.block_count];
    size_t first = 0x1000 - (pc & 0xfff);
    *b = (block){.pc = pc,
                 .host = {code, first < size ? code + first : NULL},
                 .size_bytes = size,
                 .bytes_at = cpu->time.code_bytes_used};
    remember(cpu, b, bits);
    b->host[0] = b->host[1] = NULL;
    if (!b->instructions) return NULL;
    cpu->time.block_count++;
    cpu->time.code_bytes_used += size + (size + 7) / 8 + b->slow_count * sizeof(slow_instruction);
    return b;
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
