/* Claim: XCHG and LOCKed instructions are atomic between CPUs, so a spin lock keeps a critical section to one at a time
 * and no addition is lost; stores become visible in the order in which they were made (SDM 3A 8.1, 8.2).
 */
#include "guest.h"
#include "smp.h"

#define ROUNDS 3000

static volatile uint32_t lock;
static volatile uint64_t ready, go, done, finished, plain, atomic_sum, inside, overlaps;
static volatile uint64_t message, flag, torn;

static void increment(void) {
    while (exchange(&lock, 1)) {
        while (lock) cpu_relax();
    }
    if (inside) overlaps++;
    inside = 1;
    uint64_t value = plain;
    for (int i = 0; i < 5; i++) asm volatile("" : : : "memory");
    plain = value + 1;
    inside = 0;
    lock = 0;
}

static void work(unsigned cpu) {
    atomic_add(&ready, 1);
    while (!go) cpu_relax();
    for (unsigned round = 0; round < ROUNDS; round++) {
        increment();
        atomic_add(&atomic_sum, cpu);
    }
    atomic_add(&done, 1);
    for (uint64_t last = 0; cpu == 1 && last < ROUNDS; cpu_relax()) { /* a message is written before its flag */
        uint64_t now = flag;
        if (message < now) torn = torn + 1;
        last = now;
    }
    atomic_add(&finished, 1);
}

void guest_main(void) {
    unsigned count = smp_start(work);
    wait_until(&ready, count - 1);
    go = 1;
    for (unsigned round = 0; round < ROUNDS; round++) increment();
    wait_until(&done, count - 1);
    check_equal("no increment under the lock is lost", plain, (uint64_t)ROUNDS * count);
    check_equal("never two CPUs are in the critical section", overlaps, 0);
    check_equal("no LOCK XADD is lost", atomic_sum, (uint64_t)ROUNDS * count * (count - 1) / 2);
    for (uint64_t round = 1; round <= ROUNDS; round++) {
        message = round;
        flag = round;
    }
    wait_until(&finished, count - 1);
    check_equal("a flag is never seen before what was stored before it", torn, 0);
}
