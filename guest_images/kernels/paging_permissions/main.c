/* Claim: what an access may do is decided by all four levels together: writable and user when every level says so, not
 * executable when any level says so; CR0.WP and CR4.SMEP bind the supervisor. SDM 3A 4.6, 4.7.
 *
 *   each combination of W and U over four levels (256), then of NX over four levels (16), x six kinds of access
 */
#include "guest.h"

#define CODE_RETURN 0
#define CODE_USER_RETURN 16
#define DATA 64

USER_CODE(user_load, "movq (%rdi), %rax");
USER_CODE(user_store, "movq %rdi, (%rdi)");
USER_CODE(user_jump, "jmp *%rdi");

enum access { KERNEL_LOAD, KERNEL_STORE, KERNEL_FETCH, USER_LOAD, USER_STORE, USER_FETCH, ACCESSES };

static uint64_t *entries[5];

static void set_levels(unsigned writable, unsigned user, unsigned no_execute) {
    for (int level = LEVEL_PT; level <= LEVEL_PML4; level++) {
        unsigned bit = level - 1;
        uint64_t entry = *entries[level] & ~(PTE_W | PTE_U | PTE_NX);
        entry |=
            (writable >> bit & 1 ? PTE_W : 0) | (user >> bit & 1 ? PTE_U : 0) | (no_execute >> bit & 1 ? PTE_NX : 0);
        *entries[level] = entry;
    }
    invlpg(TEST_VA);
}

static void do_access(enum access access) {
    uint64_t value;
    switch (access) {
    case KERNEL_LOAD: try_load(TEST_VA + DATA, &value); break;
    case KERNEL_STORE: try_store(TEST_VA + DATA, 1); break;
    case KERNEL_FETCH: TRY("call *%0", : : "r"(TEST_VA + CODE_RETURN) : "memory"); break;
    case USER_LOAD: user_call((void *)user_load, TEST_VA + DATA); break;
    case USER_STORE: user_call((void *)user_store, TEST_VA + DATA); break;
    default: user_call((void *)user_jump, TEST_VA + CODE_USER_RETURN); break;
    }
}

/* The #PF error code, or ~0 when the access is allowed. */
static uint64_t expected_code(enum access access, bool writable, bool user, bool no_execute) {
    bool store = access == KERNEL_STORE || access == USER_STORE;
    bool fetch = access == KERNEL_FETCH || access == USER_FETCH;
    bool ring3 = access >= USER_LOAD, smep = read_cr4() & CR4_SMEP;
    bool denied = (ring3 && !user) || (fetch && no_execute) || (fetch && !ring3 && user && smep);
    if (store && !writable && (ring3 || read_cr0() & CR0_WP)) denied = true;
    uint64_t fetch_bit = fetch && (has_nx() || smep) ? PF_FETCH : 0;
    return denied ? PF_PRESENT | (store ? PF_WRITE : 0) | (ring3 ? PF_USER : 0) | fetch_bit : ~0ul;
}

static void compare(struct tally *tally, unsigned writable, unsigned user, unsigned no_execute) {
    set_levels(writable, user, no_execute);
    for (enum access access = 0; access < ACCESSES; access++) {
        uint64_t expected = expected_code(access, writable == 15, user == 15, no_execute != 0);
        do_access(access);
        bool faulted = last_fault.vector == VECTOR_PF;
        tally_equal(tally, faulted ? last_fault.error_code : ~0ul, expected);
        if (faulted && expected != ~0ul) tally_equal(tally, last_fault.cr2 & ~(PAGE_BYTES - 1), TEST_VA);
    }
}

static void check_combinations(const char *name, const char *nx_name) {
    struct tally tally = {0}, nx_tally = {0};
    for (unsigned writable = 0; writable < 16; writable++)
        for (unsigned user = 0; user < 16; user++) compare(&tally, writable, user, 0);
    check_tally(name, &tally);
    if (!has_nx()) return;
    for (unsigned no_execute = 0; no_execute < 16; no_execute++) {
        compare(&nx_tally, 15, 15, no_execute);
        compare(&nx_tally, 15, 0, no_execute);
        compare(&nx_tally, 0, 15, no_execute);
    }
    check_tally(nx_name, &nx_tally);
}

static void check_nx_disabled(void) {
    set_levels(15, 0, 1);
    write_msr(MSR_EFER, read_msr(MSR_EFER) & ~EFER_NXE);
    uint64_t value;
    invlpg(TEST_VA);
    try_load(TEST_VA + DATA, &value);
    uint64_t reserved = on_tcg() ? PF_RESERVED : PF_PRESENT | PF_RESERVED; /* TCG forgets P */
    check_page_fault("EFER.NXE clear: bit 63 is reserved", reserved, TEST_VA + DATA);
    write_msr(MSR_EFER, read_msr(MSR_EFER) | EFER_NXE);
    invlpg(TEST_VA);
    check_true("EFER.NXE set again: a load is allowed", try_load(TEST_VA + DATA, &value));
}

void guest_main(void) {
    uint64_t *pml4 = current_pml4(), *page = page_alloc();
    page[CODE_RETURN / 8] = 0xc3;        /* ret */
    page[CODE_USER_RETURN / 8] = 0x80cd; /* int $0x80 */
    map_page(pml4, TEST_VA, (uint64_t)page, PTE_P);
    for (int level = LEVEL_PT; level <= LEVEL_PML4; level++) entries[level] = entry_of(pml4, TEST_VA, level);
    check_combinations("W and U at four levels, CR0.WP set", "NX at four levels, CR0.WP set");
    write_cr0(read_cr0() & ~CR0_WP);
    check_combinations("W and U at four levels, CR0.WP clear", "NX at four levels, CR0.WP clear");
    write_cr0(read_cr0() | CR0_WP);
    if (has_nx()) check_nx_disabled();
    if (cpuid(0, 0).eax >= 7 && cpuid(7, 0).ebx >> 7 & 1) {
        write_cr4(read_cr4() | CR4_SMEP);
        check_combinations("W and U at four levels, CR4.SMEP set", "NX at four levels, CR4.SMEP set");
        write_cr4(read_cr4() & ~CR4_SMEP);
    }
}
