/* Claim: a fixed interrupt from one CPU reaches the one it is for, once, and no other; "all but self" reaches all but the
 * sender; a halted CPU is woken; interrupts sent back and forth are neither lost nor doubled (SDM 3A 10.6).
 */
#include "apic.h"
#include "guest.h"
#include "smp.h"

#define VECTOR_PING 0x50
#define VECTOR_PONG 0x51
#define VECTOR_CALL 0x52
#define ROUNDS 200

static volatile uint64_t ready, pings[CPUS_MAX], pongs, calls[CPUS_MAX];

static void on_ping(void) {
    unsigned cpu = smp_cpu();
    pings[cpu]++;
    smp_send(0, VECTOR_PONG);
}

static void on_pong(void) { pongs++; }

static void on_call(void) { calls[smp_cpu()]++; }

static void work(unsigned cpu) {
    (void)cpu;
    atomic_add(&ready, 1);
    for (;;) wait_for_interrupt();
}

static void ping_pong(unsigned cpu) {
    for (unsigned round = 0; round < ROUNDS; round++) {
        uint64_t before = pongs;
        smp_send(cpu, VECTOR_PING);
        while (pongs == before) wait_for_interrupt();
    }
}

void guest_main(void) {
    apic_set_handler(VECTOR_PING, on_ping);
    apic_set_handler(VECTOR_PONG, on_pong);
    apic_set_handler(VECTOR_CALL, on_call);
    unsigned count = smp_start(work);
    wait_until(&ready, count - 1);

    struct tally sent = {0};
    for (unsigned cpu = 1; cpu < count; cpu++) ping_pong(cpu);
    for (unsigned cpu = 1; cpu < count; cpu++) tally_equal(&sent, pings[cpu], ROUNDS);
    tally_equal(&sent, pings[0], 0);
    check_tally("each ping reaches its CPU once", &sent);
    check_equal("each ping is answered once", pongs, ROUNDS * (count - 1));

    struct tally called = {0};
    for (unsigned round = 1; round <= ROUNDS; round++) {
        smp_send_others(VECTOR_CALL);
        for (unsigned cpu = 1; cpu < count; cpu++) wait_until(&calls[cpu], round);
    }
    for (unsigned cpu = 1; cpu < count; cpu++) tally_equal(&called, calls[cpu], ROUNDS);
    tally_equal(&called, calls[0], 0);
    check_tally("'all but self' reaches all others, once, and not the sender", &called);

    smp_send(0, VECTOR_CALL);
    interrupts_on();
    wait_until(&calls[0], 1);
    interrupts_off();
    check_equal("a CPU can send to itself by its ID", calls[0], 1);
}
