/* Claim: the MSRs a 64-bit kernel lives on keep 64 bits, take effect, and refuse what the SDM says they refuse; RDMSR
 * and WRMSR use ECX, EDX:EAX and leave the rest; a number nobody knows is #GP(0). SDM 4 chapter 2.
 */
#include "guest.h"

#define MSR_UNKNOWN 0x1234567
#define NON_CANONICAL 0x0000800000000000ul
#define EFER_RESERVED (1ul << 1)
#define PAT_POWER_UP 0x0007040600070406ul

static void check_kept(void) {
    static const struct {
        const char *name;
        uint32_t msr;
        uint64_t values[3];
    } rows[] = {
        {"STAR", MSR_STAR, {0x0020001000000000, 0xfedcba9800000000, 0}},
        {"LSTAR", MSR_LSTAR, {0xffffffff81000000, 0x00007ffffffff000, 0}},
        {"CSTAR", MSR_CSTAR, {0xffffffff82000000, 0x0000123456789abc, 0}},
        {"FMASK", MSR_FMASK, {0x47700, 0xffffffff, 0}},
        {"FS_BASE", MSR_FS_BASE, {0xffff888012345678, 0x00007fff00000001, 0}},
        {"GS_BASE", MSR_GS_BASE, {0xffff888087654321, 0x00007fff00000002, 0}},
        {"KERNEL_GS_BASE", MSR_KERNEL_GS_BASE, {0xffff8880abcdef01, 0x00007fff00000003, 0}},
        {"SYSENTER_CS", MSR_SYSENTER_CS, {0x10, 0x18, 0}},
        {"SYSENTER_ESP", MSR_SYSENTER_ESP, {0xffff888012345678, 0x1000, 0}},
        {"SYSENTER_EIP", MSR_SYSENTER_EIP, {0xffffffff81234567, 0x1000, 0}},
        {"PAT", MSR_PAT, {0x0000000000000006, 0x0606060606060606, PAT_POWER_UP}},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct tally tally = {0};
        for (unsigned at = 0; at < 3; at++) {
            write_msr(rows[i].msr, rows[i].values[at]);
            tally_equal(&tally, read_msr(rows[i].msr), rows[i].values[at]);
        }
        check_tally(rows[i].name, &tally);
    }
}

static void check_registers(void) {
    uint64_t rax = ~0ul, rdx = ~0ul, rcx = 0xabcdef0100000000 | MSR_STAR;
    write_msr(MSR_STAR, 0x1122334455667788);
    asm volatile("rdmsr" : "+a"(rax), "+d"(rdx), "+c"(rcx));
    check_equal("RDMSR: EAX, zero-extended", rax, 0x55667788);
    check_equal("RDMSR: EDX, zero-extended", rdx, 0x11223344);
    check_equal("RDMSR: the upper half of RCX does not matter and stays", rcx, 0xabcdef0100000000 | MSR_STAR);
    asm volatile("wrmsr" : : "a"(0xffffffff00000001), "d"(0xffffffff00000002), "c"(rcx));
    check_equal("WRMSR: the upper halves do not matter", read_msr(MSR_STAR), 0x0000000200000001);
}

static void check_bases(void) {
    static const uint64_t words[2] = {0x1111, 0x2222};
    uint64_t fs, gs;
    write_msr(MSR_FS_BASE, (uint64_t)words);
    write_msr(MSR_GS_BASE, (uint64_t)words - 8);
    asm volatile("movq %%fs:8, %0; movq %%gs:8, %1" : "=&r"(fs), "=r"(gs) : : "memory");
    check_equal("FS_BASE: a load through FS", fs, 0x2222);
    check_equal("GS_BASE: a load through GS", gs, 0x1111);
    uint64_t entry = (uint64_t)words;
    asm volatile(".byte 0x64; leaq (%1), %0" : "=r"(fs) : "r"(entry));
    check_equal("FS_BASE: LEA does not add it", fs, entry);
    write_msr(MSR_FS_BASE, 0);
    write_msr(MSR_GS_BASE, 0);
}

static void check_efer(void) {
    uint64_t efer = read_msr(MSR_EFER);
    check_equal("EFER: LME and LMA are set", efer & (EFER_LME | EFER_LMA), EFER_LME | EFER_LMA);
    write_msr(MSR_EFER, efer | EFER_SCE);
    check_equal("EFER: SCE can be set", read_msr(MSR_EFER), efer | EFER_SCE);
    write_msr(MSR_EFER, efer & ~EFER_SCE);
    check_equal("EFER: SCE can be cleared", read_msr(MSR_EFER), efer & ~EFER_SCE);
    write_msr(MSR_EFER, efer & ~EFER_LMA);
    check_equal("EFER: LMA is not software's", read_msr(MSR_EFER), efer);
}

static void try_write(uint32_t msr, uint64_t value) {
    TRY("wrmsr", : : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)) : "memory");
}

/* TCG reads unknown MSRs as 0 and checks no values. */
static void check_refused(void) {
    TRY("rdmsr", : : "c"(MSR_UNKNOWN) : "rax", "rdx");
    check_fault("RDMSR of an unknown number", VECTOR_GP, 0);
    try_write(MSR_UNKNOWN, 0);
    check_fault("WRMSR of an unknown number", VECTOR_GP, 0);
    static const struct {
        const char *name;
        uint32_t msr;
        uint64_t value;
    } rows[] = {
        {"LSTAR: non-canonical", MSR_LSTAR, NON_CANONICAL},
        {"CSTAR: non-canonical", MSR_CSTAR, NON_CANONICAL},
        {"FS_BASE: non-canonical", MSR_FS_BASE, NON_CANONICAL},
        {"GS_BASE: non-canonical", MSR_GS_BASE, NON_CANONICAL},
        {"KERNEL_GS_BASE: non-canonical", MSR_KERNEL_GS_BASE, NON_CANONICAL},
        {"SYSENTER_ESP: non-canonical", MSR_SYSENTER_ESP, NON_CANONICAL},
        {"SYSENTER_EIP: non-canonical", MSR_SYSENTER_EIP, NON_CANONICAL},
        {"FMASK: a bit of the upper half", MSR_FMASK, 1ul << 32},
        {"PAT: type 2", MSR_PAT, 2},
        {"PAT: a reserved bit", MSR_PAT, 8},
        {"EFER: a reserved bit", MSR_EFER, EFER_LME | EFER_LMA | EFER_RESERVED},
        {"EFER: LME cleared while paging", MSR_EFER, 0},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint64_t before = read_msr(rows[i].msr);
        try_write(rows[i].msr, rows[i].value);
        check_fault(rows[i].name, VECTOR_GP, 0);
        if (read_msr(rows[i].msr) != before) check_equal("a refused value was stored", read_msr(rows[i].msr), before);
    }
}

void guest_main(void) {
    check_kept();
    check_registers();
    check_bases();
    check_efer();
    if (!on_tcg()) check_refused();
}
