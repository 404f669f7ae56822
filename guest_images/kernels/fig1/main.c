/* Claim: a null call, CPUID and a new page-table entry do the same by VM exit and by sidecall; and what each takes (the
 * paper's Figure 1). A new entry is what demand paging does: a load from an absent page faults, the guest's handler sets
 * the entry and returns, the load is done. benchmarks/fig1/measure.py reads the lines.
 */
#include "guest.h"
#include "measure.h"
#include "sidecore.h"

#define BATCH 50
#define PTE_ABSENT PTE_W /* not zero and not present: two zeros in a row are the end of a table */

static uint64_t *entries, pages[BATCH];
static volatile unsigned faults;
static uint64_t mismatches;
static struct cpuid_result expected;

static void do_null_exit(unsigned index) { (void)index, hypercall(SIDECORE_CALL_NULL, 0, 0); }
static void do_null(unsigned index) { (void)index, sidecore_null(); }

static void compare(struct cpuid_result got) {
    mismatches += got.eax != expected.eax || got.ebx != expected.ebx || got.ecx != expected.ecx;
}
static void do_cpuid_exit(unsigned index) { (void)index, compare(cpuid(0, 0)); }
static void do_cpuid(unsigned index) { (void)index, compare(sidecore_cpuid(0, 0)); }

/* Page-table entries: entry i of one table maps the page at TEST_VA + i * 4096. */
static void do_touch(unsigned index) { mismatches += load64(TEST_VA + index * PAGE_BYTES) != index; }
static void set_all(unsigned count, uint64_t flags) {
    for (unsigned i = 0; i < count; i++) *(volatile uint64_t *)(entries + i) = pages[i] | flags;
    write_cr3(read_cr3());
}
static void unmap_all(unsigned count) { set_all(count, PTE_ABSENT); }
/* An entry loses the right to be written: the store alone, after which the TLB may still have what it was; the store with
 * the INVLPG that kernels add; and all entries cleared with one flush at the end, as at munmap.
 */
static void map_all(unsigned count) { set_all(count, PTE_P | PTE_W | PTE_A | PTE_D); }
static void use_all(unsigned count) {
    map_all(count);
    for (unsigned i = 0; i < count; i++) do_touch(i);
}
static void do_change_exit(unsigned index) {
    *(volatile uint64_t *)(entries + index) = pages[index] | PTE_P | PTE_A | PTE_D;
}
static void do_flush_exit(unsigned index) {
    do_change_exit(index);
    invlpg(TEST_VA + index * PAGE_BYTES);
}
static void do_clear_exit(unsigned index) {
    *(volatile uint64_t *)(entries + index) = 0;
    if (index == BATCH - 1) write_cr3(read_cr3());
}
static void do_change(unsigned index) {
    sidecore_change_pte(entries + index, pages[index] | PTE_P | PTE_A | PTE_D, TEST_VA + index * PAGE_BYTES);
}
static uint64_t *faulting_entry(uint64_t *new_entry) {
    unsigned index = (read_cr2() - TEST_VA) / PAGE_BYTES % BATCH;
    *new_entry = pages[index] | PTE_P | PTE_W | PTE_A | PTE_D;
    faults++;
    return entries + index;
}
static void on_fault_exit(struct trap_frame *frame) {
    uint64_t new_entry, *entry = faulting_entry(&new_entry);
    (void)frame;
    *(volatile uint64_t *)entry = new_entry;
}
static void on_fault(struct trap_frame *frame) {
    uint64_t new_entry, *entry = faulting_entry(&new_entry);
    (void)frame;
    sidecore_set_pte(entry, new_entry);
}

#define ROW(NAME, PREPARE, OPERATION) \
    {.name = NAME, .calls = BATCH, .per_call = 1, .prepare = PREPARE, .operation = OPERATION}
static const struct measurement null_exit = ROW("null_exit", NULL, do_null_exit),
                                null_call = ROW("null", NULL, do_null),
                                cpuid_exit = ROW("cpuid_exit", NULL, do_cpuid_exit),
                                cpuid_call = ROW("cpuid", NULL, do_cpuid),
                                pte_exit = ROW("pte_exit", unmap_all, do_touch),
                                pte_call = ROW("pte", unmap_all, do_touch),
                                change_exit = ROW("pte_change_exit", map_all, do_change_exit),
                                flush_exit = ROW("pte_flush_exit", map_all, do_flush_exit),
                                clear_exit = ROW("pte_clear_exit", use_all, do_clear_exit),
                                change_call = ROW("pte_change", map_all, do_change);

static void set_up(void) {
    for (unsigned i = 0; i < BATCH; i++) {
        pages[i] = (uint64_t)page_alloc();
        *(uint64_t *)pages[i] = i;
        map_page(current_pml4(), TEST_VA + i * PAGE_BYTES, pages[i], PTE_P | PTE_W);
    }
    entries = entry_of(current_pml4(), TEST_VA, LEVEL_PT);
    for (unsigned i = 0; i < BATCH; i++) do_touch(i);
    expected = cpuid(0, 0);
}

static void measure_all(bool has_sidecore) {
    if (cpuid(1, 0).ecx & 1u << 31 && !on_tcg())
        measure(&null_exit);
    else
        measure_unavailable("null_exit", "no hypervisor");
    measure(&cpuid_exit);
    trap_set_handler(VECTOR_PF, on_fault_exit);
    measure(&pte_exit);
    measure(&change_exit);
    measure(&flush_exit);
    measure(&clear_exit);
    if (has_sidecore) measure(&null_call), measure(&cpuid_call);
    trap_set_handler(VECTOR_PF, on_fault);
    if (has_sidecore) measure(&pte_call), measure(&change_call);
}

void guest_main(void) {
    set_up();
    bool has_sidecore = sidecore_init(1);
    measure_all(has_sidecore);
    check_equal("every answer and every load was right", mismatches, 0);
    unsigned loads = BATCH * (1 + ROUNDS) * (has_sidecore ? 2 : 1);
    check_equal("each load from an absent page faulted once, and no other", faults - loads, 0);
}
