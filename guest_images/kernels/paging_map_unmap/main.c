/* Claim: a page is there from the moment its entry is written until INVLPG after the entry was cleared; whatever was
 * not mapped faults with the address in CR2; data stay with the physical page, not with the address. SDM 3A 4.10.
 */
#include "guest.h"

#define PAGES 300
#define ROUNDS 8

static uint64_t *pml4;

static void check_one(void) {
    uint64_t *page = page_alloc(), value;
    check_true("not mapped: a read faults", !try_load(TEST_VA, &value));
    page[0] = 0x1122334455667788;
    map_page(pml4, TEST_VA, (uint64_t)page, PTE_P | PTE_W);
    check_true("not present to present needs no INVLPG", try_load(TEST_VA, &value));
    check_equal("the page's data are there", value, 0x1122334455667788);
    store64(TEST_VA + 8, 99);
    check_equal("a store is seen through the identity map", page[1], 99);
    unmap(pml4, TEST_VA);
    check_true("unmapped: a read faults", !try_load(TEST_VA, &value));
    check_equal("unmapped: error code", last_fault.error_code, 0);
    check_equal("unmapped: CR2", last_fault.cr2, TEST_VA);
    map_page(pml4, TEST_VA + 0x5000, (uint64_t)page, PTE_P | PTE_W);
    check_true("the same page elsewhere", try_load(TEST_VA + 0x5008, &value) && value == 99);
    unmap(pml4, TEST_VA + 0x5000);
}

/* Pages far apart, so every level of the tables has holes: each round rotates which page lies where. */
static void check_rounds(void) {
    static uint64_t *pages[PAGES];
    struct tally data = {0}, gone = {0};
    uint64_t stride = 0x40201000, value;
    for (unsigned i = 0; i < PAGES; i++) {
        pages[i] = page_alloc();
        pages[i][7] = i;
    }
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < PAGES; i++)
            map_page(pml4, TEST_VA + i * stride, (uint64_t)pages[(i + round) % PAGES], PTE_P | PTE_W);
        for (unsigned i = 0; i < PAGES; i++)
            tally_equal(&data, try_load(TEST_VA + i * stride + 56, &value) ? value : ~0ul, (i + round) % PAGES);
        for (unsigned i = round % 3; i < PAGES; i += 3) {
            unmap(pml4, TEST_VA + i * stride);
            tally_equal(&gone, try_load(TEST_VA + i * stride + 56, &value), false);
            tally_equal(&gone, last_fault.cr2, TEST_VA + i * stride + 56);
        }
        for (unsigned i = 0; i < PAGES; i++) unmap(pml4, TEST_VA + i * stride);
    }
    check_tally("each round sees the pages as mapped in that round", &data);
    check_tally("each unmapped page faults at once, the others do not matter", &gone);
}

/* Demand paging: the handler maps what is missing and the instruction is done again. */
static volatile unsigned demand_faults;
static struct tally demand_addresses;

static void on_demand(struct trap_frame *frame) {
    uint64_t va = read_cr2();
    tally_equal(&demand_addresses, frame->error_code & ~(uint64_t)PF_WRITE, 0);
    demand_faults++;
    map_page(pml4, va & ~(PAGE_BYTES - 1), (uint64_t)page_alloc(), PTE_P | PTE_W);
}

static void check_demand(void) {
    uint64_t base = TEST_VA + 0x100000000000;
    struct tally data = {0};
    trap_set_handler(VECTOR_PF, on_demand);
    for (unsigned i = 0; i < 600; i++) store64(base + i * 0x800, i);
    check_equal("demand paging: one fault per page", demand_faults, 300);
    for (unsigned i = 0; i < 600; i++) tally_equal(&data, load64(base + i * 0x800), i);
    check_equal("demand paging: no further fault", demand_faults, 300);
    demand_faults = 0;
    store64(base + 0x1000000 - 4, 0x0123456789abcdef);
    check_equal("demand paging: a store over two absent pages faults twice", demand_faults, 2);
    tally_equal(&data, load64(base + 0x1000000 - 4), 0x0123456789abcdef);
    uint64_t destination = base + 0x2000100, count = 0x3000;
    asm volatile("rep stosb" : "+D"(destination), "+c"(count) : "a"(0x5a) : "memory");
    check_equal("demand paging: REP STOSB continues after each fault", demand_faults, 6);
    tally_equal(&data, load64(base + 0x2000100 + 0x3000 - 8), 0x5a5a5a5a5a5a5a5a);
    tally_equal(&data, load64(base + 0x2000100 + 0x3000), 0);
    trap_set_handler(VECTOR_PF, NULL);
    check_tally("demand paging: the data are right", &data);
    check_tally("demand paging: error codes", &demand_addresses);
}

/* Absent at each level in turn: the fault is the same, and the level is what repairs it. */
static void check_levels(void) {
    uint64_t va = TEST_VA + 0x200000000000, value;
    struct tally tally = {0};
    map_page(pml4, va, (uint64_t)page_alloc(), PTE_P | PTE_W);
    for (int level = LEVEL_PT; level <= LEVEL_PML4; level++) {
        uint64_t *entry = entry_of(pml4, va, level), old = *entry;
        *entry = 0;
        invlpg(va);
        tally_equal(&tally, try_load(va, &value), false);
        tally_equal(&tally, last_fault.error_code, 0);
        *entry = old;
        tally_equal(&tally, try_load(va, &value), true);
    }
    check_tally("an absent entry at any level is a not-present fault", &tally);
}

void guest_main(void) {
    pml4 = current_pml4();
    check_one();
    check_rounds();
    check_demand();
    check_levels();
}
