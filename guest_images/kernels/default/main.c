/* Claim: the machine runs a 64-bit guest, and the guest can time what leaves it. The table shows, in the guest's own
 * cycles (RDTSC), what a hypervisor makes dear. Lines that begin with `~` are measurements and differ between machines;
 * all others are the same everywhere.
 */
#include "guest.h"

#define SAMPLES 100
#define WARM_UP 10
#define WAKE_SAMPLES 10
#define WAKE_TICKS 600 /* of the PIT: half a millisecond */
#define CPUID_HYPERVISOR (1u << 31)

static uint64_t *pml4, *entry, page;
static uint64_t samples[SAMPLES];
static unsigned wakes;

static void do_nothing(void) { asm volatile("" : : : "memory"); }
static void do_cpuid(void) { cpuid(0, 0); }
static void do_in(void) { in8(POST_PORT); }
static void do_out(void) { out8(POST_PORT, 0); }
static void do_cr3(void) { write_cr3((uint64_t)pml4); }
static void do_vmcall(void) { TRY("vmcall", : : "a"(~0ul) : "rbx", "rcx", "rdx", "rsi", "rdi", "memory"); }
static void do_fault(void) { TRY("movq (%0), %%rax", : : "r"(TEST_VA + PAGE_BYTES) : "rax"); }
static void do_user(void) { user_call((void *)user_return, 0); }

static void do_pte_update(void) {
    *(volatile uint64_t *)entry = page | PTE_P | (~*entry & PTE_W);
    invlpg(TEST_VA);
    load64(TEST_VA);
}

static void on_wake(void) { wakes++; }

static void do_wake(void) {
    pit_one_shot(WAKE_TICKS);
    wait_for_interrupt();
}

static void sort(uint64_t *values, unsigned count) {
    for (unsigned i = 1; i < count; i++)
        for (unsigned j = i; j && values[j - 1] > values[j]; j--) {
            uint64_t swapped = values[j];
            values[j] = values[j - 1];
            values[j - 1] = swapped;
        }
}

static void measure(const char *what, void (*operation)(void), unsigned count) {
    for (unsigned i = 0; i < (count < WARM_UP ? 1 : WARM_UP); i++) operation();
    for (unsigned i = 0; i < count; i++) {
        uint64_t start = read_tsc();
        operation();
        samples[i] = read_tsc() - start;
    }
    sort(samples, count);
    print("~ %-38s %10lu %10lu\n", what, samples[0], samples[count / 2]);
}

static bool vmcall_is_safe(void) {
    if (!(cpuid(1, 0).ecx & CPUID_HYPERVISOR)) return false;
    do_vmcall();
    return last_fault.vector == NO_FAULT;
}

static void measure_all(void) {
    print("~ %-38s %10s %10s\n", "cycles", "least", "median");
    measure("nothing (two RDTSC)", do_nothing, SAMPLES);
    measure("CPUID", do_cpuid, SAMPLES);
    if (vmcall_is_safe()) measure("VMCALL (unknown number)", do_vmcall, SAMPLES);
    measure("IN from port 0x80", do_in, SAMPLES);
    measure("OUT to port 0x80", do_out, SAMPLES);
    measure("MOV to CR3, same tables", do_cr3, SAMPLES);
    measure("page fault to the guest's own handler", do_fault, SAMPLES);
    measure("PTE update, INVLPG, read", do_pte_update, SAMPLES);
    measure("ring 3 and back (IRETQ, INT)", do_user, SAMPLES);
    irq_set_handler(IRQ_PIT, on_wake);
    measure("PIT one-shot of 0.5 ms, HLT, wake", do_wake, WAKE_SAMPLES);
    irq_set_handler(IRQ_PIT, NULL);
}

void guest_main(void) {
    print("This is sidecore's default guest: a small 64-bit kernel with its own page tables, interrupt handlers and a\n"
          "ring 3. It times the operations that a hypervisor has to step in for, then checks itself and ends.\n\n");
    pml4 = current_pml4();
    page = (uint64_t)page_alloc();
    map_page(pml4, TEST_VA, page, PTE_P | PTE_W);
    entry = entry_of(pml4, TEST_VA, LEVEL_PT);
    measure_all();
    print("\n");
    check_equal("every wake-up from HLT was one interrupt", wakes, WAKE_SAMPLES + WARM_UP);
    do_fault();
    check_page_fault("a page fault reaches the guest's handler", 0, TEST_VA + PAGE_BYTES);
    do_user();
    check_no_fault("ring 3 code runs and comes back");
}
