/* Claim: null call, CPUID, new and changed page-table entries give the same results and the same memory whether there is
 * a sidecore, it is switched off, or it is switched on and off meanwhile; also when several requests are posted at once.
 */
#include "guest.h"
#include "sidecore.h"

#define PAGES 32
#define ASYNCHRONOUS 8

static uint64_t *entries, pages[PAGES];
static volatile unsigned faults;

static uint64_t entry_for(unsigned index, bool writable) {
    return pages[index] | PTE_P | PTE_A | PTE_D | (writable ? PTE_W : 0);
}

static void on_fault(struct trap_frame *frame) {
    unsigned index = (read_cr2() - TEST_VA) / PAGE_BYTES % PAGES;
    (void)frame;
    faults++;
    if (entries[index] & PTE_P)
        sidecore_change_pte(entries + index, entry_for(index, true), TEST_VA + index * PAGE_BYTES);
    else
        sidecore_set_pte(entries + index, entry_for(index, index & 1));
}

/* Load and store every page: one fault for each load, one more for each store to a page that is read-only. */
static void use_pages(const char *name, unsigned toggle) {
    struct tally tally = {0};
    unsigned before = faults;
    for (unsigned i = 0; i < PAGES; i++) {
        uint64_t va = TEST_VA + i * PAGE_BYTES;
        if (toggle && i % toggle == 0) sidecore_switch(i / toggle & 1);
        tally_equal(&tally, load64(va), i);
        store64(va, i + 1);
        tally_equal(&tally, load64(pages[i]), i + 1);
        store64(va, i);
        sidecore_change_pte(entries + i, pages[i] | PTE_W, va);
    }
    check_tally(name, &tally);
    check_equal("each page faulted as often as it should", faults - before, PAGES + PAGES / 2);
}

static void use_cpuid(const char *name) {
    struct tally tally = {0};
    for (unsigned leaf = 0; leaf < 4; leaf++) {
        struct cpuid_result expected = cpuid(leaf, 0), got = sidecore_cpuid(leaf, 0);
        tally_equal(&tally, got.eax, expected.eax);
        tally_equal(&tally, got.ebx, expected.ebx);
        tally_equal(&tally, got.ecx, expected.ecx);
        tally_equal(&tally, got.edx, expected.edx);
    }
    check_tally(name, &tally);
}

/* Post to several slots, then collect; a slot that is closed is left out. */
static void post_several(void) {
    struct tally tally = {0};
    bool posted[ASYNCHRONOUS];
    for (unsigned i = 0; i < ASYNCHRONOUS; i++)
        posted[i] = sidecore_slot(0) && sidecore_post(sidecore_slot(i), SIDECORE_OP_NULL, 100 + i, 0);
    for (unsigned i = 0; i < ASYNCHRONOUS; i++) {
        int status = posted[i] ? sidecore_collect(sidecore_slot(i)) : 0;
        if (status == SIDECORE_ECLOSED) posted[i] = false, status = 0; /* switched off meanwhile */
        tally_equal(&tally, status, 0);
        tally_equal(&tally, posted[i] ? sidecore_slot(i)->results[0] : 100 + i, 100 + i);
    }
    check_tally("requests posted at once are all answered", &tally);
}

void guest_main(void) {
    for (unsigned i = 0; i < PAGES; i++) {
        pages[i] = (uint64_t)page_alloc();
        *(uint64_t *)pages[i] = i;
        map_page(current_pml4(), TEST_VA + i * PAGE_BYTES, pages[i], PTE_W);
    }
    entries = entry_of(current_pml4(), TEST_VA, LEVEL_PT);
    trap_set_handler(VECTOR_PF, on_fault);
    bool has = sidecore_init(ASYNCHRONOUS);
    use_cpuid("CPUID");
    use_pages("pages", 0);
    post_several();
    sidecore_null();
    if (has) sidecore_switch(false);
    use_cpuid("CPUID, switched off");
    use_pages("pages, switched off", 0);
    post_several();
    sidecore_null();
    use_pages("pages, switched on and off meanwhile", has ? 3 : 0);
    if (has) sidecore_switch(true);
    use_pages("pages, switched on again", 0);
}
