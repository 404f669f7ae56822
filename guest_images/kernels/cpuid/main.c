/* Claim: what CPUID advertises works, and CPUID is a function: same answer every time, in every ring, with the
 * registers zero-extended. A feature that is absent proves nothing and is not printed, so the number of checks depends
 * on the processor.
 */
#include "guest.h"

enum cpuid_register { EAX, EBX, ECX, EDX };

USER_CODE(user_cpuid, "movl %edi, %eax; xorl %ecx, %ecx; cpuid; shlq $32, %rdx; orq %rdx, %rax");

static uint32_t pick(struct cpuid_result result, enum cpuid_register which) {
    const uint32_t all[] = {result.eax, result.ebx, result.ecx, result.edx};
    return all[which];
}

static uint8_t scratch[512] __attribute__((aligned(64)));

#define FEATURE(name, text)                                                                                       \
    static void name(void) {                                                                                      \
        TRY(text, : : "a"(1ul), "b"(2ul), "c"(0ul), "d"(3ul), "D"(scratch), "S"(scratch) : "memory", "cc", "r8"); \
    }
FEATURE(run_fpu, "fninit")
FEATURE(run_tsc, "pushq %%rax; pushq %%rdx; rdtsc; popq %%rdx; popq %%rax")
FEATURE(run_cx8, "pushq %%rax; pushq %%rdx; cmpxchg8b (%%rdi); popq %%rdx; popq %%rax")
FEATURE(run_cmov, "cmovzl %%eax, %%r8d")
FEATURE(run_clflush, "clflush (%%rdi)")
FEATURE(run_mmx, "pxor %%mm0, %%mm0; emms")
FEATURE(run_fxsr, "fxsave (%%rdi)")
FEATURE(run_sse, "xorps %%xmm0, %%xmm0")
FEATURE(run_sse2, "paddq %%xmm0, %%xmm0")
FEATURE(run_sse3, "haddpd %%xmm0, %%xmm0")
FEATURE(run_pclmulqdq, "pclmulqdq $0, %%xmm0, %%xmm0")
FEATURE(run_ssse3, "pshufb %%xmm0, %%xmm0")
FEATURE(run_cx16, "pushq %%rax; pushq %%rdx; cmpxchg16b (%%rdi); popq %%rdx; popq %%rax")
FEATURE(run_sse4_1, "pmuldq %%xmm0, %%xmm0")
FEATURE(run_sse4_2, "crc32b %%al, %%r8d")
FEATURE(run_movbe, "movbe (%%rdi), %%r8")
FEATURE(run_popcnt, "popcnt %%rax, %%r8")
FEATURE(run_aes, "aesenc %%xmm0, %%xmm0")
FEATURE(run_rdrand, "rdrand %%r8")
FEATURE(run_fsgsbase, "rdfsbase %%r8")
FEATURE(run_bmi1, "andn %%rax, %%rdx, %%r8")
FEATURE(run_bmi2, "pdep %%rax, %%rdx, %%r8")
FEATURE(run_adx, "adcx %%rax, %%r8")
FEATURE(run_rdseed, "rdseed %%r8")
FEATURE(run_clflushopt, "clflushopt (%%rdi)")
FEATURE(run_clwb, "clwb (%%rdi)")
FEATURE(run_sha, "sha1nexte %%xmm0, %%xmm0")
FEATURE(run_lahf, "movq %%rax, %%r8; lahf; sahf; movq %%r8, %%rax")
FEATURE(run_lzcnt, "lzcnt %%rax, %%r8")
FEATURE(run_prefetchw, "prefetchw (%%rdi)")
FEATURE(run_rdtscp, "pushq %%rax; pushq %%rcx; pushq %%rdx; rdtscp; popq %%rdx; popq %%rcx; popq %%rax")

static const struct {
    const char *name;
    uint32_t leaf;
    enum cpuid_register which;
    unsigned bit;
    void (*run)(void);
} features[] = {
    {"FPU", 1, EDX, 0, run_fpu},
    {"TSC", 1, EDX, 4, run_tsc},
    {"CX8", 1, EDX, 8, run_cx8},
    {"CMOV", 1, EDX, 15, run_cmov},
    {"CLFSH", 1, EDX, 19, run_clflush},
    {"MMX", 1, EDX, 23, run_mmx},
    {"FXSR", 1, EDX, 24, run_fxsr},
    {"SSE", 1, EDX, 25, run_sse},
    {"SSE2", 1, EDX, 26, run_sse2},
    {"SSE3", 1, ECX, 0, run_sse3},
    {"PCLMULQDQ", 1, ECX, 1, run_pclmulqdq},
    {"SSSE3", 1, ECX, 9, run_ssse3},
    {"CMPXCHG16B", 1, ECX, 13, run_cx16},
    {"SSE4.1", 1, ECX, 19, run_sse4_1},
    {"SSE4.2", 1, ECX, 20, run_sse4_2},
    {"MOVBE", 1, ECX, 22, run_movbe},
    {"POPCNT", 1, ECX, 23, run_popcnt},
    {"AES", 1, ECX, 25, run_aes},
    {"RDRAND", 1, ECX, 30, run_rdrand},
    {"FSGSBASE", 7, EBX, 0, run_fsgsbase},
    {"BMI1", 7, EBX, 3, run_bmi1},
    {"BMI2", 7, EBX, 8, run_bmi2},
    {"RDSEED", 7, EBX, 18, run_rdseed},
    {"ADX", 7, EBX, 19, run_adx},
    {"CLFLUSHOPT", 7, EBX, 23, run_clflushopt},
    {"CLWB", 7, EBX, 24, run_clwb},
    {"SHA", 7, EBX, 29, run_sha},
    {"LAHF in 64-bit mode", 0x80000001, ECX, 0, run_lahf},
    {"LZCNT", 0x80000001, ECX, 5, run_lzcnt},
    {"PREFETCHW", 0x80000001, ECX, 8, run_prefetchw},
    {"RDTSCP", 0x80000001, EDX, 27, run_rdtscp},
};

