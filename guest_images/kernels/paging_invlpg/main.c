/* Claim: after INVLPG, a MOV to CR3 or a change of CR4.PGE the new entry is the one used; a #PF itself invalidates, so
 * a page that gained rights faults at most once; INVLPG touches nothing else and never faults. SDM 3A 4.10.4. (That a
 * stale translation may live until then is not testable.)
 */
#include "guest.h"

#define SWAPS 200

static uint64_t *pml4, *left, *right;

static void check_swaps(const char *name, uint64_t flags, void (*invalidate)(uint64_t va)) {
    struct tally tally = {0};
    uint64_t va = TEST_VA + 0x5000;
    for (unsigned i = 0; i < SWAPS; i++) {
        uint64_t *page = i & 1 ? left : right;
        map_page(pml4, va, (uint64_t)page, PTE_P | PTE_W | flags);
        invalidate(va);
        tally_equal(&tally, load64(va), page[0]);
        store64(va + 8, i);
        tally_equal(&tally, page[1], i);
    }
    check_tally(name, &tally);
}

static void by_invlpg(uint64_t va) { invlpg(va); }
static void by_invlpg_inside(uint64_t va) { invlpg(va + 0xabc); }
static void by_cr3(uint64_t va) {
    (void)va;
    write_cr3(read_cr3());
}
static void by_cr4_pge(uint64_t va) {
    (void)va;
    write_cr4(read_cr4() ^ CR4_PGE);
}

/* The handler of a spurious fault does nothing: the retry has to succeed. */
static volatile unsigned faults;
static void on_fault(struct trap_frame *frame) {
    (void)frame;
    if (++faults > 1000) error("a page fault repeats for ever");
}

static void check_gained_rights(void) {
    uint64_t va = TEST_VA + 0x9000;
    struct tally tally = {0};
    trap_set_handler(VECTOR_PF, on_fault);
    for (unsigned i = 0; i < SWAPS; i++) {
        map_page(pml4, va, (uint64_t)left, PTE_P);
        invlpg(va);
        load64(va);
        *entry_of(pml4, va, LEVEL_PT) |= PTE_W; /* no INVLPG */
        faults = 0;
        store64(va + 16, i);
        tally_equal(&tally, faults <= 1, true);
        tally_equal(&tally, left[2], i);
    }
    trap_set_handler(VECTOR_PF, NULL);
    check_tally("a page that became writable faults at most once", &tally);
}

static void check_upper(void) {
    uint64_t va = TEST_VA + 0x40000000;
    struct tally tally = {0};
    uint64_t *tables[2] = {page_alloc(), page_alloc()};
    tables[0][0] = (uint64_t)left | PTE_P | PTE_W;
    tables[1][0] = (uint64_t)right | PTE_P | PTE_W;
    for (unsigned i = 0; i < SWAPS; i++) {
        *entry_make(pml4, va, LEVEL_PD) = (uint64_t)tables[i & 1] | PTE_P | PTE_W;
        invlpg(va);
        tally_equal(&tally, load64(va), i & 1 ? right[0] : left[0]);
    }
    check_tally("INVLPG drops what is cached of the upper levels too", &tally);
}

static void check_harmless(void) {
    TRY("invlpg (%0)", : : "r"(0x0000700000000000ul) : "memory");
    check_no_fault("INVLPG of an address that is not mapped");
    TRY("invlpg (%0)", : : "r"(0x0000800000000000ul) : "memory");
    check_no_fault("INVLPG of a non-canonical address");
}

void guest_main(void) {
    pml4 = current_pml4();
    left = page_alloc();
    right = page_alloc();
    left[0] = 0x1eff;
    right[0] = 0x2197;
    check_swaps("INVLPG", 0, by_invlpg);
    check_swaps("INVLPG of another address in the page", 0, by_invlpg_inside);
    check_swaps("MOV to CR3", 0, by_cr3);
    write_cr4(read_cr4() | CR4_PGE);
    check_swaps("INVLPG of a global page", PTE_G, by_invlpg);
    check_swaps("CR4.PGE changed, global page", PTE_G, by_cr4_pge);
    write_cr4(read_cr4() & ~CR4_PGE);
    check_gained_rights();
    check_upper();
    check_harmless();
}
