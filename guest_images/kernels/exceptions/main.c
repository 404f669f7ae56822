/* Claim: an instruction that faults raises the SDM's vector, with its error code, and RIP at the instruction (faults)
 * or after it (traps); in ring 0 and in ring 3 alike. SDM 3A chapter 6, table 6-1 and 6.15.
 *
 * #BR and INTO's #OF exist only outside 64-bit mode: see `mode32`. #TS: see `ist`. #AC, #XM and ICEBP are left out:
 * QEMU, which checks these tests, does not do them. SYSEXIT: see `syscall`.
 */
#include "guest.h"

#define UNMAPPED_VA TEST_VA
#define READ_ONLY_VA (TEST_VA + 0x1000)
#define SUPERVISOR_VA (TEST_VA + 0x2000)
#define RESERVED_VA (TEST_VA + 0x3000)
#define NO_EXECUTE_VA (TEST_VA + 0x4000)
#define NON_CANONICAL 0x0000800000000000ul
#define PTE_RESERVED (1ul << 51)
#define DR6_BS (1ul << 14)
#define DR6_INIT 0xffff0ff0ul

/* The two error codes that TCG has wrong: an IDT index times 16, and a reserved bit without P. */
static uint64_t idt_error_code(unsigned vector) { return vector * (on_tcg() ? 16 : 8) + 2; }
static uint64_t present_reserved(void) { return on_tcg() ? PF_RESERVED : PF_PRESENT | PF_RESERVED; }

static void check_divide(void) {
    TRY("divl %0", : : "r"(0) : "rax", "rdx");
    check_fault("ring 0 #DE: DIV by zero", VECTOR_DE, 0);
    TRY("idivl %0", : : "r"(-1), "a"(0x80000000), "d"(-1) :);
    check_fault("ring 0 #DE: IDIV overflow", VECTOR_DE, 0);
    TRY("divq %0", : : "r"(2ul), "a"(0ul), "d"(2ul) :);
    check_fault("ring 0 #DE: DIV overflow in 64 bits", VECTOR_DE, 0);
}

static void check_traps(void) {
    TRY("int3", :);
    check_fault_at("ring 0 #BP: RIP is after INT3", VECTOR_BP, 0, last_fault.start + 1);
    TRY(".byte 0xcd, 3", :);
    check_fault_at("ring 0 #BP: RIP is after INT 3", VECTOR_BP, 0, last_fault.start + 2);
    TRY("int $4", :);
    check_fault_at("ring 0 #OF: RIP is after INT 4", VECTOR_OF, 0, last_fault.start + 2);
    write_dr6(DR6_INIT);
    TRY("pushfq; orl $0x100, (%%rsp); popfq; nop; nop; nop", : : :);
    check_fault_at("ring 0 #DB: TF traps after the instruction that follows POPF", VECTOR_DB, 0, last_fault.start + 10);
    check_equal("ring 0 #DB: RFLAGS.TF is in the saved flags", last_fault.rflags & RFLAGS_TF, RFLAGS_TF);
    check_equal("ring 0 #DB: RFLAGS.TF is clear in the handler", read_rflags() & RFLAGS_TF, 0);
    check_equal("ring 0 #DB: DR6.BS is set", read_dr6() & DR6_BS, DR6_BS);
    write_dr6(DR6_INIT);
}

static void check_undefined(void) {
    TRY("ud2", :);
    check_fault("ring 0 #UD: UD2", VECTOR_UD, 0);
    TRY(".byte 0x06", :);
    check_fault("ring 0 #UD: PUSH ES in 64-bit mode", VECTOR_UD, 0);
    TRY(".byte 0xce", :);
    check_fault("ring 0 #UD: INTO in 64-bit mode", VECTOR_UD, 0);
    TRY(".byte 0xf0, 0x90", :);
    check_fault("ring 0 #UD: LOCK NOP", VECTOR_UD, 0);
    TRY(".byte 0x0f, 0x20, 0xc8", : : : "rax");
    check_fault("ring 0 #UD: MOV from CR1", VECTOR_UD, 0);
    TRY(".byte 0xea, 0, 0, 0, 0, 0, 0", :);
    check_fault("ring 0 #UD: far JMP with immediate in 64-bit mode", VECTOR_UD, 0);
}

static void check_fpu(void) {
    static const uint16_t unmask_divide = 0x037b;
    uint64_t cr0 = read_cr0() & ~(CR0_EM | CR0_TS);
    write_cr0(cr0 | CR0_TS);
    TRY("fninit", :);
    check_fault("ring 0 #NM: x87 with CR0.TS", VECTOR_NM, 0);
    write_cr0(cr0 | CR0_EM);
    TRY("fninit", :);
    check_fault("ring 0 #NM: x87 with CR0.EM", VECTOR_NM, 0);
    write_cr0(cr0 | CR0_MP | CR0_TS);
    TRY("fwait", :);
    check_fault("ring 0 #NM: WAIT with CR0.MP and TS", VECTOR_NM, 0);
    write_cr0((cr0 | CR0_NE) & ~CR0_MP);
    asm volatile("fninit; fldcw %0; fld1; fldz; fdivrp" : : "m"(unmask_divide));
    TRY("fwait", :);
    check_fault("ring 0 #MF: WAIT after an unmasked division by zero", VECTOR_MF, 0);
    asm volatile("fnclex; fninit");
}

