/* Claim: the same results under changing load. CPU 0 asks for CPUID and page-table entries all the time; CPU 1, if there is
 * one, sleeps, then is busy, then sleeps again. A dynamic sidecore serves first, then its core runs a CPU, then it serves.
 */
#include "apic.h"
#include "guest.h"
#include "sidecore.h"
#include "smp.h"

#define PAGES 16
#define ROUNDS 24
#define VECTOR_WAKE 0x50

static uint64_t *entries, pages[PAGES];
static volatile unsigned faults;
static volatile uint64_t ready, started, stop, asleep;

static void on_wake(void) {
    started = 1;
    while (!stop) cpu_relax();
}

static void work(unsigned cpu) {
    (void)cpu;
    atomic_add(&ready, 1);
    while (!stop) wait_for_interrupt();
    asleep = 1;
    for (;;) wait_for_interrupt();
}

static void on_fault(struct trap_frame *frame) {
    unsigned index = (read_cr2() - TEST_VA) / PAGE_BYTES % PAGES;
    (void)frame;
    faults++;
    sidecore_set_pte(entries + index, pages[index] | PTE_P | PTE_W | PTE_A | PTE_D);
}

static void use_pages(struct tally *tally) {
    for (unsigned i = 0; i < PAGES; i++) {
        uint64_t va = TEST_VA + i * PAGE_BYTES;
        store64(va, load64(va) + 1);
        sidecore_change_pte(entries + i, pages[i] | PTE_W, va);
    }
    for (unsigned leaf = 0; leaf < 4; leaf++) {
        struct cpuid_result got = sidecore_cpuid(leaf & 1, 0);
        tally_equal(tally, got.eax, cpuid(leaf & 1, 0).eax);
    }
}

static void phase(const char *name) {
    struct tally tally = {0};
    unsigned before = faults;
    for (unsigned round = 0; round < ROUNDS; round++) use_pages(&tally);
    check_tally(name, &tally);
    check_equal("each page faulted once in each round", faults - before, PAGES * ROUNDS);
}

void guest_main(void) {
    for (unsigned i = 0; i < PAGES; i++) {
        pages[i] = (uint64_t)page_alloc();
        map_page(current_pml4(), TEST_VA + i * PAGE_BYTES, pages[i], PTE_W);
    }
    entries = entry_of(current_pml4(), TEST_VA, LEVEL_PT);
    trap_set_handler(VECTOR_PF, on_fault);
    apic_set_handler(VECTOR_WAKE, on_wake);
    unsigned count = smp_start(work);
    wait_until(&ready, count - 1);
    sidecore_init(1);
    phase("one CPU");
    if (count > 1) smp_send(1, VECTOR_WAKE);
    if (count > 1) wait_until(&started, 1);
    phase("the other CPU is busy");
    stop = 1;
    if (count > 1) wait_until(&asleep, 1);
    phase("one CPU again");
    struct tally sums = {0};
    for (unsigned i = 0; i < PAGES; i++) tally_equal(&sums, *(uint64_t *)pages[i], 3 * ROUNDS);
    check_tally("every store is in memory", &sums);
}
