/* Starting CPUs one after the other, so that they can use one trampoline. */
#include "smp.h"

#include <stddef.h>

#include "apic.h"
#include "chips.h"
#include "cpu.h"
#include "report.h"
#include "segments.h"
#include "trap.h"

#define STACK_BYTES 8192 /* smp_trampoline.S knows it, too */
#define ICR_INIT (5u << 8 | 1u << 14)
#define ICR_START_UP (6u << 8 | 1u << 14)
#define PIT_READ_BACK_STATUS_0 0xe2
#define PIT_STATUS_OUT 0x80
#define ARRIVAL_WAITS 20 /* of 100 us each */

struct __attribute__((packed)) trampoline_values {
    uint32_t cr0, cr3, cr4, efer;
    uint16_t gdt_limit;
    uint32_t gdt_base;
    uint16_t reserved0;
    uint32_t entry;
    uint16_t entry_selector, reserved1;
    struct arrival arrival;
};

extern const uint8_t smp_trampoline[], smp_trampoline_values[], smp_trampoline_end[];
extern uint8_t smp_stacks[CPUS_MAX][STACK_BYTES];
uint8_t smp_stacks[CPUS_MAX][STACK_BYTES] __attribute__((aligned(16)));
volatile struct arrival smp_arrivals[CPUS_MAX];
static void (*smp_work)(unsigned cpu);
static volatile uint64_t smp_running;

unsigned smp_cpu(void) { return cpuid(1, 0).ebx >> 24; }

void delay_us(unsigned us) {
    pit_one_shot((uint64_t)us * PIT_HZ / 1000000 + 1);
    do {
        out8(PIT_CONTROL, PIT_READ_BACK_STATUS_0);
    } while (!(in8(PIT_CHANNEL0) & PIT_STATUS_OUT));
}

static void send(uint32_t command, unsigned cpu) {
    apic_write(APIC_ICR_HIGH, cpu << 24);
    apic_write(APIC_ICR_LOW, command);
}

void smp_send(unsigned cpu, unsigned vector) { send(1u << 14 | vector, cpu); }
void smp_send_others(unsigned vector) { send(ICR_TO_OTHERS | 1u << 14 | vector, 0); }

_Noreturn void smp_main(unsigned cpu);
_Noreturn void smp_main(unsigned cpu) {
    if (cpu >= CPUS_MAX) goto park;
    idt_load();
    apic_init();
    atomic_add(&smp_running, 1);
    smp_work(cpu);
park:
    for (;;) asm volatile("cli; hlt");
}

static volatile struct trampoline_values *copy_trampoline(void) {
    volatile uint8_t *to = (volatile uint8_t *)SMP_TRAMPOLINE;
    for (size_t i = 0; i < (size_t)(smp_trampoline_end - smp_trampoline); i++) to[i] = smp_trampoline[i];
    volatile struct trampoline_values *values = (void *)(SMP_TRAMPOLINE + (smp_trampoline_values - smp_trampoline));
    values->cr0 = read_cr0();
    values->cr3 = read_cr3();
    values->cr4 = read_cr4();
    values->efer = read_msr(MSR_EFER) & ~EFER_LMA;
    values->gdt_limit = sizeof gdt - 1;
    values->gdt_base = (uint32_t)(uint64_t)gdt;
    return values;
}

/* SDM 3A 8.4.4.1: INIT, a while, SIPI, 200 us, and if nobody came another SIPI. */
static bool start(unsigned cpu) {
    uint64_t before = smp_running;
    send(ICR_INIT, cpu);
    delay_us(1000);
    for (int attempt = 0; attempt < 2 && smp_running == before; attempt++) {
        send(ICR_START_UP | SMP_TRAMPOLINE >> 12, cpu);
        for (int i = 0; i < ARRIVAL_WAITS && smp_running == before; i++) delay_us(100);
    }
    return smp_running != before;
}

unsigned smp_start(void (*work)(unsigned cpu)) {
    unsigned count = 1;
    smp_work = work;
    apic_init();
    volatile struct trampoline_values *values = copy_trampoline();
    for (; count < CPUS_MAX && start(count); count++) {
        smp_arrivals[count].cr0 = values->arrival.cr0;
        smp_arrivals[count].cr4 = values->arrival.cr4;
        smp_arrivals[count].cs = values->arrival.cs;
        smp_arrivals[count].ip = values->arrival.ip;
        smp_arrivals[count].flags = values->arrival.flags;
        smp_arrivals[count].edx = values->arrival.edx;
    }
    if (count == 1) skip("there is one CPU only");
    return count;
}
