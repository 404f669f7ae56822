/* Claim: SYSCALL/SYSRET, SYSENTER/SYSEXIT, INT n and IRETQ go between ring 3 and ring 0 and back with the selectors,
 * RIP, RSP and flags that SDM 2B says; FMASK masks; SWAPGS swaps. (SYSENTER in 64-bit mode exists only on Intel's
 * processors.)
 */
#include "guest.h"

#define STAR_VALUE ((uint64_t)0x20 << 48 | (uint64_t)SEL_KERNEL_CODE << 32)
#define CALLS 50
#define VENDOR_INTEL_EBX 0x756e6547 /* "Genu" */

extern const char syscall_entry[], sysenter_entry[], user_sysenter[], user_after_sysexit[], user_after_syscall[];
extern volatile uint64_t seen[8]; /* rcx, r11, rflags, cs, ss, rsp, rax, gs base */

/* Ring 0 side: notes what it sees and returns rax + 1. SYSCALL does not switch stacks, so none is used. */
asm(".text\n"
    "syscall_entry:\n"
    "  movq %rcx, seen; movq %r11, seen + 8; movq %rsp, seen + 40; movq %rax, seen + 48\n"
    "  leaq boot_stack_top - 8192, %rsp; pushfq; popq seen + 16\n"
    "  movl %cs, %edx; movq %rdx, seen + 24; movl %ss, %edx; movq %rdx, seen + 32\n"
    "  movq seen + 40, %rsp; incq %rax; sysretq\n"
    "sysenter_entry:\n"
    "  movq %rsp, seen + 40; movq %rax, seen + 48; pushfq; popq seen + 16\n"
    "  movl %cs, %edx; movq %rdx, seen + 24; movl %ss, %edx; movq %rdx, seen + 32\n"
    "  incq %rax; movq $user_after_sysexit, %rdx; sysexitq\n"
    ".globl seen\n.bss\n.balign 8\nseen: .skip 64\n.text");

#define WITH_SELECTORS "movl %cs, %edx; shlq $48, %rdx; orq %rdx, %rax; movl %ss, %edx; shlq $32, %rdx; orq %rdx, %rax;"

/* Ring 3 side: rax = argument; returns rax, with CS and SS in the upper halves. */
asm(".pushsection .user_text, \"ax\"\n"
    "user_syscall: movq %rdi, %rax; syscall\n"
    "user_after_syscall: " WITH_SELECTORS "ret\n"
    "user_sysenter: movq %rdi, %rax; movq %rsp, %rcx; sysenter; ud2\n"
    "user_after_sysexit: " WITH_SELECTORS "ret\n"
    "user_flags: pushfq; popq %rax; ret\n"
    ".popsection");
extern const char user_syscall[], user_flags[];

static uint64_t with_selectors(uint64_t value, uint64_t cs, uint64_t ss) { return value | cs << 48 | ss << 32; }

static void check_syscall(void) {
    write_msr(MSR_EFER, read_msr(MSR_EFER) & ~EFER_SCE);
    user_call((void *)user_syscall, 1);
    check_equal("EFER.SCE clear: SYSCALL is #UD", last_fault.vector, VECTOR_UD);
    write_msr(MSR_EFER, read_msr(MSR_EFER) | EFER_SCE);
    write_msr(MSR_STAR, STAR_VALUE);
    write_msr(MSR_LSTAR, (uint64_t)syscall_entry);
    write_msr(MSR_FMASK, 0);
    struct tally tally = {0};
    for (uint64_t i = 0; i < CALLS; i++)
        tally_equal(&tally, user_call((void *)user_syscall, i), with_selectors(i + 1, SEL_USER_CODE, SEL_USER_DATA));
    check_tally("SYSCALL and SYSRET: fifty round trips, ring 3's CS and SS", &tally);
    check_no_fault("SYSCALL and SYSRET: no fault");
    check_equal("SYSCALL: RCX is the next RIP", seen[0], (uint64_t)user_after_syscall);
    check_equal("SYSCALL: R11 is RFLAGS", seen[1] & ~(RFLAGS_CF | RFLAGS_ZF | 0x94), RFLAGS_FIXED);
    check_equal("SYSCALL: CS from STAR", seen[3], SEL_KERNEL_CODE);
    check_equal("SYSCALL: SS from STAR", seen[4], SEL_KERNEL_DATA);
    check_equal("SYSCALL: RSP is still ring 3's", seen[5], user_stack_top());
}

static void check_masks(void) {
    struct tally masked = {0}, kept = {0}, restored = {0};
    static const uint64_t flags[] = {RFLAGS_DF, RFLAGS_AC, RFLAGS_CF, RFLAGS_NT, RFLAGS_IOPL, 1ul << 21};
    for (unsigned i = 0; i < sizeof flags / sizeof *flags; i++) {
        write_msr(MSR_FMASK, flags[i]);
        user_call_flags((void *)user_syscall, 0, RFLAGS_FIXED | flags[i]);
        tally_equal(&masked, seen[2] & flags[i], 0);
        tally_equal(&restored, seen[1] & flags[i], flags[i]);
        write_msr(MSR_FMASK, 0);
        user_call_flags((void *)user_syscall, 0, RFLAGS_FIXED | flags[i]);
        if (!on_tcg() || !(flags[i] & (RFLAGS_DF | RFLAGS_CF))) /* TCG always clears these two */
            tally_equal(&kept, seen[2] & flags[i], flags[i]);
    }
    check_tally("FMASK: the flags it names are clear in ring 0", &masked);
    check_tally("FMASK: they are in R11", &restored);
    check_tally("FMASK: other flags are kept", &kept);
}