static void check_segments(void) {
    TRY("movw %w0, %%es", : : "r"(SEL_NOT_PRESENT) :);
    check_fault("ring 0 #NP: MOV ES, not present", VECTOR_NP, SEL_NOT_PRESENT);
    TRY("movw %w0, %%ss", : : "r"(SEL_NOT_PRESENT) :);
    check_fault("ring 0 #SS: MOV SS, not present", VECTOR_SS, SEL_NOT_PRESENT);
    TRY("movw %w0, %%es", : : "r"(0x7ff8) :);
    check_fault("ring 0 #GP: selector beyond the GDT", VECTOR_GP, 0x7ff8);
    TRY("movw %w0, %%ss", : : "r"(0) :);
    check_no_fault("ring 0: MOV SS, null is allowed in ring 0");
    asm volatile("movl %0, %%ss" : : "r"(SEL_KERNEL_DATA));
    idt_set_present(0x81, false);
    TRY("int $0x81", :);
    check_fault("ring 0 #NP: gate not present", VECTOR_NP, idt_error_code(0x81));
    idt_set_present(0x81, true);
}

static void check_general_protection(void) {
    /* not by RBP, which addresses the stack segment: that is #SS */
    TRY("movq (%0), %%rax", : : "D"(NON_CANONICAL) : "rax");
    check_fault("ring 0 #GP: non-canonical load", VECTOR_GP, 0);
    TRY("movq %%rax, (%0)", : : "D"(NON_CANONICAL) :);
    check_fault("ring 0 #GP: non-canonical store", VECTOR_GP, 0);
    TRY("lldt %w0", : : "r"(SEL_KERNEL_DATA) :);
    check_fault("ring 0 #GP: LLDT of a data segment", VECTOR_GP, SEL_KERNEL_DATA);
}

static void check_page_faults(void) {
    uint64_t *pml4 = current_pml4(), pa = (uint64_t)page_alloc();
    map_page(pml4, READ_ONLY_VA, pa, PTE_P | PTE_U);
    map_page(pml4, SUPERVISOR_VA, pa, PTE_P | PTE_W);
    map_page(pml4, RESERVED_VA, pa, PTE_P | PTE_W | PTE_RESERVED);
    TRY("movb (%0), %%al", : : "r"(UNMAPPED_VA + 0x123) : "rax");
    check_page_fault("ring 0 #PF: read, not present", 0, UNMAPPED_VA + 0x123);
    TRY("movb $1, (%0)", : : "r"(UNMAPPED_VA + 0xfff) :);
    check_page_fault("ring 0 #PF: write, not present", PF_WRITE, UNMAPPED_VA + 0xfff);
    TRY("movb $1, (%0)", : : "r"(READ_ONLY_VA) :);
    check_page_fault("ring 0 #PF: write, read-only, CR0.WP", PF_PRESENT | PF_WRITE, READ_ONLY_VA);
    TRY("movb (%0), %%al", : : "r"(READ_ONLY_VA) : "rax");
    check_no_fault("ring 0: read of a read-only page");
    TRY("movb (%0), %%al", : : "r"(RESERVED_VA) : "rax");
    check_page_fault("ring 0 #PF: read, reserved bit", present_reserved(), RESERVED_VA);
    TRY("movq (%0), %%rax", : : "r"(READ_ONLY_VA - 3) : "rax");
    check_page_fault("ring 0 #PF: read that begins in the page before", 0, READ_ONLY_VA - 3);
    TRY("movq (%0), %%rax", : : "r"(UNMAPPED_VA - 3) : "rax");
    check_page_fault("ring 0 #PF: both pages absent, the first is reported", 0, UNMAPPED_VA - 3);
    if (has_nx()) {
        map_page(pml4, NO_EXECUTE_VA, pa, PTE_P | PTE_NX);
        TRY("call *%0", : : "r"(NO_EXECUTE_VA) :);
        last_fault.start = NO_EXECUTE_VA;
        check_page_fault("ring 0 #PF: fetch, NX", PF_PRESENT | PF_FETCH, NO_EXECUTE_VA);
    }
}

USER_CODE(user_divide, "divl %edi");
USER_CODE(user_ud2, "ud2");
USER_CODE(user_int3, "int3");
USER_CODE(user_int_kernel, "int $0x20");
USER_CODE(user_read, "movb (%rdi), %al");
USER_CODE(user_write, "movb %al, (%rdi)");
USER_CODE(user_jump, "jmp *%rdi");
USER_CODE(user_stack, "push %rax");
USER_CODE(user_load_es, "movw %di, %es");
USER_CODE(user_load_ss, "movw %di, %ss");

