/* Claim: page tables can be reached, walked and edited through themselves: a level 4 entry that points at the level 4
 * table makes every table a page at a fixed address, and A and D of the entries behave as for any other page.
 *
 *   slot 510: address of the level 1 entry of va = 510:(va >> 12) * 8, level 2: 510:510:(va >> 21) * 8, and so on
 */
#include "guest.h"

#define SLOT 510ul
#define PAGES 64

static uint64_t *pml4;

static volatile uint64_t *window(uint64_t va, int level) {
    uint64_t indices = 0;
    for (int above = 0; above < level; above++) indices |= SLOT << (39 - 9 * above);
    uint64_t shifted = (va & 0x0000fffffffff000) >> (9 * level);
    return (volatile uint64_t *)(0xffff000000000000 | indices | (shifted & ~7ul));
}

static void check_view(void) {
    struct tally tally = {0};
    uint64_t probes[] = {0x1000, 0x100000, 0x1ff000, TEST_VA, TEST_VA + 0x3000};
    for (unsigned i = 0; i < sizeof probes / sizeof *probes; i++)
        for (int level = LEVEL_PT; level <= LEVEL_PML4; level++)
            tally_equal(&tally, *window(probes[i], level) & ~(PTE_A | PTE_D),
                        *entry_of(pml4, probes[i], level) & ~(PTE_A | PTE_D));
    check_tally("each level's entries through the window", &tally);
    check_equal("the window's own entry", *window(SLOT << 39, LEVEL_PML4) & PTE_ADDRESS, (uint64_t)pml4);
}

static void check_edit(void) {
    static uint64_t *pages[PAGES];
    struct tally data = {0}, swapped = {0};
    uint64_t base = TEST_VA + 0x100000, value;
    for (unsigned i = 0; i < PAGES; i++) {
        pages[i] = page_alloc();
        pages[i][0] = i;
        *window(base + i * PAGE_BYTES, LEVEL_PT) = (uint64_t)pages[i] | PTE_P | PTE_W;
        tally_equal(&data, load64(base + i * PAGE_BYTES), i);
    }
    check_tally("mapped through the window", &data);
    for (unsigned i = 0; i < PAGES; i++) {
        *window(base + i * PAGE_BYTES, LEVEL_PT) = (uint64_t)pages[PAGES - 1 - i] | PTE_P | PTE_W;
        invlpg(base + i * PAGE_BYTES);
        tally_equal(&swapped, load64(base + i * PAGE_BYTES), PAGES - 1 - i);
    }
    check_tally("remapped through the window", &swapped);
    *window(base, LEVEL_PT) = 0;
    invlpg(base);
    check_true("unmapped through the window", !try_load(base, &value));
}

/* A whole new branch: each table is made, then reached through the entry just written. */
static void check_grow(void) {
    uint64_t va = 0x0000123456789000, *page = page_alloc(), value;
    page[1] = 4711;
    for (int level = LEVEL_PML4; level >= LEVEL_PT; level--) {
        uint64_t table = level == LEVEL_PT ? (uint64_t)page : (uint64_t)page_alloc();
        *window(va, level) = table | PTE_P | PTE_W;
    }
    check_equal("a branch grown from the top, through the window", load64(va + 8), 4711);
    *window(va, LEVEL_PD) = 0;
    write_cr3(read_cr3());
    check_true("cut at level 2: the page is gone", !try_load(va + 8, &value));
    check_true("and so is its level 1 window", !try_load((uint64_t)window(va, LEVEL_PT), &value));
    check_equal("window: CR2", last_fault.cr2, (uint64_t)window(va, LEVEL_PT));
}

static void check_dirty(void) {
    uint64_t va = TEST_VA + 0x700000;
    *entry_make(pml4, va, LEVEL_PT) = (uint64_t)page_alloc() | PTE_P | PTE_W;
    volatile uint64_t *leaf = entry_of(pml4, va, LEVEL_PD); /* maps the level 1 table as a page of the window */
    *leaf &= ~(PTE_A | PTE_D);
    write_cr3(read_cr3());
    (void)*window(va, LEVEL_PT);
    check_equal("a load in the window sets A in the entry that is its leaf", *leaf & (PTE_A | PTE_D), PTE_A);
    *window(va, LEVEL_PT) |= PTE_U;
    check_equal("a store sets D there", *leaf & (PTE_A | PTE_D), PTE_A | PTE_D);
    *leaf &= ~PTE_W;
    write_cr3(read_cr3());
    check_true("a read-only level 2 entry makes the window read-only", !try_store((uint64_t)window(va, LEVEL_PT), 0));
    check_equal("with a protection fault", last_fault.error_code, PF_PRESENT | PF_WRITE);
    *leaf |= PTE_W;
    write_cr3(read_cr3());
}

void guest_main(void) {
    pml4 = current_pml4();
    map_page(pml4, TEST_VA, (uint64_t)page_alloc(), PTE_P | PTE_W);
    map_page(pml4, TEST_VA + 0x3000, (uint64_t)page_alloc(), PTE_P);
    pml4[SLOT] = (uint64_t)pml4 | PTE_P | PTE_W;
    check_view();
    check_edit();
    check_grow();
    check_dirty();
}
