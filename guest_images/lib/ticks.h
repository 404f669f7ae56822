/* Time for kernels that halt: the PIT ticks through the I/O APIC, the local APIC's timer wakes after some microseconds.
 * Its rate and the TSC's are measured between ticks at the start.
 */
#ifndef TICKS_H
#define TICKS_H

#include "apic.h"
#include "chips.h"
#include "cpu.h"

#define TICKS_PIN 2 /* of the I/O APIC: the PIT's */
#define TICKS_VECTOR 0x51
#define TICKS_ALARM_VECTOR 0x52
#define TICKS_MEASURED_US 2000
#define TICK_MOST_US 54000 /* the PIT has 16 bits */

static volatile unsigned ticks, ticks_alarms;
static uint64_t tsc_per_ms, alarm_counts_per_ms;

static void ticks_on_tick(void) { ticks++; }
static void ticks_on_alarm(void) { ticks_alarms++; }

static inline void ticks_wait(void) {
    for (unsigned before = ticks; ticks == before;) wait_for_interrupt();
}

/* A tick each `us`, TICK_MOST_US at most; 0: no more. */
static inline void ticks_each_us(uint64_t us) {
    ioapic_route(TICKS_PIN, us ? TICKS_VECTOR : RTE_MASKED, apic_read(APIC_ID) >> 24);
    if (us) pit_periodic((unsigned)(PIT_HZ * us / 1000000));
}

static inline void ticks_init(void) {
    apic_init();
    apic_set_handler(TICKS_VECTOR, ticks_on_tick);
    apic_set_handler(TICKS_ALARM_VECTOR, ticks_on_alarm);
    apic_write(APIC_TIMER_DIVIDE, TIMER_DIVIDE_BY_1);
    ticks_each_us(TICKS_MEASURED_US);
    ticks_wait();
    uint64_t start = read_tsc();
    apic_write(APIC_LVT_TIMER, LVT_MASKED | TICKS_ALARM_VECTOR);
    apic_write(APIC_TIMER_INITIAL, 0xffffffff);
    ticks_wait();
    tsc_per_ms = (read_tsc() - start) * 1000 / TICKS_MEASURED_US;
    alarm_counts_per_ms = (0xffffffff - apic_read(APIC_TIMER_CURRENT)) * 1000ul / TICKS_MEASURED_US;
    apic_write(APIC_LVT_TIMER, TICKS_ALARM_VECTOR);
    apic_write(APIC_TIMER_INITIAL, 0);
}

/* One interrupt after `us`; 0: none. */
static inline void ticks_alarm_us(uint64_t us) {
    uint64_t count = us * alarm_counts_per_ms / 1000;
    apic_write(APIC_TIMER_INITIAL, count < 0xffffffff ? (uint32_t)count : 0xffffffff);
}

/* Halt for `us`; other interrupts are taken meanwhile. */
static inline void ticks_sleep_us(uint64_t us) {
    if (!(us * alarm_counts_per_ms / 1000)) return;
    unsigned before = ticks_alarms;
    ticks_alarm_us(us);
    while (ticks_alarms == before) wait_for_interrupt();
}

/* Compute for `us`. */
static inline void ticks_spin_us(uint64_t us) {
    for (uint64_t start = read_tsc(); (read_tsc() - start) * 1000 < us * tsc_per_ms;) asm volatile("pause");
}

#endif
