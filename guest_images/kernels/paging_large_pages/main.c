/* Claim: 2 MiB (and 1 GiB) pages translate like the small pages they stand for; splitting one into 512 small pages and
 * joining them again changes nothing but granularity. SDM 3A 4.5.4.
 */
#include "guest.h"

#define VA (TEST_VA + 0x40000000)
#define SMALL_PAGES 512

static uint64_t *pml4, *frame;

static uint64_t pattern(unsigned i) { return 0x9e3779b97f4a7c15 * (i + 1); }

static void check_pattern(const char *name) {
    struct tally tally = {0};
    for (unsigned i = 0; i < SMALL_PAGES; i++)
        tally_equal(&tally, load64(VA + i * PAGE_BYTES + 8 * (i % 512)), pattern(i));
    check_tally(name, &tally);
}

static void check_map(void) {
    frame = large_page_alloc();
    for (unsigned i = 0; i < SMALL_PAGES; i++) frame[i * 512 + i % 512] = pattern(i);
    map_large(pml4, VA, (uint64_t)frame, PTE_P | PTE_W);
    check_pattern("a 2 MiB page shows its frame");
    store64(VA + 0x100008, 5);
    check_equal("a store is seen through the identity map", frame[0x100008 / 8], 5);
}

static void check_split(void) {
    uint64_t *table = page_alloc(), *entry = entry_of(pml4, VA, LEVEL_PD), large = *entry;
    for (unsigned i = 0; i < SMALL_PAGES; i++) table[i] = ((uint64_t)frame + i * PAGE_BYTES) | PTE_P | PTE_W;
    *entry = (uint64_t)table | PTE_P | PTE_W;
    write_cr3(read_cr3());
    check_pattern("split into 4 KiB pages");
    table[3] = 0;
    invlpg(VA + 3 * PAGE_BYTES);
    uint64_t value;
    check_true("one small page taken away faults", !try_load(VA + 3 * PAGE_BYTES, &value));
    check_true("its neighbours do not", try_load(VA + 2 * PAGE_BYTES, &value) && try_load(VA + 4 * PAGE_BYTES, &value));
    table[5] = (table[5] & ~PTE_ADDRESS) | (table[6] & PTE_ADDRESS);
    invlpg(VA + 5 * PAGE_BYTES);
    check_equal("one small page replaced", load64(VA + 5 * PAGE_BYTES + 48), pattern(6));
    *entry = large;
    write_cr3(read_cr3());
    check_pattern("joined to a 2 MiB page again");
    memset(table, 0xff, PAGE_BYTES);
    check_pattern("the old table's bytes do not matter any more");
}

static void check_rights(void) {
    uint64_t *entry = entry_of(pml4, VA, LEVEL_PD);
    *entry &= ~PTE_W;
    invlpg(VA + 0x5000);
    write_cr3(read_cr3());
    try_store(VA + 0x123450, 1);
    check_page_fault("2 MiB page, read-only", PF_PRESENT | PF_WRITE, VA + 0x123450);
    *entry |= PTE_W;
    write_cr3(read_cr3());
    check_true("2 MiB page, writable again", try_store(VA + 0x123450, 1));
    *entry &= ~PTE_P;
    invlpg(VA + 0x1ff000); /* any address in the page will do */
    try_store(VA, 1);
    check_page_fault("2 MiB page, absent after one INVLPG", PF_WRITE, VA);
    *entry |= PTE_P;
    uint64_t value, good = *entry;
    *entry |= 1ul << 13;
    invlpg(VA);
    try_load(VA, &value);
    check_page_fault("2 MiB page, bits 20..13 are reserved", on_tcg() ? PF_RESERVED : PF_PRESENT | PF_RESERVED, VA);
    *entry = good;
    invlpg(VA);
}

/* A store that begins in a 2 MiB page and ends in a 4 KiB page, both ways. */
static void check_neighbours(void) {
    uint64_t *after = page_alloc(), *before = page_alloc();
    map_page(pml4, VA + LARGE_PAGE_BYTES, (uint64_t)after, PTE_P | PTE_W);
    map_page(pml4, VA - PAGE_BYTES, (uint64_t)before, PTE_P | PTE_W);
    store64(VA + LARGE_PAGE_BYTES - 4, 0x1111111122222222);
    check_equal("from a large page into a small one",
                (uint64_t)*(uint32_t *)after << 32 | frame[LARGE_PAGE_BYTES / 8 - 1] >> 32, 0x1111111122222222);
    store64(VA - 4, 0x3333333344444444);
    check_equal("from a small page into a large one", (frame[0] & 0xffffffff) << 32 | before[511] >> 32,
                0x3333333344444444);
}

/* Aliases: the same frame as 2 MiB, and each of its pages backwards as 4 KiB. */
static void check_alias(void) {
    uint64_t alias = TEST_VA + 0x80000000;
    struct tally tally = {0};
    for (unsigned i = 0; i < SMALL_PAGES; i++)
        map_page(pml4, alias + i * PAGE_BYTES, (uint64_t)frame + (SMALL_PAGES - 1 - i) * PAGE_BYTES, PTE_P | PTE_W);
    for (unsigned i = 0; i < SMALL_PAGES; i++) store64(alias + i * PAGE_BYTES + 0x800, i);
    for (unsigned i = 0; i < SMALL_PAGES; i++)
        tally_equal(&tally, load64(VA + i * PAGE_BYTES + 0x800), SMALL_PAGES - 1 - i);
    check_tally("4 KiB aliases of a 2 MiB page", &tally);
}

static void check_huge(void) {
    uint64_t va = TEST_VA + 8 * HUGE_PAGE_BYTES;
    *entry_make(pml4, va, LEVEL_PDPT) = PTE_P | PTE_W | PTE_PS; /* physical 0..1 GiB */
    check_equal("1 GiB page: shows all of memory", load64(va + (uint64_t)frame + 8 * PAGE_BYTES + 64),
                frame[8 * 512 + 8]);
    store64(va + (uint64_t)frame + 16, 77);
    check_equal("1 GiB page: a store", frame[2], 77);
    uint64_t entry = *entry_of(pml4, va, LEVEL_PDPT);
    check_equal("1 GiB page: A and D are set in its entry", entry & (PTE_A | PTE_D), PTE_A | PTE_D);
    *entry_of(pml4, va, LEVEL_PDPT) = 0;
    invlpg(va);
    try_store(va + 0x12345678, 0);
    check_page_fault("1 GiB page: absent", PF_WRITE, va + 0x12345678);
}

void guest_main(void) {
    pml4 = current_pml4();
    check_map();
    check_split();
    check_rights();
    check_neighbours();
    check_alias();
    if (has_huge_pages()) check_huge();
}
