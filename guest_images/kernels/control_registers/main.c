/* Claim: CR0, CR2, CR3 and CR4 read back what was written where they are defined, through every general register; LMSW,
 * SMSW and CLTS are their parts; WP and TSD bite at once; what is reserved or inconsistent is #GP(0) and changes
 * nothing. SDM 3A 2.5.
 */
#include "guest.h"

#define CR0_BITS (CR0_MP | CR0_EM | CR0_TS | CR0_NE | CR0_WP | CR0_AM)
#define CR3_PWT (1ul << 3)
#define CR3_PCD (1ul << 4)

static void check_cr0(void) {
    struct tally tally = {0};
    uint64_t original = read_cr0();
    for (unsigned bit = 0; bit < 32; bit++) {
        if (!(CR0_BITS >> bit & 1)) continue;
        write_cr0(original | 1ul << bit);
        tally_equal(&tally, read_cr0(), original | 1ul << bit);
        write_cr0(original & ~(1ul << bit));
        tally_equal(&tally, read_cr0(), original & ~(1ul << bit));
    }
    write_cr0(original);
    check_tally("CR0: MP, EM, TS, NE, WP, AM one by one", &tally);
    check_equal("CR0: PE, ET and PG are set", read_cr0() & (CR0_PE | CR0_ET | CR0_PG), CR0_PE | CR0_ET | CR0_PG);
    write_cr0(original | CR0_CD);
    check_equal("CR0.CD reads back", read_cr0() & CR0_CD, CR0_CD);
    write_cr0(original);
}

static void check_parts(void) {
    uint64_t original = read_cr0() & ~(CR0_TS | CR0_EM | CR0_MP), smsw;
    write_cr0(original | CR0_TS);
    asm volatile("clts");
    check_equal("CLTS clears TS only", read_cr0(), original);
    asm volatile("smsw %0" : "=r"(smsw));
    check_equal("SMSW of a 64-bit register is CR0", smsw & 0xffff, original & 0xffff);
    asm volatile("lmsw %w0" : : "r"(CR0_PE | CR0_TS | CR0_MP));
    check_equal("LMSW sets TS and MP", read_cr0(), original | CR0_TS | CR0_MP);
    asm volatile("lmsw %w0" : : "r"(0));
    check_equal("LMSW cannot clear PE", read_cr0(), original);
    static uint16_t word = 0xffff;
    asm volatile("lmsw %0" : : "m"(word));
    check_equal("LMSW from memory loads four bits", read_cr0(), original | CR0_MP | CR0_EM | CR0_TS);
    asm volatile("clts");
    write_cr0(original);
    asm volatile("smsw %0" : "=m"(word));
    check_equal("SMSW to memory stores 16 bits", word, original & 0xffff);
}

/* Each general register as source and destination. */
/* clang-format off */
#define EACH_REGISTER(X) \
    X(rax) X(rbx) X(rcx) X(rdx) X(rsi) X(rdi) X(rbp) X(r8) X(r9) X(r10) X(r11) X(r12) X(r13) X(r14) X(r15)
