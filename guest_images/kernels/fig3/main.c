/* Claim: demand-paged processes do the same with their new page-table entries set by stores and by sidecalls; and what
 * a page fault and a context switch take (the paper's Figure 3), after LMbench. benchmarks/fig3/measure.py reads the lines.
 *
 * pagefault (lat_pagefault): a process maps a file of 1024 pages that are in memory, touches a byte of each in a random
 *   order that is always the same, and unmaps it; the same without touching is subtracted. What is left, of one page, is
 *   its fault, its entry and the clearing of it.
 * ctx (lat_ctx, 16 processes, 16 KiB): a token goes around a ring of pipes; who gets it sums its array and passes it on.
 *   Subtracted is the same number of passes in one process, whose array is there. ctx/N: each process lives for N laps,
 *   that is, before each round of N laps (not measured) it loses its array and gets one that is paged in on demand, as a
 *   new process would; its upper tables stay. ctx/0: all arrays are there, as in LMbench, in rounds of 4 laps.
 */
#include "guest.h"
#include "measure.h"
#include "process.h"
#include "sidecore.h"

#define FILE_PAGES 1024
#define PROCESSES 16
#define ARRAY_BYTES 0x4000ul
#define ARRAY_PAGES (ARRAY_BYTES / PAGE_BYTES)
#define ARRAY_WORDS (ARRAY_BYTES / sizeof(uint64_t))
#define RESIDENT_LAPS 4

/* Pipe i leads to process i of the ring; then as many for the one that is alone. */
enum { PIPE_ALONE = PROCESSES, PIPE_FAULTS = 2 * PROCESSES, PIPE_KERNEL, PIPE_COUNT };
enum { COMMAND_MAP = 1, COMMAND_MAP_AND_TOUCH };

static uint16_t order[FILE_PAGES] USER_DATA;
static volatile uint64_t mismatches USER_DATA;
static uint64_t file[FILE_PAGES];
static struct process *ring[PROCESSES];
static unsigned laps;

/* Page i of the file begins with byte i. */
USER_TEXT static void user_faults(uint64_t argument) {
    (void)argument;
    for (;;) {
        uint64_t command = user_syscall(SYSCALL_READ, PIPE_FAULTS, 0);
        user_syscall(SYSCALL_MAP, 0, 0);
        for (unsigned i = 0; command == COMMAND_MAP_AND_TOUCH && i < FILE_PAGES; i++)
            mismatches += *(volatile uint8_t *)(REGION_VA + order[i] * PAGE_BYTES) != (uint8_t)order[i];
        user_syscall(SYSCALL_UNMAP, 0, 0);
        user_syscall(SYSCALL_WRITE, PIPE_KERNEL, command);
    }
}

/* The token is the number of passes left. Process PIPE_ALONE passes it to itself, through a ring of pipes of its own. */
USER_TEXT static void user_pass(uint64_t number) {
    bool is_alone = number == PIPE_ALONE;
    uint64_t base = is_alone ? PIPE_ALONE : 0, from = number;
    user_syscall(SYSCALL_MAP, 0, 0);
    for (;;) {
        uint64_t passes = user_syscall(SYSCALL_READ, from, 0), next = base + (from - base + 1) % PROCESSES, sum = 0;
        for (unsigned i = 0; i < ARRAY_WORDS; i++) sum += ((volatile uint64_t *)REGION_VA)[i];
        mismatches += sum != (number + 1) * ARRAY_WORDS;
        if (passes)
            user_syscall(SYSCALL_WRITE, next, passes - 1);
        else
            user_syscall(SYSCALL_WRITE, PIPE_KERNEL, 0);
        from = !is_alone ? number : passes ? next : PIPE_ALONE;
    }
}

static void run(uint64_t pipe, uint64_t token) {
    pipe_write(pipe, token);
    pipe_read(PIPE_KERNEL);
}
static void do_map(unsigned index) { (void)index, run(PIPE_FAULTS, COMMAND_MAP); }
static void do_map_and_touch(unsigned index) { (void)index, run(PIPE_FAULTS, COMMAND_MAP_AND_TOUCH); }
static void do_ring(unsigned index) { (void)index, run(0, laps * PROCESSES); }
static void do_alone(unsigned index) { (void)index, run(PIPE_ALONE, laps * PROCESSES); }
static void drop_arrays(unsigned calls) {
    (void)calls;
    for (unsigned i = 0; i < PROCESSES; i++) process_drop_pages(ring[i]);
}

/* Fisher and Yates; the generator is Knuth's (MMIX). */
static void shuffle(void) {
    uint64_t random = 1;
    for (unsigned i = 0; i < FILE_PAGES; i++) order[i] = i;
    for (unsigned i = FILE_PAGES - 1; i > 0; i--) {
        random = random * 6364136223846793005ul + 1442695040888963407ul;
        unsigned other = (random >> 33) % (i + 1);
        uint16_t page = order[i];
        order[i] = order[other];
        order[other] = page;
    }
}

static void set_up(void) {
    shuffle();
    processes_init(PIPE_COUNT);
    for (unsigned i = 0; i < FILE_PAGES; i++) {
        file[i] = (uint64_t)page_alloc();
        *(uint64_t *)file[i] = i;
    }
    process_new(user_faults, 0, &(struct region){.page_count = FILE_PAGES, .file = file});
}

static struct process *new_passer(unsigned number) {
    return process_new(user_pass, number, &(struct region){.page_count = ARRAY_PAGES, .fill = number + 1});
}

static void measure_ctx(const char *name, unsigned lifetime_laps) {
    laps = lifetime_laps ? lifetime_laps : RESIDENT_LAPS;
    const struct measurement ctx = {
        .name = name,
        .calls = 1,
        .per_call = laps * PROCESSES,
        .prepare = lifetime_laps ? drop_arrays : NULL,
        .empty = do_alone,
        .operation = do_ring,
        .parameter_count = 1,
        .parameters = {lifetime_laps},
    };
    measure(&ctx);
}

static void measure_all(const char *pagefault_name, const char *ctx_name) {
    const struct measurement pagefault = {
        .name = pagefault_name,
        .calls = 1,
        .per_call = FILE_PAGES,
        .empty = do_map,
        .operation = do_map_and_touch,
    };
    measure(&pagefault);
    measure_ctx(ctx_name, 1);
    measure_ctx(ctx_name, 4);
    measure_ctx(ctx_name, 16);
    measure_ctx(ctx_name, 0);
}

void guest_main(void) {
    set_up();
    for (unsigned i = 0; i < PROCESSES; i++) ring[i] = new_passer(i);
    new_passer(PIPE_ALONE);
    bool has_sidecore = sidecore_init(1);
    if (has_sidecore) sidecore_switch(false);
    measure_all("pagefault_exit", "ctx_exit");
    if (has_sidecore) {
        sidecore_switch(true);
        measure_all("pagefault", "ctx");
    }
    check_equal("every byte and every sum was right", mismatches, 0);
    unsigned ways = has_sidecore ? 2 : 1;
    unsigned expected = ways * (1 + ROUNDS) * (FILE_PAGES + 3 * PROCESSES * ARRAY_PAGES) + ARRAY_PAGES;
    check_equal("each page faulted once each time it was absent, and no other", page_fault_count() - expected, 0);
}
