/* Claim: a fault met while delivering an event becomes what SDM 3A table 6-5 says: handled in turn, or #DF; #DF through
 * an IST gate works however broken the stack or the IDT is; handlers may fault themselves, to any depth.
 */
#include "guest.h"

#define EXT 1
#define UNMAPPED_STACK (TEST_VA + 0x8000)
#define GATE_TYPE_SHIFT 40
#define DEPTH 40

USER_CODE(user_ud2, "ud2");

/* TCG has IDT error codes wrong in 64-bit mode: index times 16, and EXT is never set. */
static uint64_t gate_error_code(unsigned vector, unsigned external) {
    return on_tcg() ? vector * 16 + 2 : vector * 8 + 2 + external;
}

static volatile unsigned depth, deepest;
static struct tally order;

static void on_deep(struct trap_frame *frame) {
    unsigned at = depth++;
    uint64_t va = read_cr2(), page = va & ~(PAGE_BYTES - 1);
    if (deepest < depth) deepest = depth;
    if (at + 1 < DEPTH) load64(va + PAGE_BYTES); /* faults in the handler */
    tally_equal(&order, frame->error_code, 0);
    map_page(current_pml4(), page, (uint64_t)page_alloc(), PTE_P | PTE_W);
    depth--;
}

static void check_deep(void) {
    trap_set_handler(VECTOR_PF, on_deep);
    load64(TEST_VA + 0x10000000);
    trap_set_handler(VECTOR_PF, NULL);
    check_equal("page faults in page fault handlers, 40 deep", deepest, DEPTH);
    check_equal("and all of them return", depth, 0);
    check_tally("with the right error codes", &order);
}

static void check_not_present(void) {
    idt_set_present(VECTOR_UD, false);
    TRY("ud2", :);
    check_fault("#UD (benign), its gate absent: #NP", VECTOR_NP, gate_error_code(VECTOR_UD, EXT));
    idt_set_present(VECTOR_UD, true);
    idt_set_present(VECTOR_DE, false);
    TRY("divl %0", : : "r"(0) : "rax", "rdx");
    check_fault("#DE (contributory), its gate absent: #DF", VECTOR_DF, 0);
    check_equal("#DF arrives on its IST stack", last_fault.frame + sizeof(struct trap_frame), ist_stack_top(1));
    idt_set_present(VECTOR_DE, true);
    idt_set_present(VECTOR_PF, false);
    TRY("movb (%0), %%al", : : "r"(TEST_VA) : "rax");
    check_fault("#PF, its gate absent: #DF", VECTOR_DF, 0);
    check_equal("#DF after #PF: CR2 is the #PF's", last_fault.cr2, TEST_VA);
    idt_set_present(VECTOR_PF, true);
    idt_set_present(VECTOR_GP, false);
    TRY("movb (%0), %%al", : : "r"(0x0000900000000000ul) : "rax");
    check_fault("#GP, its gate absent: #DF", VECTOR_DF, 0);
    idt_set_present(VECTOR_GP, true);
}

static void check_bad_stack(void) {
    TRY("movq %0, %%rsp; ud2", : : "r"(UNMAPPED_STACK) :);
    check_equal("#UD with an unmapped stack: #DF", last_fault.vector, VECTOR_DF);
    check_equal("unmapped stack: the old RSP is in the frame", last_fault.rsp, UNMAPPED_STACK);
    check_equal("unmapped stack: CR2 is the first word pushed", last_fault.cr2, UNMAPPED_STACK - 8);
    idt_set_ist(VECTOR_PF, 3);
    TRY("movq %0, %%rsp; ud2", : : "r"(UNMAPPED_STACK) :);
    check_equal("the same with #PF on an IST stack: #PF", last_fault.vector, VECTOR_PF);
    check_equal("with the error code of a supervisor write", last_fault.error_code, PF_WRITE);
    idt_set_ist(VECTOR_PF, 0);
    tss.rsp[0] = UNMAPPED_STACK;
    user_call((void *)user_ud2, 0);
    check_equal("#UD in ring 3, RSP0 unmapped: #DF", last_fault.vector, VECTOR_DF);
    check_equal("RSP0 unmapped: CS is ring 3's", last_fault.cs, SEL_USER_CODE);
    tss.rsp[0] = trap_stack_top();
    map_page(current_pml4(), TEST_VA + 0x20000, (uint64_t)page_alloc(), PTE_P);
    TRY("movq %0, %%rsp; ud2", : : "r"(TEST_VA + 0x21000) :);
    check_equal("#UD with a read-only stack: #DF", last_fault.vector, VECTOR_DF);
}

static void check_bad_gates(void) {
    uint64_t *gate = idt_entry(0x90), good = gate[0], good_high = gate[1];
    gate[0] = good & ~(0xful << GATE_TYPE_SHIFT);
    TRY("int $0x90", :);
    check_fault("gate of type 0: #GP", VECTOR_GP, gate_error_code(0x90, 0));
    gate[0] = good & ~0xffff0000ul;
    TRY("int $0x90", :);
    check_fault("gate with a null selector: #GP(0)", VECTOR_GP, 0);
    gate[0] = (good & ~0xffff0000ul) | SEL_KERNEL_DATA << 16;
    TRY("int $0x90", :);
    check_fault("gate with a data segment: #GP(selector)", VECTOR_GP, SEL_KERNEL_DATA);
    gate[0] = (good & ~0xffff0000ul) | SEL_KERNEL_CODE32 << 16;
    TRY("int $0x90", :);
    check_fault("gate with a 32-bit code segment: #GP(selector)", VECTOR_GP, SEL_KERNEL_CODE32);
    gate[0] = (good & ~0xffff0000ul) | 0x7ff8ul << 16;
    TRY("int $0x90", :);
    check_fault("gate with a selector beyond the GDT: #GP(selector)", VECTOR_GP, 0x7ff8);
    gdt[SEL_SPARE >> 3] = DESCRIPTOR_CODE64(0) & ~DESCRIPTOR_PRESENT;
    gate[0] = (good & ~0xffff0000ul) | SEL_SPARE << 16;
    TRY("int $0x90", :);
    check_fault("gate with an absent code segment: #NP(selector)", VECTOR_NP, SEL_SPARE);
    gate[0] = good;
    gate[1] = good_high;
    TRY("int $0x90", :);
    check_equal("the gate repaired", last_fault.vector, 0x90);
}

static void check_limit(void) {
    struct table_pointer pointer = {32 * 16 - 1, (uint64_t)idt_entry(0)};
    asm volatile("lidt %0" : : "m"(pointer));
    TRY("int $0x20", :);
    check_fault("a vector beyond the IDT limit: #GP", VECTOR_GP, gate_error_code(0x20, 0));
    TRY("int $31", :);
    check_equal("the last vector inside", last_fault.vector, 31);
    idt_load();
}

void guest_main(void) {
    check_deep();
    check_not_present();
    check_bad_stack();
    check_bad_gates();
    check_limit();
}
