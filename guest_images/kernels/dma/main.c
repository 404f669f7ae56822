/* Claim: a device reads and writes memory by itself, all of it and nothing else, as long as the command register lets it
 * (PCI Local Bus Specification 3.0, 6.2.2, "Bus Master"): what it reads is what the CPU stored last, what it writes the CPU
 * loads next; where there is no memory it gets ones, and what it writes is lost. The device is QEMU's `edu`.
 */
#include "edu.h"

#define BUFFER_BYTES EDU_AT_ONCE
#define BEYOND 0x2000000000ul /* no machine of these tests has so much */
#define OTHER_BYTES 0x10000u
#define PATTERN(i, round) (uint8_t)((i) * 7 + (round) * 13 + 1)

static void fill(uint8_t *at, unsigned count, unsigned round) {
    for (unsigned i = 0; i < count; i++) at[i] = PATTERN(i, round);
}

static void check_filled(const char *name, const volatile uint8_t *at, unsigned count, unsigned round) {
    struct tally tally = {0};
    for (unsigned i = 0; i < count; i++) tally_equal(&tally, at[i], PATTERN(i, round));
    check_tally(name, &tally);
}

static uint64_t sum(const volatile uint8_t *at, unsigned count) {
    uint64_t all = 0;
    for (unsigned i = 0; i < count; i++) all = all * 31 + at[i];
    return all;
}

/* Random places and sizes, in and across pages; what lies around stays. */
static void check_random(const struct edu *edu, uint8_t *from, uint8_t *to) {
    struct tally tally = {0};
    uint32_t seed = 12345;
    for (unsigned round = 0; round < 24; round++) {
        seed = seed * 1103515245 + 12345;
        unsigned count = 1 + (seed >> 8) % BUFFER_BYTES, at = (seed >> 4) % BUFFER_BYTES;
        fill(from + at, count, round);
        for (unsigned i = 0; i < 3 * BUFFER_BYTES; i++) to[i] = 0xee;
        edu_copy(edu, from + at, to + at + 1, count);
        for (unsigned i = 0; i < 3 * BUFFER_BYTES; i++) {
            bool inside = i > at && i <= at + count;
            tally_equal(&tally, ((volatile uint8_t *)to)[i], inside ? PATTERN(i - at - 1, round) : 0xee);
        }
    }
    check_tally("any part of memory to any other, and nothing around it", &tally);
}

static void check_forbidden(const struct edu *edu, uint8_t *page) {
    fill(page, BUFFER_BYTES, 1);
    edu_take(edu, (uint64_t)page, BUFFER_BYTES);
    edu_allow(edu, COMMAND_MEMORY);
    fill(page, BUFFER_BYTES, 2);
    edu_put(edu, (uint64_t)page, BUFFER_BYTES);
    check_filled("no write without bus mastering", page, BUFFER_BYTES, 2);
    edu_allow(edu, COMMAND_MEMORY | COMMAND_MASTER);
    edu_put(edu, (uint64_t)page, BUFFER_BYTES);
    check_filled("the device has what it took before", page, BUFFER_BYTES, 1);
    edu_allow(edu, COMMAND_MEMORY);
    fill(page, BUFFER_BYTES, 3);
    edu_take(edu, (uint64_t)page, BUFFER_BYTES);
    edu_allow(edu, COMMAND_MEMORY | COMMAND_MASTER);
    edu_put(edu, (uint64_t)page, BUFFER_BYTES);
    struct tally tally = {0};
    for (unsigned i = 0; i < BUFFER_BYTES; i++) tally_equal(&tally, ((volatile uint8_t *)page)[i], 0xff);
    if (!on_tcg()) check_tally("no read without bus mastering: all ones", &tally); /* TCG: zeros */
}

/* Memory ends at a page: what crosses the end is partly there. */
static void check_beyond(const struct edu *edu, uint64_t end, uint8_t *other, uint8_t *page) {
    uint8_t *last = (uint8_t *)(end - PAGE_BYTES);
    fill(last, PAGE_BYTES, 4);
    fill(page, BUFFER_BYTES, 5);
    edu_take(edu, end - 16, 32);
    edu_put(edu, (uint64_t)page, 32);
    struct tally tally = {0};
    for (unsigned i = 0; i < 16; i++)
        tally_equal(&tally, ((volatile uint8_t *)page)[i], PATTERN(PAGE_BYTES - 16 + i, 4));
    check_tally("up to the end of memory it reads what is there", &tally);
    tally = (struct tally){0};
    for (unsigned i = 16; i < 32; i++) tally_equal(&tally, ((volatile uint8_t *)page)[i], 0xff);
    if (!on_tcg()) check_tally("and ones behind it", &tally);
    static const uint64_t elsewhere[] = {BEYOND, 0x00000000d0000000ul, 0xffffffffffffff00ul, 0x8000000000000000ul};
    uint64_t before = sum((uint8_t *)0, PAGE_BYTES) + sum(other, OTHER_BYTES) + sum(last, PAGE_BYTES);
    fill(page, BUFFER_BYTES, 6);
    edu_take(edu, (uint64_t)page, 256);
    for (unsigned i = 0; i < 4; i++) edu_put(edu, elsewhere[i], i == 2 ? 256 : 16);
    edu_put(edu, end, 256);
    uint64_t after = sum((uint8_t *)0, PAGE_BYTES) + sum(other, OTHER_BYTES) + sum(last, PAGE_BYTES);
    check_equal("what it writes where no memory is, changes no memory", after, before);
    check_filled("nor does it stay", page, BUFFER_BYTES, 6);
    fill(page, 16, 7);
    edu_take(edu, (uint64_t)page, 16);
    edu_put(edu, end - 8, 16);
    tally = (struct tally){0};
    for (unsigned i = 0; i < 8; i++) tally_equal(&tally, last[PAGE_BYTES - 8 + i], PATTERN(i, 7));
    check_tally("a write across the end arrives up to there", &tally);
}

static uint64_t memory_end(void) {
    uint64_t end = 0;
    for (unsigned i = 0; i < boot_params->e820_count; i++) {
        const struct e820_entry *entry = &boot_params->e820[i];
        uint64_t behind = entry->address + entry->size_bytes;
        if (entry->type == E820_RAM && behind <= HUGE_PAGE_BYTES && behind > end) end = behind;
    }
    return end & ~(PAGE_BYTES - 1);
}

void guest_main(void) {
    struct edu edu = edu_find();
    uint8_t *from = (uint8_t *)large_page_alloc(), *to = (uint8_t *)large_page_alloc();
    fill(from, BUFFER_BYTES, 0);
    edu_copy(&edu, from, to, BUFFER_BYTES);
    check_filled("a page of memory to another", to, BUFFER_BYTES, 0);
    edu_start(&edu, (uint64_t)from, EDU_BUFFER, BUFFER_BYTES, EDU_INTERRUPT_AFTER);
    edu_write(&edu, EDU_COUNT, 5);
    edu_finish(&edu);
    check_equal("its registers stay as they are while it works", edu_read(&edu, EDU_COUNT), BUFFER_BYTES);
    check_random(&edu, from, to);
    check_forbidden(&edu, to);
    uint64_t end = memory_end();
    if (end) check_beyond(&edu, end, from, to);
}
