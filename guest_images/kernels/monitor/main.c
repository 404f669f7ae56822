/* Claim: where CPUID offers MONITOR and MWAIT they do what the SDM says (2B; 3A 9.10.4): a wait ends by a store to the
 * monitored line or by an interrupt, and wrong uses fault; where it does not, they are undefined. Both answers print the
 * same, so a VMM may hide them.
 */
#include "guest.h"

#define HAS_MONITOR (1u << 3) /* CPUID leaf 1, ECX */
#define WAITS 20

static volatile uint64_t line[8] __attribute__((aligned(64)));
static volatile unsigned ticks;

USER_CODE(user_monitor, "movq %rdi, %rax; xorl %ecx, %ecx; xorl %edx, %edx; .byte 0x0f, 0x01, 0xc8");
USER_CODE(user_mwait, "xorl %eax, %eax; xorl %ecx, %ecx; .byte 0x0f, 0x01, 0xc9");

static bool is_offered;

static void on_tick(void) { ticks = ticks + 1; }

static void try_monitor(uint64_t address, uint32_t extensions) {
    TRY("monitor", : : "a"(address), "c"(extensions), "d"(0) : "memory");
}

static void try_mwait(uint32_t extensions) { TRY("mwait", : : "a"(0), "c"(extensions) : "memory"); }

/* What the last TRY raised is `expected`; where neither is offered, #UD. */
static bool raised(uint64_t expected) { return last_fault.vector == (is_offered ? expected : VECTOR_UD); }

static void check_faults(void) {
    try_monitor((uint64_t)line, 0);
    check_true("MONITOR is what CPUID says", raised(NO_FAULT));
    if (!is_offered || !on_tcg()) { /* whose MWAIT is a HLT, of which nothing is known but interrupts */
        line[0] = 1;                /* the monitored line: this wait ends at once */
        try_mwait(0);
        check_true("MWAIT is what CPUID says, and a store ends it", raised(NO_FAULT));
    }
    try_monitor((uint64_t)line, 1);
    check_true("MONITOR with an unknown extension", raised(VECTOR_GP));
    try_mwait(0x80000000);
    check_true("MWAIT with an unknown extension", raised(VECTOR_GP));
    if (!is_offered || !on_tcg()) { /* TCG does not look at the address */
        try_monitor(TEST_VA, 0);
        check_true("MONITOR of a page that is not there", raised(VECTOR_PF));
        try_monitor(0x0001000000000000ul, 0);
        check_true("MONITOR of an address that is not canonical", raised(VECTOR_GP));
    }
    user_call((void *)user_monitor, (uint64_t)line);
    check_equal("MONITOR is undefined in ring 3", last_fault.vector, VECTOR_UD);
    user_call((void *)user_mwait, 0);
    check_equal("MWAIT is undefined in ring 3", last_fault.vector, VECTOR_UD);
}

/* As an idle loop does it: look at the flag between MONITOR and MWAIT. */
static void check_waits(void) {
    irq_set_handler(IRQ_PIT, on_tick);
    pit_periodic(PIT_HZ / 2000);
    while (ticks < WAITS) {
        if (!is_offered) {
            wait_for_interrupt();
            continue;
        }
        unsigned before = ticks;
        asm volatile("monitor" : : "a"(&ticks), "c"(0), "d"(0) : "memory");
        if (ticks == before) asm volatile("sti; mwait; cli" : : "a"(0), "c"(0) : "memory");
    }
    irq_set_handler(IRQ_PIT, NULL);
    check_true("interrupts are taken in waits", ticks >= WAITS);
}

void guest_main(void) {
    is_offered = cpuid(1, 0).ecx & HAS_MONITOR;
    struct cpuid_result leaf5 = cpuid(5, 0); /* of which TCG has nothing */
    bool has_line = leaf5.eax && leaf5.ebx >= leaf5.eax && leaf5.ebx <= PAGE_BYTES;
    check_true("leaf 5 tells the line's size where it is offered", !is_offered || has_line || on_tcg());
    check_faults();
    check_waits();
}
