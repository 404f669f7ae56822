/* Claim: INIT and SIPI start each other CPU in real mode at the page that the SIPI names, with the state of SDM 3A table
 * 9-1, and it reaches long mode; its APIC ID is its own; INIT and SIPI start it again, wherever it is; a SIPI alone does
 * nothing to a CPU that runs.
 */
#include "apic.h"
#include "guest.h"
#include "smp.h"

#define CR0_PE_PG 0x80000001u

static volatile uint64_t arrived, ids, bases, spinning;

static void work(unsigned cpu) {
    atomic_add(&ids, 1ul << 8 * (apic_read(APIC_ID) >> 24));
    atomic_add(&bases, read_msr(MSR_APIC_BASE) == (APIC_BASE | 0x800)); /* enabled, not the boot CPU's */
    atomic_add(&arrived, 1);
    if (cpu == 1) {
        spinning = 1;
        for (;;) cpu_relax();
    }
}

static void check_arrivals(unsigned count) {
    struct tally mode = {0}, place = {0}, flags = {0};
    for (unsigned cpu = 1; cpu < count; cpu++) {
        tally_equal(&mode, smp_arrivals[cpu].cr0 & CR0_PE_PG, 0);
        tally_equal(&mode, smp_arrivals[cpu].cr4, 0);
        tally_equal(&place, smp_arrivals[cpu].cs, SMP_TRAMPOLINE >> 4);
        tally_equal(&place, smp_arrivals[cpu].ip, 0);
        tally_equal(&flags, smp_arrivals[cpu].flags, RFLAGS_FIXED);
    }
    check_tally("they arrive in real mode", &mode);
    check_tally("at the page of the SIPI", &place);
    check_tally("with RFLAGS as after reset", &flags);
}

void guest_main(void) {
    unsigned count = smp_start(work);
    wait_until(&arrived, count - 1);
    check_equal("every CPU that was started runs", arrived, count - 1);
    check_arrivals(count);
    struct tally each = {0};
    for (unsigned cpu = 1; cpu < count; cpu++) tally_equal(&each, ids >> 8 * cpu & 0xff, 1);
    check_tally("each has its own APIC ID", &each);
    check_equal("none of them is the boot CPU", bases, count - 1);

    wait_until(&spinning, 1);
    apic_write(APIC_ICR_HIGH, 1 << 24);
    apic_write(APIC_ICR_LOW, 6u << 8 | 1u << 14 | SMP_TRAMPOLINE >> 12);
    delay_us(1000);
    check_equal("a SIPI alone does nothing to a CPU that runs", arrived, count - 1);

    spinning = 0;
    check_equal("INIT and SIPI start a CPU that spins, and those that are halted, again", smp_start(work), count);
    wait_until(&arrived, 2 * (count - 1));
    check_equal("all of them", arrived, 2 * (count - 1));
}
