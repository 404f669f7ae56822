/* Claim: the time-stamp counter never goes back, moves while the processor halts, fills EDX:EAX and is ring 3's to read
 * unless CR4.TSD; RDTSCP adds TSC_AUX. SDM 3B 18.17.
 */
#include "guest.h"

#define READS 2000

USER_CODE(user_rdtsc, "rdtsc");
USER_CODE(user_rdtscp, "rdtscp; movq %rcx, %rax");

static uint64_t rdtsc(void) {
    uint32_t low, high;
    asm volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

static void nothing(void) {}

static uint64_t wait_cycles(unsigned count) {
    uint64_t start = read_tsc();
    pit_one_shot(count);
    wait_for_interrupt();
    return read_tsc() - start;
}

static void check_rdtscp(void) {
    if (!(cpuid(0x80000001, 0).edx >> 27 & 1)) return;
    write_msr(MSR_TSC_AUX, 0x12345678);
    uint64_t rax = ~0ul, rdx = ~0ul, rcx = ~0ul, before = rdtsc();
    asm volatile("rdtscp" : "+a"(rax), "+d"(rdx), "+c"(rcx));
    check_equal("RDTSCP: RCX is TSC_AUX, zero-extended", rcx, 0x12345678);
    check_true("RDTSCP: the same counter", (rdx << 32 | rax) >= before && (rdx << 32 | rax) <= rdtsc());
    check_equal("RDTSCP in ring 3", user_call((void *)user_rdtscp, 0), 0x12345678);
    write_cr4(read_cr4() | CR4_TSD);
    user_call((void *)user_rdtscp, 0);
    check_fault("CR4.TSD: RDTSCP in ring 3", VECTOR_GP, 0);
    write_cr4(read_cr4() & ~CR4_TSD);
}

void guest_main(void) {
    uint64_t last = rdtsc(), backwards = 0;
    for (unsigned i = 0; i < READS; i++) {
        uint64_t now = rdtsc();
        backwards += now < last;
        last = now;
    }
    check_equal("two thousand reads, none goes back", backwards, 0);
    uint64_t rax = ~0ul, rdx = ~0ul;
    asm volatile("rdtsc" : "+a"(rax), "+d"(rdx));
    check_equal("RDTSC: RAX and RDX are zero-extended", (rax | rdx) >> 32, 0);
    irq_set_handler(IRQ_PIT, nothing);
    uint64_t brief = wait_cycles(PIT_HZ / 1000), lengthy = wait_cycles(PIT_HZ / 20);
    check_true("it moves while the processor halts", brief > 0);
    check_true("50 ms are more than 1 ms", lengthy > brief);
    irq_set_handler(IRQ_PIT, NULL);
    user_call((void *)user_rdtsc, 0);
    check_no_fault("RDTSC in ring 3");
    write_cr4(read_cr4() | CR4_TSD);
    user_call((void *)user_rdtsc, 0);
    check_fault("CR4.TSD: RDTSC in ring 3", VECTOR_GP, 0);
    TRY("rdtsc", : : : "rax", "rdx");
    check_no_fault("CR4.TSD: RDTSC in ring 0 is allowed");
    write_cr4(read_cr4() & ~CR4_TSD);
    check_rdtscp();
}
