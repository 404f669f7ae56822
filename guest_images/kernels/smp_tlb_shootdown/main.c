/* Claim: after a PTE was changed and every other CPU has flushed it on request (an interrupt, INVLPG, an answer), all of
 * them see the new page (SDM 3A 4.10.5).
 */
#include "apic.h"
#include "guest.h"
#include "smp.h"

#define VECTOR_FLUSH 0x60
#define ROUNDS 50

static volatile uint64_t ready, round_number, answers, flushed;
static volatile uint64_t seen[CPUS_MAX];

static void on_flush(void) {
    asm volatile("invlpg (%0)" : : "r"(TEST_VA) : "memory");
    atomic_add(&flushed, 1);
}

/* Read the page for every new round, with interrupts on, so that a flush can come at any time. */
static void work(unsigned cpu) {
    uint64_t done = 0;
    interrupts_on();
    atomic_add(&ready, 1);
    for (;;) {
        while (round_number == done) {
            if (done) seen[cpu] = load64(TEST_VA); /* keeps the translation in the TLB */
            cpu_relax();
        }
        done = round_number;
        seen[cpu] = load64(TEST_VA);
        atomic_add(&answers, 1);
    }
}

static void shoot_down(unsigned count) {
    flushed = 0;
    asm volatile("invlpg (%0)" : : "r"(TEST_VA) : "memory");
    smp_send_others(VECTOR_FLUSH);
    wait_until(&flushed, count - 1);
}

void guest_main(void) {
    struct tally values = {0};
    uint64_t *pages[2] = {page_alloc(), page_alloc()};
    uint64_t *pml4 = current_pml4();
    map_page(pml4, TEST_VA, (uint64_t)pages[0], PTE_P | PTE_W);
    apic_set_handler(VECTOR_FLUSH, on_flush);
    unsigned count = smp_start(work);
    wait_until(&ready, count - 1);
    for (uint64_t round = 1; round <= ROUNDS; round++) {
        uint64_t *page = pages[round & 1];
        *page = 1000 + round;
        *entry_of(pml4, TEST_VA, LEVEL_PT) = (uint64_t)page | PTE_P | PTE_W;
        shoot_down(count);
        answers = 0;
        round_number = round;
        wait_until(&answers, count - 1);
        for (unsigned cpu = 1; cpu < count; cpu++) tally_equal(&values, seen[cpu], 1000 + round);
    }
    check_tally("all CPUs see the page of the changed entry", &values);

    uint64_t last = 1000 + ROUNDS, other = 1000 + ROUNDS - 1;
    check_equal("the last page is as it was left", *pages[ROUNDS & 1], last);
    check_equal("and the one before", *pages[(ROUNDS & 1) ^ 1], other);
}