static bool has_leaf(uint32_t leaf) { return cpuid(leaf & 0x80000000, 0).eax >= leaf; }

static void check_features(void) {
    write_cr0(read_cr0() & ~(CR0_EM | CR0_TS));
    write_cr4(read_cr4() | CR4_OSFXSR | CR4_OSXMMEXCPT);
    bool fsgsbase = has_leaf(7) && cpuid(7, 0).ebx & 1;
    if (fsgsbase) write_cr4(read_cr4() | CR4_FSGSBASE);
    for (unsigned i = 0; i < sizeof features / sizeof *features; i++) {
        if (!has_leaf(features[i].leaf) ||
            !(pick(cpuid(features[i].leaf, 0), features[i].which) >> features[i].bit & 1))
            continue;
        features[i].run();
        check_no_fault(features[i].name);
    }
    if (fsgsbase) write_cr4(read_cr4() & ~CR4_FSGSBASE);
}

static void check_control_features(void) {
    uint32_t edx = cpuid(1, 0).edx, extended = cpuid(0x80000001, 0).edx;
    static const struct {
        const char *name;
        unsigned bit;
        uint64_t cr4;
    } rows[] = {{"DE: CR4.DE", 2, CR4_DE}, {"TSC: CR4.TSD", 4, CR4_TSD}, {"PGE: CR4.PGE", 13, CR4_PGE}};
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!(edx >> rows[i].bit & 1)) continue;
        uint64_t original = read_cr4();
        TRY("mov %0, %%cr4", : : "r"(original | rows[i].cr4) : "memory");
        check_true(rows[i].name, last_fault.vector == NO_FAULT && read_cr4() == (original | rows[i].cr4));
        write_cr4(original);
    }
    check_equal("long mode is advertised", extended >> 29 & 1, 1);
    check_equal("PAE and MSR are advertised", (edx >> 5 & 1) + (edx >> 6 & 1), 2);
    if (extended >> 11 & 1) {
        uint64_t efer = read_msr(MSR_EFER);
        write_msr(MSR_EFER, efer | EFER_SCE);
        check_equal("SYSCALL: EFER.SCE", read_msr(MSR_EFER) & EFER_SCE, EFER_SCE);
        write_msr(MSR_EFER, efer);
    }
}

static void check_function(void) {
    struct tally same = {0}, user = {0};
    static const uint32_t leaves[] = {0, 1, 2, 4, 6, 7, 0x80000000, 0x80000001, 0x80000002, 0x80000008};
    for (unsigned i = 0; i < sizeof leaves / sizeof *leaves; i++) {
        struct cpuid_result first = cpuid(leaves[i], 0), again = cpuid(leaves[i], 0);
        tally_equal(&same, memcmp(&first, &again, sizeof first), 0);
        tally_equal(&user, user_call((void *)user_cpuid, leaves[i]), (uint64_t)first.edx << 32 | first.eax);
    }
    check_tally("the same answer twice", &same);
    check_tally("the same answer in ring 3", &user);
    uint64_t rax = 0xffffffff00000000, rbx = ~0ul, rcx = 0xffffffff00000000, rdx = ~0ul;
    asm volatile("cpuid" : "+a"(rax), "+b"(rbx), "+c"(rcx), "+d"(rdx));
    check_equal("all four registers are zero-extended", (rax | rbx | rcx | rdx) >> 32, 0);
}

static void check_text(void) {
    struct cpuid_result vendor = cpuid(0, 0);
    const uint32_t words[] = {vendor.ebx, vendor.edx, vendor.ecx};
    struct tally tally = {0};
    for (unsigned i = 0; i < 12; i++) {
        uint8_t letter = words[i / 4] >> 8 * (i % 4) & 0xff;
        tally_equal(&tally, letter >= ' ' && letter < 127, true);
    }
    check_tally("the vendor is twelve printable letters", &tally);
    check_true("there is leaf 1", vendor.eax >= 1);
    check_true("there are extended leaves", cpuid(0x80000000, 0).eax >= 0x80000001);
}

void guest_main(void) {
    check_text();
    check_function();
    check_features();
    check_control_features();
}
