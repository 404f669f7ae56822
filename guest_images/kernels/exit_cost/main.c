/* Claim: many exits of one kind leave nothing behind but time. The workstation measures how long it takes from each line
 * that ends in `begin` to the next that ends in `end` (benchmarks/speed/exit_cost.py); the guest's own cycles stand behind.
 */
#include "guest.h"

#define COUNT 20000
#define CPUID_HYPERVISOR (1u << 31)

static uint64_t lost; /* results that were not as always */

static void do_cpuid(void) {
    struct cpuid_result leaf = cpuid(0, 0);
    lost += !leaf.ebx;
}

static void do_vmcall(void) {
    uint64_t result = ~0ul;
    asm volatile("vmcall" : "+a"(result) : : "rbx", "rcx", "rdx", "rsi", "rdi", "memory");
    lost += !result;
}

static void repeat(const char *what, void (*operation)(void)) {
    print("~ %s %d begin\n", what, COUNT);
    uint64_t start = read_tsc();
    for (unsigned i = 0; i < COUNT; i++) operation();
    uint64_t cycles = read_tsc() - start;
    print("~ %s %lu end\n", what, cycles / COUNT);
}

void guest_main(void) {
    bool has_hypervisor = cpuid(1, 0).ecx & CPUID_HYPERVISOR;
    repeat("CPUID", do_cpuid);
    check_equal("CPUID: every one answered", lost, 0);
    if (has_hypervisor && !on_tcg()) repeat("VMCALL", do_vmcall);
    check_equal("VMCALL of an unknown number, where there is a hypervisor: every one answered", lost, 0);
}
