/* Claim: the loops in which kernels spend an emulator's time do what they should, however often they go round. Which one,
 * and how often, is said on the command line: benchmarks/speed/loops.py times them here and on QEMU.
 *
 *   loop=delay             a counter down to 0, without memory
 *   loop=checksum          CRC-32 of 4 KiB, bit by bit                  loop=copy    64 KiB, REP MOVSQ
 *   loop=context_switch    MOV to CR3, then a word of each of 16 pages
 *   loop=page_fault        a page is touched, mapped by the handler of the fault, and unmapped
 *   loop=interrupt         INT n, its handler, IRET                     loop=user    ring 3 and back
 *   loop=changed_code      a constant in the code is written, then run
 *   count=1000             how often; without `loop`, all of them so often
 */
#include "command_line.h"

#define SPACES 4
#define PAGES 16
#define BYTES PAGE_BYTES
#define COPY_WORDS 8192
#define VECTOR_LOOP 0x41

static uint8_t bytes[BYTES];
static uint64_t copy_from[COPY_WORDS], copy_to[COPY_WORDS];
static uint64_t *spaces[SPACES], *fault_page;
static volatile uint64_t taken;

static uint64_t delay(uint64_t count) {
    uint64_t left = count * 1000;
    asm volatile("test %0, %0\n\tjz 2f\n1: dec %0\n\tjnz 1b\n2:" : "+r"(left));
    return count + left;
}

static uint64_t checksum(uint64_t count) {
    uint32_t crc = 0;
    for (uint64_t i = 0; i < count; i++) {
        crc = ~0u;
        for (unsigned at = 0; at < BYTES; at++) {
            crc ^= bytes[at];
            for (unsigned bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
        }
    }
    return count ? count + (~crc != 0xc71c0011) : 0; /* of 4096 zeros */
}

static uint64_t copy(uint64_t count) {
    for (uint64_t i = 0; i < count; i++) {
        uint64_t *from = copy_from, *to = copy_to, words = COPY_WORDS;
        copy_from[i % COPY_WORDS] = i;
        asm volatile("rep movsq" : "+S"(from), "+D"(to), "+c"(words) : : "memory");
    }
    return count && copy_to[(count - 1) % COPY_WORDS] != count - 1 ? 0 : count;
}

static uint64_t context_switch(uint64_t count) {
    uint64_t *first = current_pml4(), sum = 0;
    for (uint64_t i = 0; i < count; i++) {
        write_cr3((uint64_t)spaces[i % SPACES]);
        for (unsigned page = 0; page < PAGES; page++) sum += load64(TEST_VA + page * PAGE_BYTES) == i % SPACES;
    }
    write_cr3((uint64_t)first);
    return sum / PAGES;
}

static void on_page_fault(struct trap_frame *frame) {
    (void)frame;
    map_page(current_pml4(), TEST_VA, (uint64_t)fault_page, PTE_P | PTE_W);
    taken++;
}

static uint64_t page_fault(uint64_t count) {
    taken = 0;
    trap_set_handler(VECTOR_PF, on_page_fault);
    for (uint64_t i = 0; i < count; i++) {
        store64(TEST_VA, i);
        unmap(current_pml4(), TEST_VA);
    }
    trap_set_handler(VECTOR_PF, NULL);
    return taken;
}

static void on_interrupt(struct trap_frame *frame) {
    (void)frame;
    taken++;
}

static uint64_t interrupt(uint64_t count) {
    taken = 0;
    trap_set_handler(VECTOR_LOOP, on_interrupt);
    for (uint64_t i = 0; i < count; i++) asm volatile("int %0" : : "i"(VECTOR_LOOP) : "memory");
    return taken;
}

USER_TEXT static uint64_t user_next(uint64_t value) { return value + 1; }

static uint64_t user(uint64_t count) {
    uint64_t value = 0;
    for (uint64_t i = 0; i < count; i++) value = user_call((void *)user_next, value);
    return value;
}

static uint64_t changed_code(uint64_t count) {
    uint8_t *code = (uint8_t *)page_alloc();
    uint64_t sum = 0;
    code[0] = 0xb8; /* mov eax, imm32; ret */
    code[5] = 0xc3;
    for (uint64_t i = 0; i < count; i++) {
        *(volatile uint32_t *)(code + 1) = (uint32_t)i;
        sum += ((uint32_t (*)(void))code)() == (uint32_t)i;
    }
    return sum;
}

static const struct {
    const char *name;
    uint64_t (*run)(uint64_t count); /* returns it */
} LOOPS[] = {
    {"delay", delay},           {"checksum", checksum},   {"copy", copy}, {"context_switch", context_switch},
    {"page_fault", page_fault}, {"interrupt", interrupt}, {"user", user}, {"changed_code", changed_code},
};

void guest_main(void) {
    uint64_t count = word_number("count", 3);
    fault_page = page_alloc();
    for (unsigned i = 0; i < SPACES; i++) {
        uint64_t *page = page_alloc();
        *page = i;
        spaces[i] = address_space_new();
        for (unsigned at = 0; at < PAGES; at++) map_page(spaces[i], TEST_VA + at * PAGE_BYTES, (uint64_t)page, PTE_P);
    }
    for (unsigned i = 0; i < sizeof LOOPS / sizeof LOOPS[0]; i++)
        if (!word_of("loop") || word_is("loop", LOOPS[i].name)) check_equal(LOOPS[i].name, LOOPS[i].run(count), count);
}
