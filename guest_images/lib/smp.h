/* Several CPUs (SDM 3A 8.4): start them, send them interrupts, share data with them.
 *
 *   smp_start(work) --INIT, SIPI, SIPI--> smp_trampoline (real mode, copied to SMP_TRAMPOLINE) --> long mode --> work(cpu)
 *
 * CPUs are numbered by their APIC IDs, 0 is the boot CPU. A CPU whose work returns halts with interrupts off. Each has a
 * stack of its own, and the IDT, GDT and page tables of the boot CPU; no TSS. Checks are the boot CPU's to make.
 */
#ifndef SMP_H
#define SMP_H

#include <stdbool.h>
#include <stdint.h>

#define CPUS_MAX 8
#define SMP_TRAMPOLINE 0x70000ul

unsigned smp_start(void (*work)(unsigned cpu)); /* how many CPUs there are, this one included */
unsigned smp_cpu(void);                         /* the number of the CPU that asks */
void smp_send(unsigned cpu, unsigned vector);
void smp_send_others(unsigned vector);
void delay_us(unsigned us); /* up to 50,000 */

/* The state in which each CPU arrived: smp_trampoline notes it. */
struct arrival {
    uint32_t cr0, cr4, cs, ip, flags, edx;
};
extern volatile struct arrival smp_arrivals[CPUS_MAX];

static inline void cpu_relax(void) { asm volatile("pause" : : : "memory"); }
static inline uint64_t atomic_add(volatile uint64_t *at, uint64_t amount) {
    asm volatile("lock xaddq %0, %1" : "+r"(amount), "+m"(*at) : : "memory");
    return amount;
}
static inline uint32_t exchange(volatile uint32_t *at, uint32_t value) {
    asm volatile("xchgl %0, %1" : "+r"(value), "+m"(*at) : : "memory");
    return value;
}
static inline void wait_until(volatile uint64_t *at, uint64_t value) {
    while (*at != value) cpu_relax();
}

#endif
