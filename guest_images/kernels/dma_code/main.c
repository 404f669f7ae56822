/* Claim: code that a device writes is run as written, by every CPU, also where other code was run often before, after a
 * serializing instruction (SDM 3A 8.1.3). The device is QEMU's `edu`.
 */
#include "edu.h"
#include "smp.h"

#define ROUNDS 5u
#define RUNS 20
#define ROUND_VECTOR 0x71 /* wakes the others */
#define MOV_EAX_IMMEDIATE 0xb8
#define RET 0xc3
#define FUNCTIONS 40u /* all over the page */
#define FUNCTION_BYTES 100u
#define VALUE(round, function) (0x01010101u * (round) + (function))

static volatile uint64_t ready, round_number, answers;
static volatile uint64_t wrong[CPUS_MAX];
static uint8_t *code;

static uint32_t run(unsigned function) {
    uint32_t result;
    asm volatile("call *%1" : "=a"(result) : "r"(code + function * FUNCTION_BYTES) : "memory", "cc");
    return result;
}

static void assemble(uint8_t *page, uint32_t round) {
    for (unsigned function = 0; function < FUNCTIONS; function++) {
        uint8_t *at = page + function * FUNCTION_BYTES;
        at[0] = MOV_EAX_IMMEDIATE;
        for (int i = 0; i < 4; i++) at[1 + i] = VALUE(round, function) >> 8 * i;
        at[5] = RET;
    }
}

static uint64_t run_all(uint32_t round) {
    uint64_t differences = 0;
    cpuid(0, 0); /* serializes */
    for (int i = 0; i < RUNS; i++)
        for (unsigned function = 0; function < FUNCTIONS; function++)
            differences += run(function) != VALUE(round, function);
    return differences;
}

static void on_round(void) {}

static void work(unsigned cpu) {
    uint64_t done = 0;
    apic_write(APIC_SVR, APIC_ENABLED | APIC_SPURIOUS_VECTOR);
    atomic_add(&ready, 1);
    for (;;) {
        while (round_number == done) wait_for_interrupt();
        done = round_number;
        wrong[cpu] = run_all((uint32_t)done);
        atomic_add(&answers, 1);
    }
}

void guest_main(void) {
    struct edu edu = edu_find();
    struct tally own = {0}, others = {0};
    code = (uint8_t *)page_alloc();
    uint8_t *image = (uint8_t *)page_alloc();
    assemble(code, 0);
    run_all(0);
    apic_set_handler(ROUND_VECTOR, on_round);
    unsigned count = smp_start(work);
    wait_until(&ready, count - 1);
    apic_write(APIC_LVT_LINT0, LVT_EXTINT); /* smp_start has cut off the 8259s */
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        assemble(image, round);
        edu_copy(&edu, image, code, FUNCTIONS * FUNCTION_BYTES);
        answers = 0;
        round_number = round;
        smp_send_others(ROUND_VECTOR);
        tally_equal(&own, run_all(round), 0);
        wait_until(&answers, count - 1);
        for (unsigned cpu = 1; cpu < count; cpu++) tally_equal(&others, wrong[cpu], 0);
    }
    check_tally("the CPU that asked for it runs the code that the device wrote", &own);
    if (count > 1) check_tally("so do the others", &others);
}
