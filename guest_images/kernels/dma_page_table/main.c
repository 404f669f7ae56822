/* Claim: a device may write page tables that are in use; the CPU then translates as they say, once its TLB has forgotten the
 * old translation (SDM 3A 4.10.4.2), on every level, also where the table is of another address space; accessed and dirty
 * bits are set in what the device has written. The device is QEMU's `edu`.
 */
#include "edu.h"

#define PAGES 16u
#define MARK(page) (0x1111111111111111ul * ((page) + 1))

static uint64_t *pages[PAGES];
static uint64_t *image; /* what the device is to write */

static void device_writes(const struct edu *edu, uint64_t *table, unsigned first, unsigned count) {
    edu_copy(edu, image + first, table + first, count * sizeof *table);
}

static void reload_cr3(void) { write_cr3(read_cr3()); }

/* Every page of the table's range, by loads. */
static void check_leaves(const struct edu *edu, uint64_t *table, uint64_t va, const char *name) {
    struct tally tally = {0};
    for (unsigned round = 0; round < 4; round++) {
        for (unsigned i = 0; i < PAGES; i++) image[i] = (uint64_t)pages[(i + round) % PAGES] | PTE_P | PTE_W;
        device_writes(edu, table, 0, PAGES);
        reload_cr3();
        for (unsigned i = 0; i < PAGES; i++)
            tally_equal(&tally, load64(va + i * PAGE_BYTES), MARK((i + round) % PAGES));
    }
    check_tally(name, &tally);
}

static void check_bits(uint64_t *table) {
    struct tally tally = {0};
    for (unsigned i = 0; i < PAGES; i++) tally_equal(&tally, table[i] & (PTE_A | PTE_D), PTE_A);
    check_tally("loads have set A in what the device wrote, and no D", &tally);
}

static void check_rights(const struct edu *edu, uint64_t *table, uint64_t va) {
    image[0] = (uint64_t)pages[0] | PTE_P | PTE_W;
    image[1] = (uint64_t)pages[1] | PTE_P | PTE_W;
    device_writes(edu, table, 0, 2);
    reload_cr3();
    store64(va + 8, 5);
    store64(va + PAGE_BYTES + 8, 5);
    check_equal("a store sets D", table[0] & (PTE_A | PTE_D), PTE_A | PTE_D);
    image[0] = (uint64_t)pages[0] | PTE_P;
    image[1] = 0;
    device_writes(edu, table, 0, 2);
    invlpg(va);
    invlpg(va + PAGE_BYTES);
    check_true("made read-only, it refuses stores", !try_store(va + 8, 6));
    check_page_fault("with a page fault that says so", PF_PRESENT | PF_WRITE, va + 8);
    check_equal("and loads as before", load64(va + 8), 5);
    uint64_t ignored;
    check_true("taken away, it refuses loads", !try_load(va + PAGE_BYTES, &ignored));
    check_page_fault("with a page fault that says that", 0, va + PAGE_BYTES);
    image[1] = (uint64_t)pages[2] | PTE_P | PTE_W;
    device_writes(edu, table, 1, 1);
    check_equal("given back, it needs no flush", load64(va + PAGE_BYTES), MARK(2));
}

static void check_directory(const struct edu *edu, uint64_t *pml4) {
    uint64_t va = TEST_VA + HUGE_PAGE_BYTES;
    map_page(pml4, va, (uint64_t)pages[3], PTE_P | PTE_W);
    uint64_t *directory = (uint64_t *)((uint64_t)entry_of(pml4, va, LEVEL_PD) & ~(PAGE_BYTES - 1));
    uint64_t *other = page_alloc();
    other[0] = (uint64_t)pages[4] | PTE_P | PTE_W;
    check_equal("a directory leads to one table", load64(va), MARK(3));
    for (unsigned i = 0; i < 512; i++) image[i] = directory[i];
    image[0] = (uint64_t)other | PTE_P | PTE_W | PTE_U;
    device_writes(edu, directory, 0, 512);
    reload_cr3();
    check_equal("and by the device to another", load64(va), MARK(4));
    image[0] = 0;
    device_writes(edu, directory, 0, 1);
    reload_cr3();
    uint64_t ignored;
    check_true("or to none", !try_load(va, &ignored));
    uint64_t *root = address_space_new();
    uint64_t *child = entry_make(root, TEST_VA, LEVEL_PT);
    *child = (uint64_t)pages[5] | PTE_P | PTE_W;
    uint64_t old = read_cr3();
    write_cr3((uint64_t)root);
    uint64_t first = load64(TEST_VA);
    write_cr3(old);
    image[0] = (uint64_t)pages[6] | PTE_P | PTE_W;
    edu_copy(edu, image, child, sizeof *child);
    write_cr3((uint64_t)root);
    uint64_t second = load64(TEST_VA);
    write_cr3(old);
    check_equal("a table of another address space was used", first, MARK(5));
    check_equal("and changed while it was not", second, MARK(6));
}

void guest_main(void) {
    struct edu edu = edu_find();
    for (unsigned i = 0; i < PAGES; i++) *(pages[i] = page_alloc()) = MARK(i);
    image = page_alloc();
    uint64_t *pml4 = current_pml4(), *table = entry_make(pml4, TEST_VA, LEVEL_PT);
    check_leaves(&edu, table, TEST_VA, "the CPU translates as the device wrote");
    check_bits(table);
    check_rights(&edu, table, TEST_VA);
    check_directory(&edu, pml4);
}
