/* Claim: an NMI from a local APIC is taken with interrupts off; a second one waits until the handler's IRET, whose target
 * it interrupts, and of several that wait one is left; another CPU that halts with interrupts off is woken by one (SDM 3A
 * 6.7, 10.6.1).
 */
#include "apic.h"
#include "guest.h"
#include "smp.h"

#define HALTS 50

static volatile uint64_t ready, resumed, nmis[CPUS_MAX];
static volatile unsigned depth, deepest, to_send, waited;
static volatile uint64_t interrupted_at, flags_in_handler;

static void send_nmi(unsigned cpu) {
    while (apic_read(APIC_ICR_LOW) & 1 << 12) cpu_relax();
    apic_write(APIC_ICR_HIGH, cpu << 24);
    apic_write(APIC_ICR_LOW, LVT_NMI | 1 << 14);
}

static void spin(void) {
    for (volatile unsigned i = 0; i < 1000; i++) cpu_relax();
}

static void on_nmi(struct trap_frame *frame) {
    unsigned cpu = smp_cpu();
    nmis[cpu]++;
    if (cpu) return;
    depth++;
    if (depth > deepest) deepest = depth;
    interrupted_at = frame->rip;
    flags_in_handler = read_rflags();
    if (to_send) {
        uint64_t before = nmis[0];
        while (to_send) {
            to_send--;
            send_nmi(0);
        }
        spin();
        waited += nmis[0] == before;
    }
    depth--;
}

static void check_delivery(void) {
    interrupts_off();
    send_nmi(0);
    spin();
    check_equal("with IF clear it is taken", nmis[0], 1);
    check_equal("its gate clears IF", flags_in_handler & RFLAGS_IF, 0);
    interrupts_on();
    send_nmi(0);
    spin();
    interrupts_off();
    check_equal("with IF set it is taken", nmis[0], 2);
}

static void check_blocking(void) {
    to_send = 1;
    send_nmi(0);
    spin();
    check_equal("a second one waits in the handler", waited, 1);
    check_equal("and is taken behind it", nmis[0], 4);
    to_send = 3;
    send_nmi(0);
    spin();
    check_equal("of three that wait, one is taken", nmis[0], 6);
    check_equal("the handler never nested", deepest, 1);
}

static void work(unsigned cpu) {
    (void)cpu;
    atomic_add(&ready, 1);
    for (;;) {
        asm volatile("cli; hlt");
        resumed++;
    }
}

static void check_other(void) {
    struct tally tally = {0};
    if (smp_start(work) < 2) return;
    wait_until(&ready, 1);
    for (unsigned round = 1; round <= HALTS; round++) {
        delay_us(20);
        send_nmi(1);
        wait_until(&resumed, round);
        tally_equal(&tally, nmis[1], round);
    }
    check_tally("a CPU that halts with IF clear is woken, and goes on behind the HLT", &tally);
    check_equal("nobody else gets it", nmis[0], 6);
}

void guest_main(void) {
    apic_init();
    trap_set_handler(VECTOR_NMI, on_nmi);
    check_delivery();
    check_blocking();
    check_other();
}
