/* Claim: the time-stamp counters of all CPUs are one: who reads it after another CPU has, as a lock shows, reads no less
 * (SDM 3B 18.17; kernels check this before they trust it).
 */
#include "guest.h"
#include "smp.h"

#define ROUNDS 2000

static volatile uint32_t lock;
static volatile uint64_t ready, go, done, last, warps, largest_warp;

static void read_in_turn(void) {
    while (exchange(&lock, 1)) cpu_relax();
    uint64_t before = last, now = read_tsc();
    if (now < before) {
        warps++;
        if (before - now > largest_warp) largest_warp = before - now;
    }
    last = now;
    lock = 0;
}

static void work(unsigned cpu) {
    (void)cpu;
    atomic_add(&ready, 1);
    while (!go) cpu_relax();
    for (unsigned round = 0; round < ROUNDS; round++) read_in_turn();
    atomic_add(&done, 1);
}

void guest_main(void) {
    unsigned count = smp_start(work);
    wait_until(&ready, count - 1);
    go = 1;
    for (unsigned round = 0; round < ROUNDS; round++) read_in_turn();
    wait_until(&done, count - 1);
    check_equal("no CPU reads less than another has read before", warps, 0);
    check_equal("by no cycle", largest_warp, 0);
}
