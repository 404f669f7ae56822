/* Claim: CPUs that ask in slots of their own, all at once, get right answers; CPUs that use one slot together get an
 * answer or an error each time, and afterwards the slot serves as before. An entry that one CPU changes by sidecall is
 * seen by the others, whose TLBs the sidecore flushes.
 */
#include "guest.h"
#include "sidecore.h"
#include "smp.h"

#define ROUNDS 40
#define SHARED_SLOT CPUS_MAX
#define READY 0x5eed

static struct cpuid_result expected[4];
static volatile uint64_t ready, started[3], finished[3], wrong, odd, seen;
static uint64_t *entry, pages[2];
static bool has_sidecore;

static int64_t ask(unsigned slot, uint32_t operation, uint64_t first, uint64_t second) {
    if (!has_sidecore || !sidecore_post(sidecore_slot(slot), operation, first, second)) return SIDECORE_ECLOSED;
    return sidecore_collect(sidecore_slot(slot));
}

static void ask_alone(unsigned cpu) {
    struct sidecore_slot *slot = has_sidecore ? sidecore_slot(cpu) : NULL;
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct cpuid_result *want = expected + i % 4;
        if (ask(cpu, SIDECORE_OP_CPUID, i % 4, 0)) continue;
        bool right = slot->results[0] == (want->eax | (uint64_t)want->ebx << 32);
        if (!right) atomic_add(&wrong, 1);
        int64_t status = ask(cpu, SIDECORE_OP_NULL, cpu * 1000 + i, 0);
        if (status || slot->results[0] != cpu * 1000 + i) atomic_add(&wrong, 1);
    }
}

/* Whatever comes is an answer to somebody: this CPU's request, another's, or a sequence number that was there before. */
static void ask_together(unsigned cpu) {
    for (unsigned i = 0; i < ROUNDS; i++) {
        int64_t status = ask(SHARED_SLOT, SIDECORE_OP_NULL, cpu, i);
        if (status != 0 && status != SIDECORE_ESEQUENCE && status != SIDECORE_ECLOSED) atomic_add(&odd, 1);
    }
}

static void begin(unsigned phase, unsigned count) {
    atomic_add(started + phase, 1);
    while (started[phase] < count) cpu_relax();
}

static volatile unsigned cpu_count;

static void run(unsigned cpu) {
    begin(0, cpu_count);
    ask_alone(cpu);
    atomic_add(finished, 1);
    begin(1, cpu_count);
    ask_together(cpu);
    atomic_add(finished + 1, 1);
}

static void work(unsigned cpu) {
    atomic_add(&ready, 1);
    while (ready != READY) cpu_relax();
    run(cpu);
    if (!has_sidecore) return;
    while (load64(TEST_VA) != 0) cpu_relax(); /* the page behind it is in this CPU's TLB */
    atomic_add(&seen, 1);
    while (load64(TEST_VA) != 1) cpu_relax();
    atomic_add(&seen, 1);
}

void guest_main(void) {
    for (unsigned leaf = 0; leaf < 4; leaf++) expected[leaf] = cpuid(leaf, 0);
    for (unsigned i = 0; i < 2; i++) pages[i] = (uint64_t)page_alloc(), *(uint64_t *)pages[i] = i;
    map_page(current_pml4(), TEST_VA, pages[0], PTE_P | PTE_W);
    entry = entry_of(current_pml4(), TEST_VA, LEVEL_PT);
    has_sidecore = sidecore_init(SHARED_SLOT + 1);
    unsigned count = cpu_count = smp_start(work);
    wait_until(&ready, count - 1);
    ready = READY;
    run(0);
    wait_until(finished + 1, count);
    check_equal("CPUs in slots of their own get right answers", wrong, 0);
    check_equal("CPUs in one slot get answers or errors", odd, 0);
    int64_t status = ask(SHARED_SLOT, SIDECORE_OP_NULL, 7, 0);
    bool is_right = has_sidecore ? !status && sidecore_slot(SHARED_SLOT)->results[0] == 7 : status == SIDECORE_ECLOSED;
    check_true("afterwards the slot serves as before", is_right);
    unsigned looking = has_sidecore ? count - 1 : 0;
    wait_until(&seen, looking);
    if (has_sidecore) status = ask(0, SIDECORE_OP_PTE_CHANGE, (uint64_t)entry, pages[1] | PTE_P | PTE_W | PTE_A | PTE_D);
    if (!status) wait_until(&seen, 2 * looking);
    check_equal("an entry that one CPU changes is seen by all", seen, 2 * looking);
}