static void user_page_faults(void) {
    user_call((void *)user_read, UNMAPPED_VA);
    check_page_fault("ring 3 #PF: read, not present", PF_USER, UNMAPPED_VA);
    user_call((void *)user_write, UNMAPPED_VA);
    check_page_fault("ring 3 #PF: write, not present", PF_USER | PF_WRITE, UNMAPPED_VA);
    user_call((void *)user_read, SUPERVISOR_VA);
    check_page_fault("ring 3 #PF: read, supervisor", PF_USER | PF_PRESENT, SUPERVISOR_VA);
    user_call((void *)user_write, READ_ONLY_VA);
    check_page_fault("ring 3 #PF: write, read-only", PF_USER | PF_PRESENT | PF_WRITE, READ_ONLY_VA);
    user_call((void *)user_read, RESERVED_VA);
    check_page_fault("ring 3 #PF: read, reserved bit", PF_USER | present_reserved(), RESERVED_VA);
    uint64_t fetch = has_nx() ? PF_FETCH : 0;
    user_call((void *)user_jump, UNMAPPED_VA);
    last_fault.start = UNMAPPED_VA;
    check_page_fault("ring 3 #PF: fetch, not present", PF_USER | fetch, UNMAPPED_VA);
    user_call((void *)user_jump, (uint64_t)guest_main);
    last_fault.start = (uint64_t)guest_main;
    check_page_fault("ring 3 #PF: fetch, supervisor", PF_USER | PF_PRESENT | fetch, (uint64_t)guest_main);
}

static void check_user(void) {
    user_call((void *)user_divide, 0);
    check_fault("ring 3 #DE: DIV by zero", VECTOR_DE, 0);
    check_equal("ring 3 #DE: CS in the frame", last_fault.cs, SEL_USER_CODE);
    check_equal("ring 3 #DE: SS in the frame", last_fault.ss, SEL_USER_DATA);
    check_equal("ring 3 #DE: RSP in the frame", last_fault.rsp, user_stack_top());
    check_true("ring 3 #DE: the frame is on the stack RSP0 names",
               last_fault.frame + sizeof(struct trap_frame) == trap_stack_top());
    user_call((void *)user_ud2, 0);
    check_fault("ring 3 #UD: UD2", VECTOR_UD, 0);
    user_call((void *)user_int3, 0);
    check_fault_at("ring 3 #BP: RIP is after INT3", VECTOR_BP, 0, last_fault.start + 1);
    user_call((void *)user_int_kernel, 0);
    check_fault("ring 3 #GP: INT n through a DPL 0 gate", VECTOR_GP, idt_error_code(0x20));
    user_call((void *)user_read, NON_CANONICAL);
    check_fault("ring 3 #GP: non-canonical load", VECTOR_GP, 0);
    user_call((void *)user_load_es, SEL_NOT_PRESENT | 3);
    check_fault("ring 3 #GP: DPL 0 segment into ES", VECTOR_GP, SEL_NOT_PRESENT);
    user_call((void *)user_load_ss, 0);
    check_fault("ring 3 #GP: null into SS", VECTOR_GP, 0);
    user_page_faults();
}

/* Privileged instructions, SDM 3A 5.9; all raise #GP(0) in ring 3. */
/* clang-format off */
#define PRIVILEGED(X)                                                                              \
    X(hlt, "hlt") X(cli, "cli") X(sti, "sti") X(in, "inb $0x80, %al") X(out, "outb %al, $0x80")    \
    X(insb, "insb") X(outsb, "outsb") X(mov_from_cr0, "mov %cr0, %rax") X(mov_to_cr0, "mov %rax, %cr0") \
    X(mov_to_cr3, "mov %rax, %cr3") X(mov_from_dr7, "mov %dr7, %rax") X(rdmsr, "rdmsr")            \
    X(wrmsr, "wrmsr") X(lgdt, "lgdt (%rdi)") X(lidt, "lidt (%rdi)") X(lldt, "lldt %di")            \
    X(ltr, "ltr %di") X(invlpg, "invlpg (%rdi)") X(wbinvd, "wbinvd") X(clts, "clts")               \
    X(lmsw, "lmsw %di") X(swapgs, "swapgs") X(sysret, "sysretq")
/* clang-format on */
#define DEFINE_PRIVILEGED(name, text) USER_CODE(privileged_##name, text);
#define CHECK_PRIVILEGED(name, text)         \
    user_call((void *)privileged_##name, 0); \
    check_fault("ring 3 #GP: " text, VECTOR_GP, 0);
PRIVILEGED(DEFINE_PRIVILEGED)

void guest_main(void) {
    check_divide();
    check_traps();
    check_undefined();
    check_fpu();
    check_segments();
    check_general_protection();
    check_page_faults();
    check_user();
    write_msr(MSR_EFER, read_msr(MSR_EFER) | EFER_SCE); /* or SYSRET is undefined */
    PRIVILEGED(CHECK_PRIVILEGED)
}