#define THROUGH(register)                                                                          \
    cr2_source = 0x1234567890abcdef * ++count;                                                     \
    asm volatile("movq %" #register ", cr2_saved; movq cr2_source, %" #register "; movq %" #register ", %cr2;" \
                 "movq cr2_saved, %" #register);                                                   \
    tally_equal(&tally, read_cr2(), cr2_source);                                                   \
    asm volatile("movq %" #register ", cr2_saved; movq %cr2, %" #register "; movq %" #register ", cr2_destination;" \
                 "movq cr2_saved, %" #register);                                                   \
    tally_equal(&tally, cr2_destination, cr2_source);
/* clang-format on */
volatile uint64_t cr2_source, cr2_destination, cr2_saved;

static void check_cr2(void) {
    struct tally tally = {0};
    uint64_t count = 0;
    EACH_REGISTER(THROUGH)
    check_tally("CR2: 64 bits through each general register", &tally);
}

static void check_cr3(void) {
    uint64_t original = read_cr3();
    struct tally tally = {0};
    for (uint64_t flags = 0; flags < 4; flags++) {
        write_cr3(original | flags * CR3_PWT);
        tally_equal(&tally, read_cr3(), original | flags * CR3_PWT);
    }
    check_tally("CR3: PWT and PCD read back", &tally);
    uint64_t *copy = page_alloc();
    memcpy(copy, (void *)original, PAGE_BYTES);
    write_cr3((uint64_t)copy);
    check_equal("CR3: another table", read_cr3(), (uint64_t)copy);
    write_cr3(original);
}

static void check_cr4(void) {
    struct tally tally = {0};
    uint64_t original = read_cr4();
    static const uint64_t bits[] = {CR4_TSD, CR4_DE, CR4_PGE, CR4_OSFXSR, CR4_OSXMMEXCPT};
    for (unsigned i = 0; i < sizeof bits / sizeof *bits; i++) {
        write_cr4(original | bits[i]);
        tally_equal(&tally, read_cr4(), original | bits[i]);
        write_cr4(original & ~bits[i]);
        tally_equal(&tally, read_cr4(), original & ~bits[i]);
    }
    write_cr4(original);
    check_tally("CR4: TSD, DE, PGE, OSFXSR, OSXMMEXCPT one by one", &tally);
    check_equal("CR4: PAE is set", read_cr4() & CR4_PAE, CR4_PAE);
}

USER_CODE(user_rdtsc, "rdtsc");

static void check_effects(void) {
    uint64_t page = (uint64_t)page_alloc();
    map_page(current_pml4(), TEST_VA, page, PTE_P);
    struct tally tally = {0};
    for (unsigned i = 0; i < 20; i++) {
        write_cr0(i & 1 ? read_cr0() & ~CR0_WP : read_cr0() | CR0_WP);
        tally_equal(&tally, try_store(TEST_VA, i), i & 1);
    }
    check_tally("CR0.WP: rules the next store", &tally);
    write_cr0(read_cr0() | CR0_WP);
    write_cr4(read_cr4() | CR4_TSD);
    user_call((void *)user_rdtsc, 0);
    check_fault("CR4.TSD: RDTSC in ring 3 is #GP(0)", VECTOR_GP, 0);
    write_cr4(read_cr4() & ~CR4_TSD);
    user_call((void *)user_rdtsc, 0);
    check_no_fault("CR4.TSD clear: RDTSC in ring 3 is allowed");
}

/* TCG does not check any of these. */
static void check_inconsistent(void) {
    uint64_t cr0 = read_cr0(), cr4 = read_cr4();
    TRY("mov %0, %%cr0", : : "r"(cr0 & ~CR0_PE) : "memory");
    check_fault("CR0: PG without PE", VECTOR_GP, 0);
    TRY("mov %0, %%cr0", : : "r"((cr0 | CR0_NW) & ~CR0_CD) : "memory");
    check_fault("CR0: NW without CD", VECTOR_GP, 0);
    TRY("mov %0, %%cr0", : : "r"(cr0 | 1ul << 32) : "memory");
    check_fault("CR0: a bit of the upper half", VECTOR_GP, 0);
    TRY("mov %0, %%cr0", : : "r"(cr0 & ~CR0_PG) : "memory");
    check_fault("CR0: PG cleared in 64-bit mode", VECTOR_GP, 0);
    TRY("mov %0, %%cr4", : : "r"(cr4 & ~CR4_PAE) : "memory");
    check_fault("CR4: PAE cleared in long mode", VECTOR_GP, 0);
    TRY("mov %0, %%cr4", : : "r"(cr4 | 1ul << 31) : "memory");
    check_fault("CR4: a reserved bit", VECTOR_GP, 0);
    TRY("mov %0, %%cr3", : : "r"(read_cr3() | 1ul << 60) : "memory");
    check_fault("CR3: a bit above the physical address", VECTOR_GP, 0);
    check_equal("CR0 is unchanged", read_cr0(), cr0);
    check_equal("CR4 is unchanged", read_cr4(), cr4);
}

void guest_main(void) {
    check_cr0();
    check_parts();
    check_cr2();
    check_cr3();
    check_cr4();
    check_effects();
    if (!on_tcg()) check_inconsistent();
}
