/* Claim: code that one CPU changes, also code that others have run many times, is run as changed by all of them after they
 * have executed a serializing instruction (SDM 3A 8.1.3, "cross-modifying code").
 */
#include "guest.h"
#include "smp.h"

#define ROUNDS 40
#define MOV_EAX_IMMEDIATE 0xb8
#define RET 0xc3

static volatile uint64_t ready, round_number, answers;
static volatile uint64_t results[CPUS_MAX];
static uint8_t code[16] __attribute__((aligned(16)));

static uint32_t run_code(void) {
    uint32_t result;
    asm volatile("call *%1" : "=a"(result) : "r"(code) : "memory", "cc");
    return result;
}

static void write_code(uint32_t value) {
    volatile uint8_t *byte = code;
    byte[0] = MOV_EAX_IMMEDIATE;
    for (int i = 0; i < 4; i++) byte[1 + i] = value >> 8 * i;
    byte[5] = RET;
}

static void work(unsigned cpu) {
    uint64_t done = 0;
    atomic_add(&ready, 1);
    for (;;) {
        while (round_number == done) cpu_relax();
        done = round_number;
        cpuid(0, 0); /* serializes */
        for (int i = 0; i < 20; i++) results[cpu] = run_code();
        atomic_add(&answers, 1);
    }
}

void guest_main(void) {
    struct tally all = {0};
    write_code(0);
    unsigned count = smp_start(work);
    wait_until(&ready, count - 1);
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        write_code(round * 0x01010101);
        answers = 0;
        round_number = round;
        wait_until(&answers, count - 1);
        for (unsigned cpu = 1; cpu < count; cpu++) tally_equal(&all, results[cpu], round * 0x01010101);
        tally_equal(&all, run_code(), round * 0x01010101);
    }
    check_tally("every CPU runs the code as it was changed last", &all);
}
