/* Claim: each operation that a VMM may have to step in for does, many times over, what it does on bare hardware; and
 * what one of each costs, as the guest sees it (after kvm-unit-tests' vmexit). benchmarks/vmexit/measure.py reads the lines.
 */
#include "apic.h"
#include "guest.h"
#include "measure.h"

#define BATCH 50
#define PCI_CONFIG_ADDRESS 0xcf8 /* the one 32-bit port of the board */
#define PIC_READ_IRR 0x0a
#define VECTOR_NULL 0x81
#define VECTOR_IPI 0x82
#define CPUID_HYPERVISOR (1u << 31)
#define CPUID_APIC (1u << 9)
#define PTE_ABSENT PTE_W /* an entry that is not zero and not present: two zeros in a row are the end of a table */

static uint64_t *pml4, *entries, pages[BATCH], cr0, cr4, cr8, pat;
static volatile unsigned wakes, faults, nulls, ipis;

/* Instructions. */
static void do_cpuid(unsigned index) { (void)index, cpuid(0, 0); }
static void do_vmcall(unsigned index) {
    uint64_t number = ~0ul;
    (void)index;
    asm volatile("vmcall" : "+a"(number) : : "rbx", "rcx", "rdx", "rsi", "rdi", "memory");
}
static void do_read_cr0(unsigned index) { (void)index, read_cr0(); }
static void do_write_cr0(unsigned index) { (void)index, write_cr0(cr0); }
static void do_read_cr3(unsigned index) { (void)index, read_cr3(); }
static void do_write_cr3(unsigned index) { (void)index, write_cr3((uint64_t)pml4); }
static void do_read_cr4(unsigned index) { (void)index, read_cr4(); }
static void do_write_cr4(unsigned index) { (void)index, write_cr4(cr4); }
static void do_read_cr8(unsigned index) { (void)index, read_cr8(); }
static void do_write_cr8(unsigned index) { (void)index, write_cr8(cr8); }
static void do_inl(unsigned index) { (void)index, in32(PCI_CONFIG_ADDRESS); }
static void do_outl(unsigned index) { (void)index, out32(PCI_CONFIG_ADDRESS, 0); }
static void do_rdmsr(unsigned index) { (void)index, read_msr(MSR_PAT); }
static void do_wrmsr(unsigned index) { (void)index, write_msr(MSR_PAT, pat); }
static void do_invlpg(unsigned index) { invlpg(TEST_VA + index * PAGE_BYTES); }

/* Interrupts: through the IDT by INT n; and HLT while one is waiting, which ends it at once. */
static void on_null(struct trap_frame *frame) { (void)frame, nulls++; }
static void do_null_interrupt(unsigned index) {
    (void)index;
    asm volatile("int %0" : : "i"(VECTOR_NULL) : "memory");
}
static void on_wake(void) { wakes++; }
static void let_interrupt_wait(unsigned calls) {
    (void)calls;
    pit_one_shot(1);
    do out8(PIC_MASTER, PIC_READ_IRR);
    while (!(in8(PIC_MASTER) & 1));
}
static void do_hlt(unsigned index) { (void)index, wait_for_interrupt(); }

/* An interrupt to this CPU by its local APIC's command register; it comes when STI has let the next instruction pass. */
static void on_ipi(void) { ipis++; }
static void do_ipi(unsigned index) {
    (void)index;
    apic_request(VECTOR_IPI);
    asm volatile("sti; nop; cli" : : : "memory");
}

/* Page tables: entry i of one table maps the page at TEST_VA + i * 4096. Memory is touched by a load. */
static void do_touch(unsigned index) { load64(TEST_VA + index * PAGE_BYTES); }
static void map_all(unsigned count) {
    for (unsigned i = 0; i < count; i++) entries[i] = pages[i] | PTE_P | PTE_W;
}
static void unmap_all(unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        entries[i] = pages[i] | PTE_ABSENT;
        invlpg(TEST_VA + i * PAGE_BYTES);
    }
}
static void touch_all(unsigned count) {
    for (unsigned i = 0; i < count; i++) do_touch(i);
}
static void map_anew(unsigned count) {
    unmap_all(count);
    map_all(count);
}
static void map_and_touch(unsigned count) {
    map_all(count);
    touch_all(count);
}
static void do_pte_write(unsigned index) { entries[index] = pages[index] | PTE_P | PTE_A | PTE_D; }
static void do_pte_write_touch(unsigned index) {
    entries[index] = pages[index] | PTE_P | PTE_W;
    do_touch(index);
}

/* A page fault for the guest's own handler, which steps over the load: REX.W 8B /r, three bytes. */
static void on_fault(struct trap_frame *frame) {
    frame->rip += 3;
    faults++;
}
static void do_fault(unsigned index) {
    (void)index;
    asm volatile(".byte 0x48, 0x8b, 0x07" : : "D"(TEST_VA + BATCH * PAGE_BYTES) : "rax", "memory");
}

