/* Claim: the local APIC's timer counts down at the rate its divider sets, interrupts once or periodically as its LVT entry
 * says, keeps time with the PIT and the TSC, and in TSC-deadline mode fires at the deadline and not before (SDM 3A 10.5.4).
 */
#include "apic.h"
#include "guest.h"

#define VECTOR 0x71
#define PIT_COUNT (PIT_HZ / 200)
#define TICKS 20

static volatile unsigned ticks;

static void on_timer(void) { ticks = ticks + 1; }

static void start(uint32_t lvt, uint32_t divide, uint32_t count) {
    ticks = 0;
    apic_write(APIC_TIMER_DIVIDE, divide);
    apic_write(APIC_LVT_TIMER, lvt);
    apic_write(APIC_TIMER_INITIAL, count);
}

static void stop(void) {
    apic_write(APIC_TIMER_INITIAL, 0);
    apic_write(APIC_LVT_TIMER, LVT_MASKED | VECTOR);
}

/* What the timer counts in 1/200 s of the PIT, which counts down in mode 0 and shows it in its status. */
static uint32_t count_per_5ms(uint32_t divide) {
    start(LVT_MASKED | VECTOR, divide, 0xffffffff);
    pit_one_shot(PIT_COUNT);
    do out8(PIT_CONTROL, 0xe2); /* read-back: latch the status of counter 0 */
    while (!(in8(PIT_CHANNEL0) & 0x80));
    uint32_t count = 0xffffffff - apic_read(APIC_TIMER_CURRENT);
    stop();
    return count;
}

static bool is_near(uint64_t value, uint64_t expected) {
    return value * 10 > expected * 9 && value * 10 < expected * 11;
}

static uint32_t check_dividers(void) {
    static const uint32_t dividers[] = {0xb, 0x0, 0x1, 0x2, 0x3, 0x8, 0x9, 0xa}; /* by 1, 2, 4 .. 128 */
    uint32_t base = count_per_5ms(TIMER_DIVIDE_BY_1);
    struct tally tally = {0};
    for (unsigned i = 0; i < 8; i++) tally_equal(&tally, is_near(count_per_5ms(dividers[i]), base >> i), true);
    check_tally("each divider counts at its part of the rate", &tally);
    return base;
}

static void check_one_shot(uint32_t base) {
    start(VECTOR, TIMER_DIVIDE_BY_1, base);
    check_equal("the initial count reads back", apic_read(APIC_TIMER_INITIAL), base);
    uint32_t first = apic_read(APIC_TIMER_CURRENT);
    for (volatile unsigned i = 0; i < 100; i++)
        ;
    uint32_t second = apic_read(APIC_TIMER_CURRENT);
    check_true("the current count goes down", first <= base && second < first && second > 0);
    while (!ticks) wait_for_interrupt();
    check_equal("one-shot: it reaches 0", apic_read(APIC_TIMER_CURRENT), 0);
    pit_one_shot(PIT_COUNT);
    do out8(PIT_CONTROL, 0xe2);
    while (!(in8(PIT_CHANNEL0) & 0x80));
    interrupts_on();
    asm volatile("nop");
    interrupts_off();
    check_equal("and interrupts once", ticks, 1);
    stop();
}

static void check_periodic(uint32_t base) {
    start(TIMER_PERIODIC | VECTOR, TIMER_DIVIDE_BY_1, base);
    uint64_t began = 0, ended = 0;
    while (ticks < TICKS) {
        wait_for_interrupt();
        if (ticks == 1) began = read_tsc();
        ended = read_tsc();
    }
    stop();
    check_equal("periodic: one interrupt per wait", ticks, TICKS);
    start(VECTOR, TIMER_DIVIDE_BY_1, base);
    uint64_t before = read_tsc();
    while (!ticks) wait_for_interrupt();
    check_true("its periods are as long as one-shots", is_near((ended - began) / (TICKS - 1), read_tsc() - before));
    stop();
}

static void check_masked(uint32_t base) {
    start(LVT_MASKED | TIMER_PERIODIC | VECTOR, TIMER_DIVIDE_BY_1, base / 10);
    interrupts_on();
    uint32_t last = apic_read(APIC_TIMER_CURRENT), reloads = 0;
    for (uint64_t spins = 0; reloads < 3 && spins < 100000000; spins++) {
        uint32_t now = apic_read(APIC_TIMER_CURRENT);
        reloads += now > last;
        last = now;
    }
    interrupts_off();
    check_equal("masked: it counts and reloads", reloads, 3);
    check_equal("and does not interrupt", ticks, 0);
    stop();
}

static void check_stopping(uint32_t base) {
    start(VECTOR, TIMER_DIVIDE_BY_1, base / 4);
    apic_write(APIC_TIMER_INITIAL, 0);
    count_per_5ms(TIMER_DIVIDE_BY_1);
    interrupts_on();
    asm volatile("nop");
    interrupts_off();
    check_equal("an initial count of 0 stops it", ticks, 0);
}

static void check_deadline(void) {
    if (!(cpuid(1, 0).ecx >> 24 & 1)) return; /* QEMU's TCG has none */
    start(TIMER_DEADLINE | VECTOR, TIMER_DIVIDE_BY_1, 1000);
    check_equal("TSC-deadline: counts are ignored", apic_read(APIC_TIMER_CURRENT), 0);
    struct tally early = {0};
    for (unsigned i = 0; i < TICKS; i++) {
        uint64_t deadline = read_tsc() + 1000000;
        ticks = 0;
        write_msr(MSR_TSC_DEADLINE, deadline);
        while (!ticks) wait_for_interrupt();
        tally_equal(&early, read_tsc() < deadline, false);
        tally_equal(&early, read_msr(MSR_TSC_DEADLINE), 0);
    }
    check_tally("it fires when the TSC is there, and clears the MSR", &early);
    ticks = 0;
    write_msr(MSR_TSC_DEADLINE, 1);
    interrupts_on();
    asm volatile("nop");
    interrupts_off();
    check_equal("a deadline of the past fires at once", ticks, 1);
    write_msr(MSR_TSC_DEADLINE, read_tsc() + 100000);
    write_msr(MSR_TSC_DEADLINE, 0);
    uint64_t until = read_tsc() + 200000;
    interrupts_on();
    while (read_tsc() < until)
        ;
    interrupts_off();
    check_equal("0 disarms it", ticks, 1);
    stop();
    write_msr(MSR_TSC_DEADLINE, read_tsc() + 100000);
    check_equal("in another mode the MSR is ignored", read_msr(MSR_TSC_DEADLINE), 0);
}

void guest_main(void) {
    if (!(cpuid(1, 0).edx >> 9 & 1)) skip("no local APIC");
    apic_init();
    apic_set_handler(VECTOR, on_timer);
    uint32_t base = check_dividers();
    check_one_shot(base);
    check_periodic(base);
    check_masked(base);
    check_stopping(base);
    check_deadline();
}
