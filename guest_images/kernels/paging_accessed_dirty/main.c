/* Claim: the processor sets A in every entry it uses and D in the leaf entry of a page it writes, then and only then,
 * and changes no other bit; what software clears (and invalidates) is set again by the next access. SDM 3A 4.8.
 */
#include "guest.h"

#define PAGES 128
#define AVAILABLE (0x7fful << 52 & ~(1ul << 63) & ~(0xful << 59)) /* bits 58..52: ignored by the processor */
#define AVAILABLE_LOW 0xe00ul

USER_CODE(user_load, "movq (%rdi), %rax");
USER_CODE(user_store, "movq %rdi, (%rdi)");

static uint64_t *pml4;

static void clear_bits(uint64_t va, int leaf_level) {
    for (int level = leaf_level; level <= LEVEL_PML4; level++) *entry_of(pml4, va, level) &= ~(PTE_A | PTE_D);
    invlpg(va);
}

/* A and D of each level as a number: 8 bits per level, the leaf lowest. */
static uint64_t bits(uint64_t va, int leaf_level) {
    uint64_t result = 0;
    for (int level = leaf_level; level <= LEVEL_PML4; level++) {
        uint64_t entry = *(volatile uint64_t *)entry_of(pml4, va, level);
        result |= (entry & (PTE_A | PTE_D)) << 8 * (level - leaf_level);
    }
    return result;
}

#define ALL_ACCESSED 0x20202020ul

static void check_kinds(void) {
    uint64_t va = TEST_VA, page = (uint64_t)page_alloc();
    map_page(pml4, va, page, PTE_P | PTE_W | PTE_U | AVAILABLE | AVAILABLE_LOW);
    clear_bits(va, LEVEL_PT);
    check_equal("no access: nothing is set", bits(va, LEVEL_PT), 0);
    load64(va);
    check_equal("load: A at every level, no D", bits(va, LEVEL_PT), ALL_ACCESSED);
    store64(va, 1);
    check_equal("store after a load: D in the leaf only", bits(va, LEVEL_PT), ALL_ACCESSED | PTE_D);
    clear_bits(va, LEVEL_PT);
    store64(va, 1);
    check_equal("store: A at every level, D in the leaf only", bits(va, LEVEL_PT), ALL_ACCESSED | PTE_D);
    clear_bits(va, LEVEL_PT);
    load64(va);
    check_equal("cleared, invalidated, loaded: A again", bits(va, LEVEL_PT), ALL_ACCESSED);
    clear_bits(va, LEVEL_PT);
    asm volatile("lock addq $0, (%0)" : : "r"(va) : "memory");
    check_equal("LOCK ADD of zero: A and D", bits(va, LEVEL_PT), ALL_ACCESSED | PTE_D);
    clear_bits(va, LEVEL_PT);
    user_call((void *)user_load, va);
    check_equal("load in ring 3: A at every level", bits(va, LEVEL_PT), ALL_ACCESSED);
    user_call((void *)user_store, va);
    check_equal("store in ring 3: D in the leaf", bits(va, LEVEL_PT), ALL_ACCESSED | PTE_D);
    *(volatile uint8_t *)page = 0xc3;
    clear_bits(va, LEVEL_PT);
    asm volatile("call *%0" : : "r"(va) : "memory");
    check_equal("fetch: A at every level, no D", bits(va, LEVEL_PT), ALL_ACCESSED);
    check_equal("all other bits are as written", *entry_of(pml4, va, LEVEL_PT) & ~(PTE_A | PTE_D),
                page | PTE_P | PTE_W | PTE_U | AVAILABLE | AVAILABLE_LOW);
}

static void check_denied(void) {
    uint64_t va = TEST_VA + 0x10000;
    map_page(pml4, va, (uint64_t)page_alloc(), PTE_P);
    clear_bits(va, LEVEL_PT);
    try_store(va, 1);
    check_page_fault("store to a read-only page faults", PF_PRESENT | PF_WRITE, va);
    check_equal("a denied store does not set D", bits(va, LEVEL_PT) & PTE_D, 0);
    *entry_of(pml4, va, LEVEL_PT) |= PTE_W;
    invlpg(va);
    check_true("made writable: the store is done", try_store(va, 1));
    check_equal("and sets D", bits(va, LEVEL_PT) & PTE_D, PTE_D);
    *entry_of(pml4, va, LEVEL_PT) &= ~(PTE_P | PTE_A | PTE_D);
    invlpg(va);
    try_store(va, 2);
    check_equal("an absent entry gets neither A nor D", *entry_of(pml4, va, LEVEL_PT) & (PTE_A | PTE_D), 0);
}

