/* Claim: code that writes code runs the new code: the same processor sees its own stores to instructions it runs later,
 * also in the block it is running, in the page it is running, over page boundaries, and by any store. SDM
 * 3A 12.1.3, 12.6.
 */
#include "guest.h"

#define ROUNDS 500

typedef uint32_t function(void);

/* mov $value, %eax; ret */
static void write_function(volatile uint8_t *code, uint32_t value) {
    code[0] = 0xb8;
    for (unsigned i = 0; i < 4; i++) code[1 + i] = value >> 8 * i & 0xff;
    code[5] = 0xc3;
}

static uint32_t call_at(uint64_t address) { return ((function *)address)(); }

static void check_places(void) {
    uint64_t page = (uint64_t)page_alloc();
    page_alloc();
    static const struct {
        const char *name;
        unsigned offset;
    } places[] = {{"at the start of a page", 0}, {"over a page boundary", 0xffd}, {"just before a boundary", 0xffa}};
    for (unsigned at = 0; at < sizeof places / sizeof *places; at++) {
        struct tally tally = {0};
        for (unsigned i = 0; i < ROUNDS; i++) {
            write_function((uint8_t *)page + places[at].offset, i * 0x01010101);
            tally_equal(&tally, call_at(page + places[at].offset), i * 0x01010101);
        }
        check_tally(places[at].name, &tally);
    }
}

/* Only the 4 bytes of the immediate, by stores of several kinds. */
static void store_bytes(uint64_t to, uint32_t value) {
    for (unsigned i = 0; i < 4; i++) ((volatile uint8_t *)to)[i] = value >> 8 * i & 0xff;
}
static void store_word(uint64_t to, uint32_t value) { *(volatile uint32_t *)to = value; }
static void store_exchange(uint64_t to, uint32_t value) {
    asm volatile("xchgl %0, (%1)" : "+r"(value) : "r"(to) : "memory");
}
static void store_string(uint64_t to, uint32_t value) {
    uint64_t count = 4, from = (uint64_t)&value;
    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : "m"(value) : "memory");
}
static void store_wide(uint64_t to, uint32_t value) { *(volatile uint64_t *)to = value | *(uint64_t *)to >> 32 << 32; }

static void check_stores(void) {
    static const struct {
        const char *name;
        void (*store)(uint64_t to, uint32_t value);
    } stores[] = {{"by bytes", store_bytes},
                  {"by a 32-bit store", store_word},
                  {"by XCHG", store_exchange},
                  {"by REP MOVSB", store_string},
                  {"by a 64-bit store over two instructions", store_wide}};
    uint64_t page = (uint64_t)page_alloc();
    write_function((uint8_t *)page, 0);
    for (unsigned at = 0; at < sizeof stores / sizeof *stores; at++) {
        struct tally tally = {0};
        for (unsigned i = 1; i < ROUNDS; i++) {
            stores[at].store(page + 1, i * 0x00ff00ff);
            tally_equal(&tally, call_at(page), i * 0x00ff00ff);
        }
        check_tally(stores[at].name, &tally);
    }
}

/* movl %edi, 1f+1(%rip) writes the immediate of an instruction later in the same straight line:
 * 89 3d 02 00 00 00 | 66 90 is a NOP of 2 bytes in between, then b8 imm32 | c3 */
static void check_same_block(void) {
    static const uint8_t code[] = {0x89, 0x3d, 0x03, 0, 0, 0, 0x66, 0x90, 0xb8, 0, 0, 0, 0, 0xc3};
    uint64_t page = (uint64_t)page_alloc();
    struct tally tally = {0};
    memcpy((void *)page, code, sizeof code);
    for (unsigned i = 1; i < ROUNDS; i++) tally_equal(&tally, ((uint32_t (*)(uint32_t))page)(i * 7), i * 7);
    check_tally("an instruction that comes a few bytes after the store", &tally);
}

/* A loop that rewrites the operand of its own first instruction: 1: add $imm32, %eax ; incl 1b+1 ; dec %edi ; jnz 1b ;
 * ret */
static void check_loop(void) {
    static const uint8_t code[] = {0x31, 0xc0, 0x05, 1,    0,    0,    0,    0xff, 0x05,
                                   0xf6, 0xff, 0xff, 0xff, 0xff, 0xcf, 0x75, 0xf1, 0xc3};
    uint64_t page = (uint64_t)page_alloc();
    struct tally tally = {0};
    for (unsigned count = 1; count < 60; count += 7) {
        memcpy((void *)page, code, sizeof code);
        tally_equal(&tally, ((uint32_t (*)(uint32_t))page)(count), count * (count + 1) / 2);
    }
    check_tally("a loop that counts up its own immediate", &tally);
}

static void check_other_function(void) {
    uint64_t page = (uint64_t)page_alloc();
    struct tally tally = {0};
    for (unsigned i = 0; i < 40; i++) write_function((uint8_t *)page + 16 * i, i);
    for (unsigned i = 0; i < 40; i++) {
        write_function((uint8_t *)page + 16 * i, 1000 + i);
        for (unsigned j = 0; j < 40; j += 3) tally_equal(&tally, call_at(page + 16 * j), j <= i ? 1000 + j : j);
    }
    check_tally("one function of many in a page", &tally);
}

/* In ring 3: the caller's argument is written into the code, which returns it. */
static void check_ring3(void) {
    static const uint8_t code[] = {0x89, 0x3d, 0x01, 0, 0, 0, 0xb8, 0, 0, 0, 0, 0xcd, 0x80};
    uint64_t page = (uint64_t)page_alloc();
    struct tally tally = {0};
    memcpy((void *)page, code, sizeof code);
    map_page(current_pml4(), TEST_VA, page, PTE_P | PTE_W | PTE_U);
    for (unsigned i = 1; i < 50; i++) tally_equal(&tally, user_call((void *)TEST_VA, i * 3), i * 3);
    check_tally("in ring 3", &tally);
}

/* Data and code share a page: stores to data beside running code do no harm. */
static void check_mixed_page(void) {
    uint64_t page = (uint64_t)page_alloc(), sum = 0;
    write_function((uint8_t *)page, 3);
    for (unsigned i = 0; i < ROUNDS; i++) {
        store64(page + 256 + 8 * (i % 32), i);
        sum += call_at(page);
    }
    check_equal("data in the page of running code", sum, 3 * ROUNDS);
}

void guest_main(void) {
    check_places();
    check_stores();
    check_same_block();
    check_loop();
    check_other_function();
    check_ring3();
    check_mixed_page();
}