static void check_sysenter(void) {
    write_msr(MSR_SYSENTER_CS, 0);
    write_msr(MSR_SYSENTER_ESP, trap_stack_top());
    write_msr(MSR_SYSENTER_EIP, (uint64_t)sysenter_entry);
    user_call((void *)user_sysenter, 1);
    check_true("SYSENTER_CS null: SYSENTER is #GP(0)", last_fault.vector == VECTOR_GP && !last_fault.error_code);
    write_msr(MSR_SYSENTER_CS, SEL_KERNEL_CODE);
    struct tally tally = {0};
    for (uint64_t i = 0; i < CALLS; i++)
        tally_equal(&tally, user_call((void *)user_sysenter, i),
                    with_selectors(i + 1, SEL_USER_CODE, SEL_USER_DATA_SYSEXIT));
    check_tally("SYSENTER and SYSEXIT: fifty round trips, ring 3's CS and SS", &tally);
    check_equal("SYSENTER: RSP from its MSR", seen[5], trap_stack_top());
    check_equal("SYSENTER: CS from its MSR", seen[3], SEL_KERNEL_CODE);
    check_equal("SYSENTER: SS follows CS", seen[4], SEL_KERNEL_DATA);
    user_call_flags((void *)user_sysenter, 1, RFLAGS_FIXED | RFLAGS_IF);
    check_equal("SYSENTER: IF is clear in ring 0", seen[2] & RFLAGS_IF, 0);
}

static void check_iret(void) {
    struct tally tally = {0};
    static const uint64_t flags[] = {0, RFLAGS_CF, RFLAGS_DF, RFLAGS_IF, RFLAGS_AC, RFLAGS_IOPL, 1ul << 21};
    for (unsigned i = 0; i < sizeof flags / sizeof *flags; i++)
        tally_equal(&tally, user_call_flags((void *)user_flags, 0, RFLAGS_FIXED | flags[i]) & 0x3f7fff,
                    RFLAGS_FIXED | flags[i]);
    check_tally("IRETQ to ring 3 loads the flags", &tally);
    uint64_t rsp, ss;
    asm volatile("movq %%rsp, %%rax; pushq $0x18; pushq %%rax; pushq $2; pushq $0x10; pushq $1f; iretq\n\t"
                 "1: movq %%rsp, %0; subq %%rax, %0; mov %%ss, %1"
                 : "=&r"(rsp), "=r"(ss)
                 :
                 : "rax", "memory", "cc");
    check_equal("IRETQ to ring 0 pops RSP too", rsp, 0);
    check_equal("IRETQ to ring 0 pops SS too", ss, SEL_KERNEL_DATA);
    TRY("pushq $0x18; pushq %%rsp; pushq $0x4002; popfq; pushq $2; pushq $0x10; pushq $0; iretq", : : :);
    check_true("IRETQ with NT: #GP(0)", last_fault.vector == VECTOR_GP && !last_fault.error_code);
    TRY("pushq $0x18; pushq %%rsp; pushq $2; pushq $0x7ff8; pushq $0; iretq", : : :);
    check_true("IRETQ to a selector beyond the GDT: #GP(selector)",
               last_fault.vector == VECTOR_GP && last_fault.error_code == 0x7ff8);
    TRY("pushq $0x18; pushq %%rsp; pushq $2; pushq $0; pushq $0; iretq", : : :);
    check_true("IRETQ to a null selector: #GP(0)", last_fault.vector == VECTOR_GP && !last_fault.error_code);
    TRY("pushq $0x18; pushq %%rsp; pushq $2; pushq $0x18; pushq $0; iretq", : : :);
    check_true("IRETQ to a data segment: #GP(selector)",
               last_fault.vector == VECTOR_GP && last_fault.error_code == SEL_KERNEL_DATA);
}

static void check_swapgs(void) {
    write_msr(MSR_GS_BASE, 0x1111000);
    write_msr(MSR_KERNEL_GS_BASE, 0xffff880022220000);
    asm volatile("swapgs");
    check_equal("SWAPGS: the GS base is the kernel's", read_msr(MSR_GS_BASE), 0xffff880022220000);
    check_equal("SWAPGS: and the kernel's is the former", read_msr(MSR_KERNEL_GS_BASE), 0x1111000);
    asm volatile("swapgs");
    check_equal("SWAPGS twice is nothing", read_msr(MSR_GS_BASE), 0x1111000);
    static uint64_t word = 0x5151;
    write_msr(MSR_KERNEL_GS_BASE, (uint64_t)&word);
    uint64_t value;
    asm volatile("swapgs; movq %%gs:0, %0; swapgs" : "=r"(value) : : "memory");
    check_equal("SWAPGS: memory through GS", value, 0x5151);
    write_msr(MSR_GS_BASE, 0);
}

void guest_main(void) {
    check_syscall();
    check_masks();
    check_iret();
    check_swapgs();
    if (cpuid(0, 0).ebx == VENDOR_INTEL_EBX) check_sysenter();
}