#define ROW(NAME, CALLS, PREPARE, OPERATION) \
    {.name = NAME, .calls = CALLS, .per_call = 1, .prepare = PREPARE, .operation = OPERATION}

static const struct measurement instructions[] = {
    ROW("cpuid", BATCH, NULL, do_cpuid),
    ROW("mov_from_cr0", BATCH, NULL, do_read_cr0),
    ROW("mov_to_cr0", BATCH, NULL, do_write_cr0),
    ROW("mov_from_cr3", BATCH, NULL, do_read_cr3),
    ROW("mov_to_cr3", BATCH, NULL, do_write_cr3),
    ROW("mov_from_cr4", BATCH, NULL, do_read_cr4),
    ROW("mov_to_cr4", BATCH, NULL, do_write_cr4),
    ROW("inl", BATCH, NULL, do_inl),
    ROW("outl", BATCH, NULL, do_outl),
    ROW("rdmsr", BATCH, NULL, do_rdmsr),
    ROW("wrmsr", BATCH, NULL, do_wrmsr),
};
static const struct measurement vmcall = ROW("vmcall", BATCH, NULL, do_vmcall);
static const struct measurement from_cr8 = ROW("mov_from_cr8", BATCH, NULL, do_read_cr8);
static const struct measurement to_cr8 = ROW("mov_to_cr8", BATCH, NULL, do_write_cr8);
static const struct measurement memory[] = {
    ROW("page_fault_reflected", BATCH, NULL, do_fault),   ROW("page_fault_fixed", BATCH, map_anew, do_touch),
    ROW("pte_write", BATCH, map_and_touch, do_pte_write), ROW("pte_write_access", BATCH, unmap_all, do_pte_write_touch),
    ROW("invlpg", BATCH, map_and_touch, do_invlpg),
};
static const struct measurement interrupts[] = {
    ROW("null_interrupt", BATCH, NULL, do_null_interrupt),
    ROW("hlt_interrupt", 1, let_interrupt_wait, do_hlt),
};
static const struct measurement ipi = ROW("ipi", BATCH, NULL, do_ipi);

#define MEASURE_EACH(table) \
    for (unsigned i = 0; i < sizeof table / sizeof *table; i++) measure(&table[i])

static void measure_vmcall(void) {
    if (cpuid(1, 0).ecx & CPUID_HYPERVISOR && !on_tcg())
        measure(&vmcall);
    else
        measure_unavailable("vmcall", "no hypervisor");
}

static void measure_cr8(void) {
    TRY("mov %%cr8, %0", : "=r"(cr8));
    if (last_fault.vector == NO_FAULT) {
        measure(&from_cr8);
        measure(&to_cr8);
    } else {
        measure_unavailable("mov_from_cr8", vector_name(last_fault.vector));
        measure_unavailable("mov_to_cr8", vector_name(last_fault.vector));
    }
}

/* Last: from here on the local APIC cuts the 8259s off. */
static void measure_ipi(void) {
    if (!(cpuid(1, 0).edx & CPUID_APIC)) {
        measure_unavailable("ipi", "no local APIC");
        return;
    }
    apic_init();
    apic_set_handler(VECTOR_IPI, on_ipi);
    measure(&ipi);
    check_equal("each interrupt command came as one interrupt", ipis, BATCH * (ROUNDS + 1));
}

static void set_up(void) {
    pml4 = current_pml4();
    cr0 = read_cr0();
    cr4 = read_cr4();
    pat = read_msr(MSR_PAT);
    for (unsigned i = 0; i < BATCH; i++) {
        pages[i] = (uint64_t)page_alloc();
        map_page(pml4, TEST_VA + i * PAGE_BYTES, pages[i], PTE_P | PTE_W);
    }
    entries = entry_of(pml4, TEST_VA, LEVEL_PT);
    touch_all(BATCH);
    trap_set_handler(VECTOR_NULL, on_null);
    irq_set_handler(IRQ_PIT, on_wake);
}

void guest_main(void) {
    set_up();
    measure_vmcall();
    MEASURE_EACH(instructions);
    measure_cr8();
    trap_set_handler(VECTOR_PF, on_fault);
    MEASURE_EACH(memory);
    trap_set_handler(VECTOR_PF, NULL);
    MEASURE_EACH(interrupts);
    measure_ipi();
    check_equal("each load from an absent page faulted once, and no other", faults, BATCH * (ROUNDS + 1));
    check_equal("each INT came through its gate", nulls, BATCH * (ROUNDS + 1));
    check_equal("each HLT ended by one interrupt", wakes, ROUNDS + 1);
    check_equal("CR0 is unchanged", read_cr0(), cr0);
    check_equal("CR4 is unchanged", read_cr4(), cr4);
    check_equal("IA32_PAT is unchanged", read_msr(MSR_PAT), pat);
}
