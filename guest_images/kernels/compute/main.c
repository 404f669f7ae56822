/* Claim: a guest that only computes gets the same results however often it is interrupted; and what each round took, by the
 * TSC, which goes on while others have the core.
 *
 *   rounds=100 iterations=10000       of a round
 *   set_kib=16                        that it works in, so that what others do to the caches is seen
 *
 *   ~ compute rounds 100 iterations 10000 set_kib 16 cycles 5230000
 *   ~ cc4c cc4a ...                  of each round, in hex, 16 in a line
 *   ~ compute end
 */
#include "command_line.h"

#define ROUNDS_MOST 100000
#define SET_KIB_MOST 8192
#define STEP 67 /* words: another line each time, in an order that no prefetcher guesses, and all of them in turn */

static uint64_t *set, words, *cycles;

/* Adds up what it reads, and writes the sum back. */
static uint64_t compute(uint64_t iterations, uint64_t seed) {
    uint64_t at = 0;
    for (uint64_t i = 0; i < iterations; i++) {
        seed = seed * 6364136223846793005ul + 1442695040888963407ul;
        set[at] += seed >> 32;
        seed ^= set[at];
        at = (at + STEP) % words;
    }
    return seed;
}

static void clear_set(void) {
    for (uint64_t i = 0; i < words; i++) set[i] = 0;
}

/* Contiguous pages: page_alloc() gives one after the other. */
static uint64_t *pages_alloc(uint64_t bytes) {
    uint64_t *first = page_alloc();
    for (uint64_t at = PAGE_BYTES; at < bytes; at += PAGE_BYTES) page_alloc();
    return first;
}

void guest_main(void) {
    uint64_t rounds = word_number("rounds", 100), iterations = word_number("iterations", 10000);
    uint64_t set_kib = word_number("set_kib", 16), seed = 1;
    if (!rounds || rounds > ROUNDS_MOST || !set_kib || set_kib > SET_KIB_MOST)
        error("rounds or set_kib is out of range");
    words = set_kib * 1024 / sizeof *set;
    set = pages_alloc(set_kib * 1024);
    cycles = pages_alloc(rounds * sizeof *cycles);
    compute(iterations, seed);
    clear_set();
    uint64_t begin = read_tsc(), before = begin;
    for (uint64_t i = 0; i < rounds; i++) {
        seed = compute(iterations, seed);
        uint64_t now = read_tsc();
        cycles[i] = now - before;
        before = now;
    }
    print("~ compute rounds %lu iterations %lu set_kib %lu cycles %lu\n", rounds, iterations, set_kib, before - begin);
    for (uint64_t i = 0; i < rounds; i++) print(i % 16 ? " %lx" : i ? "\n~ %lx" : "~ %lx", cycles[i]);
    print("\n~ compute end\n");
    clear_set();
    uint64_t again = 1;
    for (uint64_t i = 0; i < rounds; i++) again = compute(iterations, again);
    check_equal("the same work gives the same result", again, seed);
}