/* Only pages that were touched: a fixed pattern of no access, load, store over many pages. */
static void check_exactly(bool reload_cr3) {
    uint64_t base = TEST_VA + 0x10000000000;
    struct tally tally = {0};
    for (unsigned i = 0; i < PAGES; i++)
        if (!entry_of(pml4, base + i * PAGE_BYTES, LEVEL_PT) || !*entry_of(pml4, base + i * PAGE_BYTES, LEVEL_PT))
            map_page(pml4, base + i * PAGE_BYTES, (uint64_t)page_alloc(), PTE_P | PTE_W);
    for (unsigned round = 0; round < 6; round++) {
        for (unsigned i = 0; i < PAGES; i++) {
            *entry_of(pml4, base + i * PAGE_BYTES, LEVEL_PT) &= ~(PTE_A | PTE_D);
            if (!reload_cr3) invlpg(base + i * PAGE_BYTES);
        }
        if (reload_cr3) write_cr3(read_cr3());
        for (unsigned i = 0; i < PAGES; i++) {
            if ((i * 7 + round) % 3 == 1) load64(base + i * PAGE_BYTES + 8 * i);
            if ((i * 7 + round) % 3 == 2) store64(base + i * PAGE_BYTES + 8 * i, i);
        }
        for (unsigned i = 0; i < PAGES; i++) {
            static const uint64_t expected[3] = {0, PTE_A, PTE_A | PTE_D};
            uint64_t entry = *(volatile uint64_t *)entry_of(pml4, base + i * PAGE_BYTES, LEVEL_PT);
            tally_equal(&tally, entry & (PTE_A | PTE_D), expected[(i * 7 + round) % 3]);
        }
    }
    check_tally(reload_cr3 ? "exactly the touched pages, CR3 reloaded" : "exactly the touched pages, INVLPG", &tally);
}

static void check_large(void) {
    uint64_t va = TEST_VA + 0x20000000000;
    map_large(pml4, va, (uint64_t)large_page_alloc(), PTE_P | PTE_W);
    clear_bits(va, LEVEL_PD);
    load64(va + 0x123000);
    check_equal("2 MiB page, load: A at three levels", bits(va, LEVEL_PD), ALL_ACCESSED >> 8);
    store64(va + 0x1ff000, 1);
    check_equal("2 MiB page, store: D in its entry", bits(va, LEVEL_PD), ALL_ACCESSED >> 8 | PTE_D);
    clear_bits(va, LEVEL_PD);
    store64(va + 0x42000, 1);
    check_equal("2 MiB page, cleared: A and D again", bits(va, LEVEL_PD), ALL_ACCESSED >> 8 | PTE_D);
}

static void check_crossing(void) {
    uint64_t va = TEST_VA + 0x30000000000;
    struct tally tally = {0};
    for (unsigned i = 0; i < 4; i++) map_page(pml4, va + i * PAGE_BYTES, (uint64_t)page_alloc(), PTE_P | PTE_W);
    for (unsigned i = 0; i < 4; i++) clear_bits(va + i * PAGE_BYTES, LEVEL_PT);
    store64(va + 2 * PAGE_BYTES - 3, 1);
    for (unsigned i = 0; i < 4; i++)
        tally_equal(&tally, *entry_of(pml4, va + i * PAGE_BYTES, LEVEL_PT) & (PTE_A | PTE_D),
                    i == 1 || i == 2 ? PTE_A | PTE_D : 0);
    check_tally("a store over a page boundary sets A and D of both pages", &tally);
}

void guest_main(void) {
    pml4 = current_pml4();
    check_kinds();
    check_denied();
    check_exactly(false);
    check_exactly(true);
    check_large();
    check_crossing();
}
